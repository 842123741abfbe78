//! Given certificates, and authorities of clients, whose files change: taken in without a deploy, as when certbot or a
//! person renews them.
//!
//! A deploy says where the files are. They are looked at every few seconds, and read once they have changed and then
//! been left alone for a while, so that nobody is caught between the two of them. A pair that cannot be used is told
//! of, and the one before serves on. Connections that are open notice nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use klar_base::{AppKey, Secret};

use super::certificates::now;
use super::{Core, clients};
use crate::acme::shelf;
use crate::acme::x509::{self, Facts};
use crate::control::GivenFiles;
use crate::report::Problem;

/// How often the files are looked at, and for how long they must have been left alone.
const LOOK: Duration = Duration::from_secs(3);
/// A larger file holds no certificate, in bytes.
const FILE_MAX: u64 = 1 << 20;
/// Under this name the app has the problem.
pub(super) const TOPIC: &str = "certificate files";

/// What tells that a file is another one than before, without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stamp {
    File { device: u64, inode: u64, length: u64, modified: (i64, i64), changed: (i64, i64) },
    None(io::ErrorKind),
}

impl Stamp {
    fn of(path: &Path) -> Self {
        match std::fs::metadata(path) {
            Ok(file) => Self::File {
                device: file.dev(),
                inode: file.ino(),
                length: file.len(),
                modified: (file.mtime(), file.mtime_nsec()),
                changed: (file.ctime(), file.ctime_nsec()),
            },
            Err(error) => Self::None(error.kind()),
        }
    }
}

/// Files that belong together.
#[derive(Debug, Default)]
struct Watch {
    seen: Option<Vec<Stamp>>,
    read: Option<Vec<Stamp>>,
}

impl Watch {
    /// Whether the files are to be read: not in this state before, and in the same state as at the last look.
    fn look(&mut self, now: Vec<Stamp>) -> bool {
        let is_settled = self.seen.as_ref() == Some(&now);
        self.seen = Some(now.clone());
        if !is_settled || self.read.as_ref() == Some(&now) {
            return false;
        }
        self.read = Some(now);
        true
    }
}

/// A chain and its key, PEM.
type Pair = (String, Secret<String>);

/// Why files were not taken in.
#[derive(Debug, PartialEq)]
pub(super) enum Refusal {
    /// klar's own user may not read them: only a deploy takes them in.
    Hidden(String),
    /// They are there, and cannot be used.
    Broken(String),
}

impl Refusal {
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Hidden(text) | Self::Broken(text) => text,
        }
    }
}

/// Reads both files; nothing of klar's own, which whoever deploys may not read.
fn read(files: &GivenFiles, state: &Path) -> Result<Pair, Refusal> {
    Ok((read_text(&files.chain, Some(state))?, Secret::new(read_text(&files.key, Some(state))?)))
}

/// Why klar's own user may not read the files, if that is so.
pub(super) fn hidden(files: &GivenFiles, state: &Path) -> Option<String> {
    match read(files, state) {
        Err(Refusal::Hidden(why)) => Some(why),
        Ok(_) | Err(Refusal::Broken(_)) => None,
    }
}

/// Reads a file of PEM, which must not lie in `forbidden`.
pub(super) fn read_text(path: &Path, forbidden: Option<&Path>) -> Result<String, Refusal> {
    let failed = |error: io::Error| {
        let what = format!("{}: {error}", path.display());
        if error.kind() == io::ErrorKind::PermissionDenied {
            Refusal::Hidden(what)
        } else {
            Refusal::Broken(what)
        }
    };
    let real = path.canonicalize().map_err(failed)?;
    let forbidden = forbidden.and_then(|folder| folder.canonicalize().ok());
    if forbidden.is_some_and(|folder| real.starts_with(folder)) {
        return Err(Refusal::Broken(format!("{} leads into klar's own folder", path.display())));
    }
    let mut text = String::new();
    let file = File::open(&real).map_err(failed)?;
    file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_MAX {
        return Err(Refusal::Broken(format!("{} is larger than {FILE_MAX} bytes", path.display())));
    }
    Ok(text)
}

/// Whether a pair may take the place of the one that serves: it fits together, is good today, and is for every one of
/// `hosts` that the other one is for.
fn judge(pair: &Pair, serving: Option<&Facts>, hosts: &[String], now: i64) -> Result<Facts, String> {
    let facts = shelf::check(&pair.0, &pair.1, None)?;
    if !facts.is_valid(now) && serving.is_none_or(|serving| serving.is_valid(now)) {
        return Err("it is not valid today".into());
    }
    let lost =
        hosts.iter().find(|host| serving.is_some_and(|serving| serving.covers(host)) && !facts.covers(host));
    match lost {
        Some(host) => Err(format!("it is for {}, and no longer for {host}", facts.names.join(", "))),
        None => Ok(facts),
    }
}

/// The stamps of files. A folder on a network may keep whoever looks waiting.
async fn look(files: Vec<PathBuf>) -> Option<Vec<Stamp>> {
    let look = tokio::task::spawn_blocking(move || files.iter().map(|file| Stamp::of(file)).collect());
    look.await.ok()
}

