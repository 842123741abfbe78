//! The ledger as a file: one entry a line, appended and flushed to disk before it counts.
//!
//! Several processes may write to it (a `klar check` beside the core): each append holds the file's lock, reads
//! what others have appended since, and writes behind it. A line that a kill has left half written was never
//! acknowledged; the next append takes it away.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Serialize;
use serde_json::value::to_raw_value;

use crate::chain::{self, Broken, Digest, Entry, Head, commitment, to_hex};
use crate::key::{KeyId, SigningKey};

/// No payload is longer than this: evidence is numbers and digests, not recordings.
const LONGEST: usize = 1 << 20;

/// A ledger that can be written to.
pub struct Ledger {
    path: PathBuf,
    key: SigningKey,
}

/// Why the ledger could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file system.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A line is no entry.
    #[error("{}:{line}: not an entry of a ledger: {why}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What the parser said.
        why: String,
    },
    /// It has been tampered with.
    #[error("{}: {broken}", path.display())]
    Broken {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        broken: Broken,
    },
    /// Somebody wants to write more than a ledger is for.
    #[error("the payload of `{0}` has more than {LONGEST} bytes")]
    TooLong(String),
}

impl Ledger {
    /// The ledger of a folder: `ledger.jsonl` and `ledger.key` in it, made when they are missing.
    ///
    /// # Errors
    /// The file system, or a key that is none. What the file holds is not verified: [`Ledger::verified`] does.
    pub fn open(folder: &Path) -> Result<Self, LedgerError> {
        let path = folder.join("ledger.jsonl");
        let io = |source| at(&path, source);
        let parent = folder.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).map_err(io)?;
        let owned_as = |file: &Path, like: &Path| give_to_owner(file, like).map_err(io);
        owned_as(folder, parent)?;
        let key_path = folder.join("ledger.key");
        let key = SigningKey::open(&key_path).map_err(io)?;
        owned_as(&key_path, folder)?;
        let ledger = Self { path: path.clone(), key };
        drop(ledger.locked()?);
        owned_as(&path, folder)?;
        Ok(ledger)
    }

    /// Who signs.
    #[must_use]
    pub fn key(&self) -> KeyId {
        self.key.id()
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes entries, all of them or none, and waits until they are on disk.
    ///
    /// # Errors
    /// The file system; a payload that is too long; an end of the file that is no entry. Nothing is written then.
    pub fn append<P: Serialize>(
        &self,
        at_time: Timestamp,
        new: impl IntoIterator<Item = (impl Into<String>, impl Into<String>, P)>,
    ) -> Result<Head, LedgerError> {
        let io = |source| at(&self.path, source);
        let mut file = self.locked()?;
        let (mut head, end) = self.end(&mut file)?;
        let mut lines = Vec::new();
        for (kind, subject, payload) in new {
            let entry = self.entry(head, at_time, kind.into(), subject.into(), &payload)?;
            head = Head { seq: entry.seq, hash: entry.hash };
            serde_json::to_writer(&mut lines, &entry).map_err(|why| io(why.into()))?;
            lines.push(b'\n');
        }
        // What a kill left half written goes first, so that a line never begins in the middle of another.
        file.set_len(end).map_err(io)?;
        file.seek(SeekFrom::Start(end)).map_err(io)?;
        file.write_all(&lines).and_then(|()| file.sync_data()).map_err(io)?;
        Ok(head)
    }

    /// All entries, verified with this ledger's own key.
    ///
    /// # Errors
    /// As [`read`], and what is broken.
    pub fn verified(&self) -> Result<Vec<Entry>, LedgerError> {
        let entries = read(&self.path)?;
        chain::verify(Head::default(), &entries, &self.key.id(), None)
            .map_err(|broken| LedgerError::Broken { path: self.path.clone(), broken })?;
        Ok(entries)
    }

    fn entry(
        &self,
        before: Head,
        at_time: Timestamp,
        kind: String,
        subject: String,
        payload: &impl Serialize,
    ) -> Result<Entry, LedgerError> {
        let io = |source| at(&self.path, source);
        let payload = to_raw_value(payload).map_err(|why| io(why.into()))?;
        if payload.get().len() > LONGEST {
            return Err(LedgerError::TooLong(subject));
        }
        let mut salt = [0; 16];
        SystemRandom::new()
            .fill(&mut salt)
            .map_err(|_| io(io::Error::other("the system gave no random bytes")))?;
        let salt = to_hex(&salt);
        let mut entry = Entry {
            seq: before.seq + 1,
            at: at_time,
            kind: single_line(kind),
            subject: single_line(subject),
            commitment: commitment(&salt, payload.get()).unwrap_or_default(),
            prev: before.hash,
            hash: Digest::default(),
            signature: String::new(),
            salt: Some(salt),
            payload: Some(payload),
        };
        entry.hash = entry.computed();
        entry.signature = to_hex(&self.key.sign(&entry.hash.0));
        Ok(entry)
    }

    fn locked(&self) -> Result<Flock<File>, LedgerError> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)
            .map_err(|source| at(&self.path, source))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| at(&self.path, errno.into()))
    }

    /// The last entry, and where its line ends.
    fn end(&self, file: &mut File) -> Result<(Head, u64), LedgerError> {
        let io = |source| at(&self.path, source);
        let length = file.seek(SeekFrom::End(0)).map_err(io)?;
        let mut window = 64 * 1024;
        loop {
            let start = length.saturating_sub(window);
            file.seek(SeekFrom::Start(start)).map_err(io)?;
            let mut tail = Vec::new();
            file.take(length - start).read_to_end(&mut tail).map_err(io)?;
            let Some(newline) = tail.iter().rposition(|byte| *byte == b'\n') else {
                if start == 0 {
                    return Ok((Head::default(), 0));
                }
                window *= 4;
                continue;
            };
            let end = start + newline as u64 + 1;
            let begin = tail[..newline].iter().rposition(|byte| *byte == b'\n').map(|before| before + 1);
            let Some(begin) = begin.or((start == 0).then_some(0)) else {
                window *= 4;
                continue;
            };
            let entry: Entry = serde_json::from_slice(&tail[begin..newline]).map_err(|why| {
                io(io::Error::new(io::ErrorKind::InvalidData, format!("its last line is no entry: {why}")))
            })?;
            return Ok((Head { seq: entry.seq, hash: entry.hash }, end));
        }
    }
}

