//! Where a second copy of a repository is kept, written as restic writes it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A place for repositories.
///
/// Over SFTP the path always begins at the root. restic means that only where its address has two slashes, so that is how
/// it is written.
///
/// ```
/// use klar_base::place::Place;
///
/// let place: Place = "s3://backups/shop?region=eu-north-1".parse().unwrap();
/// assert_eq!(place.to_string(), "s3:https://s3.eu-north-1.amazonaws.com/backups/shop");
/// assert_eq!(place.within(""), place);
/// assert_eq!(place.within("shop.production/db").to_string(), format!("{place}/shop.production/db"));
///
/// let place: Place = "sftp:backup@nas:/srv/klar".parse().unwrap();
/// assert_eq!(place.to_string(), "sftp://backup@nas:22//srv/klar");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder of this machine: another disk, or a network's.
    Folder(PathBuf),
    /// A bucket of any store that speaks S3.
    S3 {
        /// Of the store, without the bucket: `https://s3.eu-north-1.amazonaws.com`.
        endpoint: String,
        /// The bucket.
        bucket: String,
        /// In front of each name; empty, or without a slash at its ends.
        prefix: String,
        /// What requests are signed for.
        region: String,
    },
    /// A folder of another machine that has sshd.
    Sftp {
        /// The user there.
        user: String,
        /// A name or an address; IPv6 without brackets.
        host: String,
        /// Its port.
        port: u16,
        /// The folder, from the root on, without a slash at its end.
        path: String,
    },
}

/// Not a place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAPlace {
    /// Neither a path nor S3 nor SFTP.
    #[error("is neither a folder nor S3 nor SFTP")]
    Kind,
    /// A path that does not begin at the root.
    #[error("is a path that does not begin with `/`")]
    Relative,
    /// No bucket, or one that cannot be.
    #[error("names no bucket")]
    Bucket,
    /// The address of a store cannot be.
    #[error("has an address that is none")]
    Address,
    /// Nobody to be on another machine.
    #[error("names no user: `sftp://USER@HOST/FOLDER`")]
    User,
    /// A folder of another machine that is not named from its root on, or that has a name which not every program reads
    /// in the same way.
    #[error(
        "names no folder of that machine: a path that begins with `/`, of letters, digits and `._-+@=,~:` without `..`"
    )]
    Path,
}

/// Where sshd listens.
const SSH: u16 = 22;

/// Where AWS is meant and nobody says which.
const REGION: &str = "us-east-1";

impl Place {
    /// A place in it.
    #[must_use]
    pub fn within(&self, name: &str) -> Place {
        match self {
            _ if name.is_empty() => self.clone(),
            Self::Folder(folder) => Self::Folder(folder.join(name)),
            Self::S3 { endpoint, bucket, prefix, region } => Self::S3 {
                endpoint: endpoint.clone(),
                bucket: bucket.clone(),
                prefix: if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") },
                region: region.clone(),
            },
            Self::Sftp { user, host, port, path } => Self::Sftp {
                user: user.clone(),
                host: host.clone(),
                port: *port,
                path: format!("{path}/{name}"),
            },
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::S3 { endpoint, bucket, prefix, .. } if prefix.is_empty() => {
                write!(f, "s3:{endpoint}/{bucket}")
            }
            Self::S3 { endpoint, bucket, prefix, .. } => write!(f, "s3:{endpoint}/{bucket}/{prefix}"),
            Self::Sftp { user, host, port, path } if host.contains(':') => {
                write!(f, "sftp://{user}@[{host}]:{port}/{path}")
            }
            Self::Sftp { user, host, port, path } => write!(f, "sftp://{user}@{host}:{port}/{path}"),
        }
    }
}

