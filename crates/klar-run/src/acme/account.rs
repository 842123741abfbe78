//! The account at an authority: a key, and where the account is.
//!
//! The key is on disk before the authority hears of it. An authority that is told the same key again gives the same
//! account (RFC 8555, section 7.3.1), so whatever is killed in between, no account is left without its key and no
//! second one is made.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use instant_acme::{Account, Error, Key};
use klar_base::Secret;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Authority;
use super::client::Client;
use super::order::{Point, Stage};
use super::trouble::Trouble;
use crate::durable;

/// What is remembered of an account beside its key.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    directory: String,
    email: Option<String>,
    /// The URL that the authority gave it.
    id: String,
}

/// The folder of an account. Another address for letters is another account.
pub fn folder(accounts: &Path, authority: &Authority) -> PathBuf {
    let mut digest = Sha256::new();
    digest.update(&authority.directory);
    digest.update([0]);
    digest.update(authority.email.as_deref().unwrap_or_default());
    let name: String = digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    accounts.join(name)
}

/// Opens the account in `accounts`, and makes it when there is none.
///
/// # Errors
/// The authority's, or the disk's.
pub async fn open(
    accounts: &Path,
    authority: &Authority,
    client: &Client,
    stage: &impl Stage,
) -> Result<Account, Trouble> {
    let folder = folder(accounts, authority);
    let disk = |error: io::Error| Trouble::disk("the key of the account", &error);
    make(&folder).map_err(disk)?;
    let (key_file, known_file) = (folder.join("account.key"), folder.join("account.json"));
    let key = key(&key_file).map_err(disk)?;
    stage.passed(Point::KeyKept);

    let builder = Account::builder_with_http(Box::new(client.clone()));
    let refused = |error: Error| Trouble::account(authority, &error, client.take_refusal());
    if let Some(known) = durable::read_json::<Known>(&known_file).map_err(disk)? {
        return builder
            .from_parts(known.id, pkcs8(&key).map_err(disk)?, authority.directory.clone())
            .await
            .map_err(refused);
    }
    let signer = Key::from_pkcs8_der(pkcs8(&key).map_err(disk)?).map_err(refused)?;
    let der = PrivateKeyDer::Pkcs8(pkcs8(&key).map_err(disk)?);
    let (account, _) =
        builder.create_from_key((signer, der), authority.directory.clone()).await.map_err(refused)?;
    stage.passed(Point::AccountMade);
    if let Some(email) = &authority.email {
        account.update_contacts(&[&format!("mailto:{email}")]).await.map_err(refused)?;
    }
    let known = Known {
        directory: authority.directory.clone(),
        email: authority.email.clone(),
        id: account.id().to_owned(),
    };
    durable::write_json(&known_file, &known).map_err(disk)?;
    Ok(account)
}

/// Forgets where the account is, so that it is asked for again with the same key: for an authority that does not
/// know it any more.
pub fn forget(accounts: &Path, authority: &Authority) {
    // What is not there is forgotten already.
    let _ = std::fs::remove_file(folder(accounts, authority).join("account.json"));
}

/// Makes the folder, and sees to it that it is still there after a power cut: what is in it must not be lost with it.
fn make(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    folder.ancestors().skip(1).take(3).try_for_each(|parent| std::fs::File::open(parent)?.sync_all())
}

/// The key, made and kept when there is none. A damaged one is never replaced: it may be mended, an account not.
fn key(file: &Path) -> io::Result<Secret<String>> {
    if !file.exists() {
        let pair = rcgen::KeyPair::generate().map_err(io::Error::other)?;
        durable::write(file, pair.serialize_pem().as_bytes())?;
    }
    std::fs::read_to_string(file).map(Secret::new)
}

fn pkcs8(pem: &Secret<String>) -> io::Result<PrivatePkcs8KeyDer<'static>> {
    PrivatePkcs8KeyDer::from_pem_slice(pem.expose().as_bytes())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}
