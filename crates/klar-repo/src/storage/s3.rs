//! A repository in a bucket of any store that speaks S3, laid out as restic does: `restic -r s3:https://…` reads it.
//!
//! What may pass is tried again for about ten seconds (a store that is busy, a connection that breaks off); what will not is
//! said at once. Each object is sent with its SHA-256, which the store compares before it keeps it.

use std::io;
use std::time::Duration;

use base64::Engine;
use ring::digest::{SHA256, digest};
use rusty_s3::actions::ListObjectsV2;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use ureq::Agent;
use ureq::http::{Response, StatusCode};
use ureq::tls::{RootCerts, TlsConfig};

use super::{Kind, OBJECT_MAX, Object, Storage, StorageError};
use crate::Id;

/// Nobody answers at all for so long.
const CONNECT: Duration = Duration::from_secs(10);
/// For how long an address that was signed can be used.
const SIGNED: Duration = Duration::from_secs(600);
/// So often is tried what may pass.
const ATTEMPTS: u32 = 6;
/// The first pause; each next one is twice as long.
const PAUSE: Duration = Duration::from_millis(300);
/// A list of a thousand objects has 300 KB.
const LIST_MAX: u64 = 16 << 20;
/// What a store says of an error is told up to here.
const SAID_MAX: usize = 300;

/// Which bucket, and who we are there.
#[derive(Clone)]
pub struct S3Options {
    /// Of the store, without the bucket: `https://s3.eu-north-1.amazonaws.com`.
    pub endpoint: String,
    /// The bucket.
    pub bucket: String,
    /// In front of each name; empty, or without a slash at its ends.
    pub prefix: String,
    /// What requests are signed for: `eu-north-1`; stores of one's own mostly want `us-east-1`.
    pub region: String,
    /// The access key's id.
    pub key: String,
    /// The access key's secret.
    pub secret: String,
    /// How long a request may take: a pack has 16 MiB and more.
    pub patience: Duration,
}

/// See the module.
pub struct S3 {
    agent: Agent,
    bucket: Bucket,
    credentials: Credentials,
    prefix: String,
    place: String,
}

/// Why there is no such storage.
#[derive(Debug, thiserror::Error)]
#[error("{0} cannot be an S3 store: {1}")]
pub struct NotS3(String, String);

/// What went wrong with one request.
enum Wrong {
    /// The store answered.
    Status(StatusCode, String),
    /// It did not.
    Http(ureq::Error),
}

impl Wrong {
    /// Whether it may be better in a moment.
    fn may_pass(&self) -> bool {
        match self {
            Wrong::Status(status, _) => {
                status.is_server_error() && *status != StatusCode::NOT_IMPLEMENTED
                    || matches!(status.as_u16(), 408 | 429)
            }
            Wrong::Http(ureq::Error::Tls(_) | ureq::Error::BadUri(_) | ureq::Error::Rustls(_)) => false,
            Wrong::Http(_) => true,
        }
    }

    fn into_io(self) -> io::Error {
        match self {
            Wrong::Status(status, said) => {
                let kind = match status.as_u16() {
                    401 | 403 => io::ErrorKind::PermissionDenied,
                    404 => io::ErrorKind::NotFound,
                    _ => io::ErrorKind::Other,
                };
                io::Error::new(kind, format!("the store answered {status}{said}"))
            }
            Wrong::Http(error) => io::Error::other(error.to_string()),
        }
    }
}

