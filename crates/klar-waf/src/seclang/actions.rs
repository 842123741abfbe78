//! What a rule does: `id:1,phase:2,deny,msg:'Not here, \'please\'',setvar:tx.seen=+1`.

use super::ctl::ctl;
use super::text::text;
use super::variables::{expire, init, set};
use super::words::{BLANKS, Span, Trouble, closing, is_quote, shown};
use super::{Action, Allow, Disruptive};
use crate::transform::Transformation;

/// Actions of one rule at most.
const ACTIONS_MAX: usize = 1000;

/// One action of a list, before it is known what it means.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub name: Span<'a>,
    /// What is behind `:`, without the quotes around it.
    pub value: Option<Span<'a>>,
}

/// What a list of actions says.
#[derive(Default)]
pub(super) struct Actions {
    pub list: Vec<Action>,
    /// `chain`: the next rule has to match, too.
    pub chained: bool,
}

/// Cuts a list at its commas; those between quotes are none.
pub(super) fn items(list: Span<'_>) -> Result<Vec<Item<'_>>, Trouble> {
    let mut found = Vec::new();
    let mut rest = list;
    loop {
        rest = rest.trim();
        if let Some(behind) = rest.strip(',') {
            rest = behind;
            continue;
        }
        if rest.text.is_empty() {
            return Ok(found);
        }
        if found.len() >= ACTIONS_MAX {
            return Err(rest.trouble(format!("more than {ACTIONS_MAX} actions in one rule")));
        }
        let end = rest.text.find([':', ',']).unwrap_or(rest.text.len());
        let name = rest.part(0, end).trim();
        let Some(value) = rest.behind(end).strip(':') else {
            found.push(Item { name, value: None });
            rest = rest.behind(end);
            continue;
        };
        let value =
            value.part(value.text.len() - value.text.trim_start_matches(BLANKS).len(), value.text.len());
        let Some(quote) = value.text.bytes().next().filter(|byte| is_quote(*byte)) else {
            let end = value.text.find(',').unwrap_or(value.text.len());
            found.push(Item { name, value: Some(value.part(0, end).trim()) });
            rest = value.behind(end);
            continue;
        };
        let inner = value.behind(1);
        let Some(end) = closing(inner.text, quote) else {
            return Err(value.trouble(format!("the quote {} is never closed", char::from(quote))));
        };
        found.push(Item { name, value: Some(inner.part(0, end)) });
        rest = inner.behind(end + 1).trim();
        if !rest.text.is_empty() && !rest.text.starts_with(',') {
            return Err(rest.trouble(format!("{} stands right behind a closing quote", shown(rest.text))));
        }
    }
}

/// Reads a list that was cut.
pub(super) fn actions(items: &[Item<'_>]) -> Result<Actions, Trouble> {
    let mut read = Actions::default();
    for item in items {
        if item.name.is("chain") {
            without_value(*item)?;
            read.chained = true;
            continue;
        }
        let action = action(*item)?;
        let is_twice = match action {
            Action::Id(_) => read.list.iter().any(|action| matches!(action, Action::Id(_))),
            Action::Phase(_) => read.list.iter().any(|action| matches!(action, Action::Phase(_))),
            _ => false,
        };
        if is_twice {
            return Err(item.name.trouble(format!("{} is there twice", shown(item.name.text))));
        }
        read.list.push(action);
    }
    Ok(read)
}

fn action(item: Item<'_>) -> Result<Action, Trouble> {
    let name = item.name.text.to_ascii_lowercase();
    // What says it all by its name.
    let plain = match name.as_str() {
        "pass" => Some(Action::Disruptive(Disruptive::Pass)),
        "block" => Some(Action::Disruptive(Disruptive::Block)),
        "deny" => Some(Action::Disruptive(Disruptive::Deny)),
        "drop" => Some(Action::Disruptive(Disruptive::Drop)),
        "capture" => Some(Action::Capture),
        "multimatch" => Some(Action::MultiMatch),
        "log" => Some(Action::Log(true)),
        "nolog" => Some(Action::Log(false)),
        "auditlog" => Some(Action::AuditLog(true)),
        "noauditlog" => Some(Action::AuditLog(false)),
        _ => None,
    };
    if let Some(plain) = plain {
        without_value(item)?;
        return Ok(plain);
    }
    if name == "allow" {
        return allow(item.value).map(|allow| Action::Disruptive(Disruptive::Allow(allow)));
    }
    if let Some(why) = refused(&name) {
        return Err(item.name.trouble(format!("the action {}: {why}", shown(item.name.text))));
    }
    let empty = || item.name.trouble(format!("the action {} without a value", shown(item.name.text)));
    let value = || item.value.filter(|value| !value.text.is_empty()).ok_or_else(empty);
    Ok(match name.as_str() {
        "id" => Action::Id(id(value()?)?),
        "phase" => Action::Phase(phase(value()?)?),
        "status" => Action::Status(in_range(value()?, "status", 100, 599)?),
        "t" => transformation(value()?)?,
        "msg" => Action::Msg(text(item.value.ok_or_else(empty)?)?),
        "logdata" => Action::LogData(text(item.value.ok_or_else(empty)?)?),
        "tag" => Action::Tag(text(value()?)?),
        "severity" => Action::Severity(severity(value()?)?),
        "ver" | "rev" | "maturity" | "accuracy" | "xmlns" => Action::Note(name, value()?.text.to_owned()),
        "setvar" => Action::SetVar(set(value()?)?),
        "expirevar" => expire(value()?)?,
        "initcol" => init(value()?)?,
        "setuid" | "setsid" | "setrsc" | "setenv" => {
            let text = text(value()?)?;
            Action::Set(name, text)
        }
        "skip" => Action::Skip(in_range(value()?, "skip", 1, 1_000_000)?),
        "skipafter" => Action::SkipAfter(value()?.text.to_owned()),
        "redirect" => Action::Disruptive(Disruptive::Redirect(text(value()?)?)),
        "proxy" => Action::Disruptive(Disruptive::Proxy(text(value()?)?)),
        "ctl" => Action::Ctl(ctl(value()?)?),
        _ => return Err(item.name.trouble(format!("the action {} is not known", shown(item.name.text)))),
    })
}

/// Actions of the language that nothing here does, and why.
fn refused(name: &str) -> Option<&'static str> {
    Some(match name {
        "exec" => "no programs are run",
        "append" | "prepend" => "responses are not changed",
        "pause" => "no request is made to wait",
        "deprecatevar" => "the value of a variable does not fall with time; `expirevar` forgets it",
        "sanitisearg"
        | "sanitisematched"
        | "sanitisematchedbytes"
        | "sanitiserequestheader"
        | "sanitiseresponseheader" => "there is no log of whole requests to hide it in",
        _ => return None,
    })
}

fn without_value(item: Item<'_>) -> Result<(), Trouble> {
    match item.value {
        None => Ok(()),
        Some(value) => {
            let (name, value_text) = (shown(item.name.text), shown(value.text));
            Err(value.trouble(format!("the action {name} takes no value, not {value_text}")))
        }
    }
}

fn allow(value: Option<Span<'_>>) -> Result<Allow, Trouble> {
    match value {
        None => Ok(Allow::All),
        Some(value) if value.is("phase") => Ok(Allow::Phase),
        Some(value) if value.is("request") => Ok(Allow::Request),
        Some(value) => {
            Err(value.trouble(format!("allow goes with `phase` or `request`, not {}", shown(value.text))))
        }
    }
}

/// The number of a rule.
pub(super) fn id(span: Span<'_>) -> Result<u32, Trouble> {
    number(span.text).filter(|id| *id > 0).ok_or_else(|| {
        span.trouble(format!("{} is no number of a rule (1 to {})", shown(span.text), u32::MAX))
    })
}

fn phase(value: Span<'_>) -> Result<u8, Trouble> {
    match value.text.to_ascii_lowercase().as_str() {
        "request" => Ok(2),
        "response" => Ok(4),
        "logging" => Ok(5),
        _ => in_range(value, "phase", 1, 5),
    }
}

fn severity(value: Span<'_>) -> Result<u8, Trouble> {
    const NAMES: [&str; 8] =
        ["emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"];
    match (0..).zip(NAMES).find(|(_, name)| value.is(name)) {
        Some((severity, _)) => Ok(severity),
        None => in_range(value, "severity", 0, 7),
    }
}

fn transformation(value: Span<'_>) -> Result<Action, Trouble> {
    if value.is("none") {
        return Ok(Action::NoTransformation);
    }
    Transformation::named(value.text)
        .map(Action::Transform)
        .ok_or_else(|| value.trouble(format!("the transformation {} is not known", shown(value.text))))
}

/// A number of digits alone: no sign, no blanks.
pub(super) fn number<N: std::str::FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A number between two others.
fn in_range<N>(span: Span<'_>, what: &str, least: N, most: N) -> Result<N, Trouble>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    number(span.text).filter(|number| (&least..=&most).contains(&number)).ok_or_else(|| {
        span.trouble(format!("{what} is a number from {least} to {most}, not {}", shown(span.text)))
    })
}
