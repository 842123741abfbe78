//! What an operation did, in two or three lines.

use klar_run::report::Receipt;

use super::events::line;
use super::{GOOD, paint, words};

/// The receipt of a deploy, a rollback, a restart, a change of scale.
pub fn render(receipt: &Receipt) -> String {
    let mut text = String::new();
    let undo = match receipt.operation.as_str() {
        "deploy" if receipt.from.is_some() && receipt.from != receipt.to => "undo: klar rollback",
        "rollback" => "undo: klar rollback",
        _ => "",
    };
    let took = Some(receipt.duration_ms);
    if receipt.operation.starts_with("upgrade") {
        text.push_str(&line("live", &receipt.notes.join("; "), took, "undo: klar upgrade --rollback"));
    } else if receipt.operation == "down" {
        text.push_str(&line("stopped", &receipt.key.to_string(), took, "start again: klar up"));
    } else if let Some(to) = &receipt.to {
        let release = match &receipt.from {
            Some(from) if from != to => format!("{} (was {})", to.short(), from.short()),
            Some(_) if receipt.operation == "deploy" => {
                format!("{}, as before: nothing has changed", to.short())
            }
            _ => to.short().to_owned(),
        };
        text.push_str(&line("live", &release, took, undo));
    } else {
        text.push_str(&line("done", &format!("{} {}", receipt.operation, receipt.key), took, undo));
    }
    text.push('\n');
    if !matches!(receipt.operation.as_str(), "up" | "down") {
        text.push_str(&line("requests", &requests(receipt), None, ""));
        text.push('\n');
    }
    text
}

fn requests(receipt: &Receipt) -> String {
    let mut text = format!(
        "{} served meanwhile, {} failed",
        words::count(receipt.requests.saturating_sub(receipt.failed_requests)),
        words::count(receipt.failed_requests)
    );
    if receipt.app_errors > 0 {
        text.push_str(&format!(", {} by the app itself", words::things(receipt.app_errors, "error")));
    }
    if let Some(ms) = receipt.switch_ms {
        text.push_str(&format!("; the switch took {}", words::took(ms)));
    }
    text
}

/// The last words of `klar up`: where the app is, and what to try next.
pub fn render_up(receipt: &Receipt) -> String {
    let release = receipt.to.as_ref().map_or("?", |release| release.short());
    let mut text = format!(
        "\n{} {} is up at {} (release {release}, {})\n\n",
        paint(GOOD, "●"),
        app(receipt),
        paint(super::STRONG, &receipt.url),
        words::took(receipt.duration_ms)
    );
    text.push_str(&next(&receipt.url));
    text
}

/// How people name an app: the environment only where it is not the usual one.
pub fn app(receipt: &Receipt) -> String {
    name(&receipt.key)
}

/// The same for a key.
pub fn name(key: &klar_base::AppKey) -> String {
    if key.env.is_default() { key.app.to_string() } else { key.to_string() }
}

/// What to try next.
pub fn next(url: &str) -> String {
    let local = url.contains("localhost");
    let rows: Vec<Vec<super::table::Cell>> = [
        ("klar", "what runs, at a glance", true),
        ("klar logs -f", "what the app says", true),
        ("klar deploy", "ships your changes without losing a request", true),
        ("klar trust", "lets your browser trust the certificate", local),
    ]
    .into_iter()
    .filter(|(_, _, shown)| *shown)
    .map(|(command, what, _)| vec![super::table::cell(super::STRONG, command), what.into()])
    .collect();
    super::table::align(&rows, &[], "  ")
}