impl S3 {
    /// The bucket, which has to be there. Nothing is asked yet.
    ///
    /// # Errors
    /// An address that cannot be one.
    pub fn new(options: &S3Options) -> Result<S3, NotS3> {
        let wrong = |why: String| NotS3(options.endpoint.clone(), why);
        let endpoint = options.endpoint.parse().map_err(|error| wrong(format!("{error}")))?;
        let (name, region) = (options.bucket.clone(), options.region.clone());
        // In the path: so do all stores, and a bucket with dots in its name has no certificate otherwise.
        let bucket = Bucket::new(endpoint, UrlStyle::Path, name, region);
        let bucket = bucket.map_err(|error| wrong(format!("{error}")))?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(options.patience))
            .max_redirects(0)
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .build();
        let prefix = match &*options.prefix {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        Ok(S3 {
            agent: config.into(),
            credentials: Credentials::new(&options.key, &options.secret),
            place: format!("s3:{}/{}", bucket.base_url().as_str().trim_end_matches('/'), options.prefix)
                .trim_end_matches('/')
                .to_owned(),
            bucket,
            prefix,
        })
    }

    fn name(&self, object: &Object) -> String {
        format!("{}{}", self.prefix, object.path())
    }

    /// Sends a request until it is answered well, or will not be. `Gone` is none of that: it says `None`.
    fn request(
        &self,
        limit: u64,
        mut send: impl FnMut(&Agent) -> Result<Response<ureq::Body>, ureq::Error>,
    ) -> Result<Option<Vec<u8>>, Wrong> {
        let mut pause = PAUSE;
        for attempt in 1.. {
            let answer = send(&self.agent).map_err(Wrong::Http).and_then(|mut answer| {
                let (status, body) = (answer.status(), answer.body_mut().with_config());
                if status.is_success() {
                    return body.limit(limit).read_to_vec().map(Some).map_err(Wrong::Http);
                }
                let said = body.limit(1 << 16).lossy_utf8(true).read_to_string().unwrap_or_default();
                // A bucket that is not there is no object that is not there.
                match status == StatusCode::NOT_FOUND && !said.contains("NoSuchBucket") {
                    true => Ok(None),
                    false => Err(Wrong::Status(status, message(&said))),
                }
            });
            match answer {
                Err(wrong) if wrong.may_pass() && attempt < ATTEMPTS => std::thread::sleep(pause),
                answer => return answer,
            }
            pause *= 2;
        }
        Ok(None)
    }

    fn list_all(&self, prefix: &str) -> Result<Vec<(String, u64)>, StorageError> {
        let whole = format!("{}{prefix}", self.prefix);
        let failed = |source| StorageError::Io { doing: "listing", what: whole.clone(), source };
        let (mut found, mut next): (Vec<(String, u64)>, Option<String>) = (Vec::new(), None);
        loop {
            let answer = self.request(LIST_MAX, |agent| {
                let mut list = self.bucket.list_objects_v2(Some(&self.credentials));
                list.with_prefix(&*whole);
                if let Some(next) = &next {
                    list.with_continuation_token(&**next);
                }
                agent.get(list.sign(SIGNED).as_str()).call()
            });
            let answer = answer.map_err(|wrong| failed(wrong.into_io()))?.unwrap_or_default();
            let list = ListObjectsV2::parse_response(&in_namespace(&String::from_utf8_lossy(&answer)));
            let list = list.map_err(|error| failed(io::Error::other(format!("its list: {error}"))))?;
            found.extend(
                list.contents.into_iter().filter_map(|object| {
                    Some((object.key.strip_prefix(&self.prefix)?.to_owned(), object.size))
                }),
            );
            match list.next_continuation_token {
                Some(token) if next.as_ref() != Some(&token) => next = Some(token),
                _ => return Ok(found),
            }
        }
    }

