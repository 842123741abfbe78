//! Which answers on disk are of the releases that serve now; and the front page, which remembers it.
//!
//! In memory an epoch is a count that begins anew with each edge. On disk it is a number by chance, which stands
//! beside the releases that got requests meanwhile. An edge that starts goes on with an app's number once the core
//! has told it that the very same releases serve; after a deploy that it did not see it takes a new one, and finds
//! nothing of before.

use std::collections::{BTreeMap, BTreeSet};

use klar_base::{AppKey, ReleaseId, ServiceName};
use serde_json::Value;

/// The releases of each service that get requests; none for a service that is between two instances.
pub type Serving = BTreeMap<ServiceName, BTreeSet<ReleaseId>>;

/// The epoch of one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    number: u64,
    /// The count in memory that it goes with. `None`: nobody has said yet that these releases serve.
    count: Option<u64>,
    serving: Serving,
}

/// The epochs of all apps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Epochs(BTreeMap<AppKey, Epoch>);

/// What a configuration meant for an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing.
    Same,
    /// More is known; what is on disk is as good as before.
    Grown,
    /// What is on disk is of other releases.
    New,
}

impl Epochs {
    /// The number of an app's epoch, for an answer that was asked for at `count`.
    pub fn number(&self, app: &AppKey, count: u64) -> Option<u64> {
        self.0.get(app).filter(|epoch| epoch.count == Some(count)).map(|epoch| epoch.number)
    }

    /// The same, also where nobody has said yet that the releases of before serve: what is forgotten now must not be
    /// there when somebody does.
    pub fn number_to_be(&self, app: &AppKey, count: u64) -> Option<u64> {
        let epoch = self.0.get(app)?;
        epoch.count.is_none_or(|known| known == count).then_some(epoch.number)
    }

    /// Whether an answer with this number is, or may turn out to be, of an app's releases.
    pub fn is_current(&self, app: &AppKey, number: u64) -> bool {
        self.0.get(app).is_some_and(|epoch| epoch.number == number)
    }

    /// Takes note of who serves.
    pub fn turn(&mut self, app: &AppKey, count: u64, serving: &Serving) -> Turn {
        let said = || serving.iter().filter(|(_, releases)| !releases.is_empty());
        let known = self.0.get_mut(app).filter(|epoch| match epoch.count {
            Some(known) => known == count,
            // Found on disk: nothing that serves now may contradict it.
            None => {
                let agrees =
                    said().all(|(name, releases)| epoch.serving.get(name).is_none_or(|all| all == releases));
                agrees && epoch.serving.keys().all(|name| serving.contains_key(name))
            }
        });
        let Some(epoch) = known else {
            let serving = said().map(|(name, releases)| (name.clone(), releases.clone())).collect();
            self.0.insert(app.clone(), Epoch { number: fastrand::u64(..), count: Some(count), serving });
            return Turn::New;
        };
        // A service that has no instance yet may turn out to have another release.
        let is_sure = epoch.serving.keys().all(|name| serving.get(name).is_some_and(|all| !all.is_empty()));
        let before = epoch.serving.len();
        if epoch.count.is_none() && !is_sure {
            return Turn::Same;
        }
        epoch.count = Some(count);
        for (name, releases) in said() {
            epoch.serving.entry(name.clone()).or_insert_with(|| releases.clone());
        }
        if epoch.serving.len() > before { Turn::Grown } else { Turn::Same }
    }
}

/// What the first file of a store says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Front {
    /// Which store this is: records of another one are foreign.
    pub store: u64,
    /// Which run of the machine wrote it (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
    /// Everything had been written when it ended.
    pub is_whole: bool,
    /// It was being read when it was last heard of: what was forgotten then may be lost.
    pub is_opening: bool,
    pub epochs: Epochs,
}

impl Front {
    /// A store that has nothing in it.
    pub fn new(boot: String) -> Self {
        let store = fastrand::u64(..);
        Self { store, boot, is_whole: false, is_opening: false, epochs: Epochs::default() }
    }

    /// Whether what lies there can be believed. Unless it ended in order, only the run of the machine that wrote it
    /// can tell: a power cut may have lost a note that forgets an answer, and left the answer.
    pub fn is_sound(&self, boot: &str) -> bool {
        !self.is_opening && (self.is_whole || self.boot == boot)
    }

    /// As it is written.
    pub fn write(&self) -> Vec<u8> {
        let apps: BTreeMap<String, (u64, &Serving)> = self
            .epochs
            .0
            .iter()
            .map(|(app, epoch)| (app.to_string(), (epoch.number, &epoch.serving)))
            .collect();
        let page = serde_json::json!([self.store, self.boot, self.is_whole, self.is_opening, apps]);
        page.to_string().into_bytes()
    }

