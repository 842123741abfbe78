//! Certificates for names that only this machine knows: a small local authority, and one leaf for each name.
//!
//! The authority's key never leaves the core's folder. `klar trust` hands its certificate to the person's system;
//! it is limited to `localhost` names and loopback addresses (RFC 5280, 4.2.1.10), so a stolen key signs nothing else.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use klar_base::Secret;
use klar_base::upstreams::Certificate;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};

use crate::acme::shelf;
use crate::durable;

const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * 86_400);
/// Apple's limit for a leaf is 825 days; browsers move towards shorter ones.
const LEAF_LIFE: Duration = Duration::from_secs(90 * 86_400);
const LEAF_RENEWAL: Duration = Duration::from_secs(30 * 86_400);
/// Clocks differ a little.
const BACKDATE: Duration = Duration::from_secs(3600);

/// The local certificate authority of a host.
pub struct Authority {
    folder: PathBuf,
    chain_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Authority {
    /// Opens the authority in `folder`, and makes it when there is none.
    ///
    /// # Errors
    /// When its files cannot be read or written.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let (chain, key) = (folder.join("authority.pem"), folder.join("authority.key"));
        if !chain.exists() || !key.exists() {
            let pair = KeyPair::generate().map_err(io::Error::other)?;
            let certificate = authority_params().self_signed(&pair).map_err(io::Error::other)?;
            durable::write(&key, pair.serialize_pem().as_bytes())?;
            durable::write(&chain, certificate.pem().as_bytes())?;
        }
        let chain_pem = fs::read_to_string(&chain)?;
        let pair = KeyPair::from_pem(&fs::read_to_string(&key)?).map_err(io::Error::other)?;
        let issuer = Issuer::new(authority_params(), pair);
        Ok(Self { folder: folder.into(), chain_pem, issuer })
    }

    /// The authority's own certificate.
    pub fn pem(&self) -> &str {
        &self.chain_pem
    }

    /// A certificate for one host name; `localhost` also covers the loopback addresses. Kept on disk, so that it
    /// stays the same over restarts, and renewed 30 days before it ends.
    ///
    /// # Errors
    /// When it cannot be made or kept.
    pub fn certificate(&self, host: &str) -> io::Result<Certificate> {
        let (chain, key) = self.files(host);
        let age =
            fs::metadata(&chain).and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
        if !key.exists() || age.is_none_or(|age| age + LEAF_RENEWAL > LEAF_LIFE) {
            self.renew(host)?;
        }
        let kept = self.kept(host)?;
        // A renewal that was killed between its two files has left a key of another certificate.
        if shelf::check(&kept.chain_pem, &kept.key_pem, Some(host)).is_ok() {
            return Ok(kept);
        }
        self.renew(host)?;
        self.kept(host)
    }

    /// Makes a new certificate for a host name, whatever the one of now is good for; gives that one, if there is one.
    ///
    /// # Errors
    /// When the new one cannot be made or kept: then the one before is still there.
    pub fn renew(&self, host: &str) -> io::Result<Option<Certificate>> {
        let before = self.kept(host).ok();
        let pair = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = leaf_params(host)?.signed_by(&pair, &self.issuer).map_err(io::Error::other)?;
        let new = self.keep(host, &(certificate.pem() + &self.chain_pem), &pair.serialize_pem());
        if let (Err(_), Some(before)) = (&new, &before) {
            self.keep(host, &before.chain_pem, before.key_pem.expose())?;
        }
        new.map(|()| before)
    }

