//! Verbs that only look.

use std::process::Command;

use klar_api::ClientError;
use klar_base::signal::{AccessRecord, CacheOutcome, ImageOutcome, WafVerdict};
use klar_run::control::LogQuery;
use klar_run::report::{AppStatus, Failure, Grade, HostStatus, LogLine};

use crate::cli::Logs;
use crate::context::{Context, Trouble, wait};
use crate::out::{BAD, FAIR, GOOD, QUIET, STRONG, is_read, paint, render_hint, status, words};

/// What runs; `None` when klar does not.
fn ask(context: &Context) -> Result<Option<HostStatus>, Trouble> {
    match wait(context.client().status())? {
        Ok(status) => Ok(Some(status)),
        Err(ClientError::NotRunning { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn not_running(context: &Context) {
    if context.printer.json {
        context.printer.value(&serde_json::json!({ "running": false, "apps": [] }));
        return;
    }
    context.printer.data("klar is not running on this machine");
    let what = if context.folder().join(klar_config::FILE_NAME).is_file() {
        "`klar up` puts the app in this folder in place"
    } else {
        "`klar init` writes a klar.toml for the app in this folder, `klar up` puts it in place"
    };
    context.printer.data(render_hint(what, "  ").trim_end());
}

/// `klar status`.
pub fn status(context: &Context) -> Result<(), Trouble> {
    match ask(context)? {
        None => not_running(context),
        Some(host) if context.printer.json => context.printer.value(&host),
        Some(host) => {
            context.printer.data(status::render(&host, words::now_unix_ms()).trim_end_matches('\n'))
        }
    }
    Ok(())
}

/// `klar ps`.
pub fn ps(context: &Context) -> Result<(), Trouble> {
    match ask(context)? {
        None => not_running(context),
        Some(host) if context.printer.json => context.printer.value(&host),
        Some(host) => context.printer.data(status::render_instances(&host.apps).trim_end_matches('\n')),
    }
    Ok(())
}

/// `klar doctor`.
pub fn doctor(context: &Context) -> Result<(), Trouble> {
    let findings = wait(context.client().doctor())??;
    if context.printer.json {
        context.printer.value(&findings);
        return Ok(());
    }
    for finding in findings {
        let mark = match finding.grade {
            Grade::Good => paint(GOOD, "✓"),
            Grade::Fair => paint(FAIR, "▲"),
            Grade::Bad => paint(BAD, "✗"),
        };
        context.printer.data(format!("{mark} {:<10} {}", finding.topic, finding.what));
        if let Some(hint) = finding.hint {
            context.printer.data(render_hint(&hint, "             ").trim_end());
        }
    }
    Ok(())
}

/// `klar logs`.
pub fn logs(context: &Context, wanted: Logs) -> Result<(), Trouble> {
    let key = context.key()?;
    if wanted.grep.is_some() || wanted.level.is_some() {
        return super::metrics::lines(context, &key, &wanted);
    }
    let query = LogQuery {
        service: wanted.service,
        instance: wanted.instance,
        lines: wanted.lines,
        follow: wanted.follow,
        access: wanted.access,
        shadow: false,
    };
    let show = |line: LogLine| {
        if context.printer.json && wanted.access {
            // A record is an object already.
            context.printer.data(&line.text);
        } else if context.printer.json {
            context.printer.value(&line);
        } else if wanted.access {
            context.printer.data(access(&line.text));
        } else {
            let style = if line.stream == "stderr" { FAIR } else { QUIET };
            let time = line.time.get(11..23).unwrap_or(&line.time);
            let who = paint(style, format_args!("{:<10}", line.instance));
            context.printer.data(format!("{} {who} {}", paint(QUIET, time), words::tame(&line.text)));
        }
        is_read()
    };
    wait(context.client().logs(&key, &query, show))?.map_err(Trouble::from)
}

/// An access record on a line for people.
fn access(text: &str) -> String {
    let Ok(record) = serde_json::from_str::<AccessRecord>(text) else {
        return text.into();
    };
    let style = match record.status {
        500.. => BAD,
        400.. => FAIR,
        _ => GOOD,
    };
    let more = match (&record.upstream, record.attempts) {
        (Some(upstream), 0 | 1) => upstream.short(),
        (Some(upstream), attempts) => format!("{} (attempt {attempts})", upstream.short()),
        (None, _) => String::new(),
    };
    let cache = match record.cache {
        None | Some(CacheOutcome::Bypass) => "",
        Some(CacheOutcome::Hit) => "cache: hit  ",
        Some(CacheOutcome::Miss) => "cache: miss  ",
        Some(CacheOutcome::Stale) => "cache: stale  ",
        Some(CacheOutcome::Revalidated) => "cache: revalidated  ",
        Some(CacheOutcome::Refresh) => "cache: refresh, for the next visitor  ",
    };
    let waf = record.waf.as_ref().map_or_else(String::new, |finding| {
        let verdict = match finding.verdict {
            WafVerdict::Blocked => "stopped",
            WafVerdict::Detected => "would be stopped",
            WafVerdict::Noted => "noted",
        };
        let first = finding.matches.first();
        let first = first.map(|one| format!(" for {} ({})", one.place, one.rule)).unwrap_or_default();
        format!("firewall: {verdict}{}  ", words::tame(&first))
    });
    let image = match record.image {
        None => "",
        Some(ImageOutcome::Kept) => "image: kept  ",
        Some(ImageOutcome::Made) => "image: made  ",
        Some(ImageOutcome::Later) => "image: later, the original for now  ",
        Some(ImageOutcome::Original) => "image: original  ",
    };
    let error = record.error.map(|error| format!("  {error}")).unwrap_or_default();
    format!(
        "{} {} {} {:<6} {:<40} {:>8.1} ms  {cache}{image}{waf}{more}{error}",
        paint(QUIET, time_of_day(record.time_unix_ms)),
        paint(style, record.status),
        paint(QUIET, format_args!("{:<8}", words::tame(&record.protocol))),
        record.method,
        words::tame(&record.path),
        record.duration_us as f64 / 1000.0
    )
}

fn time_of_day(unix_ms: u64) -> String {
    let stamp = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    stamp.map(|stamp| stamp.strftime("%H:%M:%S%.3f").to_string()).unwrap_or_default()
}

/// `klar open`.
pub fn open(context: &Context, print: bool) -> Result<(), Trouble> {
    let key = context.key()?;
    let host = wait(context.client().status())??;
    let app: &AppStatus = host.apps.iter().find(|app| app.key == key).ok_or_else(|| {
        Trouble::from(Failure::new(format!("{key} is not up")).hint("`klar up` puts it in place"))
    })?;
    if context.printer.json {
        context.printer.value(&serde_json::json!({ "url": app.url }));
        return Ok(());
    }
    let has_desktop = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    if print || !has_desktop || Command::new("xdg-open").arg(&app.url).spawn().is_err() {
        context.printer.data(&app.url);
    }
    Ok(())
}

/// `klar version`.
pub fn version(context: &Context) -> Result<(), Trouble> {
    let mine = env!("CARGO_PKG_VERSION");
    let running = ask(context).ok().flatten().map(|host| host.version);
    if context.printer.json {
        context.printer.value(&serde_json::json!({ "version": mine, "running": running }));
        return Ok(());
    }
    context.printer.data(format!("{} {mine}", paint(STRONG, "klar")));
    if let Some(running) = running.filter(|running| running != mine) {
        context.printer.data(format!("running: {running}"));
    }
    Ok(())
}
