//! The server's clock was put back, and behind which place in the log: written once, where it is noticed.
//!
//! The log that a time needs is not always all of it ([`crate::restore::Kept::plan`]), so that what lies further on has to
//! be known without being read. As with the tide all of it is in the name, and the content is the name, sealed.

use jiff::Timestamp;
use klar_repo::{Object, Repository};

use crate::lsn::{Lsn, Timeline};
use crate::wal::commits::{Back, SLACK};
use crate::wal::{TURNED, WalError};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turned {
    /// On which timeline.
    pub timeline: Timeline,
    /// It was not yet, when the log ended here.
    pub from: Lsn,
    /// It was, when it ended here.
    pub to: Lsn,
    /// At least so late it had been.
    pub before: Timestamp,
    /// What it was put back to, or a little later.
    pub after: Timestamp,
}

impl Turned {
    /// The name of its object.
    #[must_use]
    pub fn name(&self) -> String {
        let [before, after] = [self.before, self.after].map(Timestamp::as_microsecond);
        format!(
            "{TURNED}{:08X}.{:016X}-{:016X}.{before:016}-{after:016}",
            self.timeline, self.from.0, self.to.0
        )
    }

    /// Reads such a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (timeline, rest) = name.strip_prefix(TURNED)?.split_once('.')?;
        let (places, times) = rest.split_once('.')?;
        let ((from, to), (before, after)) = (places.split_once('-')?, times.split_once('-')?);
        let place = |text: &str| u64::from_str_radix(text, 16).ok().map(Lsn);
        let time = |text: &str| Timestamp::from_microsecond(text.parse().ok()?).ok();
        let timeline = u32::from_str_radix(timeline, 16).ok()?;
        let turned =
            Self { timeline, from: place(from)?, to: place(to)?, before: time(before)?, after: time(after)? };
        (turned.name() == name).then_some(turned)
    }

    /// Writes it.
    ///
    /// # Errors
    /// The repository.
    pub fn write(&self, repository: &Repository) -> Result<(), WalError> {
        let name = self.name();
        let sealed = repository.seal(&name, name.as_bytes())?;
        Ok(repository.storage().write(&Object::Extra(name), &sealed)?)
    }

    /// All of a repository; each is opened, so that none is believed that another key has written.
    ///
    /// # Errors
    /// One that does not open.
    pub fn all(repository: &Repository) -> Result<Vec<Self>, WalError> {
        let mut all = Vec::new();
        for (name, _) in repository.storage().list_extra(TURNED)? {
            let turned = Self::parse(&name).ok_or_else(|| WalError::Name(name.clone()))?;
            let sealed = match repository.storage().read(&Object::Extra(name.clone())) {
                Ok(sealed) => sealed,
                // No point needed the log before it any more.
                Err(error) if error.is_gone() => continue,
                Err(error) => return Err(error.into()),
            };
            repository.unseal(&name, &sealed)?;
            all.push(turned);
        }
        Ok(all)
    }

    /// How it went back, where a time may have come twice by it.
    #[must_use]
    pub fn twice(&self, time: Timestamp) -> Option<Back> {
        let Self { from: at, before, after, .. } = *self;
        (after <= time + SLACK && time <= before + SLACK).then_some(Back { at, before, after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_in_the_name() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let turned = Turned {
            timeline: 1,
            from: "0/3014000".parse().unwrap(),
            to: "0/3015000".parse().unwrap(),
            before: time("2026-11-23T13:00:00Z"),
            after: time("2026-11-23T12:00:00.000001Z"),
        };
        let name = "klar/turned/00000001.0000000003014000-0000000003015000.1795438800000000-1795435200000001";
        assert_eq!(turned.name(), name);
        assert_eq!(Turned::parse(name), Some(turned));
        assert_eq!(Turned::parse(&name[..name.len() - 1]), None);
        for (when, is) in [
            ("2026-11-23T11:59:58Z", false),
            ("2026-11-23T12:00:00Z", true),
            ("2026-11-23T13:00:00Z", true),
            ("2026-11-23T13:00:02Z", false),
        ] {
            assert_eq!(turned.twice(time(when)).is_some(), is, "{when}");
        }
    }
}
