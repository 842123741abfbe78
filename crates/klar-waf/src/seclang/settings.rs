//! Directives that are no rules: settings, markers, and what changes rules that stand elsewhere.

use std::fmt::Display;
use std::str::FromStr;

use super::actions::{actions, id, items, number};
use super::targets::targets;
use super::words::{Span, Trouble, arguments, shown};
use super::{Action, Directive, Disruptive, LimitAction, Mode, Place, Setting, Which};

/// Directives that say something of logs, of temporary files, or of how much work an engine with another kind of
/// expressions may do.
const WITHOUT_MEANING: &[&str] = &[
    "SecAuditEngine",
    "SecAuditLog",
    "SecAuditLog2",
    "SecAuditLogDirMode",
    "SecAuditLogFileMode",
    "SecAuditLogFormat",
    "SecAuditLogParts",
    "SecAuditLogPrefix",
    "SecAuditLogRelevantStatus",
    "SecAuditLogStorageDir",
    "SecAuditLogType",
    "SecCacheTransformations",
    "SecCollectionTimeout",
    "SecDataDir",
    "SecDebugLog",
    "SecDebugLogLevel",
    "SecGuardianLog",
    "SecPcreMatchLimit",
    "SecPcreMatchLimitRecursion",
    "SecRequestBodyInMemoryLimit",
    "SecRulePerfTime",
    "SecSensorId",
    "SecStatusEngine",
    "SecTmpDir",
    "SecTmpSaveUploadedFiles",
    "SecUnicodeCodePage",
    "SecUnicodeMapFile",
    "SecUploadDir",
    "SecUploadFileMode",
    "SecUploadKeepFiles",
];

/// Switches that can be off, and why they cannot be on.
const ALWAYS_OFF: &[(&str, &str)] = &[
    ("SecConnEngine", "connections are not counted by rules"),
    ("SecContentInjection", "responses are not changed"),
    ("SecDisableBackendCompression", "requests are not changed"),
    ("SecHashEngine", "responses are not changed"),
    ("SecInterceptOnError", "an operator that is refused is refused when rules are read"),
    ("SecRuleInheritance", "there are no contexts that rules could be inherited from"),
    ("SecStreamInBodyInspection", "bodies are looked at whole"),
    ("SecStreamOutBodyInspection", "bodies are looked at whole"),
    ("SecXmlExternalEntity", "nothing is fetched that a request names"),
];

/// What is not done, and why.
const REFUSED: &[(&str, &str)] = &[
    ("Include", "files are read by whoever reads this one: name the file there"),
    ("IncludeOptional", "files are read by whoever reads this one: name the file there"),
    ("SecChrootDir", "rules do not change where the server runs"),
    ("SecConnReadStateLimit", "connections are not counted by rules"),
    ("SecConnWriteStateLimit", "connections are not counted by rules"),
    ("SecCookieV0Separator", "cookies are separated by `;`"),
    ("SecGeoLookupDb", "no database of countries is read"),
    ("SecGsbLookupDb", "no database of addresses is read"),
    ("SecHashKey", "responses are not changed"),
    ("SecHashMethodPm", "responses are not changed"),
    ("SecHashMethodRx", "responses are not changed"),
    ("SecHashParam", "responses are not changed"),
    ("SecHttpBlKey", "nobody is asked about an address"),
    ("SecRemoteRules", "rules are not fetched"),
    ("SecRemoteRulesFailAction", "rules are not fetched"),
    ("SecRuleScript", "no programs are run"),
    ("SecServerSignature", "responses are not changed"),
];

