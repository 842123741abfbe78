//! The certificates of the apps that are up: which one serves each name, and the one task that gets and renews those
//! of an authority.
//!
//! For each name, in this order: the certificate that was given (`edge.certificate`), the best that an authority
//! gave (`edge.acme`), and one of klar's own authority, with which a public name is at least reachable. The task
//! does one name after the other and waits for nobody but the authority; it never stops anything else.

mod renewal;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use klar_base::upstreams::{Certificate, Challenge};
use klar_base::{AppKey, Secret};
use serde::{Deserialize, Serialize};

use super::state::unix_ms;
use super::{Core, given};
use crate::acme::order::{self, Stage, Way};
use crate::acme::schedule::{self, Alarm, Due, Failures, Window};
use crate::acme::shelf::{self, Kept, Shelf};
use crate::acme::trouble::Trouble;
use crate::acme::x509::{self, Facts};
use crate::acme::{self, Authority};
use crate::control::{DeployRequest, GivenFiles};
use crate::durable;
use crate::release::Release;
use crate::report::{CertificateStatus, Failure, Problem};

/// How soon a new name, or a time that has come, is noticed.
const TICK: Duration = Duration::from_secs(1);
/// For one name, both ways of proving included. Longer than all its parts may take.
const ATTEMPT: Duration = Duration::from_secs(480);
/// How often an authority is asked for the window of a renewal: what it says within this, otherwise the longest.
const WINDOW_ASKED: (i64, i64) = (3600, 86_400);
/// An alarm is said again after so long.
const ALARM_AGAIN: i64 = 86_400;
/// HTTP-01 first: it works behind something else that ends TLS.
const WAYS: [Way; 2] = [Way::Http, Way::Tls];

/// What is known of the names that are served.
#[derive(Debug)]
pub(super) struct Certificates {
    shelf: Shelf,
    names: RefCell<BTreeMap<String, Name>>,
}

#[derive(Debug)]
struct Name {
    /// `None`: nobody is asked.
    authority: Option<Authority>,
    /// The newest first.
    kept: Vec<Kept>,
    record: Record,
    asking: bool,
    /// Somebody has asked for a new one, whatever the one of now is good for.
    wanted_now: bool,
    /// What the edge shows to the authority.
    shown: Vec<Challenge>,
    alarm: Option<(Alarm, i64)>,
}

/// What outlives a core: without it, one that starts again and again would ask again and again.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Record {
    #[serde(default)]
    failures: Failures,
    #[serde(default)]
    trouble: Option<Trouble>,
    #[serde(default)]
    window: Option<Window>,
    /// When the window is asked for again.
    #[serde(default)]
    window_due: i64,
}

impl Certificates {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { shelf: Shelf::new(root), names: RefCell::default() }
    }

    fn with<T>(&self, name: &str, look: impl FnOnce(&mut Name) -> T) -> Option<T> {
        self.names.borrow_mut().get_mut(name).map(look)
    }

    /// What the edge shows to authorities now.
    pub(super) fn challenges(&self) -> Vec<Challenge> {
        self.names.borrow().values().flat_map(|name| name.shown.clone()).collect()
    }

    fn best(&self, host: &str, now: i64) -> Option<Kept> {
        let names = self.names.borrow();
        let name = names.get(host)?;
        let best = schedule::best(&name.kept, |kept| &kept.facts, now)?;
        // Nobody asked for it any more: as long as it is good.
        (name.authority.is_some() || best.facts.is_valid(now)).then(|| best.clone())
    }

    fn remember(&self, name: &str, change: impl FnOnce(&mut Record)) {
        let record = self.with(name, |name| {
            change(&mut name.record);
            name.record.clone()
        });
        if let Some(Err(error)) = record.map(|record| self.shelf.note_record(name, &record)) {
            eprintln!("klar core: {name}: how its certificate is could not be noted: {error}");
        }
    }
}

