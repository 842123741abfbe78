//! Repositories at places that people name: a folder of another disk, a bucket.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use klar_base::keep::SecondPlace;
use klar_base::place::Place;
use klar_repo::{Folder, S3, S3Options, Storage};

use crate::keeper::KeepError;

/// A pack has 16 MiB: an hour's time of a telephone line.
const PATIENCE: Duration = Duration::from_secs(600);

/// The storage at `name` within a place.
///
/// # Errors
/// What is wrong with how it is written.
pub fn storage(second: &SecondPlace, name: &str) -> Result<Arc<dyn Storage>, KeepError> {
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
    }
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
            let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
            let is_here = host == "localhost" || host == "[::1]" || host.starts_with("127.");
            is_here.then(|| "it is on this machine".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_together() {
        let here = std::env::temp_dir();
        let place = here.join("not/there/yet");
        assert_eq!(together(&place.display().to_string(), &here).as_deref(), Some("it is on the same disk"));
        assert_eq!(together("/proc", &here), None);
        assert_eq!(together("s3:http://127.0.0.1:9000/b", &here).as_deref(), Some("it is on this machine"));
        assert_eq!(together("s3:http://localhost/b", &here).as_deref(), Some("it is on this machine"));
        assert_eq!(together("s3://b", &here), None);
    }

    #[test]
    fn a_bucket_needs_a_key() {
        let second = SecondPlace { place: "s3://b".into(), key: None };
        let error = storage(&second, "shop.production/db").err().unwrap();
        assert_eq!(error.to_string(), "there is no key for s3://b");
    }
}
