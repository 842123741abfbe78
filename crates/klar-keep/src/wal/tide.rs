//! How far the log was shipped, and until when it holds every commit.
//!
//! A database that nobody writes to has no new log, but "every commit until five seconds ago is in the repository" is
//! true of it all the same, and somebody has to say so. All of it is in the name; the content is the name, sealed, so
//! that nobody else can say it.

use jiff::Timestamp;
use klar_repo::{Object, Repository};

use crate::lsn::{Lsn, Timeline};
use crate::wal::{TIDES, WalError};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tide {
    /// Of which timeline.
    pub timeline: Timeline,
    /// What was shipped ends here.
    pub lsn: Lsn,
    /// Every commit that was acknowledged until then lies before `lsn`, by the server's clock.
    pub covered: Timestamp,
}

impl Tide {
    /// The name of its object.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{TIDES}{:08X}.{:016X}.{:016}", self.timeline, self.lsn.0, self.covered.as_microsecond())
    }

    /// Reads such a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(TIDES)?.split('.');
        let timeline = u32::from_str_radix(parts.next()?, 16).ok()?;
        let lsn = Lsn(u64::from_str_radix(parts.next()?, 16).ok()?);
        let covered = Timestamp::from_microsecond(parts.next()?.parse().ok()?).ok()?;
        let tide = Self { timeline, lsn, covered };
        // Written in one way only.
        (parts.next().is_none() && tide.name() == name).then_some(tide)
    }

    /// Writes it, and removes those of the same timeline that it outdates, but for the one before it.
    ///
    /// # Errors
    /// The repository.
    pub fn write(&self, repository: &Repository) -> Result<(), WalError> {
        let name = self.name();
        let storage = repository.storage();
        let mut before: Vec<String> = storage.list_extra(TIDES)?.into_iter().map(|(name, _)| name).collect();
        let sealed = repository.seal(&name, name.as_bytes())?;
        if !before.contains(&name) {
            storage.write(&Object::Extra(name), &sealed)?;
        }
        before
            .retain(|name| Self::parse(name).is_some_and(|old| old.timeline == self.timeline && old < *self));
        before.sort_unstable();
        before.pop();
        for old in before {
            storage.remove(&Object::Extra(old))?;
        }
        Ok(())
    }

    /// All of a repository, the oldest first; each is opened, so that none is believed that another key has written.
    ///
    /// # Errors
    /// One that does not open.
    pub fn all(repository: &Repository) -> Result<Vec<Self>, WalError> {
        let mut all = Vec::new();
        for (name, _) in repository.storage().list_extra(TIDES)? {
            let tide = Self::parse(&name).ok_or_else(|| WalError::Name(name.clone()))?;
            let sealed = match repository.storage().read(&Object::Extra(name.clone())) {
                Ok(sealed) => sealed,
                // The shipper has written a newer one meanwhile.
                Err(error) if error.is_gone() => continue,
                Err(error) => return Err(error.into()),
            };
            repository.unseal(&name, &sealed)?;
            all.push(tide);
        }
        all.sort_unstable();
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_in_the_name() {
        let tide = Tide {
            timeline: 1,
            lsn: "0/3014000".parse().unwrap(),
            covered: "2026-11-23T12:00:00.000001Z".parse().unwrap(),
        };
        assert_eq!(tide.name(), "klar/tide/00000001.0000000003014000.1795435200000001");
        assert_eq!(Tide::parse(&tide.name()), Some(tide));
        for wrong in
            ["klar/tide/", "klar/tide/1.2.3", "klar/tide/00000001.0000000003014000.1795435200000001.x"]
        {
            assert_eq!(Tide::parse(wrong), None, "{wrong}");
        }
    }
}
