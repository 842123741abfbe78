//! Rules that come along, and what other sets need beside them.

pub use crate::seclang::Source;

/// How bodies are read, and that rules stop requests: before all others.
pub const BASE: Source<'_> = Source { name: "base.conf", text: include_str!("../rules/base.conf") };

/// klar's own set.
pub const CORE: &[Source<'_>] =
    &[Source { name: "klar-core.conf", text: include_str!("../rules/klar-core.conf") }];

/// The variables of `TX` in which sets of rules add up what speaks against a request.
pub const SCORES: &[&[u8]] = &[b"blocking_inbound_anomaly_score", b"anomaly_score", b"klar_score"];

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