impl Core {
    /// The task: see the [module](self).
    pub(super) async fn keep_given_fresh(self: Rc<Self>) {
        let mut given: BTreeMap<AppKey, Watch> = BTreeMap::new();
        let mut clients: BTreeMap<PathBuf, Watch> = BTreeMap::new();
        loop {
            tokio::time::sleep(LOOK).await;
            if self.finishing.get() {
                return;
            }
            let wanted = self.given_origins();
            given.retain(|key, _| wanted.contains_key(key));
            for (key, files) in wanted {
                let Some(stamps) = look(vec![files.chain.clone(), files.key.clone()]).await else { continue };
                if given.entry(key.clone()).or_default().look(stamps) {
                    self.read_given(&key, files).await;
                }
            }
            let wanted = self.client_origins();
            clients.retain(|file, _| wanted.contains(file));
            for file in wanted {
                let Some(stamps) = look(vec![file.clone()]).await else { continue };
                if clients.entry(file.clone()).or_default().look(stamps) {
                    self.read_clients(file).await;
                }
            }
        }
    }

    /// The files of authorities that are no part of the releases that serve.
    fn client_origins(&self) -> BTreeSet<PathBuf> {
        let host = self.host.borrow();
        let apps = self.apps.borrow();
        let up = host.apps.iter().filter(|(_, app)| app.wanted);
        let releases = up.filter_map(|(key, app)| apps.get(key)?.releases.get(app.current.as_ref()?));
        let files = releases.flat_map(|release| Self::client_files(release).cloned().collect::<Vec<_>>());
        files.filter(|file| file.is_absolute()).collect()
    }

    async fn read_clients(&self, file: PathBuf) {
        let (asked, state) = (file.clone(), self.layout.root().to_owned());
        let read = tokio::task::spawn_blocking(move || read_text(&asked, Some(&state))).await;
        let Ok(read) = read else { return };
        let text = read.map_err(Refusal::into_text);
        let text = text.and_then(|text| clients::check(&text).map(|()| text));
        let copied = text
            .and_then(|text| self.copy_client_authorities(&file, &text).map_err(|error| error.to_string()));
        match copied {
            Ok(true) => {
                eprintln!(
                    "klar core: the authorities of `client_ca` in {} have changed, and count now",
                    file.display()
                );
                self.changed();
            }
            Ok(false) => {}
            Err(why) => eprintln!(
                "klar core: the authorities of `client_ca` stay those of before, because {} cannot be used: {why}",
                file.display()
            ),
        }
    }

    /// Where the certificates of the apps that are up were given.
    fn given_origins(&self) -> BTreeMap<AppKey, GivenFiles> {
        let host = self.host.borrow();
        let apps = self.apps.borrow();
        let is_given = |key: &AppKey, current: &Option<klar_base::ReleaseId>| {
            let release = apps.get(key).zip(current.as_ref()).and_then(|(app, id)| app.releases.get(id));
            release.is_some_and(|release| release.config.edge.certificate.is_some())
        };
        let up = host.apps.iter().filter(|(key, app)| app.wanted && is_given(key, &app.current));
        up.filter_map(|(key, _)| Some((key.clone(), self.given_origin(key)?))).collect()
    }

