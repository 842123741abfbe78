//! What `klar waf explain` and `klar waf allow` say of a request that was judged again.

use klar_api::client::ClientError;
use klar_base::replay::{Attacked, Exception, Judged, Reason, Sent, bytes};
use klar_base::signal::WafVerdict;
use klar_run::control::{ReplayRequest, ReplayedRequest};

use crate::context::{Context, Trouble, wait};
use crate::out::{BAD, FAIR, GOOD, QUIET, paint, words};

/// So many of the attacks are named that an exception would let through.
const NAMED: usize = 5;
/// So much of a body is shown, in characters.
const BODY: usize = 400;

/// Has the edge judge a request again, with exceptions and without.
///
/// # Errors
/// klar does not run. Inside: why this request cannot be judged again.
pub fn ask(
    context: &Context,
    id: &str,
    exceptions: &[Exception],
) -> Result<Result<ReplayedRequest, String>, Trouble> {
    let key = context.key()?;
    let wanted = ReplayRequest { request_id: id.to_owned(), exceptions: exceptions.to_vec() };
    match wait(context.client().replay(&key, &wanted))? {
        Ok(replayed) => Ok(Ok(replayed)),
        Err(ClientError::Refused { failure, .. }) => Ok(Err(match &failure.hint {
            Some(hint) => format!("{}: {hint}", failure.what),
            None => failure.what.clone(),
        })),
        Err(error) => Err(error.into()),
    }
}

/// What came, as far as it was kept.
pub fn request(sent: &Sent) -> String {
    let text = |letters: &str| {
        words::tame(&String::from_utf8_lossy(&bytes(letters).unwrap_or_default())).to_string()
    };
    let mut out = format!("{} {} {}", text(&sent.method), text(&sent.target), text(&sent.protocol));
    for (name, value) in &sent.headers {
        out.push_str(&format!("\n{}: {}", text(name), text(value)));
    }
    if !sent.body.is_empty() {
        let body: String = text(&sent.body).chars().take(BODY).collect();
        let rest = if sent.body.chars().count() > BODY {
            format!(" … ({} bytes)", sent.body.chars().count())
        } else {
            String::new()
        };
        out.push_str(&format!("\n\n{body}{rest}"));
    }
    let notes = [
        (sent.is_masked, "words of what may be secret are kept as x, y, 1, 2"),
        (sent.is_cut, "the body is not kept whole"),
    ];
    for (_, note) in notes.iter().filter(|(is_so, _)| *is_so) {
        out.push_str(&format!("\n({note})"));
    }
    out
}

/// Each step that led a rule to what it found; the value as it came where it was not shown before.
pub fn reason(reason: &Reason, is_known: bool) -> String {
    let mut out = String::new();
    if !is_known {
        out.push_str(&format!("{:>12}  {}\n", "came as", words::tame(&reason.value)));
    }
    for step in &reason.steps {
        out.push_str(&format!("{:>12}  {}\n", step.name, words::tame(&step.value)));
    }
    let found =
        if reason.data.is_empty() { String::new() } else { format!(": {}", words::tame(&reason.data)) };
    let place = format!("{}:{}", reason.file, reason.line);
    out.push_str(&format!("{:>12}  {}{found}", reason.question, paint(QUIET, place)));
    out
}

/// Whether exceptions let the request through.
pub fn passes(then: &Judged) -> bool {
    then.verdict != Some(WafVerdict::Blocked)
}

/// What exceptions come to, for the request and for attacks.
pub fn proof(replayed: &ReplayedRequest) -> String {
    let ReplayedRequest { sent, replayed } = replayed;
    let mut out = if passes(&replayed.now) {
        let why = match (sent.is_masked, sent.is_cut) {
            (true, _) => "what they found was secret, and is not kept",
            (_, true) => "its body is not kept whole",
            _ => "they have changed since, or found it in the answer",
        };
        format!("{} the rules in force let it through: {why}", paint(FAIR, "?"))
    } else if passes(&replayed.then) {
        format!("{} replayed: with this the request goes through", paint(GOOD, "✓"))
    } else {
        let left =
            replayed.then.matches.iter().map(|one| format!("{} at {}", one.rule, words::tame(&one.place)));
        let mut left: Vec<String> = left.filter(|one| !one.contains(" at TX:")).collect();
        left.dedup();
        format!("{} replayed: it is still stopped, by {}", paint(BAD, "✗"), left.join(", "))
    };
    for attacked in &replayed.attacks {
        out.push_str(&format!("\n{}", at(attacked)));
    }
    out
}