/// Reads a directive that is neither `SecRule` nor `SecAction`.
pub(super) fn directive(name: Span<'_>, rest: Span<'_>, place: Place) -> Result<Directive, Trouble> {
    if let Some((_, why)) = REFUSED.iter().find(|(own, _)| name.is(own)) {
        return Err(name.trouble(format!("{} is not supported: {why}", name.text)));
    }
    let words = arguments(rest)?;
    if let Some(own) = WITHOUT_MEANING.iter().find(|own| name.is(own)) {
        let value = words.iter().map(|word| word.text).collect::<Vec<_>>().join(" ");
        return Ok(Directive::Setting(place, Setting::WithoutMeaning((*own).to_owned(), value)));
    }
    if let Some((own, why)) = ALWAYS_OFF.iter().find(|(own, _)| name.is(own)) {
        let value = one(name, &words)?;
        return match switch(value)? {
            true => Err(value.trouble(format!("{own} can only be off: {why}"))),
            false => {
                Ok(Directive::Setting(place, Setting::WithoutMeaning((*own).to_owned(), "Off".to_owned())))
            }
        };
    }
    let lower = name.text.to_ascii_lowercase();
    Ok(match lower.as_str() {
        "secmarker" => Directive::Marker(place, not_empty(one(name, &words)?)?.to_owned()),
        "secdefaultaction" => Directive::DefaultAction(place, defaults(one(name, &words)?)?),
        "secruleremovebyid" => Directive::Remove(place, which_ids(&words)?),
        "secruleremovebytag" => {
            Directive::Remove(place, Which::Tag(not_empty(one(name, &words)?)?.to_owned()))
        }
        "secruleremovebymsg" => {
            Directive::Remove(place, Which::Msg(not_empty(one(name, &words)?)?.to_owned()))
        }
        "secruleupdatetargetbyid" | "secruleupdatetargetbytag" | "secruleupdatetargetbymsg" => {
            let (which, list) = two(name, &words)?;
            let which = match lower.as_str() {
                "secruleupdatetargetbyid" => which_ids(&[which])?,
                "secruleupdatetargetbytag" => Which::Tag(not_empty(which)?.to_owned()),
                _ => Which::Msg(not_empty(which)?.to_owned()),
            };
            Directive::UpdateTargets(place, which, targets(list)?)
        }
        "secruleupdateactionbyid" => {
            let (which, list) = two(name, &words)?;
            Directive::UpdateActions(place, which_ids(&[which])?, updates(list)?)
        }
        _ => Directive::Setting(place, setting(&lower, name, &words)?),
    })
}

fn setting(lower: &str, name: Span<'_>, words: &[Span<'_>]) -> Result<Setting, Trouble> {
    Ok(match lower {
        "secruleengine" => Setting::Engine(mode(one(name, words)?)?),
        "secrequestbodyaccess" => Setting::RequestBodyAccess(switch(one(name, words)?)?),
        "secresponsebodyaccess" => Setting::ResponseBodyAccess(switch(one(name, words)?)?),
        "secrequestbodylimit" => Setting::RequestBodyLimit(count(name, words)?),
        "secrequestbodynofileslimit" => Setting::RequestBodyNoFilesLimit(count(name, words)?),
        "secrequestworklimit" => Setting::RequestWorkLimit(count(name, words)?),
        "secresponsebodylimit" => Setting::ResponseBodyLimit(count(name, words)?),
        "secrequestbodylimitaction" => Setting::RequestBodyLimitAction(limit_action(one(name, words)?)?),
        "secresponsebodylimitaction" => Setting::ResponseBodyLimitAction(limit_action(one(name, words)?)?),
        "secrequestbodyjsondepthlimit" => Setting::JsonDepthLimit(count(name, words)?),
        "secargumentslimit" => Setting::ArgumentsLimit(count(name, words)?),
        "secuploadfilelimit" => Setting::UploadFileLimit(count(name, words)?),
        "secresponsebodymimetype" if !words.is_empty() => Setting::ResponseBodyTypes(
            words.iter().flat_map(|word| word.text.split_whitespace()).map(str::to_owned).collect(),
        ),
        "secresponsebodymimetypesclear" if words.is_empty() => Setting::ResponseBodyTypesClear,
        "secargumentseparator" => {
            let word = one(name, words)?;
            match word.text.as_bytes() {
                [separator] => Setting::ArgumentSeparator(*separator),
                _ => return Err(word.trouble(format!("{} is not one character", shown(word.text)))),
            }
        }
        "seccookieformat" => match one(name, words)? {
            word if word.text == "0" => Setting::WithoutMeaning("SecCookieFormat".to_owned(), "0".to_owned()),
            word => {
                return Err(word.trouble(format!("cookies are read in format 0, not {}", shown(word.text))));
            }
        },
        "seccomponentsignature" => Setting::Component(one(name, words)?.text.to_owned()),
        "secwebappid" => Setting::WebAppId(one(name, words)?.text.to_owned()),
        "secresponsebodymimetype" | "secresponsebodymimetypesclear" => return Err(arity(name, words)),
        _ => return Err(name.trouble(format!("the directive {} is not known", shown(name.text)))),
    })
}

/// What `SecDefaultAction` says: what ends a request, and nothing that is a rule's own.
fn defaults(list: Span<'_>) -> Result<Vec<Action>, Trouble> {
    let items = items(list)?;
    let read = actions(&items)?;
    if read.chained {
        return Err(list.trouble("SecDefaultAction cannot hold `chain`"));
    }
    for (item, action) in items.iter().zip(&read.list) {
        let is_own = matches!(
            action,
            Action::Id(_)
                | Action::Note(..)
                | Action::NoTransformation
                | Action::Skip(_)
                | Action::SkipAfter(_)
                | Action::Disruptive(Disruptive::Block)
        );
        if is_own {
            return Err(item.name.trouble(format!("SecDefaultAction cannot hold {}", shown(item.name.text))));
        }
    }
    if !read.list.iter().any(|action| matches!(action, Action::Disruptive(_))) {
        return Err(
            list.trouble("SecDefaultAction says neither `pass` nor `deny` nor what else ends a request")
        );
    }
    Ok(read.list)
}

