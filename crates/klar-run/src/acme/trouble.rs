//! What went wrong, in words for a person, and what to do next.

use std::io;
use std::time::Duration;

use instant_acme::{Error, Problem};
use serde::{Deserialize, Serialize};

use super::Authority;
use super::client::Refusal;
use super::order::Way;

/// What an authority says is shown up to so many characters.
const WORDS_MAX: usize = 400;

/// Which part of the way broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// This machine: its disk, its files.
    Machine,
    /// The authority could not be reached, or did not do its work.
    Authority,
    /// It wants klar to come again later (`rateLimited`).
    RateLimited,
    /// It does not know the account any more.
    Account,
    /// It did not find klar behind the name.
    Validation,
    /// It does not want to.
    Refused,
}

/// See the [module](self).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Which part of the way broke.
    pub kind: Kind,
    /// What happened.
    pub what: String,
    /// What to do.
    pub hint: Option<String>,
    /// How long the authority wants to be left alone.
    pub retry_after: Option<Duration>,
}

impl Trouble {
    fn new(kind: Kind, what: String) -> Self {
        Self { kind, what, hint: None, retry_after: None }
    }

    /// Adds what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The disk did not take, or give, something.
    pub fn disk(what: &str, error: &io::Error) -> Self {
        Self::new(Kind::Machine, format!("{what}: {error}"))
            .hint("see that the disk has room and is healthy; klar goes on where it was")
    }

    /// A file of this machine that is named in `klar.toml`.
    pub fn machine(what: String) -> Self {
        Self::new(Kind::Machine, what)
    }

    /// It took too long.
    pub fn late(authority: &Authority, patience: Duration) -> Self {
        let what = format!("{} was not done within {} s", authority.host(), patience.as_secs());
        Self::new(Kind::Authority, what).hint("nothing to do: klar tries again by itself")
    }

    /// A certificate that was just signed is not good now.
    pub fn clock(host: &str) -> Self {
        let what = format!("{host} signed a certificate that is not good today by the clock of this machine");
        Self::new(Kind::Machine, what)
            .hint("set the clock (`timedatectl` shows it); the certificate is served meanwhile")
    }

    /// The edge could not be told what to show.
    pub fn edge(why: String) -> Self {
        Self::new(Kind::Machine, format!("the edge could not show what the authority looks for: {why}"))
    }

    /// An answer to the account, or none.
    pub fn account(authority: &Authority, error: &Error, refusal: Refusal) -> Self {
        Self::from_error(authority.host(), authority, error, refusal)
    }

    /// An answer to an order for a name, or none.
    pub fn order(name: &str, authority: &Authority, error: &Error, refusal: Refusal) -> Self {
        Self::from_error(name, authority, error, refusal)
    }

    fn from_error(about: &str, authority: &Authority, error: &Error, refusal: Refusal) -> Self {
        let host = authority.host();
        let trouble = match error {
            Error::Api(problem) => Self::from_problem(about, host, problem),
            // A proxy, or a server that is being repaired, does not answer in JSON.
            _ if refusal.status >= 400 => {
                let what = format!("{host} answered with status {}", refusal.status);
                Self::new(Kind::Authority, what).hint("nothing to do if it passes: klar tries again by itself")
            }
            Error::Timeout(_) => {
                let what = format!("{host} was still busy with {about} when klar stopped waiting");
                Self::new(Kind::Authority, what).hint("nothing to do: klar goes on with the same order by itself")
            }
            Error::KeyRejected | Error::Crypto => {
                Self::new(Kind::Machine, format!("the key of the account at {host} cannot be used"))
                    .hint("bring `acme/accounts` of the state folder back from a backup, or remove it: a new account is made")
            }
            error => Self::new(Kind::Authority, format!("{host} cannot be asked: {}", clean(&error.to_string())))
                .hint("see that this machine reaches it (DNS, firewall, `edge.acme_root`); klar tries again by itself"),
        };
        Self { retry_after: refusal.retry_after, ..trouble }
    }

    fn from_problem(about: &str, host: &str, problem: &Problem) -> Self {
        let said = words(problem);
        let kind = problem.r#type.as_deref().unwrap_or_default();
        let kind = kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(kind);
        let refused = |hint: &str| {
            Self::new(Kind::Refused, format!("{host} refuses {about}: {said}")).hint(hint.to_owned())
        };
        match kind {
            "rateLimited" => Self::new(Kind::RateLimited, format!("{host} has had enough for now: {said}"))
                .hint("nothing to do: klar comes again when the authority said, or later"),
            "accountDoesNotExist" => {
                Self::new(Kind::Account, format!("{host} does not know klar's account any more"))
                    .hint("nothing to do: klar makes one with the same key when it tries again")
            }
            "userActionRequired" => refused("the authority wants a person: open the address that it names"),
            "externalAccountRequired" => refused(
                "this authority wants an account that was made by hand, which klar cannot use: take another one, or \
                 give a certificate (`edge.certificate`)",
            ),
            "invalidContact" | "unsupportedContact" => refused("mend `edge.acme_email`, or remove it"),
            "rejectedIdentifier" | "unsupportedIdentifier" => refused(
                "this authority gives no certificate for this name: take another name, or give a certificate \
                 (`edge.certificate`)",
            ),
            "caa" => refused("let a CAA record of the name allow this authority, or remove the CAA records"),
            "badNonce" | "serverInternal" => {
                Self::new(Kind::Authority, format!("{host} has trouble of its own: {said}"))
                    .hint("nothing to do if it passes: klar tries again by itself")
            }
            _ => Self::new(Kind::Refused, format!("{host} refuses {about}: {said}")),
        }
    }