    /// Puts a certificate back that [`Authority::renew`] gave.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn put_back(&self, host: &str, before: Option<Certificate>) -> io::Result<()> {
        match before {
            Some(before) => self.keep(host, &before.chain_pem, before.key_pem.expose()),
            None => Ok(()),
        }
    }

    fn files(&self, host: &str) -> (PathBuf, PathBuf) {
        (self.folder.join(format!("{host}.pem")), self.folder.join(format!("{host}.key")))
    }

    fn kept(&self, host: &str) -> io::Result<Certificate> {
        let (chain, key) = self.files(host);
        Ok(Certificate {
            hosts: vec![host.into()],
            chain_pem: fs::read_to_string(chain)?,
            key_pem: Secret::new(fs::read_to_string(key)?),
        })
    }

    fn keep(&self, host: &str, chain_pem: &str, key_pem: &str) -> io::Result<()> {
        let (chain, key) = self.files(host);
        // Either half alone is no pair, and another one is made then.
        durable::write(&chain, chain_pem.as_bytes())?;
        durable::write(&key, key_pem.as_bytes())
    }
}

fn life(params: &mut CertificateParams, length: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + length).into();
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "klar local authority");
    name.push(DnType::OrganizationName, "klar, on this machine only");
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![
            GeneralSubtree::DnsName("localhost".into()),
            GeneralSubtree::IpAddress(CidrSubnet::V4([127, 0, 0, 0], [255, 0, 0, 0])),
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(IpAddr::V6(Ipv6Addr::LOCALHOST), 128)),
        ],
        excluded_subtrees: Vec::new(),
    });
    life(&mut params, AUTHORITY_LIFE);
    params
}

fn leaf_params(host: &str) -> io::Result<CertificateParams> {
    let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(io::Error::other)?;
    if host == "localhost" {
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)));
    }
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, host);
    params.distinguished_name = name;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    life(&mut params, LEAF_LIFE);
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_that_fails_leaves_the_one_before() {
        let folder = std::env::temp_dir().join(format!("klar-certs-renewed-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let authority = Authority::open(&folder).unwrap();
        let first = authority.certificate("localhost").unwrap();
        let before = authority.renew("localhost").unwrap().unwrap();
        assert_eq!(before.chain_pem, first.chain_pem);
        let second = authority.certificate("localhost").unwrap();
        assert_ne!(second.chain_pem, first.chain_pem);
        authority.put_back("localhost", Some(before)).unwrap();
        assert_eq!(authority.certificate("localhost").unwrap().chain_pem, first.chain_pem);
        // The chain cannot be written where a folder with something in it has its name.
        let chain = folder.join("localhost.pem");
        let text = fs::read(&chain).unwrap();
        fs::remove_file(&chain).unwrap();
        fs::create_dir_all(chain.join("x")).unwrap();
        assert!(authority.renew("localhost").is_err());
        fs::remove_dir_all(&chain).unwrap();
        fs::write(&chain, text).unwrap();
        assert_eq!(authority.certificate("localhost").unwrap().chain_pem, first.chain_pem);
        // What a kill in the middle leaves: a key that is not that of the certificate. Another pair is made.
        fs::write(folder.join("localhost.key"), second.key_pem.expose()).unwrap();
        let third = authority.certificate("localhost").unwrap();
        assert!(third.chain_pem != first.chain_pem && third.chain_pem != second.chain_pem);
        assert!(shelf::check(&third.chain_pem, &third.key_pem, Some("localhost")).is_ok());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn openssl_believes_a_leaf_and_only_for_local_names() {
        let folder = std::env::temp_dir().join(format!("klar-certs-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let authority = Authority::open(&folder).unwrap();
        authority.certificate("localhost").unwrap();
        let again = Authority::open(&folder).unwrap();
        let leaf = again.certificate("lisens.localhost").unwrap();
        assert_eq!(leaf.chain_pem, again.certificate("lisens.localhost").unwrap().chain_pem, "kept");
        again.certificate("bank.example").unwrap();
        let verify = |host: &str| {
            std::process::Command::new("openssl")
                .args(["verify", "-verify_hostname", host, "-CAfile"])
                .arg(folder.join("authority.pem"))
                .arg(folder.join(format!("{host}.pem")))
                .output()
                .unwrap()
                .status
                .success()
        };
        assert!(verify("localhost") && verify("lisens.localhost"));
        assert!(!verify("bank.example"), "the authority must not be able to vouch for the rest of the world");
        fs::remove_dir_all(folder).unwrap();
    }
}