/// What `SecRuleUpdateActionById` says: all but what makes a rule another one.
fn updates(list: Span<'_>) -> Result<Vec<Action>, Trouble> {
    let items = items(list)?;
    if let Some(item) = items.iter().find(|item| ["id", "phase", "chain"].iter().any(|own| item.name.is(own)))
    {
        return Err(item.name.trouble(format!("{} of a rule cannot be changed", shown(item.name.text))));
    }
    Ok(actions(&items)?.list)
}

/// Numbers and ranges of numbers, in one argument or in several: `1 5 10-19`.
pub(super) fn which_ids(words: &[Span<'_>]) -> Result<Which, Trouble> {
    let mut ids = Vec::new();
    for word in words {
        let mut rest = word.trim();
        while !rest.text.is_empty() {
            let end = rest.text.find([' ', '\t', ',']).unwrap_or(rest.text.len());
            let item = rest.part(0, end);
            if !item.text.is_empty() {
                let (from, to) = item.split_once('-').unwrap_or((item, item));
                let range = id(from)?..=id(to)?;
                if range.is_empty() {
                    return Err(item.trouble(format!("{} ends before it begins", shown(item.text))));
                }
                ids.push(range);
            }
            rest = rest.behind((end + 1).min(rest.text.len()));
        }
    }
    match (ids.is_empty(), words.first()) {
        (false, _) => Ok(Which::Ids(ids)),
        (true, Some(word)) => Err(word.trouble("no rule is named")),
        (true, None) => Err(Span::whole("").trouble("no rule is named")),
    }
}

/// `On` or `Off`.
pub(super) fn switch(word: Span<'_>) -> Result<bool, Trouble> {
    match (word.is("On"), word.is("Off")) {
        (true, _) => Ok(true),
        (_, true) => Ok(false),
        _ => Err(word.trouble(format!("{} is neither `On` nor `Off`", shown(word.text)))),
    }
}

/// `On`, `Off` or `DetectionOnly`.
pub(super) fn mode(word: Span<'_>) -> Result<Mode, Trouble> {
    if word.is("DetectionOnly") {
        return Ok(Mode::DetectionOnly);
    }
    match switch(word) {
        Ok(true) => Ok(Mode::On),
        Ok(false) => Ok(Mode::Off),
        Err(_) => {
            Err(word.trouble(format!("{} is neither `On` nor `Off` nor `DetectionOnly`", shown(word.text))))
        }
    }
}

fn limit_action(word: Span<'_>) -> Result<LimitAction, Trouble> {
    if word.is("Reject") {
        return Ok(LimitAction::Reject);
    }
    if word.is("ProcessPartial") {
        return Ok(LimitAction::ProcessPartial);
    }
    Err(word.trouble(format!("{} is neither `Reject` nor `ProcessPartial`", shown(word.text))))
}

fn count<N: FromStr + Display>(name: Span<'_>, words: &[Span<'_>]) -> Result<N, Trouble> {
    let word = one(name, words)?;
    number(word.text).ok_or_else(|| word.trouble(format!("{} is no number that fits here", shown(word.text))))
}

fn not_empty(word: Span<'_>) -> Result<&str, Trouble> {
    match word.text {
        "" => Err(word.trouble("an argument is empty")),
        text => Ok(text),
    }
}

fn one<'a>(name: Span<'_>, words: &[Span<'a>]) -> Result<Span<'a>, Trouble> {
    match words {
        [word] => Ok(*word),
        _ => Err(arity(name, words)),
    }
}

fn two<'a>(name: Span<'_>, words: &[Span<'a>]) -> Result<(Span<'a>, Span<'a>), Trouble> {
    match words {
        [first, second] => Ok((*first, *second)),
        _ => Err(arity(name, words)),
    }
}

/// Another number of arguments than there should be.
pub(super) fn arity(name: Span<'_>, words: &[Span<'_>]) -> Trouble {
    let count = match words.len() {
        0 => "no argument".to_owned(),
        1 => "one argument".to_owned(),
        count => format!("{count} arguments"),
    };
    name.trouble(format!("{} does not go with {count}", name.text))
}
