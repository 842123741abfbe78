//! Repositories at places that people name: a folder of another disk, a bucket, another machine.
//!
//! Another machine is told apart from others by its key, and tells us by ours. Both are in one folder of each app:
//!
//! ```text
//! id_ed25519, id_ed25519.pub   made by `ssh-keygen` when they are needed first
//! given-DIGEST                 a key that somebody has given (`offsite_key`, `--place-key`)
//! known_hosts                  which key a machine had when it was asked first
//! ```

use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use klar_base::keep::SecondPlace;
use klar_base::place::Place;
use klar_repo::{Folder, S3, S3Options, Sftp, SftpOptions, SshOptions, Storage, Transport};
use ring::digest::{SHA256, digest};

use crate::keeper::KeepError;
use crate::server::programs::succeeded;

/// A pack has 16 MiB: an hour's time of a telephone line.
const PATIENCE: Duration = Duration::from_secs(600);
/// Another machine answers each request within so long, also while its disks are busy.
const ANSWER: Duration = Duration::from_secs(60);
/// Nobody answers at all for so long.
const CONNECT: Duration = Duration::from_secs(15);
/// No private key is longer.
const KEY_MAX: usize = 64 << 10;

/// Where the keys of an app are, of which a store has the folder `home`: beside the folders of its stores.
pub fn keys(home: &Path) -> PathBuf {
    home.parent().unwrap_or(home).join("ssh")
}

/// The storage at `name` within a place; what it takes to get to another machine is in the folder `keys`.
///
/// # Errors
/// What is wrong with how it is written, or with the key.
pub fn storage(second: &SecondPlace, name: &str, keys: &Path) -> Result<Arc<dyn Storage>, KeepError> {
    let lack = |what: String, hint: &str| KeepError::Lack { what, hint: hint.to_owned() };
    let place: Place = second.place.parse().map_err(|error| {
        lack(format!("`{}` {error}", second.place), "`klar explain backup.offsite` shows what can be written")
    })?;
    match place.within(name) {
        Place::Folder(folder) => Ok(Arc::new(Folder::new(&folder))),
        Place::S3 { endpoint, bucket, prefix, region } => {
            let key = second.key.as_ref().and_then(|key| key.expose().trim().split_once(':'));
            let (key, secret) = key.ok_or_else(|| {
                lack(
                    format!("there is no key for {}", second.place),
                    "`offsite_key = \"env:BACKUP_KEY\"` in [backup], with `ID:SECRET` in it",
                )
            })?;
            let (key, secret) = (key.to_owned(), secret.to_owned());
            let options = S3Options { endpoint, bucket, prefix, region, key, secret, patience: PATIENCE };
            let s3 =
                S3::new(&options).map_err(|error| lack(error.to_string(), "look at `backup.offsite`"))?;
            Ok(Arc::new(s3))
        }
        Place::Sftp { user, host, port, path } => {
            folder(keys).map_err(|source| KeepError::File { path: keys.to_owned(), source })?;
            let (key, public) = match &second.key {
                Some(key) => (given(key.expose(), keys)?, None),
                None => own(keys)?,
            };
            let known_hosts = keys.join("known_hosts");
            let options = SshOptions { user, host, port, key, known_hosts, public, patience: CONNECT };
            let transport = Transport::ssh(&options)
                .map_err(|error| lack(error.to_string(), "klar's state needs another folder (`--state`)"))?;
            let place = place.within(name).to_string();
            Ok(Arc::new(Sftp::new(SftpOptions { place, path, transport, patience: ANSWER })))
        }
    }
}

fn folder(keys: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(keys)
}

/// Several stores of an app may want a key at the same time, and all of them are in one process.
static ONE: Mutex<()> = Mutex::new(());

