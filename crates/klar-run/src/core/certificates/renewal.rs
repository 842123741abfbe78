//! A renewal that somebody asks for: `klar cert renew`.
//!
//! What serves now serves on until its successor is with the edge, and for good when there is none. Connections that
//! are open keep theirs: TLS has no other way.

use std::collections::BTreeMap;
use std::rc::Rc;

use klar_base::AppKey;

use super::{ATTEMPT, Certificates, Core};
use crate::core::progress::Progress;
use crate::report::{Failure, Receipt};

impl Certificates {
    /// Whether an authority is asked for the certificate of this name.
    fn has_authority(&self, name: &str) -> bool {
        self.with(name, |name| name.authority.is_some()) == Some(true)
    }
}

impl Core {
    /// Renews the certificate of each name of an app.
    pub(in crate::core) async fn renew_now(
        self: &Rc<Self>,
        key: &AppKey,
        progress: &Progress,
    ) -> Result<Receipt, Failure> {
        self.known(key)?;
        let _busy = self.begin(key, "renew")?;
        let before = self.before(key, "renew");
        let current = self
            .current(key)
            .ok_or_else(|| Failure::new(format!("{key} is not up")).hint("start it with `klar up`"))?;
        let release = self.release(key, &current)?;
        if release.config.edge.certificate.is_some() {
            return Err(Failure::new(format!("the certificate of {key} is given, so klar cannot renew it"))
                .hint("renew the files that `edge.certificate` and `edge.key` name: klar takes in what changes there"));
        }
        self.sync_names();
        let (asked, own): (Vec<String>, Vec<String>) =
            self.hosts(key, &release).into_iter().partition(|host| self.certificates.has_authority(host));
        if !own.is_empty() {
            let step = progress.step("renew", own.join(", "));
            self.renew_own(&own).await?;
            step.end(format!("{}, by the local authority", own.join(", ")));
        }
        for host in &asked {
            let step = progress.step("renew", host.clone());
            self.renew_asked(host).await?;
            step.end(format!("{host}, by its authority"));
        }
        Ok(self.receipt(key, before, None).await)
    }

    /// Those of klar's own authority: made anew at once, and put back when the edge does not take them.
    async fn renew_own(self: &Rc<Self>, hosts: &[String]) -> Result<(), Failure> {
        let mut before = BTreeMap::new();
        let mut outcome = Ok(());
        for host in hosts {
            match self.authority.renew(host) {
                Ok(old) => drop(before.insert(host, old)),
                Err(error) => {
                    let failure =
                        Failure::new(format!("no new certificate for {host} could be kept: {error}"));
                    outcome =
                        Err(failure
                            .hint("the one before serves on; see that the disk has room and is healthy"));
                    break;
                }
            }
        }
        if outcome.is_ok() {
            outcome = self.publish_and_wait().await;
        }
        if outcome.is_err() {
            for (host, old) in before {
                if let Err(error) = self.authority.put_back(host, old) {
                    eprintln!("klar core: {host}: the certificate before could not be put back: {error}");
                }
            }
            // The edge may have taken what is put back here.
            self.publish();
        }
        outcome
    }

    /// One of an authority that has to be asked: the task does it, as it does all of them, one after the other.
    async fn renew_asked(self: &Rc<Self>, host: &str) -> Result<(), Failure> {
        let serial = |core: &Self| {
            core.certificates.with(host, |name| name.newest().map(|newest| newest.serial.clone())).flatten()
        };
        let before = serial(self);
        self.certificates.with(host, |name| name.wanted_now = true);
        self.changed();
        // It may have to wait for another name, and its own attempt ends within that time.
        let done = self.wait_for(2 * ATTEMPT, |core| {
            let waits = core.certificates.with(host, |name| name.wanted_now || name.asking);
            (waits != Some(true)).then_some(())
        });
        if done.await.is_none() {
            self.certificates.with(host, |name| name.wanted_now = false);
            return Err(Failure::new(format!("the authority of {host} gave no certificate in time"))
                .hint("the one before serves on; `klar status` shows what was said last"));
        }
        if serial(self) != before {
            return self.publish_and_wait().await;
        }
        let trouble = self.certificates.with(host, |name| name.record.trouble.clone()).flatten();
        let (what, hint) = match trouble {
            Some(trouble) => (trouble.what, trouble.hint),
            None => ("its authority gave none".to_owned(), None),
        };
        let failure = Failure::new(format!("no new certificate for {host}: {what}"));
        Err(failure.hint(match hint {
            Some(hint) => format!("the one before serves on; {hint}"),
            None => "the one before serves on".to_owned(),
        }))
    }
}
