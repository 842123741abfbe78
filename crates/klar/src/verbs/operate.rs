//! Verbs that change what runs, without new files.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use klar_api::ClientError;
use klar_base::ServiceName;
use klar_base::upstreams::Purge;
use klar_run::report::{Event, Failure, Receipt};

use crate::cli::{Down, PurgeArgs};
use crate::context::{Context, Trouble, wait};
use crate::out::events::Steps;
use crate::out::receipt;
use crate::out::words::things;

/// The last line of an operation.
pub fn conclude(context: &Context, receipt: &Receipt) {
    // With `--json` the last event was the receipt itself.
    if !context.printer.json {
        context.printer.data(receipt::render(receipt).trim_end_matches('\n'));
    }
}

/// Shows an operation as it goes by, and what came of it.
pub fn operate(
    context: &Context,
    operation: impl AsyncFnOnce(&mut dyn FnMut(&Event)) -> Result<Receipt, ClientError>,
) -> Result<(), Trouble> {
    let mut steps = Steps::new(context.printer);
    let outcome = wait(operation(&mut |event| steps.hear(event)))?;
    match outcome {
        Ok(receipt) => {
            conclude(context, &receipt);
            Ok(())
        }
        Err(error) => {
            steps.break_off();
            Err(error.into())
        }
    }
}

/// `klar rollback`.
pub fn rollback(context: &Context) -> Result<(), Trouble> {
    let key = context.key()?;
    operate(context, async |tell| context.client().rollback(&key, tell).await)
}

/// `klar restart`.
pub fn restart(context: &Context, service: Option<ServiceName>) -> Result<(), Trouble> {
    let key = context.key()?;
    operate(context, async |tell| context.client().restart(&key, service, tell).await)
}

/// `klar scale`.
pub fn scale(context: &Context, service: ServiceName, number: u32) -> Result<(), Trouble> {
    let key = context.key()?;
    operate(context, async |tell| context.client().scale(&key, service, number, tell).await)
}

/// `klar cert renew`.
pub fn renew(context: &Context) -> Result<(), Trouble> {
    let key = context.key()?;
    operate(context, async |tell| context.client().renew(&key, tell).await)
}

/// `klar cache purge`.
pub fn purge(context: &Context, wanted: &PurgeArgs) -> Result<(), Trouble> {
    let key = context.key()?;
    let what = match (&wanted.url, &wanted.prefix, &wanted.tag) {
        (Some(url), ..) => Purge::Url(url.clone()),
        (_, Some(prefix), _) => Purge::Prefix(prefix.clone()),
        (.., Some(tag)) => Purge::Tag(tag.clone()),
        _ => Purge::All,
    };
    let purged = wait(context.client().purge(&key, &what))??;
    if context.printer.json {
        context.printer.value(&purged);
    } else {
        context.printer.data(format!("{} forgotten", things(purged.dropped, "answer")));
    }
    Ok(())
}

/// `klar down`.
pub fn down(context: &Context, wanted: &Down) -> Result<(), Trouble> {
    if wanted.all {
        return stop_all(context);
    }
    let key = context.key()?;
    if wanted.purge
        && !wanted.yes
        && !confirmed(&format!("remove {key} with its releases, logs and databases?"))?
    {
        return Err(Failure::new("nothing was removed").into());
    }
    operate(context, async |tell| context.client().down(&key, wanted.purge, tell).await)
}

/// Stops everything, and waits until it is gone: whoever starts klar again finds the ports free.
fn stop_all(context: &Context) -> Result<(), Trouble> {
    const PATIENCE: Duration = Duration::from_secs(15);
    let host = wait(context.client().status())??;
    let mut steps = Steps::new(context.printer);
    if let Err(error) = wait(context.client().stop(|event| steps.hear(event)))? {
        steps.break_off();
        return Err(error.into());
    }
    let begun = Instant::now();
    let pids: Vec<u32> =
        [Some(host.core_pid), host.spawner_pid, host.edge.pid].into_iter().flatten().collect();
    while pids.iter().any(|pid| is_running(*pid)) && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(10));
    }
    if !context.printer.json {
        context.printer.data("klar has ended, and all apps with it; their data stays");
    }
    Ok(())
}

/// A process that has ended but was not collected yet holds nothing any more.
fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

/// Asks on a terminal; where nobody can answer, the answer must have been given.
fn confirmed(question: &str) -> Result<bool, Trouble> {
    if !std::io::stdin().is_terminal() {
        let failure =
            Failure::new(format!("{question} Nobody is there to answer")).hint("say it with `--yes`");
        return Err(Trouble::usage(failure));
    }
    eprint!("{question} [y/N] ");
    // What cannot be shown need not be waited for.
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(Trouble::system("reading your answer"))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "j" | "J" | "ja"))
}