impl Name {
    fn newest(&self) -> Option<&Facts> {
        self.kept.first().map(|kept| &kept.facts)
    }

    fn renewal(&self) -> Option<i64> {
        let newest = self.newest()?;
        Some(schedule::renewal(newest, self.record.window, acme::jitter(&newest.serial)))
    }

    fn due(&self, host: &str, now: i64) -> Due {
        let jitter = acme::jitter(format!("{host} {}", self.record.failures.count).as_bytes());
        schedule::due(self.newest(), self.renewal(), &self.record.failures, now, jitter)
    }
}

/// The edge, as an order needs it.
struct Shows(Rc<Core>);

impl Stage for Shows {
    async fn show(&self, name: &str, challenges: Vec<Challenge>) -> Result<(), String> {
        self.0.certificates.with(name, |name| name.shown = challenges);
        self.0.publish_and_wait().await.map_err(|failure| failure.what)
    }
}

impl Core {
    /// Looks which names need a certificate of an authority, or may have one: those of the apps that are up, without
    /// localhost names and those whose certificate is given.
    pub(super) fn sync_names(&self) {
        let mut wanted = BTreeMap::new();
        {
            let host = self.host.borrow();
            let apps = self.apps.borrow();
            for (key, remembered) in host.apps.iter().filter(|(_, app)| app.wanted) {
                let release = apps.get(key).zip(remembered.current.as_ref());
                let Some(release) = release.and_then(|(app, id)| app.releases.get(id)) else { continue };
                if release.config.edge.certificate.is_some() {
                    continue;
                }
                let served = self.hosts(key, release);
                for domain in release.config.app.domains.iter().filter(|domain| !domain.is_local()) {
                    if served.iter().any(|host| host == domain.as_str()) {
                        let authority = self.authority_for(key, release, domain.is_public());
                        wanted.entry(domain.to_string()).or_insert(authority);
                    }
                }
            }
        }
        let mut names = self.certificates.names.borrow_mut();
        let shelf = &self.certificates.shelf;
        names.retain(|name, _| {
            let keep = wanted.contains_key(name);
            if !keep {
                shelf.tidy(name, now());
            }
            keep
        });
        for (name, authority) in wanted {
            match names.get_mut(&name) {
                Some(known) if known.authority == authority => {}
                Some(known) => {
                    // What another one said is no reason to wait for this one.
                    known.record = Record::default();
                    known.authority = authority;
                }
                None => {
                    let (kept, record) = (shelf.kept(&name), shelf.record(&name).unwrap_or_default());
                    let fresh = Name {
                        authority,
                        kept,
                        record,
                        asking: false,
                        wanted_now: false,
                        shown: Vec::new(),
                        alarm: None,
                    };
                    names.insert(name, fresh);
                }
            }
        }
    }

    /// Whom to ask for the names of a release.
    fn authority_for(&self, key: &AppKey, release: &Release, public: bool) -> Option<Authority> {
        let edge = &release.config.edge;
        let acme = edge.acme.as_ref()?;
        if acme.is_public() && !public {
            return None;
        }
        let folder = self.layout.release(key, &release.id).join("files");
        let authority = Authority {
            directory: acme.directory()?.to_owned(),
            email: edge.acme_email.as_ref().map(ToString::to_string),
            root: edge.acme_root.as_ref().map(|file| folder.join(file)),
        };
        // A rig is the copy of an app: nobody outside hears of it.
        (self.ports.is_none() || authority.is_local()).then_some(authority)
    }

    /// The certificates for the host names of an app.
    pub(super) fn certificates_of(
        &self,
        key: &AppKey,
        release: &Release,
        hosts: &[String],
    ) -> std::io::Result<Vec<Certificate>> {
        if let Some((chain_pem, key_pem)) = self.given(key, release) {
            return Ok(vec![Certificate { hosts: hosts.to_vec(), chain_pem, key_pem }]);
        }
        let now = now();
        let of = |host: &String| match self.certificates.best(host, now) {
            Some(kept) => Ok(Certificate {
                hosts: vec![host.clone()],
                chain_pem: kept.chain_pem,
                key_pem: kept.key_pem,
            }),
            None => self.authority.certificate(host),
        };
        hosts.iter().map(of).collect()
    }

