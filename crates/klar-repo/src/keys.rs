//! Keys: the repository's one master key, sealed once for each password.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::crypto::{MasterKey, random};
use crate::{Id, KeyError, Kind, Object, OpenError, ReadError, Storage};

/// One password's key, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Names it.
    pub id: Id,
    /// What it is called; restic shows it as the user.
    pub label: String,
    /// When it was made.
    pub created: jiff::Timestamp,
    /// Whether the repository was opened with it.
    pub current: bool,
}

/// Work of scrypt: 32 MiB and about 0.1 s.
const LOG_N: u8 = 15;
/// What is done for keys that others made: 256 MiB at most.
const LOG_N_MAX: u8 = 18;
/// A key file is never longer, in bytes; so many are looked at.
const LENGTH_MAX: u64 = 64 << 10;
const KEYS_MAX: usize = 50;

#[derive(Serialize, Deserialize)]
struct File {
    created: jiff::Timestamp,
    #[serde(default)]
    username: String,
    #[serde(default)]
    hostname: String,
    kdf: String,
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
    salt: String,
    data: String,
}

#[derive(Serialize, Deserialize)]
struct Plain {
    mac: Mac,
    encrypt: String,
}

#[derive(Serialize, Deserialize)]
struct Mac {
    k: String,
    r: String,
}

fn stretched(password: &str, salt: &[u8], log_n: u8, r: u32, p: u32) -> Option<MasterKey> {
    let params = scrypt::Params::new(log_n, r, p, 64).ok()?;
    let mut bytes = [0; 64];
    scrypt::scrypt(password.as_bytes(), salt, &params, &mut bytes).ok()?;
    Some(MasterKey::of(&bytes))
}

/// Seals the master key for a password.
pub(crate) fn add(
    storage: &dyn Storage,
    master: &MasterKey,
    password: &str,
    label: &str,
) -> Result<Id, KeyError> {
    if password.is_empty() || password.len() > 4096 {
        return Err(KeyError::Password);
    }
    if label.len() > 200 {
        return Err(KeyError::Label);
    }
    let salt: [u8; 64] = random().map_err(|_| KeyError::Random)?;
    let key = stretched(password, &salt, LOG_N, 8, 1).ok_or(KeyError::Password)?;
    let plain = Plain {
        mac: Mac { k: STANDARD.encode(master.k), r: STANDARD.encode(master.r) },
        encrypt: STANDARD.encode(master.encrypt),
    };
    // Texts can be written as JSON.
    let plain = serde_json::to_vec(&plain).unwrap_or_default();
    let file = File {
        created: jiff::Timestamp::now(),
        username: label.to_owned(),
        hostname: String::new(),
        kdf: "scrypt".to_owned(),
        n: 1 << LOG_N,
        r: 8,
        p: 1,
        salt: STANDARD.encode(salt),
        data: STANDARD.encode(key.seal(&plain).map_err(|_| KeyError::Random)?),
    };
    let bytes = serde_json::to_vec(&file).unwrap_or_default();
    let id = Id::of(&bytes);
    storage.write(&Object::Stored(Kind::Key, id), &bytes)?;
    Ok(id)
}

/// All key files, the oldest first. One that is damaged is left out: another may still open.
fn files(storage: &dyn Storage) -> Result<Vec<(Id, File)>, crate::StorageError> {
    let mut files = Vec::new();
    for (id, length) in storage.list(Kind::Key)?.into_iter().take(KEYS_MAX) {
        if length <= LENGTH_MAX
            && let Ok(file) = serde_json::from_slice::<File>(&storage.read(&Object::Stored(Kind::Key, id))?)
        {
            files.push((id, file));
        }
    }
    files.sort_by_key(|(id, file)| (file.created, *id));
    Ok(files)
}

/// Whether a key file is what it was when it was made.
pub(crate) fn verify(storage: &dyn Storage, id: Id) -> Result<(), ReadError> {
    let object = Object::Stored(Kind::Key, id);
    let bytes = storage.read(&object)?;
    let why = match (Id::of(&bytes) == id, serde_json::from_slice::<File>(&bytes)) {
        (true, Ok(_)) => return Ok(()),
        (false, _) => "its bytes are not those that its name is of".to_owned(),
        (true, Err(why)) => why.to_string(),
    };
    Err(ReadError::Damaged { object, why })
}

fn unlock(file: &File, password: &str) -> Option<MasterKey> {
    let log_n =
        u8::try_from(file.n.checked_ilog2()?).ok().filter(|log| *log <= LOG_N_MAX && file.n == 1 << log)?;
    if file.kdf != "scrypt" || file.r > 16 || file.p > 16 {
        return None;
    }
    let key = stretched(password, &STANDARD.decode(&file.salt).ok()?, log_n, file.r, file.p)?;
    let plain: Plain = serde_json::from_slice(&key.open(&STANDARD.decode(&file.data).ok()?)?).ok()?;
    let part = |text: &str| -> Option<[u8; 16]> { STANDARD.decode(text).ok()?.try_into().ok() };
    let encrypt = STANDARD.decode(&plain.encrypt).ok()?.try_into().ok()?;
    Some(MasterKey { encrypt, k: part(&plain.mac.k)?, r: part(&plain.mac.r)? })
}

/// Finds the key that a password opens.
pub(crate) fn open(storage: &dyn Storage, password: &str) -> Result<(Id, MasterKey), OpenError> {
    let files = files(storage)?;
    for (id, file) in &files {
        if let Some(master) = unlock(file, password) {
            return Ok((*id, master));
        }
    }
    Err(OpenError::Password { place: storage.place(), keys: files.len() })
}

pub(crate) fn list(storage: &dyn Storage, current: Id) -> Result<Vec<KeyInfo>, ReadError> {
    let listed = files(storage)?.into_iter().map(|(id, file)| KeyInfo {
        id,
        label: file.username,
        created: file.created,
        current: id == current,
    });
    Ok(listed.collect())
}
