//! Where a second copy of a repository is kept, written as restic writes it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A place for repositories.
///
/// ```
/// use klar_base::place::Place;
///
/// let place: Place = "s3://backups/shop?region=eu-north-1".parse().unwrap();
/// assert_eq!(place.to_string(), "s3:https://s3.eu-north-1.amazonaws.com/backups/shop");
/// assert_eq!(place.within(""), place);
/// assert_eq!(place.within("shop.production/db").to_string(), format!("{place}/shop.production/db"));
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
}

/// Not a place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAPlace {
    /// Neither a path nor S3.
    #[error("is neither a folder nor S3")]
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
}

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
        }
    }
}

impl FromStr for Place {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        if text.starts_with('/') {
            return Ok(Self::Folder(text.into()));
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
            ("sftp:user@host:/b", Err(NotAPlace::Kind)),
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
}