    fn given_files(&self, key: &AppKey) -> (PathBuf, PathBuf) {
        let file = |kind: &str| self.layout.ca().join(format!("given-{key}.{kind}"));
        (file("pem"), file("key"))
    }

    fn given_origin_file(&self, key: &AppKey) -> PathBuf {
        self.layout.ca().join(format!("given-{key}.json"))
    }

    /// Where the certificate that was given comes from.
    pub(super) fn given_origin(&self, key: &AppKey) -> Option<GivenFiles> {
        durable::read_json(&self.given_origin_file(key)).ok().flatten()
    }

    /// Keeps a certificate that was given. The key first: where only one of the two was written, the files are read
    /// again.
    pub(super) fn write_given(
        &self,
        key: &AppKey,
        chain_pem: &str,
        key_pem: &Secret<String>,
    ) -> std::io::Result<()> {
        let (chain_file, key_file) = self.given_files(key);
        durable::write(&key_file, key_pem.expose().as_bytes())?;
        durable::write(&chain_file, chain_pem.as_bytes())
    }

    /// The certificate that was given, while `klar.toml` speaks of one.
    pub(super) fn given(&self, key: &AppKey, release: &Release) -> Option<(String, Secret<String>)> {
        release.config.edge.certificate.as_ref()?;
        let read = |(chain, key): (PathBuf, PathBuf)| {
            Some((std::fs::read_to_string(chain).ok()?, Secret::new(std::fs::read_to_string(key).ok()?)))
        };
        read(self.given_files(key)).or_else(|| {
            // Older cores had one file for all environments: it is taken where it fits.
            let old = self.layout.ca().join(format!("given-{}", key.app));
            let (chain, key_pem) = read((old.with_extension("pem"), old.with_extension("key")))?;
            let first = release.config.app.domains.first()?;
            shelf::check(&chain, &key_pem, Some(first.as_str())).ok()?;
            Some((chain, key_pem))
        })
    }

    /// Keeps the certificate that came with a deploy, if it can be used. `true`: it is another one than before.
    pub(super) fn keep_given(
        &self,
        key: &AppKey,
        release: &Release,
        request: &DeployRequest,
        note: impl Fn(String),
    ) -> Result<bool, Failure> {
        let Some(given) = &request.certificate else { return Ok(false) };
        let facts = shelf::check(&given.chain_pem, &given.key_pem, None).map_err(|why| {
            Failure::new(format!("the certificate that `edge.certificate` names cannot be used: {why}"))
                .hint("the file has the certificate first, then those between it and the root, all in PEM; `edge.key` is its key")
        })?;
        if !facts.is_valid(now()) {
            note("the certificate of `edge.certificate` is not valid today: browsers will refuse it".into());
        }
        for domain in release.config.app.domains.iter().filter(|domain| !facts.covers(domain.as_str())) {
            note(format!(
                "the certificate of `edge.certificate` is not for {domain}: browsers will refuse it"
            ));
        }
        let problem = |error: std::io::Error| {
            Failure::new(format!("the certificate could not be kept: {error}"))
                .hint("see that the disk has room and is healthy")
        };
        if let Some(files) =
            given.files.as_ref().filter(|files| self.given_origin(key).as_ref() != Some(files))
        {
            durable::write_json(&self.given_origin_file(key), files).map_err(problem)?;
        }
        if let Some(why) = given.files.as_ref().and_then(|files| given::hidden(files, self.layout.root())) {
            note(format!(
                "klar will not see when the files of `edge.certificate` change ({why}): let the user that its core runs \
                 as read them, or run `klar deploy` after each renewal"
            ));
        }
        self.forget_problem(key, given::TOPIC);
        let (chain_file, key_file) = self.given_files(key);
        if std::fs::read_to_string(&chain_file).is_ok_and(|known| known == given.chain_pem)
            && std::fs::read_to_string(&key_file).is_ok_and(|known| known == *given.key_pem.expose())
        {
            return Ok(false);
        }
        self.write_given(key, &given.chain_pem, &given.key_pem).map_err(problem)?;
        Ok(true)
    }

