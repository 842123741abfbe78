//! Verbs that look into the edge.

use std::io::{IsTerminal, Read};
use std::time::Duration;

use klar_api::{Client, ClientError};
use klar_base::look::{Counts, Explained, Wanted};
use klar_config::{Config, FILE_NAME, Origin, Provenance};
use klar_run::report::Failure;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::cli::ExplainRequest;
use crate::context::{Context, Trouble, wait};
use crate::out::sample::Sample;
use crate::out::screen::{self, Screen};
use crate::out::top::{self, Sort};
use crate::out::{BAD, explained, is_read, paint};

/// How often the edge is asked.
const EVERY: Duration = Duration::from_secs(1);

/// `klar edge` with nothing more.
pub fn nothing_wanted() -> Trouble {
    Trouble::usage(
        Failure::new("`klar edge` wants to know what").hint("say `klar edge top` or `klar edge explain URL`"),
    )
}

/// What `--json` says: all that the edge says, and where each setting comes from.
#[derive(Debug, Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    explained: &'a Explained,
    /// Beside `policies`, in their order.
    policy_origins: &'a [Option<String>],
}

/// `klar edge explain`.
pub fn explain(context: &Context, wanted: ExplainRequest) -> Result<(), Trouble> {
    let app = if wanted.url.starts_with('/') { Some(context.key()?) } else { None };
    let certificate = wanted.certificate.map(|path| {
        std::fs::read_to_string(&path)
            .map_err(|error| Trouble::usage(Failure::new(format!("{}: {error}", path.display()))))
    });
    let wanted = Wanted {
        url: wanted.url,
        app,
        method: wanted.method,
        headers: wanted.header,
        from: wanted.from,
        certificate: certificate.transpose()?,
    };
    let client = context.client();
    let told = wait(client.edge_explain(&wanted))??;
    let origins = match &told.app {
        None => vec![None; told.policies.len()],
        Some(app) => {
            let text = wait(client.config(app))?;
            // A file that cannot be had leaves only the lines out.
            let loaded = text.ok().and_then(|text| Config::parse(&text, FILE_NAME, &app.env).ok());
            let provenance = loaded.map(|loaded| loaded.provenance).unwrap_or_default();
            told.policies.iter().map(|policy| origin(&provenance, &told, policy.key.as_deref())).collect()
        }
    };
    if context.printer.json {
        context.printer.value(&Told { explained: &told, policy_origins: &origins });
    } else {
        context.printer.data(explained::render(&told, &origins).trim_end_matches('\n'));
    }
    let is_led = told.outcome.status.is_some_and(|status| status < 400);
    let taken = told.app.is_some() && (told.route.is_some() || is_led);
    if taken { Ok(()) } else { Err(Trouble::Verdict(1)) }
}

/// Where the value of a key comes from that the edge names in general (`routes.*.timeout`).
fn origin(provenance: &Provenance, told: &Explained, key: Option<&str>) -> Option<String> {
    let parts: Vec<&str> = key?.split('.').collect();
    let path = match parts[..] {
        ["routes", "*", name] => klar_config::key_path(["routes", told.route.as_deref()?, name]),
        ["services", "*", name] => klar_config::key_path(["services", told.service.as_ref()?.as_str(), name]),
        _ => key?.to_owned(),
    };
    let origin = provenance.origin(&path)?;
    // A default that is another key's value comes from where that one does.
    if let Origin::Default { because } = origin
        && let Some(other) = because.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'))
        && let Some(theirs) = provenance.origin(other)
    {
        return Some(match theirs {
            Origin::Default { .. } => "default".into(),
            set => format!("{other}, {set}"),
        });
    }
    Some(match origin {
        Origin::Default { .. } => "default".into(),
        set => set.to_string(),
    })
}

/// `klar edge top`.
pub fn top(context: &Context, once: bool) -> Result<(), Trouble> {
    let client = context.client();
    if context.printer.json && !once {
        return wait(each_second(context, &client))?;
    }
    if once || context.printer.json || !screen::is_there() {
        return wait(one_second(context, &client))?;
    }
    let screen = Screen::take().map_err(Trouble::system("taking the terminal"))?;
    let outcome = wait(live(&client, &screen));
    // Whatever is said now belongs on the screen of before.
    drop(screen);
    outcome?
}