/// The file of the key that klar has made for itself, and its public half.
fn own(keys: &Path) -> Result<(PathBuf, Option<String>), KeepError> {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (path, public) = (keys.join("id_ed25519"), keys.join("id_ed25519.pub"));
    let read = || fs::read_to_string(&public).map(|text| text.trim().to_owned());
    if !path.is_file() || read().is_err() {
        // With another name first: a kill leaves both halves, or none.
        let new = keys.join("new");
        let half = keys.join("new.pub");
        for file in [&new, &half] {
            let _ = fs::remove_file(file);
        }
        let mut command = Command::new("ssh-keygen");
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command.args(["-q", "-t", "ed25519", "-N", "", "-C", &comment(keys), "-f"]).arg(&new);
        command.stdin(std::process::Stdio::null());
        succeeded(&mut command, CONNECT).map_err(|error| KeepError::Lack {
            what: format!("there is no key for another machine: {error}"),
            hint: "`ssh` and `ssh-keygen` are needed (package openssh-client)".to_owned(),
        })?;
        let file = |source| KeepError::File { path: path.clone(), source };
        fs::rename(&half, &public).and_then(|()| fs::rename(&new, &path)).map_err(file)?;
        fs::File::open(keys).and_then(|folder| folder.sync_all()).map_err(file)?;
    }
    let text = read().map_err(|source| KeepError::File { path: public.clone(), source })?;
    Ok((path, Some(text)))
}

/// What people see in `authorized_keys` of another machine: `klar@shop.production-web1`.
fn comment(keys: &Path) -> String {
    // `FOLDER/ssh`, where the folder is called as the app is.
    let app = keys.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
    format!("klar@{app}-{host}").chars().filter(|c| is_plain(c) || *c == '@').collect()
}

/// The file of a key that somebody has given.
fn given(key: &str, keys: &Path) -> Result<PathBuf, KeepError> {
    let key = format!("{}\n", key.trim());
    if !key.starts_with("-----BEGIN ") || key.len() > KEY_MAX {
        return Err(KeepError::Lack {
            what: "the key for the second place is not a private key in OpenSSH's form".to_owned(),
            hint: "`offsite_key = \"file:PATH\"` in [backup], with the whole file that `ssh-keygen -t ed25519 -N ''` has \
                   made; without the line, klar makes a key of its own"
                .to_owned(),
        });
    }
    // One for each: who is asked with another key meanwhile keeps its own.
    let digest: String =
        digest(&SHA256, key.as_bytes()).as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let path = keys.join(format!("given-{digest}"));
    if fs::read_to_string(&path).is_ok_and(|text| text == key) {
        return Ok(path);
    }
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let new = keys.join("given");
    let _ = fs::remove_file(&new);
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| file.write_all(key.as_bytes()))
        .and_then(|()| fs::rename(&new, &path));
    written.map_err(|source| KeepError::File { path: path.clone(), source })?;
    Ok(path)
}

/// Why a place would be lost together with a folder of this machine, where that can be seen.
pub fn together(place: &str, folder: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    match place.parse().ok()? {
        Place::Folder(place) => {
            let of = |folder: &Path| folder.ancestors().find_map(|at| at.metadata().ok()).map(|at| at.dev());
            (of(&place)? == of(folder)?).then(|| "it is on the same disk".to_owned())
        }
        Place::S3 { endpoint, .. } => {
            let (_, host) = endpoint.split_once("://")?;
            // An address of IPv6 has colons of its own.
            let host = match host.strip_prefix('[') {
                Some(rest) => rest.split_once(']')?.0,
                None => host.rsplit_once(':').map_or(host, |(host, _)| host),
            };
            is_here(host).then(|| "it is on this machine".to_owned())
        }
        Place::Sftp { host, .. } => is_here(&host).then(|| "it is on this machine".to_owned()),
    }
}

/// Whether a host is this machine: by its name, or because it has an address that a socket here can be bound to.
fn is_here(host: &str) -> bool {
    let own = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if host == "localhost"
        || host.ends_with(".localhost")
        || own.is_some_and(|own| own.eq_ignore_ascii_case(&host))
    {
        return true;
    }
    let is_own = |address: SocketAddr| UdpSocket::bind(address).is_ok();
    (host.as_str(), 0).to_socket_addrs().is_ok_and(|mut all| all.any(is_own))
}

#[cfg(test)]
mod tests;