    /// A person has done something: what failed is tried again at once, unless the authority said when.
    pub(super) fn retry_certificates(&self, key: &AppKey) {
        self.sync_names();
        let Some(release) = self.current(key).and_then(|id| self.release(key, &id).ok()) else { return };
        for host in self.hosts(key, &release) {
            let failed = self.certificates.with(&host, |name| name.record.failures.count > 0);
            if failed == Some(true) {
                self.certificates.remember(&host, |record| {
                    if record.failures.told.is_none() {
                        record.failures.count = 0;
                    }
                });
            }
        }
    }

    /// The task: see the [module](self).
    pub(super) async fn keep_certificates(self: Rc<Self>) {
        loop {
            tokio::time::sleep(TICK).await;
            if self.finishing.get() {
                return;
            }
            self.sync_names();
            self.sound_alarms();
            if !self.edge.borrow().is_connected() {
                continue;
            }
            if let Some(name) = self.due_name() {
                self.attempt(&name).await;
            } else if let Some(name) = self.window_name() {
                self.ask_window(&name).await;
            }
        }
    }

    fn due_name(&self) -> Option<String> {
        let (names, now) = (self.certificates.names.borrow(), now());
        let due = names.iter().filter(|(host, name)| {
            name.authority.is_some() && (name.wanted_now || name.due(host, now) == Due::Now)
        });
        // Those without any first.
        due.min_by_key(|(_, name)| name.newest().map(|facts| facts.not_after)).map(|(host, _)| host.clone())
    }

    fn window_name(&self) -> Option<String> {
        let (names, now) = (self.certificates.names.borrow(), now());
        let is_due = |name: &Name| {
            let due = name.record.window_due;
            // A time far ahead was noted by a clock that was wrong.
            name.authority.is_some()
                && name.newest().is_some()
                && !(now..=now + WINDOW_ASKED.1).contains(&due)
        };
        names.iter().find(|(_, name)| is_due(name)).map(|(host, _)| host.clone())
    }

