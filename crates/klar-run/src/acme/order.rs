//! From a name to its certificate on the shelf.
//!
//! The order is on disk, with the key of the certificate, before anything is done with it: a core that is killed in
//! the middle goes on with the same order, and one that is killed after the authority has signed still gets what was
//! signed.

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier, NewOrder, Order,
    OrderStatus, Problem, RetryPolicy,
};
use klar_base::Secret;
use klar_base::upstreams::Challenge;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls_pki_types::Der;
use serde::{Deserialize, Serialize};

use super::client::Client;
use super::schedule::Window;
use super::shelf::{self, Kept, Pending, Shelf};
use super::trouble::{Kind, Trouble};
use super::x509::Facts;
use super::{Authority, account, dns};

/// How the authority looks whether a name leads here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// HTTP-01, on port 80.
    Http,
    /// TLS-ALPN-01, on port 443.
    Tls,
}

/// What an order needs of the rest of klar.
#[allow(async_fn_in_trait)] // one thread, so nobody needs `Send`
pub trait Stage {
    /// Has the edge answer exactly these challenges of a name. It does when this returns.
    async fn show(&self, name: &str, challenges: Vec<Challenge>) -> Result<(), String>;
    /// Says how far it is; a kill at any of these points must do no harm.
    fn passed(&self, point: Point) {
        let _ = point;
    }
}

/// How far an order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The account's key is on disk.
    KeyKept,
    /// The authority has the account; where it is, is not on disk yet.
    AccountMade,
    /// The order is on disk.
    OrderKept,
    /// The edge answers; the authority has not been told.
    Shown,
    /// The authority has been told to look.
    Told,
    /// The authority has been asked to sign; the certificate is not on disk yet.
    Asked,
    /// The certificate is on disk; the order is not forgotten yet.
    Kept,
}

/// How often the authority is asked how far it is, and for how long at most.
const POLLING: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(90));

/// Gets a certificate for `name` and puts it on the shelf. Both [`Way`]s are tried, in the order of `ways`, where the
/// first one fails because the authority does not find its way. `replaces` is the certificate that it follows.
///
/// # Errors
/// What went wrong, and what to do. What was on the shelf stays.
pub async fn obtain(
    name: &str,
    authority: &Authority,
    shelf: &Shelf,
    ways: [Way; 2],
    replaces: Option<&Facts>,
    stage: &impl Stage,
) -> Result<Kept, Trouble> {
    let client = client(authority)?;
    let account = match account::open(&shelf.accounts(), authority, &client, stage).await {
        Err(trouble) if trouble.kind == Kind::Account => {
            account::forget(&shelf.accounts(), authority);
            account::open(&shelf.accounts(), authority, &client, stage).await?
        }
        opened => opened?,
    };
    let one = Ordering { name, authority, shelf, client: &client, account: &account, stage };
    let first = one.go(ways[0], replaces).await;
    let Err(failed) = &first else { return first };
    if failed.kind == Kind::Account {
        account::forget(&shelf.accounts(), authority);
    }
    if failed.kind != Kind::Validation {
        return first;
    }
    match one.go(ways[1], replaces).await {
        Err(second) if second.kind == Kind::Validation => {
            let what = format!("{}; {}", failed.what, second.what);
            let said = dns::judge(name, &dns::look(name).await);
            let hint = if said.is_empty() {
                "see that a firewall or a router lets ports 80 and 443 through to klar, then `klar deploy` tries at once"
                    .to_owned()
            } else {
                said.join("; ") + "; then `klar deploy` tries at once"
            };
            Err(Trouble { what, hint: Some(hint), ..second })
        }
        outcome => outcome,
    }
}

/// When the authority would like `facts` to be renewed, and after how long to ask again (RFC 9773, section 4.2).
/// `None` for one that does not say.
///
/// # Errors
/// As [`obtain`].
pub async fn window(
    authority: &Authority,
    shelf: &Shelf,
    facts: &Facts,
    stage: &impl Stage,
) -> Result<Option<(Window, Duration)>, Trouble> {
    let Some(name) = identifier(facts) else { return Ok(None) };
    let client = client(authority)?;
    let account = account::open(&shelf.accounts(), authority, &client, stage).await?;
    match account.renewal_info(&name).await {
        Ok((info, again)) => {
            let window = info.suggested_window;
            let window = Window { start: window.start.unix_timestamp(), end: window.end.unix_timestamp() };
            Ok(Some((window, again)))
        }
        Err(Error::Unsupported(_)) => Ok(None),
        Err(error) => Err(Trouble::account(authority, &error, client.take_refusal())),
    }
}

fn client(authority: &Authority) -> Result<Client, Trouble> {
    Client::new(authority.root.as_deref()).map_err(|why| {
        Trouble::machine(format!("nobody vouches for {}: {why}", authority.host())).hint(
            "`edge.acme_root` names a file with the certificate of its authority (PEM) that klar's own user may read",
        )
    })
}