async fn one_second(context: &Context, client: &Client) -> Result<(), Trouble> {
    let before = client.edge_counts().await?;
    tokio::time::sleep(EVERY).await;
    let sample = Sample::between(&before, &client.edge_counts().await?);
    if context.printer.json {
        context.printer.value(&sample);
        return Ok(());
    }
    let columns = if std::io::stdout().is_terminal() { screen::size().0 } else { usize::MAX };
    context.printer.data(top::frame(&sample, Sort::Requests, (columns, usize::MAX), false).join("\n"));
    Ok(())
}

async fn each_second(context: &Context, client: &Client) -> Result<(), Trouble> {
    let mut before = client.edge_counts().await?;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks.tick().await;
    while is_read() {
        ticks.tick().await;
        let after = client.edge_counts().await?;
        context.printer.value(&Sample::between(&before, &after));
        before = after;
    }
    Ok(())
}

/// Keys, one by one. The thread ends with the program: nothing can wake one that waits for a key.
fn keys() -> mpsc::Receiver<u8> {
    let (pressed, keys) = mpsc::channel(16);
    std::thread::spawn(move || {
        for key in std::io::stdin().lock().bytes() {
            let Ok(key) = key else { return };
            if pressed.blocking_send(key).is_err() {
                return;
            }
        }
    });
    keys
}

async fn live(client: &Client, screen: &Screen) -> Result<(), Trouble> {
    let system = |error| Trouble::system("watching for signals")(error);
    let mut ends = signal(SignalKind::terminate()).map_err(system)?;
    let mut interrupts = signal(SignalKind::interrupt()).map_err(system)?;
    let mut hangups = signal(SignalKind::hangup()).map_err(system)?;
    let mut resizes = signal(SignalKind::window_change()).map_err(system)?;
    let mut keys = keys();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut view =
        View { before: client.edge_counts().await?, sample: None, sort: Sort::Requests, trouble: None };
    // The first sample is a second away; until then there is what is known at once.
    view.sample = Some(Sample::between(&view.before, &view.before));
    loop {
        let shown = screen.show(&view.lines(screen::size()));
        shown.map_err(Trouble::system("drawing"))?;
        tokio::select! {
            _ = ticks.tick() => view.look(client).await?,
            key = keys.recv() => match key {
                Some(b'q' | b'Q' | screen::CTRL_C) | None => return Ok(()),
                Some(b's' | b'S') => view.sort = view.sort.next(),
                Some(_) => {}
            },
            _ = resizes.recv() => {}
            _ = ends.recv() => return Ok(()),
            _ = interrupts.recv() => return Ok(()),
            _ = hangups.recv() => return Ok(()),
        }
    }
}

/// What is on the screen.
struct View {
    before: Counts,
    sample: Option<Sample>,
    sort: Sort,
    /// Why the newest sample is not there.
    trouble: Option<String>,
}

impl View {
    /// Takes a sample. An edge that is being started again is waited for; a klar that is gone is not.
    async fn look(&mut self, client: &Client) -> Result<(), Trouble> {
        match client.edge_counts().await {
            Ok(after) => {
                // A tick that comes at once, as the first one does, has seen nothing yet.
                if after.pid != self.before.pid || after.uptime_us > self.before.uptime_us + 200_000 {
                    self.sample = Some(Sample::between(&self.before, &after));
                    self.before = after;
                }
                self.trouble = None;
            }
            Err(ClientError::Refused { failure, .. }) => self.trouble = Some(failure.what),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn lines(&self, (columns, rows): (usize, usize)) -> Vec<String> {
        let Some(sample) = &self.sample else { return Vec::new() };
        let taken = usize::from(self.trouble.is_some());
        let mut lines = top::frame(sample, self.sort, (columns, rows.saturating_sub(taken)), true);
        if let Some(trouble) = &self.trouble {
            let short: String = trouble.chars().take(columns).collect();
            lines.insert(0, paint(BAD, short));
        }
        lines
    }
}