    async fn attempt(self: &Rc<Self>, host: &str) {
        let begun = self.certificates.with(host, |name| {
            name.asking = true;
            name.wanted_now = false;
            (name.authority.clone(), name.newest().cloned())
        });
        let Some((Some(authority), newest)) = begun else { return };
        eprintln!("klar core: asking {} for a certificate for {host}", authority.host());
        let stage = Shows(self.clone());
        let ordered =
            order::obtain(host, &authority, &self.certificates.shelf, WAYS, newest.as_ref(), &stage);
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(ATTEMPT, ordered) => {
                Some(outcome.unwrap_or_else(|_| Err(Trouble::late(&authority, ATTEMPT))))
            }
            () = self.unwanted(host, &authority) => None,
        };
        self.certificates.with(host, |name| {
            name.asking = false;
            name.shown.clear();
        });
        match outcome {
            Some(Ok(kept)) => {
                let days = (kept.facts.not_after - now()) / 86_400;
                eprintln!(
                    "klar core: {host} has a certificate of {}, good for {days} days",
                    kept.facts.issuer
                );
                let settled = schedule::is_settled(&kept.facts, now());
                let kept = self.certificates.shelf.kept(host);
                self.certificates.with(host, |name| {
                    name.kept = kept;
                    name.alarm = None;
                });
                self.certificates.remember(host, |record| {
                    if settled {
                        *record = Record::default();
                    } else {
                        record.failures.add(now(), None);
                        record.trouble = Some(Trouble::clock(authority.host()));
                    }
                });
            }
            Some(Err(trouble)) => {
                let hint = trouble.hint.as_deref().map(|hint| format!("; {hint}")).unwrap_or_default();
                eprintln!("klar core: no new certificate for {host}: {}{hint}", trouble.what);
                self.certificates.remember(host, |record| {
                    record.failures.add(now(), trouble.retry_after);
                    record.trouble = Some(trouble);
                });
            }
            None => eprintln!("klar core: {host} needs no certificate of {} any more", authority.host()),
        }
        self.changed();
    }

    /// Returns when a name is not served any more, or another authority is to be asked.
    async fn unwanted(&self, host: &str, authority: &Authority) {
        loop {
            tokio::time::sleep(TICK).await;
            self.sync_names();
            let names = self.certificates.names.borrow();
            if names.get(host).and_then(|name| name.authority.as_ref()) != Some(authority) {
                return;
            }
        }
    }

    async fn ask_window(self: &Rc<Self>, host: &str) {
        let known = self.certificates.with(host, |name| (name.authority.clone(), name.newest().cloned()));
        let Some((Some(authority), Some(newest))) = known else { return };
        let stage = Shows(self.clone());
        let asked = order::window(&authority, &self.certificates.shelf, &newest, &stage);
        let answer = tokio::time::timeout(ATTEMPT, asked).await;
        let (least, most) = WINDOW_ASKED;
        self.certificates.remember(host, |record| match answer {
            Ok(Ok(Some((window, again)))) => {
                let again = i64::try_from(again.as_secs()).unwrap_or(most).clamp(least, most);
                (record.window, record.window_due) = (Some(window), now() + again);
            }
            Ok(Ok(None)) => (record.window, record.window_due) = (None, now() + most),
            // What was said before stays; a renewal says what is wrong.
            Ok(Err(_)) | Err(_) => record.window_due = now() + least,
        });
    }

    /// Says it in the log when a certificate ends soon: at each step, and then once a day.
    fn sound_alarms(&self) {
        let now = now();
        for (host, name) in self.certificates.names.borrow_mut().iter_mut() {
            let best = schedule::best(&name.kept, |kept| &kept.facts, now).map(|kept| &kept.facts);
            let Some(facts) = best.filter(|_| name.authority.is_some()) else { continue };
            let Some(alarm) = schedule::alarm(facts, now) else {
                name.alarm = None;
                continue;
            };
            let quiet =
                name.alarm.is_some_and(|(said, at)| said == alarm && (0..ALARM_AGAIN).contains(&(now - at)));
            if !quiet {
                name.alarm = Some((alarm, now));
                eprintln!("klar core: {}", alarm_words(host, facts, alarm, now));
            }
        }
    }

    /// How the certificate of each host is.
    pub(super) fn certificate_status(&self, key: &AppKey, release: &Release) -> Vec<CertificateStatus> {
        let given = self.given(key, release);
        let now = now();
        let of = |host: String| {
            let facts = given.as_ref().map(|(chain, _)| ("given", x509::leaf(chain).ok()));
            let names = self.certificates.names.borrow();
            let name = names.get(&host);
            let (source, facts) = facts
                .or_else(|| self.certificates.best(&host, now).map(|kept| ("acme", Some(kept.facts))))
                .unwrap_or_else(|| {
                    let local = self.authority.certificate(&host).ok();
                    ("local", local.and_then(|local| x509::leaf(&local.chain_pem).ok()))
                });
            let asked = name.filter(|name| name.authority.is_some());
            let renewal = asked.map(|name| match name.due(&host, now) {
                Due::Now => now,
                Due::At(at) => at,
            });
            let trouble = asked.and_then(|name| name.record.trouble.as_ref());
            let watched = facts.as_ref().filter(|_| source != "local");
            let alarm = watched.and_then(|facts| schedule::alarm(facts, now));
            CertificateStatus {
                source: source.into(),
                issuer: facts.as_ref().map(|facts| facts.issuer.clone()),
                not_after_unix_ms: facts.as_ref().map(|facts| milliseconds(facts.not_after)),
                days_left: facts.as_ref().map(|facts| (facts.not_after - now).div_euclid(86_400)),
                authority: asked.and_then(|name| Some(name.authority.as_ref()?.host().to_owned())),
                next_try_unix_ms: renewal.map(milliseconds),
                asking: name.is_some_and(|name| name.asking),
                failures: asked.map_or(0, |name| name.record.failures.count),
                last_error: trouble.map(|trouble| trouble.what.clone()),
                hint: trouble.and_then(|trouble| trouble.hint.clone()),
                alarm: alarm.map(|alarm| alarm_name(alarm).to_owned()),
                host,
            }
        };
        self.hosts(key, release).into_iter().map(of).collect()
    }

    /// What of it needs a person.
    pub(super) fn certificate_problems(&self, release: &Release, all: &[CertificateStatus]) -> Vec<Problem> {
        let public = |host: &str| {
            release.config.app.domains.iter().any(|domain| domain.as_str() == host && domain.is_public())
        };
        let mut problems = Vec::new();
        for one in all {
            let problem = |what: String, hint: Option<String>| Problem { what, hint, output: Vec::new() };
            let host = &one.host;
            if let Some(error) = &one.last_error {
                let what = match one.source.as_str() {
                    "acme" => format!("the certificate of {host} could not be renewed: {error}"),
                    _ => format!("{host} has no certificate that browsers believe yet: {error}"),
                };
                problems.push(problem(what, one.hint.clone()));
            } else if one.source == "local" && public(host) && one.authority.is_none() && self.ports.is_none()
            {
                problems.push(problem(
                    format!("{host} has no certificate that browsers believe: klar's own authority signs"),
                    Some(
                        "write `acme = \"letsencrypt\"` below [edge], which says that you agree to the terms of \
                         service of Let's Encrypt, or give one with `edge.certificate`; then `klar deploy`"
                            .into(),
                    ),
                ));
            }
            if let (Some(alarm), Some(days)) = (&one.alarm, one.days_left) {
                let when =
                    if alarm == "expired" { "has ended".to_owned() } else { format!("ends in {days} days") };
                let hint = match one.source.as_str() {
                    "given" => {
                        "put a new one into the files of `edge.certificate` and `edge.key`; klar takes it in by itself where it may read them, otherwise `klar deploy` does"
                    }
                    _ => {
                        "klar goes on trying to renew it; mend what it says is wrong, then `klar deploy` tries at once"
                    }
                };
                problems.push(problem(format!("the certificate of {host} {when}"), Some(hint.into())));
            }
        }
        problems
    }
}

fn alarm_name(alarm: Alarm) -> &'static str {
    match alarm {
        Alarm::Soon => "soon",
        Alarm::Urgent => "urgent",
        Alarm::Critical => "critical",
        Alarm::Expired => "expired",
    }
}

fn alarm_words(host: &str, facts: &Facts, alarm: Alarm, now: i64) -> String {
    let hours = (facts.not_after - now) / 3600;
    match alarm {
        Alarm::Expired => format!("EXPIRED: the certificate of {host} has ended; browsers refuse the site"),
        Alarm::Critical => format!("CRITICAL: the certificate of {host} ends in {hours} hours"),
        Alarm::Urgent => format!("URGENT: the certificate of {host} ends in {} days", hours / 24),
        Alarm::Soon => {
            format!("the certificate of {host} ends in {} days and is not renewed yet", hours / 24)
        }
    }
}

fn milliseconds(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or_default().saturating_mul(1000)
}

pub(super) fn now() -> i64 {
    i64::try_from(unix_ms() / 1000).unwrap_or(i64::MAX)
}