struct Ordering<'a, S> {
    name: &'a str,
    authority: &'a Authority,
    shelf: &'a Shelf,
    client: &'a Client,
    account: &'a Account,
    stage: &'a S,
}

impl<S: Stage> Ordering<'_, S> {
    fn refused(&self, error: &Error) -> Trouble {
        Trouble::order(self.name, self.authority, error, self.client.take_refusal())
    }

    /// One order, from where it is to the certificate. The edge shows nothing more afterwards.
    async fn go(&self, way: Way, replaces: Option<&Facts>) -> Result<Kept, Trouble> {
        let (mut order, key_pem) = match self.resume().await? {
            Some(resumed) => resumed,
            None => self.begin(replaces).await?,
        };
        self.stage.passed(Point::OrderKept);
        let outcome = self.walk(&mut order, &key_pem, way).await;
        if matches!(&outcome, Err(trouble) if trouble.kind == Kind::Validation) {
            // It can never be signed any more (RFC 8555, section 7.1.6).
            self.shelf.forget_pending(self.name);
        }
        outcome
    }

    /// The order that a core before this one had begun, if it can still come to something.
    async fn resume(&self) -> Result<Option<(Order, Secret<String>)>, Trouble> {
        let Some(pending) = self.shelf.pending(self.name) else { return Ok(None) };
        if pending.directory == self.authority.directory {
            match self.account.order(pending.url).await {
                Ok(mut order) => {
                    if order.state().status != OrderStatus::Invalid {
                        return Ok(Some((order, pending.key_pem)));
                    }
                }
                Err(Error::Api(problem)) if is_for_now(&problem) => {
                    return Err(self.refused(&Error::Api(problem)));
                }
                // Forgotten.
                Err(Error::Api(_)) => {
                    self.client.take_refusal();
                }
                Err(error) => return Err(self.refused(&error)),
            }
        }
        self.shelf.forget_pending(self.name);
        Ok(None)
    }

    async fn begin(&self, replaces: Option<&Facts>) -> Result<(Order, Secret<String>), Trouble> {
        let key = KeyPair::generate().map_err(|error| Trouble::machine(format!("making a key: {error}")))?;
        let names = [Identifier::Dns(self.name.to_owned())];
        let before = replaces.and_then(identifier);
        let order = match before {
            // What replaces another is not counted against the limits (RFC 9773, section 5).
            Some(before) => match self.account.new_order(&NewOrder::new(&names).replaces(before)).await {
                Err(Error::Unsupported(_)) => self.account.new_order(&NewOrder::new(&names)).await,
                Err(Error::Api(problem)) if !is_for_now(&problem) => {
                    self.client.take_refusal();
                    self.account.new_order(&NewOrder::new(&names)).await
                }
                answer => answer,
            },
            None => self.account.new_order(&NewOrder::new(&names)).await,
        };
        let order = order.map_err(|error| self.refused(&error))?;
        let key_pem = Secret::new(key.serialize_pem());
        let pending = Pending {
            directory: self.authority.directory.clone(),
            url: order.url().to_owned(),
            key_pem: key_pem.clone(),
        };
        self.shelf
            .note_pending(self.name, &pending)
            .map_err(|error| Trouble::disk("the order could not be noted", &error))?;
        Ok((order, key_pem))
    }

    async fn walk(&self, order: &mut Order, key_pem: &Secret<String>, way: Way) -> Result<Kept, Trouble> {
        if order.state().status == OrderStatus::Pending {
            let proven = self.prove(order, way).await;
            // Also when it failed: nothing is shown for longer than somebody looks.
            let hidden = self.stage.show(self.name, Vec::new()).await;
            proven?;
            hidden.map_err(Trouble::edge)?;
        }
        if order.state().status == OrderStatus::Ready {
            let request = request(self.name, key_pem)?;
            order.finalize_csr(&request).await.map_err(|error| self.refused(&error))?;
            self.stage.passed(Point::Asked);
        }
        let chain_pem = order.poll_certificate(&POLLING).await.map_err(|error| self.refused(&error))?;
        let facts = shelf::check(&chain_pem, key_pem, Some(self.name)).map_err(|why| {
            self.shelf.forget_pending(self.name);
            Trouble::machine(format!(
                "what {} signed for {} is of no use: {why}",
                self.authority.host(),
                self.name
            ))
        })?;
        let kept = Kept { chain_pem, key_pem: key_pem.clone(), facts };
        self.shelf
            .keep(self.name, &kept)
            .map_err(|error| Trouble::disk("the certificate could not be kept", &error))?;
        self.stage.passed(Point::Kept);
        self.shelf.forget_pending(self.name);
        Ok(kept)
    }

    /// Shows the authority that the name leads here.
    async fn prove(&self, order: &mut Order, way: Way) -> Result<(), Trouble> {
        let mut authorizations = order.authorizations();
        while let Some(next) = authorizations.next().await {
            let mut authorization = next.map_err(|error| self.refused(&error))?;
            match authorization.status {
                AuthorizationStatus::Pending => {}
                AuthorizationStatus::Valid => continue,
                _ => return Err(Trouble::validation(self.name, way, None)),
            }
            let wanted = match way {
                Way::Http => ChallengeType::Http01,
                Way::Tls => ChallengeType::TlsAlpn01,
            };
            let Some(mut challenge) = authorization.challenge(wanted) else {
                return Err(Trouble::validation(self.name, way, None).hint(
                    "the authority does not look there; `edge.certificate` takes one that you got otherwise",
                ));
            };
            let proof = challenge.key_authorization();
            let shown = match way {
                Way::Http => Challenge::Http {
                    host: self.name.to_owned(),
                    token: challenge.token.clone(),
                    answer: proof.as_str().to_owned(),
                },
                Way::Tls => proof_certificate(self.name, proof.digest().as_ref())?,
            };
            self.stage.show(self.name, vec![shown]).await.map_err(Trouble::edge)?;
            self.stage.passed(Point::Shown);
            match challenge.set_ready().await {
                Ok(()) => {}
                // Told by a core before this one, which has looked meanwhile.
                Err(Error::Api(_)) => {
                    self.client.take_refusal();
                }
                Err(error) => return Err(self.refused(&error)),
            }
            self.stage.passed(Point::Told);
        }
        match order.poll_ready(&POLLING).await {
            Ok(OrderStatus::Invalid) => Err(self.why_not(order, way, None).await),
            Err(Error::Api(problem)) if order.state().status == OrderStatus::Invalid => {
                Err(self.why_not(order, way, Some(problem)).await)
            }
            Ok(_) => Ok(()),
            Err(error) => Err(self.refused(&error)),
        }
    }

    /// What the authority says of the challenge that it looked at: more than it says of the order.
    async fn why_not(&self, order: &mut Order, way: Way, problem: Option<Problem>) -> Trouble {
        let mut said = problem;
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            if let Ok(state) = authorization.refresh().await {
                let error = state.challenges.iter().find_map(|challenge| challenge.error.clone());
                said = error.or(said);
            }
        }
        self.client.take_refusal();
        Trouble::validation(self.name, way, said.as_ref())
    }
}