/// Reads entries from a file, without judging them. A last line without its end is left out: it was never
/// acknowledged.
///
/// # Errors
/// The file system, or a line that is no entry.
pub fn read(path: &Path) -> Result<Vec<Entry>, LedgerError> {
    let mut reader = BufReader::new(File::open(path).map_err(|source| at(path, source))?);
    let mut entries = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line).map_err(|source| at(path, source))?;
        if line.pop() != Some(b'\n') {
            return Ok(entries);
        }
        entries.push(serde_json::from_slice(&line).map_err(|why| LedgerError::Line {
            path: path.to_owned(),
            line: entries.len() + 1,
            why: why.to_string(),
        })?);
    }
}

/// What root makes in a folder of somebody else's is that one's: a `klar check` of an administrator must not shut the
/// core out of its own ledger.
fn give_to_owner(file: &Path, like: &Path) -> io::Result<()> {
    let (own, theirs) = (fs::metadata(file)?, fs::metadata(like)?);
    if nix::unistd::geteuid().is_root() && own.uid() == 0 && theirs.uid() != 0 {
        std::os::unix::fs::chown(file, Some(theirs.uid()), Some(theirs.gid()))?;
    }
    Ok(())
}

fn at(path: &Path, source: io::Error) -> LedgerError {
    LedgerError::Io { path: path.to_owned(), source }
}