    async fn read_given(self: &Rc<Self>, key: &AppKey, files: GivenFiles) {
        let state = self.layout.root().to_owned();
        let read = tokio::task::spawn_blocking(move || read(&files, &state)).await;
        let Ok(read) = read else { return };
        // Much may have happened meanwhile.
        let Some(release) = self.current(key).and_then(|id| self.release(key, &id).ok()) else { return };
        let kept = self.given(key, &release);
        let is_kept = |pair: &Pair| {
            kept.as_ref().is_some_and(|kept| kept.0 == pair.0 && kept.1.expose() == pair.1.expose())
        };
        let serving = kept.as_ref().and_then(|(chain, _)| x509::leaf(chain).ok());
        let taken = match read {
            Ok(pair) if is_kept(&pair) => {
                self.forget_problem(key, TOPIC);
                return;
            }
            Ok(pair) => judge(&pair, serving.as_ref(), &self.hosts(key, &release), now()).and_then(|facts| {
                self.write_given(key, &pair.0, &pair.1).map(|()| facts).map_err(|error| error.to_string())
            }),
            Err(Refusal::Hidden(what)) => {
                eprintln!("klar core: {key}: a new certificate is taken in by `klar deploy` only: {what}");
                return;
            }
            Err(Refusal::Broken(why)) => Err(why),
        };
        match taken {
            Ok(facts) => {
                let days = (facts.not_after - now()).div_euclid(86_400);
                eprintln!(
                    "klar core: {key}: the files of `edge.certificate` have changed; the new one serves, and is good for {days} days"
                );
                self.forget_problem(key, TOPIC);
            }
            Err(why) => {
                let what = format!(
                    "the files of `edge.certificate` have changed and cannot be used, so the certificate before them serves on: {why}"
                );
                eprintln!("klar core: {key}: {what}");
                let hint = "put a certificate with its chain and the key that belongs to it there; klar takes them in by itself";
                self.problem(key, TOPIC, Problem { what, hint: Some(hint.into()), output: Vec::new() });
            }
        }
        self.changed();
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn made(names: &[&str], days: (i64, i64)) -> Pair {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        let day = |days: i64| {
            let seconds = u64::try_from(TODAY + days * 86_400).unwrap();
            SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
        };
        params.not_before = day(days.0).into();
        params.not_after = day(days.1).into();
        let chain = params.self_signed(&key).unwrap();
        (chain.pem(), Secret::new(key.serialize_pem()))
    }

    /// 15 June 2026.
    const TODAY: i64 = 1_781_481_600;

    #[test]
    fn files_are_read_once_they_are_left_alone() {
        let stamp = |number: u64| Stamp::File {
            device: 1,
            inode: number,
            length: 1,
            modified: (0, 0),
            changed: (0, 0),
        };
        let gone = Stamp::None(io::ErrorKind::NotFound);
        let mut watch = Watch::default();
        for (chain, key, reads) in [
            (stamp(1), stamp(1), false),
            (stamp(1), stamp(1), true),
            (stamp(1), stamp(1), false),
            // One after the other.
            (stamp(2), stamp(1), false),
            (gone.clone(), stamp(1), false),
            (stamp(2), stamp(2), false),
            (stamp(2), stamp(2), true),
            (stamp(2), stamp(2), false),
            // Gone for good is told once.
            (gone.clone(), stamp(2), false),
            (gone.clone(), stamp(2), true),
            (gone, stamp(2), false),
        ] {
            let what = format!("{chain:?} {key:?}");
            assert_eq!(watch.look(vec![chain, key]), reads, "{what}");
        }
    }

    #[test]
    fn what_is_worse_than_the_one_that_serves_is_refused() {
        let hosts = ["shop.example".to_owned(), "www.shop.example".to_owned()];
        let old = made(&["shop.example", "www.shop.example"], (-80, 10));
        let serving = x509::leaf(&old.0).unwrap();
        let good = made(&["shop.example", "*.shop.example"], (-1, 89));
        let other = made(&["shop.example", "www.shop.example"], (-1, 89));
        let mixed = (good.0.clone(), other.1.clone());
        for (what, pair, refused) in [
            ("another one", &other, None),
            ("with a wildcard", &good, None),
            ("ended", &made(&["shop.example", "www.shop.example"], (-90, -1)), Some("not valid today")),
            ("to come", &made(&["shop.example", "www.shop.example"], (1, 90)), Some("not valid today")),
            ("for fewer names", &made(&["shop.example"], (-1, 89)), Some("no longer for www.shop.example")),
            ("the key of another", &mixed, Some("the key is not that of the certificate")),
            ("no certificate", &("tor".to_owned(), good.1.clone()), Some("there is no certificate in it")),
            ("no key", &(good.0.clone(), Secret::new("tor".into())), Some("its key is not PEM")),
        ] {
            let judged = judge(pair, Some(&serving), &hosts, TODAY);
            match refused {
                None => assert!(judged.is_ok(), "{what}: {judged:?}"),
                Some(why) => assert!(judged.unwrap_err().contains(why), "{what}"),
            }
        }
        // Where nothing good is lost, anything that fits together is better.
        let ended = x509::leaf(&made(&["shop.example"], (-90, -1)).0).unwrap();
        let late = made(&["shop.example"], (-60, -2));
        assert!(judge(&late, Some(&ended), &hosts, TODAY).is_ok());
    }

    #[test]
    fn files_that_are_not_for_klar_are_left_alone() {
        let folder = std::env::temp_dir().join(format!("klar-given-{}", std::process::id()));
        let state = folder.join("state");
        std::fs::create_dir_all(&state).unwrap();
        let file = |path: PathBuf, text: &str| {
            std::fs::write(&path, text).unwrap();
            path
        };
        let chain = file(folder.join("shop.pem"), "chain");
        let key = file(folder.join("shop.key"), "key");
        let own = file(state.join("given.key"), "secret");
        let link = folder.join("link");
        std::os::unix::fs::symlink(&own, &link).unwrap();
        let large = file(folder.join("large"), &"x".repeat(FILE_MAX as usize + 1));
        let outcome = |key: &Path| {
            read(&GivenFiles { chain: chain.clone(), key: key.to_owned() }, &state)
                .map(|(chain, key)| format!("{chain} {}", key.expose()))
        };
        assert_eq!(outcome(&key), Ok("chain key".into()));
        for (path, why) in [
            (&own, "klar's own folder"),
            (&link, "klar's own folder"),
            (&large, "larger than"),
            (&folder.join("none"), "No such file"),
        ] {
            match outcome(path) {
                Err(Refusal::Broken(said)) => assert!(said.contains(why), "{said}"),
                other => panic!("{}: {other:?}", path.display()),
            }
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