/// What says nothing about the order: later the answer is another one.
fn is_for_now(problem: &Problem) -> bool {
    let kind = problem.r#type.as_deref().and_then(|kind| kind.rsplit(':').next());
    matches!(kind, Some("rateLimited" | "serverInternal" | "badNonce"))
}

/// The name of a certificate among those of its authority (RFC 9773, section 4.1).
pub fn identifier(facts: &Facts) -> Option<CertificateIdentifier<'static>> {
    let key = facts.authority_key.as_deref()?;
    Some(CertificateIdentifier::new(Der::from_slice(key), Der::from_slice(&facts.serial)).into_owned())
}

/// A signing request for one name (RFC 8555, section 7.4), DER.
fn request(name: &str, key_pem: &Secret<String>) -> Result<Vec<u8>, Trouble> {
    let made = || {
        let key = KeyPair::from_pem(key_pem.expose())?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name = DistinguishedName::new();
        Ok::<_, rcgen::Error>(params.serialize_request(&key)?.der().to_vec())
    };
    made().map_err(|error| Trouble::machine(format!("making a request for {name}: {error}")))
}

/// The certificate that TLS-ALPN-01 looks for (RFC 8737, section 3).
fn proof_certificate(name: &str, digest: &[u8]) -> Result<Challenge, Trouble> {
    let made = || {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let certificate = params.self_signed(&key)?;
        Ok::<_, rcgen::Error>(Challenge::Tls {
            host: name.to_owned(),
            chain_pem: certificate.pem(),
            key_pem: Secret::new(key.serialize_pem()),
        })
    };
    made().map_err(|error| Trouble::machine(format!("making a certificate that proves {name}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_certificate_is_that_of_the_rfc() {
        // The example of RFC 9773, appendix A.
        let key = "69885B6B8746404 1E1B37B847BA0AE2CDE01C8D4".replace(' ', "");
        let hex = |text: &str| {
            (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
        };
        let facts = Facts {
            not_before: 0,
            not_after: 0,
            issuer: String::new(),
            names: Vec::new(),
            serial: hex("0087654321"),
            authority_key: Some(hex(&key)),
        };
        assert_eq!(identifier(&facts).unwrap().to_string(), "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
        assert!(identifier(&Facts { authority_key: None, ..facts }).is_none());
    }
}