    fn get(&self, object: &Object, range: Option<(u64, usize)>) -> Result<Vec<u8>, StorageError> {
        object.verify()?;
        let name = self.name(object);
        let answer = self.request(OBJECT_MAX, |agent| {
            let url = self.bucket.get_object(Some(&self.credentials), &name).sign(SIGNED);
            let mut request = agent.get(url.as_str());
            if let Some((offset, length)) = range.filter(|(_, length)| *length > 0) {
                request = request.header("range", format!("bytes={offset}-{}", offset + length as u64 - 1));
            }
            request.call()
        });
        let short = |length| {
            let expected = range.map_or(0, |(offset, length)| offset + length as u64);
            StorageError::Short { object: object.clone(), length, expected }
        };
        match answer {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(StorageError::Gone(object.clone())),
            Err(Wrong::Http(ureq::Error::BodyExceedsLimit(length))) => {
                Err(StorageError::Long { object: object.clone(), length })
            }
            Err(Wrong::Status(status, _)) if status == StatusCode::RANGE_NOT_SATISFIABLE => Err(short(0)),
            Err(wrong) => Err(StorageError::Io { doing: "reading", what: name, source: wrong.into_io() }),
        }
    }
}

/// A list with the root element that AWS gives it: stores differ in its namespace, or leave it out.
fn in_namespace(xml: &str) -> String {
    const ROOT: &str = "<ListBucketResult";
    let rest = xml.split_once(ROOT).and_then(|(_, rest)| rest.split_once('>'));
    match rest {
        Some((attributes, rest)) if !attributes.ends_with('/') => {
            format!("{ROOT} xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{rest}")
        }
        _ => xml.to_owned(),
    }
}

/// What a store says of an error: `, NoSuchBucket: The specified bucket does not exist`.
fn message(xml: &str) -> String {
    let part = |tag: &str| {
        let (_, rest) = xml.split_once(&format!("<{tag}>"))?;
        let (text, _) = rest.split_once(&format!("</{tag}>"))?;
        Some(text.chars().filter(|c| !c.is_control()).take(SAID_MAX).collect::<String>())
    };
    match (part("Code"), part("Message")) {
        (Some(code), Some(message)) => format!(", {code}: {message}"),
        (Some(code), None) => format!(", {code}"),
        _ => String::new(),
    }
}

impl Storage for S3 {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn list(&self, kind: Kind) -> Result<Vec<(Id, u64)>, StorageError> {
        let all = self.list_all(&format!("{}/", kind.folder()))?;
        let id = |name: &str| name.rsplit('/').next()?.parse().ok();
        Ok(all.into_iter().filter_map(|(name, length)| Some((id(&name)?, length))).collect())
    }

    fn list_extra(&self, prefix: &str) -> Result<Vec<(String, u64)>, StorageError> {
        Object::Extra(format!("{prefix}x")).verify()?;
        let mut all = self.list_all(prefix)?;
        all.retain(|(name, _)| Object::Extra(name.clone()).verify().is_ok());
        all.sort();
        Ok(all)
    }

    fn read(&self, object: &Object) -> Result<Vec<u8>, StorageError> {
        self.get(object, None)
    }

    fn read_range(&self, object: &Object, offset: u64, length: usize) -> Result<Vec<u8>, StorageError> {
        let bytes = self.get(object, Some((offset, length)))?;
        // A store that passes over the range gives all.
        let bytes = match bytes.len() > length {
            true => bytes.get(offset as usize..).unwrap_or_default().iter().copied().take(length).collect(),
            false => bytes,
        };
        match bytes.len() == length {
            true => Ok(bytes),
            false => {
                let (length, expected) = (offset + bytes.len() as u64, offset + length as u64);
                Err(StorageError::Short { object: object.clone(), length, expected })
            }
        }
    }

