//! `klar attest` and `klar ledger`.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use klar_prove::catalogue::{Catalogue, Row, Who};
use klar_prove::evidence::{Attestation, Says, kind};
use klar_prove::own::{Declared, NOTHING};
use klar_prove::world::http::Origin;
use klar_run::report::Failure;
use klar_store::{Digest, Head, Ledger, chain};

use crate::cli;
use crate::context::{Context, Trouble};
use crate::out::{GOOD, QUIET, paint};

/// The ledger of this state folder.
///
/// # Errors
/// When it cannot be opened, with what would help.
pub fn open(context: &Context) -> Result<Ledger, Trouble> {
    Ledger::open(&context.layout.ledger()).map_err(|why| {
        let failure = Failure::new(format!("the ledger cannot be opened: {why}"));
        failure
            .hint("name a folder of your own with --state, or run klar as the user that runs the app")
            .into()
    })
}

/// `klar attest`.
pub fn attest(context: &Context, wanted: &cli::Attest) -> Result<(), Trouble> {
    let (target, catalogue) = whose(context, wanted.url.as_deref())?;
    let row = catalogue.get(&wanted.row).ok_or_else(|| {
        let failure = Failure::new(format!("there is no row `{}`", wanted.row));
        Trouble::usage(failure.hint("`klar check --all` names them"))
    })?;
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    until_when(row, today, wanted)?;
    let (document, digest) = match &wanted.evidence {
        None => (None, None),
        Some(path) => {
            let bytes = std::fs::read(path).map_err(Trouble::system(path.display()))?;
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            (name, Some(Digest::of(&[&bytes]).to_string()))
        }
    };
    let says = match (wanted.not_applicable, wanted.accept) {
        (true, _) => Says::NotApplicable,
        (_, true) => Says::Accepted,
        _ => Says::Holds,
    };
    let signed = Attestation {
        target,
        row: row.id.clone(),
        says,
        by: wanted.by.clone(),
        until: wanted.until,
        document,
        digest,
        note: wanted.note.clone(),
    };
    let head = open(context)?
        .append(Timestamp::now(), [(kind::ATTESTATION, row.id.as_str(), &signed)])
        .map_err(|why| Trouble::from(Failure::new(why.to_string())))?;
    if context.printer.json {
        context.printer.value(&serde_json::json!({ "attestation": signed, "head": head }));
        return Ok(());
    }
    let counts = match (says, row.who) {
        (Says::Holds, Who::Human) => "counts in full: only people can know this",
        (Says::Holds, _) => "counts 0.7 at most: a probe would count in full",
        (Says::NotApplicable, _) => "taken out of the score, and shown",
        (Says::Accepted, _) => "counts 0, and holds nothing down",
    };
    context.printer.data(format!(
        "{} {} until {}  {}",
        paint(GOOD, "✍"),
        row.id,
        signed.until,
        paint(QUIET, counts)
    ));
    Ok(())
}

/// What is signed for, as evidence calls it, and the rows that it has.
fn whose(context: &Context, url: Option<&str>) -> Result<(String, Catalogue), Trouble> {
    if let Some(url) = url {
        let origin = Origin::parse(url).map_err(|why| Trouble::usage(Failure::new(why)))?;
        return Ok((origin.to_string(), NOTHING.catalogue()));
    }
    if !context.folder().join(klar_config::FILE_NAME).is_file() {
        let failure = Failure::new("a signature is for one app: there is no klar.toml here, and no --url");
        return Err(Trouble::usage(
            failure.hint("go to the folder of the app, or name its address with --url"),
        ));
    }
    let declared = Declared::of(&context.load()?.config);
    Ok((declared.target.clone(), declared.catalogue()))
}

/// Nothing is good for ever, and nothing for longer than its row allows.
fn until_when(row: &Row, today: jiff::civil::Date, wanted: &cli::Attest) -> Result<(), Trouble> {
    if wanted.by.trim().is_empty() {
        return Err(Trouble::usage(Failure::new("--by needs a name: somebody has to answer for it")));
    }
    let days = i64::from(row.sign_days.unwrap_or(90));
    let last = today.saturating_add(jiff::Span::new().days(days));
    if wanted.until < today {
        return Err(Trouble::usage(Failure::new(format!("{} is over", wanted.until))));
    }
    if wanted.until > last {
        let failure = Failure::new(format!("for {} a signature is good for {days} days at most", row.id));
        return Err(Trouble::usage(failure.hint(format!("--until {last}, and look again then"))));
    }
    Ok(())
}

/// `klar ledger`.
pub fn ledger(context: &Context, wanted: &cli::LedgerArgs) -> Result<(), Trouble> {
    let ledger = open(context)?;
    let failed = |why: klar_store::LedgerError| Trouble::from(Failure::new(why.to_string()));
    if let Some(seq) = wanted.erase {
        ledger.erase(seq).map_err(failed)?;
    }
    let entries = klar_store::ledger::read(ledger.path()).map_err(failed)?;
    let head = chain::verify(Head::default(), &entries, &ledger.key(), wanted.head).map_err(|broken| {
        let failure = Failure::new(format!("{}: {broken}", ledger.path().display()));
        Trouble::from(
            failure.hint("compare it with a copy from before; what it says can no longer be trusted"),
        )
    })?;
    let erased = entries.iter().filter(|entry| entry.payload.is_none()).count();
    if context.printer.json {
        let path = ledger.path().display().to_string();
        context.printer.value(&serde_json::json!({
            "file": path, "key": ledger.key(), "head": head.to_string(), "entries": entries.len(), "erased": erased
        }));
        return Ok(());
    }
    context.printer.data(format!(
        "{} {} entries, whole and signed; {erased} erased",
        paint(GOOD, "✓"),
        entries.len()
    ));
    context.printer.data(format!("file  {}", ledger.path().display()));
    context.printer.data(format!("key   {}", ledger.key()));
    context.printer.data(format!("head  {head}"));
    context.printer.story("keep key and head elsewhere: they show later that nothing was changed or dropped");
    Ok(())
}