    /// The authority did not find what it looked for.
    pub fn validation(name: &str, way: Way, problem: Option<&Problem>) -> Self {
        let place = match way {
            Way::Http => format!("http://{name} (port 80)"),
            Way::Tls => format!("https://{name} (port 443)"),
        };
        let kind = problem.and_then(|problem| problem.r#type.as_deref()).unwrap_or_default();
        let said = problem.map(words).unwrap_or_else(|| "it gave no reason".into());
        let what = match kind.rsplit(':').next().unwrap_or_default() {
            "connection" => format!("the authority could not connect to {place}: {said}"),
            "dns" => format!("the authority could not find out where {name} leads: {said}"),
            "tls" => format!("the authority met another TLS server at {place}: {said}"),
            "caa" => format!("the DNS records of {name} (CAA) do not allow this authority: {said}"),
            _ => format!("the authority did not find klar at {place}: {said}"),
        };
        Self::new(Kind::Validation, what)
    }
}

/// What a problem document says, with what it says of single names (RFC 8555, section 6.7.1).
fn words(problem: &Problem) -> String {
    let mut said = vec![
        problem.detail.clone().or_else(|| problem.r#type.clone()).unwrap_or_else(|| "no reason given".into()),
    ];
    for one in &problem.subproblems {
        let name = one.identifier.as_ref().map(|name| format!("{}: ", name.authorized(false)));
        let what = one.detail.clone().or_else(|| one.r#type.clone()).unwrap_or_default();
        said.push(name.unwrap_or_default() + &what);
    }
    clean(&said.join("; "))
}

fn clean(text: &str) -> String {
    let plain = text.chars().map(|char| if char.is_control() { ' ' } else { char });
    let short: String = plain.clone().take(WORDS_MAX).collect();
    if plain.count() > WORDS_MAX { short + " ..." } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> Authority {
        Authority { directory: "https://ca.example/dir".into(), email: None, root: None }
    }

    #[test]
    fn problems_are_said_with_what_to_do() {
        for (kind, wanted_kind, what, hint) in [
            ("rateLimited", Kind::RateLimited, "ca.example has had enough for now: why", "nothing to do"),
            (
                "accountDoesNotExist",
                Kind::Account,
                "ca.example does not know klar's account",
                "nothing to do",
            ),
            (
                "rejectedIdentifier",
                Kind::Refused,
                "ca.example refuses shop.example: why",
                "this authority gives no",
            ),
            ("caa", Kind::Refused, "ca.example refuses shop.example: why", "let a CAA record"),
            (
                "externalAccountRequired",
                Kind::Refused,
                "ca.example refuses",
                "this authority wants an account",
            ),
            ("badNonce", Kind::Authority, "ca.example has trouble of its own: why", "nothing to do"),
            ("somethingNew", Kind::Refused, "ca.example refuses shop.example: why", ""),
        ] {
            let text = format!(r#"{{"type":"urn:ietf:params:acme:error:{kind}","detail":"why"}}"#);
            let error = Error::Api(serde_json::from_str(&text).unwrap());
            let refusal = Refusal { status: 429, retry_after: Some(Duration::from_secs(9)) };
            let trouble = Trouble::order("shop.example", &authority(), &error, refusal);
            assert_eq!(trouble.kind, wanted_kind, "{kind}");
            assert!(trouble.what.starts_with(what), "{}", trouble.what);
            assert!(trouble.hint.unwrap_or_default().starts_with(hint), "{kind}");
            assert_eq!(trouble.retry_after, refusal.retry_after);
        }
    }

    #[test]
    fn each_name_of_a_problem_is_said_and_nothing_that_moves_a_cursor() {
        let text = r#"{"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"two\u001b[2J names","subproblems":[
            {"identifier":{"type":"dns","value":"a.example"},"detail":"no"},
            {"identifier":{"type":"dns","value":"b.example"},"detail":"never"}]}"#;
        let problem: Problem = serde_json::from_str(text).unwrap();
        assert_eq!(words(&problem), "two [2J names; a.example: no; b.example: never");
        assert_eq!(clean(&"x".repeat(1000)).len(), WORDS_MAX + 4);
    }

    #[test]
    fn an_answer_that_is_no_json_is_told_by_its_status() {
        let error = Error::Json(serde_json::from_str::<u8>("<html>").unwrap_err());
        let refusal = Refusal { status: 503, retry_after: Some(Duration::from_secs(60)) };
        let trouble = Trouble::order("shop.example", &authority(), &error, refusal);
        assert_eq!(trouble.what, "ca.example answered with status 503");
        assert_eq!(trouble.retry_after, Some(Duration::from_secs(60)));
    }
}