/// Kinds and subjects are hashed line by line, so they have none of their own.
fn single_line(text: String) -> String {
    if text.contains('\n') { text.replace('\n', " ") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("klar-ledger-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn filled(folder: &Folder, count: u64) -> Ledger {
        let ledger = Ledger::open(&folder.0).unwrap();
        for n in 0..count {
            ledger.append(Timestamp::UNIX_EPOCH, [("evidence", format!("check {n}"), n)]).unwrap();
        }
        ledger
    }

    fn verify(ledger: &Ledger, anchor: Option<Head>) -> Result<Head, Broken> {
        chain::verify(Head::default(), &read(&ledger.path).unwrap(), &ledger.key(), anchor)
    }

    #[test]
    fn what_is_appended_is_read_and_verified() {
        let folder = Folder::new("append");
        let ledger = filled(&folder, 3);
        // A second writer, as a core beside a check is.
        let head =
            Ledger::open(&folder.0).unwrap().append(Timestamp::UNIX_EPOCH, [("deploy", "web", "x")]).unwrap();
        assert_eq!(verify(&ledger, Some(head)), Ok(head));
        assert_eq!(head.seq, 4);
        assert_eq!(head.to_string().parse(), Ok(head));
        assert_eq!(ledger.verified().unwrap().len(), 4);
    }

    #[test]
    fn a_kill_in_the_middle_of_a_line_costs_that_line_only() {
        let folder = Folder::new("torn");
        let ledger = filled(&folder, 2);
        let whole = fs::read(&ledger.path).unwrap();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for cut in [first, first + 1, first + 100, whole.len() - 1] {
            fs::write(&ledger.path, &whole[..cut]).unwrap();
            assert_eq!(verify(&ledger, None).map(|head| head.seq), Ok(1), "cut at {cut}");
            ledger.append(Timestamp::UNIX_EPOCH, [("evidence", "again", 1)]).unwrap();
            assert_eq!(verify(&ledger, None).map(|head| head.seq), Ok(2), "cut at {cut}");
        }
    }

    #[test]
    fn a_payload_can_be_erased_and_nothing_else_changed() {
        let folder = Folder::new("erase");
        let ledger = filled(&folder, 3);
        let mut entries = read(&ledger.path).unwrap();
        entries[1].erase();
        let judge = |entries: &[Entry]| chain::verify(Head::default(), entries, &ledger.key(), None);
        assert!(judge(&entries).is_ok());

        entries[2].payload = Some(to_raw_value(&7).unwrap());
        assert_eq!(judge(&entries), Err(Broken::Payload(3)));
        entries[2].erase();
        entries[1].salt = Some("00".repeat(16));
        assert_eq!(judge(&entries), Err(Broken::Payload(2)));
    }

    #[test]
    fn dropping_swapping_and_rewriting_are_seen() {
        let folder = Folder::new("tamper");
        let ledger = filled(&folder, 4);
        let head = verify(&ledger, None).unwrap();
        let entries = read(&ledger.path).unwrap();
        let judge =
            |entries: &[Entry], anchor| chain::verify(Head::default(), entries, &ledger.key(), anchor);

        let without =
            |n: usize| entries.iter().enumerate().filter(|(i, _)| *i != n).map(|(_, e)| e.clone()).collect();
        let dropped: Vec<Entry> = without(1);
        assert_eq!(judge(&dropped, None), Err(Broken::Gap { expected: 2, found: 3 }));
        // The last one can be cut off unseen, unless somebody has kept the head.
        let cut: Vec<Entry> = without(3);
        assert!(judge(&cut, None).is_ok());
        assert_eq!(judge(&cut, Some(head)), Err(Broken::Anchor(head)));

        let mut renumbered = dropped.clone();
        for (entry, seq) in renumbered.iter_mut().zip(1..) {
            entry.seq = seq;
        }
        assert_eq!(judge(&renumbered, None), Err(Broken::Link(2)));

        let mut later = entries.clone();
        later[3].at = "2030-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(judge(&later, None), Err(Broken::Hash(4)));

        // All of it again with another key: whole in itself, but not signed by the one we know.
        let other = Folder::new("tamper-other");
        let forged = filled(&other, 4);
        assert!(forged.verified().is_ok());
        let forged = read(&forged.path).unwrap();
        assert_eq!(judge(&forged, None), Err(Broken::Signature(1, ledger.key())));
    }

    #[test]
    fn errors_name_the_file_and_the_line() {
        let folder = Folder::new("errors");
        let ledger = filled(&folder, 1);
        let long = "x".repeat(LONGEST);
        assert!(matches!(
            ledger.append(Timestamp::UNIX_EPOCH, [("a", "b", long)]),
            Err(LedgerError::TooLong(_))
        ));
        let mut text = fs::read_to_string(&ledger.path).unwrap();
        text.push_str("{}\n");
        fs::write(&ledger.path, text).unwrap();
        let error = read(&ledger.path).unwrap_err().to_string();
        assert!(error.contains("ledger.jsonl:2: not an entry of a ledger: missing field"), "{error}");
        let error = ledger.append(Timestamp::UNIX_EPOCH, [("a", "b", 1)]).unwrap_err().to_string();
        assert!(error.contains("its last line is no entry"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]
        /// Any single byte of the file that is changed into any other is noticed, or changes nothing that is read.
        #[test]
        fn a_changed_byte_is_seen(place in 0.0..1.0_f64, flip in 1..=255_u8) {
            let folder = Folder::new("byte");
            let ledger = filled(&folder, 2);
            let mut bytes = fs::read(&ledger.path).unwrap();
            let before = format!("{:?}", read(&ledger.path).unwrap());
            let index = (place * bytes.len() as f64) as usize;
            bytes[index] ^= flip;
            fs::write(&ledger.path, &bytes).unwrap();
            match read(&ledger.path) {
                Err(_) => {}
                // The end of the last line: then that entry counts as never written.
                Ok(entries) if entries.len() < 2 => prop_assert!(index == bytes.len() - 1),
                Ok(entries) => {
                    let unnoticed = chain::verify(Head::default(), &entries, &ledger.key(), None).is_ok();
                    let same = format!("{entries:?}") == before;
                    prop_assert!(!unnoticed || same);
                }
            }
        }
    }
}
