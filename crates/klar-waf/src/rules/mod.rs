//! klar-core, the rules that klar brings along: for an app without a rule set of its own, from the first minute.
//!
//! They are files of `rules/klar-core`, whose first one says how they count, what they look at and what they do not do.

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