    fn write(&self, object: &Object, bytes: &[u8]) -> Result<(), StorageError> {
        object.verify()?;
        let name = self.name(object);
        let sum = base64::engine::general_purpose::STANDARD.encode(digest(&SHA256, bytes));
        let mut is_new = true;
        loop {
            let answer = self.request(1 << 16, |agent| {
                let mut put = self.bucket.put_object(Some(&self.credentials), &name);
                // A bucket that locks what it gets wants to know how it was summed up.
                let sums = [("x-amz-checksum-sha256", &*sum), ("x-amz-sdk-checksum-algorithm", "SHA256")];
                for (name, value) in sums {
                    put.headers_mut().insert(name, value);
                }
                let request = agent.put(put.sign(SIGNED).as_str());
                let mut request =
                    sums.iter().fold(request, |request, (name, value)| request.header(*name, *value));
                if is_new {
                    request = request.header("if-none-match", "*");
                }
                request.send(bytes)
            });
            return match answer {
                Ok(Some(_)) => Ok(()),
                // It is there already: perhaps from an attempt whose answer got lost.
                Err(Wrong::Status(StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT, _)) => {
                    match self.read(object)? == bytes {
                        true => Ok(()),
                        false => Err(StorageError::Exists(object.clone())),
                    }
                }
                // A store that does not know conditions. Nobody else writes this name with other bytes.
                Err(Wrong::Status(StatusCode::NOT_IMPLEMENTED, _)) if is_new => {
                    is_new = false;
                    continue;
                }
                Ok(None) => {
                    let source = io::Error::from(io::ErrorKind::NotFound);
                    Err(StorageError::Io { doing: "writing", what: name, source })
                }
                Err(wrong) => Err(StorageError::Io { doing: "writing", what: name, source: wrong.into_io() }),
            };
        }
    }

    fn is_locked(&self, probe: &Object) -> Result<bool, StorageError> {
        probe.verify()?;
        self.write(probe, b"whether it can be removed")?;
        let name = self.name(probe);
        let failed = |doing| {
            let what = name.clone();
            move |wrong: Wrong| StorageError::Io { doing, what, source: wrong.into_io() }
        };
        // Where versions are kept, removing puts a mark above the object: what counts is whether the version can go.
        let url = self.bucket.head_object(Some(&self.credentials), &name).sign(SIGNED);
        let told =
            self.agent.head(url.as_str()).call().map_err(|error| failed("reading")(Wrong::Http(error)))?;
        let version = told.headers().get("x-amz-version-id").and_then(|version| version.to_str().ok());
        let removed = self.request(1 << 16, |agent| {
            let mut delete = self.bucket.delete_object(Some(&self.credentials), &name);
            if let Some(version) = version {
                delete.query_mut().insert("versionId", version);
            }
            agent.delete(delete.sign(SIGNED).as_str()).call()
        });
        match removed {
            Ok(_) => Ok(false),
            Err(Wrong::Status(StatusCode::FORBIDDEN, _)) => Ok(true),
            Err(wrong) => Err(failed("removing")(wrong)),
        }
    }

    fn remove(&self, object: &Object) -> Result<(), StorageError> {
        object.verify()?;
        let name = self.name(object);
        let answer = self.request(1 << 16, |agent| {
            let url = self.bucket.delete_object(Some(&self.credentials), &name).sign(SIGNED);
            agent.delete(url.as_str()).call()
        });
        let failed =
            |wrong: Wrong| StorageError::Io { doing: "removing", what: name, source: wrong.into_io() };
        answer.map(drop).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_all_stores_can_be_read() {
        for root in [
            "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">",
            "<ListBucketResult xmlns='http://doc.s3.amazonaws.com/2006-03-01'>",
            "<?xml version=\"1.0\"?>\n<ListBucketResult>",
        ] {
            let xml = format!(
                "{root}<Contents><Key>a/b</Key><ETag>x</ETag><LastModified>2026-11-23T12:00:00.000Z</LastModified><Size>7</Size></Contents></ListBucketResult>"
            );
            let list = ListObjectsV2::parse_response(&in_namespace(&xml)).unwrap();
            assert_eq!((&*list.contents[0].key, list.contents[0].size), ("a/b", 7), "{root}");
        }
    }

    #[test]
    fn what_a_store_says_is_told() {
        let said = "<Error><Code>NoSuchBucket</Code><Message>It is\x07 not there</Message></Error>";
        assert_eq!(message(said), ", NoSuchBucket: It is not there");
        assert_eq!(message("<html>"), "");
    }
}