/// What comes of attacks at one place.
pub fn at(attacked: &Attacked) -> String {
    let Attacked { parameter, tried, stopped_now, stopped_then, freed } = attacked;
    if *tried == 0 {
        let parameter = words::tame(parameter);
        return format!(
            "{} attacks at {parameter} cannot be tried: what was kept is stopped for something else",
            paint(FAIR, "?")
        );
    }
    let style = if freed.is_empty() { GOOD } else { FAIR };
    let mark = if freed.is_empty() { "✓" } else { "!" };
    let mut out = format!(
        "{} of {tried} attacks at {} the rules stop {stopped_now}, and {stopped_then} with this",
        paint(style, mark),
        words::tame(parameter),
    );
    for one in freed.iter().take(NAMED) {
        out.push_str(&format!("\n    {}", paint(QUIET, words::tame(one))));
    }
    if freed.len() > NAMED {
        out.push_str(&format!("\n    {}", paint(QUIET, format_args!("and {} more", freed.len() - NAMED))));
    }
    out
}

#[cfg(test)]
mod tests {
    use klar_base::replay::{Replayed, Step, letters};

    use super::*;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    fn judged(verdict: Option<WafVerdict>) -> Judged {
        let reason = Reason {
            rule: 942_100,
            file: "sql.conf".into(),
            line: 7,
            message: "SQL".into(),
            place: "ARGS:q".into(),
            question: "@detectSQLi".into(),
            value: "1%27".into(),
            steps: vec![Step { name: "urlDecodeUni".into(), value: "1'".into() }],
            data: "s&1".into(),
        };
        Judged { verdict, score: Some(5), matches: vec![reason] }
    }

    fn replayed(then: Option<WafVerdict>, freed: &[&str]) -> ReplayedRequest {
        let attacked = Attacked {
            parameter: "q".into(),
            tried: 40,
            stopped_now: 38,
            stopped_then: 38 - freed.len() as u32,
            freed: freed.iter().map(|one| (*one).to_owned()).collect(),
        };
        ReplayedRequest {
            sent: Sent {
                method: "POST".into(),
                target: letters("/å?q=1%27".as_bytes()),
                protocol: "HTTP/2".into(),
                remote: "203.0.113.7".into(),
                headers: vec![("cookie".into(), "x=0".into())],
                body: "y".repeat(500),
                is_cut: true,
                is_masked: true,
            },
            replayed: Replayed {
                now: judged(Some(WafVerdict::Blocked)),
                then: judged(then),
                attacks: vec![attacked],
            },
        }
    }

    #[test]
    fn what_an_exception_comes_to() {
        let all = "✓ replayed: with this the request goes through\n\
                   ✓ of 40 attacks at q the rules stop 38, and 38 with this";
        assert_eq!(plain(&proof(&replayed(Some(WafVerdict::Noted), &[]))), all);
        let some = plain(&proof(&replayed(Some(WafVerdict::Blocked), &["a", "b", "c", "d", "e", "f"])));
        let wanted = "✗ replayed: it is still stopped, by 942100 at ARGS:q\n\
                      ! of 40 attacks at q the rules stop 38, and 32 with this\n    a\n    b\n    c\n    d\n    e\n    and 1 more";
        assert_eq!(some, wanted);
        let mut changed = replayed(None, &[]);
        changed.replayed.now.verdict = None;
        assert!(
            plain(&proof(&changed))
                .starts_with("? the rules in force let it through: what they found was secret")
        );
    }

    #[test]
    fn the_way_to_what_was_found() {
        let told = plain(&reason(&judged(None).matches[0], true));
        assert_eq!(told, "urlDecodeUni  1'\n @detectSQLi  sql.conf:7: s&1");
        let told = plain(&reason(&judged(None).matches[0], false));
        assert_eq!(told, "     came as  1%27\nurlDecodeUni  1'\n @detectSQLi  sql.conf:7: s&1");
        let request = request(&replayed(None, &[]).sent);
        assert!(request.starts_with("POST /å?q=1%27 HTTP/2\ncookie: x=0\n\nyyy"), "{request}");
        assert!(request.contains(" … (500 bytes)") && request.contains("as x, y, 1, 2"), "{request}");
    }
}
