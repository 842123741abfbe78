//! What a rule changes for the request that it matched: `ctl:ruleRemoveTargetById=942100;ARGS:text`.

use super::actions::number;
use super::settings::{mode, switch, which_ids};
use super::targets;
use super::words::{Span, Trouble, shown};
use super::{BodyProcessor, Ctl, Which};

/// Reads `name=value`; both or the value alone may be in quotes.
pub(super) fn ctl(span: Span<'_>) -> Result<Ctl, Trouble> {
    let Some((name, value)) = span.split_once('=') else {
        return Err(span.trouble(format!("ctl:{} is not `ctl:name=value`", span.text)));
    };
    let (name, value) = (name.trim(), value.trim().unquoted());
    if value.text.is_empty() {
        return Err(name.trouble(format!("ctl:{} without a value", name.text)));
    }
    let lower = name.text.to_ascii_lowercase();
    Ok(match lower.as_str() {
        "ruleremovebyid" => Ctl::RemoveRules(which_ids(&[value])?),
        "ruleremovebytag" => Ctl::RemoveRules(Which::Tag(value.text.to_owned())),
        "ruleremovebymsg" => Ctl::RemoveRules(Which::Msg(value.text.to_owned())),
        "ruleremovetargetbyid" | "ruleremovetargetbytag" | "ruleremovetargetbymsg" => {
            let Some((which, target)) = value.split_once(';') else {
                return Err(value.trouble(format!("{} is not `rules;variable`", shown(value.text))));
            };
            let which = match lower.as_str() {
                "ruleremovetargetbyid" => which_ids(&[which])?,
                _ if which.text.is_empty() => return Err(value.trouble("no rules are named before `;`")),
                "ruleremovetargetbytag" => Which::Tag(which.text.to_owned()),
                _ => Which::Msg(which.text.to_owned()),
            };
            let target = targets::one(target.trim())?;
            if target.count || target.except {
                return Err(value.trouble("a variable that is left out stands without `!` and `&`"));
            }
            Ctl::RemoveTarget(which, target)
        }
        "requestbodyprocessor" => Ctl::BodyProcessor(processor(value)?),
        "forcerequestbodyvariable" => Ctl::ForceRequestBody(switch(value)?),
        "requestbodyaccess" => Ctl::RequestBodyAccess(switch(value)?),
        "responsebodyaccess" => Ctl::ResponseBodyAccess(switch(value)?),
        "requestbodylimit" => Ctl::RequestBodyLimit(bytes(value)?),
        "responsebodylimit" => Ctl::ResponseBodyLimit(bytes(value)?),
        "ruleengine" => Ctl::Engine(mode(value)?),
        "auditengine" | "auditlogparts" | "debugloglevel" => {
            Ctl::Audit(name.text.to_owned(), value.text.to_owned())
        }
        _ => return Err(name.trouble(format!("ctl:{} is not known", name.text))),
    })
}

fn processor(value: Span<'_>) -> Result<BodyProcessor, Trouble> {
    [
        ("URLENCODED", BodyProcessor::UrlEncoded),
        ("MULTIPART", BodyProcessor::Multipart),
        ("JSON", BodyProcessor::Json),
        ("XML", BodyProcessor::Xml),
    ]
    .into_iter()
    .find(|(name, _)| value.is(name))
    .map(|(_, processor)| processor)
    .ok_or_else(|| value.trouble(format!("{} is no processor of bodies", shown(value.text))))
}

fn bytes(value: Span<'_>) -> Result<u64, Trouble> {
    number(value.text).ok_or_else(|| value.trouble(format!("{} is no number of bytes", shown(value.text))))
}
