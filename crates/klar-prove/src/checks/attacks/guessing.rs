//! What an app says to those who try too often, and whether others notice.
//!
//! A name that nobody has is tried with wrong passwords: few enough that no account and no network is locked out for
//! it, and enough for any limit that is worth something.

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::world::{Account, World};

/// Wrong passwords, one after the other.
pub struct Guessing;

/// How they were answered.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Guesses that were answered before the first that was too many.
    guesses: usize,
    /// Those that were answered with 429, and whether each said when to come back.
    limited: Vec<bool>,
    /// Whether somebody else could sign in meanwhile: the status, 0 when nothing came back.
    other: Option<u16>,
}

const RETRY: (&str, &str) = ("edge.rate-limit", "retry-after");
const ISOLATION: (&str, &str) = ("edge.rate-limit", "isolation");
const MOST_GUESSES: usize = 15;
const MOST_LIMITED: usize = 3;

impl Probe for Guessing {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "guessing",
        version: 1,
        question: "Is whoever guesses passwords held up, and nobody else?",
        does: "Tries a name that nobody has with wrong passwords until it is told to wait, and signs in as somebody else meanwhile.",
        shows: &[RETRY, ISOLATION],
        needs: &[Need::Site, Need::Accounts],
        disturbs: Disturbs::Load,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(40),
        faults: &[Fault::Foil("no-retry-after", RETRY), Fault::Foil("limits-everybody", ISOLATION)],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let accounts = world.accounts.as_ref().ok_or_else(|| Unable(Need::Accounts.missing()))?;
        let first = accounts.list.first().ok_or_else(|| Unable(Need::Accounts.missing()))?;
        let nobody = Account {
            label: "nobody".to_owned(),
            name: format!("klar-check-{:08x}@example.com", fastrand::u32(..)),
            password: klar_base::Secret::new("klar-check-wrong".to_owned()),
            privileged: false,
        };
        let mut seen = Seen::default();
        for _ in 0..MOST_GUESSES {
            let Some(ask) = world.sign_in_request(&nobody) else { break };
            let Ok(answer) = world.ask(ask).await else { continue };
            if answer.status == 429 {
                let said = answer.header("retry-after").is_some_and(|value| !value.trim().is_empty());
                seen.limited.push(said);
                if seen.limited.len() >= MOST_LIMITED {
                    break;
                }
            } else {
                seen.guesses += 1;
            }
        }
        if let Some(ask) = world.sign_in_request(first).filter(|_| !seen.limited.is_empty()) {
            seen.other = Some(world.ask(ask).await.map_or(0, |answer| answer.status.as_u16()));
        }
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let (guesses, limited) = (seen.guesses, seen.limited.len());
        if limited == 0 {
            let because = words!(
                "{guesses} wrong passwords in a row, and none was too many",
                "{guesses} feil passord på rad, og ingen var for mange",
                "{guesses} fel lösenord i rad, och inget var för många"
            );
            return vec![Finding::unseen(RETRY, because.clone()), Finding::unseen(ISOLATION, because)];
        }
        let said = seen.limited.iter().filter(|said| **said).count();
        let status = seen.other.unwrap_or(0);
        let because = words!(
            "after {guesses} wrong passwords for one name, another one's sign-in is answered with {status}",
            "etter {guesses} feil passord for ett navn besvares en annens innlogging med {status}",
            "efter {guesses} fel lösenord för ett namn besvaras en annans inloggning med {status}"
        );
        let isolation = match status {
            200..400 => Finding::held(ISOLATION, because),
            429 => Finding::broken(ISOLATION, because),
            _ => Finding::unseen(ISOLATION, because),
        };
        let retry = Finding::when(
            said == limited,
            RETRY,
            words!(
                "Retry-After on {said} of {limited} answers with 429, the first after {guesses} guesses",
                "Retry-After på {said} av {limited} svar med 429, det første etter {guesses} gjetninger",
                "Retry-After på {said} av {limited} svar med 429, det första efter {guesses} gissningar"
            ),
        );
        vec![retry, isolation]
    }
}