/// What stands after `sftp:`.
fn sftp(text: &str) -> Result<Place, NotAPlace> {
    let is_url = text.starts_with("//");
    let (user, rest) = text.trim_start_matches('/').split_once('@').ok_or(NotAPlace::User)?;
    // The host ends where its brackets do, or else before what comes next.
    let (host, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or(NotAPlace::Address)?,
        None => rest.split_at(rest.find([':', '/']).unwrap_or(rest.len())),
    };
    let (port, path) = match rest.strip_prefix(':') {
        Some(rest) if is_url => {
            let (port, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let is_number = port.bytes().all(|b| b.is_ascii_digit());
            let port = port.parse().ok().filter(|port| is_number && *port > 0);
            (port.ok_or(NotAPlace::Address)?, path)
        }
        Some(path) => (SSH, path),
        None if is_url => (SSH, rest),
        None => return Err(NotAPlace::Path),
    };
    let is_word = |word: &str, more: &[u8]| {
        !word.is_empty()
            && word.len() <= 255
            && !word.starts_with('-')
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    if !is_word(user, b"._-+") {
        return Err(NotAPlace::User);
    }
    let is_address = host.parse::<std::net::Ipv6Addr>().is_ok();
    if !is_address && !is_word(host, b".-") {
        return Err(NotAPlace::Address);
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let is_part = |part: &&str| ![".", ".."].contains(part) && part.bytes().all(is_of_path);
    if !path.starts_with('/') || parts.is_empty() || path.len() > 1024 || !parts.iter().all(is_part) {
        return Err(NotAPlace::Path);
    }
    let path = format!("/{}", parts.join("/"));
    Ok(Place::Sftp { user: user.into(), host: host.into(), port, path })
}

/// What means the same in an address, in a command of a shell and in a path.
fn is_of_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-+@=,~:".contains(&byte)
}

impl FromStr for Place {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        if text.starts_with('/') {
            return Ok(Self::Folder(text.into()));
        }
        if let Some(rest) = text.strip_prefix("sftp:") {
            return sftp(rest);
        }
        let Some(rest) = text.strip_prefix("s3:") else {
            return Err(if text.contains(':') { NotAPlace::Kind } else { NotAPlace::Relative });
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let asked = query.split('&').find_map(|part| part.strip_prefix("region="));
        let (endpoint, path, region) = match rest.strip_prefix("//") {
            Some(path) => {
                let region = asked.unwrap_or(REGION);
                (format!("https://s3.{region}.amazonaws.com"), path, region)
            }
            None => {
                let (scheme, rest) = rest.split_once("://").ok_or(NotAPlace::Address)?;
                let (host, path) = rest.split_once('/').ok_or(NotAPlace::Bucket)?;
                let is_host = !host.is_empty()
                    && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b));
                if !["http", "https"].contains(&scheme) || !is_host {
                    return Err(NotAPlace::Address);
                }
                let of_aws = host.strip_suffix(".amazonaws.com").and_then(|host| host.strip_prefix("s3."));
                (format!("{scheme}://{host}"), path, asked.or(of_aws).unwrap_or(REGION))
            }
        };
        let is_word = |word: &str| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
        };
        let path = path.trim_matches('/');
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        if !is_word(bucket) || !is_word(region) || prefix.split('/').any(|part| part == "..") {
            return Err(NotAPlace::Bucket);
        }
        Ok(Self::S3 { endpoint, bucket: bucket.into(), prefix: prefix.into(), region: region.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        for (text, expected) in [
            ("/mnt/nas/klar", Ok("/mnt/nas/klar")),
            ("s3://b", Ok("s3:https://s3.us-east-1.amazonaws.com/b")),
            ("s3:https://minio.example.net:9000/b/c/d/", Ok("s3:https://minio.example.net:9000/b/c/d")),
            ("s3:http://[::1]:9000/b", Ok("s3:http://[::1]:9000/b")),
            ("s3:https://minio.example.net", Err(NotAPlace::Bucket)),
            ("s3:https://minio.example.net/", Err(NotAPlace::Bucket)),
            ("s3://b/../c", Err(NotAPlace::Bucket)),
            ("s3:ftp://host/b", Err(NotAPlace::Address)),
            ("s3:https://user@host/b", Err(NotAPlace::Address)),
            ("ftp://user@host/b", Err(NotAPlace::Kind)),
            ("backups", Err(NotAPlace::Relative)),
            ("", Err(NotAPlace::Relative)),
        ] {
            let found: Result<Place, NotAPlace> = text.parse();
            assert_eq!(found.map(|place| place.to_string()), expected.map(str::to_owned), "{text}");
        }
        let region = |text: &str| match text.parse() {
            Ok(Place::S3 { region, .. }) => region,
            other => format!("{other:?}"),
        };
        assert_eq!(region("s3:https://s3.eu-west-1.amazonaws.com/b"), "eu-west-1");
        assert_eq!(region("s3:https://minio/b?region=here"), "here");
        assert_eq!(region("s3://b?region=eu-north-1"), "eu-north-1");
    }

    /// What it is written as parses back to the same, and nothing that is named can be an option or another user's folder.
    #[test]
    fn places_over_sftp() {
        for (text, expected) in [
            ("sftp://backup@nas/srv/klar", Ok("sftp://backup@nas:22//srv/klar")),
            ("sftp://backup@nas:2222/srv/klar/", Ok("sftp://backup@nas:2222//srv/klar")),
            ("sftp://backup@nas//srv//klar", Ok("sftp://backup@nas:22//srv/klar")),
            ("sftp:backup@nas:/srv/klar", Ok("sftp://backup@nas:22//srv/klar")),
            ("sftp:backup@nas.example.net:/a", Ok("sftp://backup@nas.example.net:22//a")),
            ("sftp://b@192.0.2.7:23/a", Ok("sftp://b@192.0.2.7:23//a")),
            ("sftp://b@[2001:db8::1]/a", Ok("sftp://b@[2001:db8::1]:22//a")),
            ("sftp://b@[::1]:2222/a", Ok("sftp://b@[::1]:2222//a")),
            ("sftp:b@[::1]:/a", Ok("sftp://b@[::1]:22//a")),
            (
                "sftp://u123-sub1@u123.box.example/home/klar",
                Ok("sftp://u123-sub1@u123.box.example:22//home/klar"),
            ),
            ("sftp://nas/srv", Err(NotAPlace::User)),
            ("sftp:nas:/srv", Err(NotAPlace::User)),
            ("sftp://@nas/srv", Err(NotAPlace::User)),
            ("sftp://a:secret@nas/srv", Err(NotAPlace::User)),
            ("sftp://-oProxyCommand=x@nas/srv", Err(NotAPlace::User)),
            ("sftp://-l@nas/srv", Err(NotAPlace::User)),
            ("sftp://b@-oProxyCommand/srv", Err(NotAPlace::Address)),
            ("sftp://b@nas;x/srv", Err(NotAPlace::Address)),
            ("sftp://b@a b/srv", Err(NotAPlace::Address)),
            ("sftp://b@/srv", Err(NotAPlace::Address)),
            ("sftp://b@c@nas/srv", Err(NotAPlace::Address)),
            ("sftp://b@[::1/srv", Err(NotAPlace::Address)),
            ("sftp://b@[fe80::1%eth0]/srv", Err(NotAPlace::Address)),
            ("sftp://b@nas:/srv", Err(NotAPlace::Address)),
            ("sftp://b@nas:0/srv", Err(NotAPlace::Address)),
            ("sftp://b@nas:+22/srv", Err(NotAPlace::Address)),
            ("sftp://b@nas:65536/srv", Err(NotAPlace::Address)),
            ("sftp://b@nas:22", Err(NotAPlace::Path)),
            ("sftp://b@nas", Err(NotAPlace::Path)),
            ("sftp://b@nas/", Err(NotAPlace::Path)),
            ("sftp:b@nas", Err(NotAPlace::Path)),
            ("sftp:b@nas:backups", Err(NotAPlace::Path)),
            ("sftp://b@nas/../srv", Err(NotAPlace::Path)),
            ("sftp://b@nas/srv/./a", Err(NotAPlace::Path)),
            ("sftp://b@nas/srv?x=y", Err(NotAPlace::Path)),
            ("sftp://b@nas/a%2fb", Err(NotAPlace::Path)),
            ("sftp://b@nas/a b", Err(NotAPlace::Path)),
            ("sftp://b@nas/a\nb", Err(NotAPlace::Path)),
        ] {
            let found: Result<Place, NotAPlace> = text.parse();
            if let Ok(place) = &found {
                assert_eq!(place.to_string().parse().as_ref(), Ok(place), "{text}");
                assert_eq!(place.within("x/y").to_string(), format!("{place}/x/y"), "{text}");
            }
            assert_eq!(found.map(|place| place.to_string()), expected.map(str::to_owned), "{text}");
        }
    }
}