    /// Reads what was written.
    pub fn read(page: &[u8]) -> Option<Self> {
        let (store, boot, is_whole, is_opening, apps): (
            u64,
            String,
            bool,
            bool,
            BTreeMap<String, (u64, Value)>,
        ) = serde_json::from_slice(page).ok()?;
        let epoch = |(app, (number, serving)): (String, (u64, Value))| {
            let serving = serde_json::from_value(serving).ok()?;
            Some((app.parse().ok()?, Epoch { number, count: None, serving }))
        };
        let epochs = Epochs(apps.into_iter().map(epoch).collect::<Option<_>>()?);
        Some(Self { store, boot, is_whole, is_opening, epochs })
    }
}

/// Which run of the machine this is; empty where the kernel does not say, and then nothing is believed that did not
/// end in order.
pub fn boot() -> String {
    let said = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    match said.trim() {
        "" => format!("unknown-{:x}", fastrand::u64(..)),
        id => id.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "0123456789ab";
    const NEW: &str = "ba9876543210";

    fn serving(all: &[(&str, &[&str])]) -> Serving {
        let releases = |ids: &[&str]| ids.iter().map(|id| id.parse().unwrap()).collect();
        all.iter().map(|(name, ids)| (name.parse().unwrap(), releases(ids))).collect()
    }

    fn app() -> AppKey {
        "shop.prod".parse().unwrap()
    }

    /// What a store knew when it was written, what the core says first and next, and whether what lies there is used.
    #[test]
    fn only_the_same_releases_go_on() {
        type Says<'a> = &'a [(&'a str, &'a [&'a str])];
        let cases: [(Says<'_>, Says<'_>, Says<'_>, bool, bool); 8] = [
            (&[("web", &[OLD])], &[("web", &[OLD])], &[("web", &[OLD])], true, true),
            (&[("web", &[OLD])], &[("web", &[NEW])], &[("web", &[NEW])], false, false),
            (&[("web", &[OLD])], &[("web", &[OLD, NEW])], &[("web", &[NEW])], false, false),
            // No instance has come up yet.
            (&[("web", &[OLD])], &[("web", &[])], &[("web", &[OLD])], false, true),
            (&[("web", &[OLD])], &[("web", &[])], &[("web", &[NEW])], false, false),
            (
                &[("web", &[OLD]), ("api", &[OLD])],
                &[("web", &[OLD]), ("api", &[])],
                &[("web", &[OLD]), ("api", &[NEW])],
                false,
                false,
            ),
            // A service that was there is none of this release.
            (&[("web", &[OLD]), ("api", &[OLD])], &[("web", &[OLD])], &[("web", &[OLD])], false, false),
            (
                &[("web", &[OLD])],
                &[("web", &[OLD]), ("api", &[])],
                &[("web", &[OLD]), ("api", &[OLD])],
                true,
                true,
            ),
        ];
        for (before, first, next, at_first, at_last) in cases {
            let mut front = Front::new(boot());
            assert_eq!(front.epochs.turn(&app(), 7, &serving(before)), Turn::New);
            let number = front.epochs.number(&app(), 7).unwrap();
            let mut found = Front::read(&front.write()).unwrap();
            assert_eq!(found.epochs.number(&app(), 0), None, "nobody has said so");
            found.epochs.turn(&app(), 0, &serving(first));
            assert_eq!(found.epochs.number(&app(), 0) == Some(number), at_first, "{before:?} {first:?}");
            found.epochs.turn(&app(), 0, &serving(next));
            assert_eq!(
                found.epochs.number(&app(), 0) == Some(number),
                at_last,
                "{before:?} {first:?} {next:?}"
            );
        }
    }

    #[test]
    fn a_deploy_takes_a_new_number() {
        let mut epochs = Epochs::default();
        let (old, new) = (serving(&[("web", &[OLD])]), serving(&[("web", &[NEW])]));
        assert_eq!(epochs.turn(&app(), 0, &old), Turn::New);
        assert_eq!(epochs.turn(&app(), 0, &old), Turn::Same);
        assert_eq!(epochs.turn(&app(), 0, &serving(&[("web", &[])])), Turn::Same, "an instance was replaced");
        let before = epochs.number(&app(), 0).unwrap();
        assert_eq!(epochs.turn(&app(), 1, &new), Turn::New);
        assert_eq!(epochs.number(&app(), 0), None, "what was asked for before lands nowhere");
        assert_eq!(epochs.turn(&app(), 2, &old), Turn::New);
        assert_ne!(epochs.number(&app(), 2), Some(before), "and a rollback does not bring it back");
        assert!(!epochs.is_current(&app(), before));
    }

    #[test]
    fn what_is_believed() {
        for (whole, opening, same_boot, sound) in [
            (false, false, true, true),
            (true, false, false, true),
            (false, false, false, false),
            (false, true, true, false),
            (true, true, true, false),
        ] {
            let front = Front { is_whole: whole, is_opening: opening, ..Front::new("a".into()) };
            let read = Front::read(&front.write()).unwrap();
            assert_eq!(read, front);
            assert_eq!(read.is_sound(if same_boot { "a" } else { "b" }), sound, "{front:?}");
        }
        assert_eq!(Front::read(b"[]"), None);
    }
}
