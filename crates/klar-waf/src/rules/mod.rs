//! klar-core, the rules that klar brings along: for an app without a rule set of its own, from the first minute; and what
//! other sets need beside them.
//!
//! klar-core are files of `rules/klar-core`, whose first one says how they count, what they look at and what they do not do.

#[cfg(test)]
mod tests;

use crate::engine::Waf;
use crate::seclang::{self, Refused, Source};

/// The files of klar-core, in their order. With other rules they come first: those may then change their settings.
pub const KLAR_CORE: &[Source<'static>] = &[
    Source { name: "klar-core/1-requests.conf", text: include_str!("../../rules/klar-core/1-requests.conf") },
    Source { name: "klar-core/2-data.conf", text: include_str!("../../rules/klar-core/2-data.conf") },
    Source { name: "klar-core/3-code.conf", text: include_str!("../../rules/klar-core/3-code.conf") },
    Source {
        name: "klar-core/4-sums-and-answers.conf",
        text: include_str!("../../rules/klar-core/4-sums-and-answers.conf"),
    },
];

/// What a set of somebody else's begins with: how bodies are read, and that rules stop requests.
pub const BASE: Source<'static> = Source { name: "base.conf", text: include_str!("../../rules/base.conf") };

/// The variables of `TX` in which sets of rules add up what speaks against a request: of klar-core, and of the versions 4
/// and 3 of the Core Rule Set.
pub const SCORES: &[&[u8]] = &[b"klar_score", b"blocking_inbound_anomaly_score", b"anomaly_score"];

/// What the Core Rule Set is told before its own settings: how much it suspects (1 to 4), in the words of its versions 3
/// and 4, and that apps change things by `PUT`, `PATCH` and `DELETE`.
#[must_use]
pub fn settings(paranoia: u8) -> String {
    let level = paranoia.clamp(1, 4);
    let names =
        ["paranoia_level", "executing_paranoia_level", "blocking_paranoia_level", "detection_paranoia_level"];
    let levels = names.map(|name| format!("setvar:tx.{name}={level}")).join(",");
    format!(
        "SecAction \"id:90000000,phase:1,nolog,pass,{levels},\
         setvar:'tx.allowed_methods=GET HEAD POST OPTIONS PUT PATCH DELETE'\"\n"
    )
}

/// Compiles klar-core, and `more` behind it: exclusions, other limits, rules of a team's own.
///
/// Of klar-core itself nothing is refused; of `more`, what cannot be honoured is said and does not run.
#[must_use]
pub fn klar_core(more: &[Source<'_>]) -> (Waf, Vec<Refused>) {
    let (mut directives, mut refused) = (Vec::new(), Vec::new());
    for source in KLAR_CORE.iter().chain(more) {
        let parsed = seclang::parse(source);
        directives.extend(parsed.directives);
        refused.extend(parsed.refused);
    }
    let set = seclang::resolve(directives);
    refused.extend(set.refused.iter().cloned());
    let (waf, unsupported) = Waf::new(&set, &|_, _| None);
    refused.extend(unsupported);
    (waf, refused)
}
