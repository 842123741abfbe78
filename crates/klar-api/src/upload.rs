//! Taking an archive: from the socket to a file, never to memory. Half an upload leaves nothing behind.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use klar_run::report::Failure;

/// How long an upload may make no progress at all.
const STALL: Duration = Duration::from_secs(60);
/// Written in pieces of at least this size, so that the core's one thread hands few pieces to others.
const PIECE: usize = 512 * 1024;

/// A file that vanishes unless it is kept.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // It may have been kept under its final name, or the folder may be gone: both leave nothing to do.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Whether `id` may be the name of an upload: it becomes part of a path.
pub(crate) fn is_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_hexdigit())
}

fn new_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{:x}{:04x}", since.as_nanos(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Writes `body` to a new file in `folder` and gives its name.
///
/// # Errors
/// The status that fits, and why.
pub(crate) async fn receive(
    folder: &Path,
    mut body: Incoming,
    bytes_max: u64,
) -> Result<String, (StatusCode, Failure)> {
    let too_large = || {
        let what = format!("the archive is larger than {}", klar_base::ByteSize(bytes_max));
        let hint = "leave folders out with `ignore = [\"...\"]` in [app]";
        (StatusCode::PAYLOAD_TOO_LARGE, Failure::new(what).hint(hint))
    };
    if body.size_hint().lower() > bytes_max {
        return Err(too_large());
    }
    let id = new_id();
    let partial = Partial(folder.join(format!("{id}.part")));
    let refused = |error: io::Error| not_written(folder, &error);
    let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial.0);
    let mut file = open.map_err(refused)?;
    let (mut received, mut piece) = (0u64, Vec::with_capacity(PIECE));
    loop {
        let frame = match tokio::time::timeout(STALL, body.frame()).await {
            Err(_) => {
                let what = format!("the upload made no progress for {} s", STALL.as_secs());
                return Err((StatusCode::REQUEST_TIMEOUT, Failure::new(what)));
            }
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                return Err((
                    StatusCode::BAD_REQUEST,
                    Failure::new(format!("the upload broke off: {error}")),
                ));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        received += data.len() as u64;
        if received > bytes_max {
            return Err(too_large());
        }
        piece.extend_from_slice(&data);
        if piece.len() >= PIECE {
            (file, piece) = write(file, piece).await.map_err(refused)?;
        }
    }
    write(file, piece).await.map_err(refused)?;
    std::fs::rename(&partial.0, folder.join(&id)).map_err(refused)?;
    Ok(id)
}

/// Writes elsewhere than on the core's one thread, which also answers health checks and crashes.
async fn write(mut file: File, mut piece: Vec<u8>) -> io::Result<(File, Vec<u8>)> {
    let written = tokio::task::spawn_blocking(move || {
        file.write_all(&piece)?;
        piece.clear();
        Ok((file, piece))
    });
    written.await.map_err(io::Error::other)?
}

fn not_written(folder: &Path, error: &io::Error) -> (StatusCode, Failure) {
    if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        let what = format!("the disk is full: {}", folder.display());
        let hint = "free some space (`klar doctor` says how much klar itself uses), then try again";
        return (StatusCode::INSUFFICIENT_STORAGE, Failure::new(what).hint(hint));
    }
    let what = format!("the upload could not be written to {}: {error}", folder.display());
    (StatusCode::INTERNAL_SERVER_ERROR, Failure::new(what))
}
