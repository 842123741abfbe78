//! Other rules, tried on requests that were let through and kept.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use klar_base::shadow::{ShadowedRequest, Trial, Tried, TriedRequest};
use klar_base::signal::WafVerdict;
use klar_base::upstreams::WafMode;

use super::raw::Raw;
use super::replay::{attacked, judge};
use super::{Inspection, Rules};

/// So many requests that would be stopped are named.
const STOPPED_MAX: usize = 10_000;
/// What is not judged by then is left out: somebody waits.
const PATIENCE: Duration = Duration::from_secs(40);
/// So many places are attacked.
const ATTACKED_MAX: usize = 8;

/// Judges requests that were kept by other rules than those in force.
///
/// # Errors
/// Why the rules are none, or what was kept cannot be read.
pub fn trial(in_force: &Rules, wanted: &Trial, files: Vec<OwnedFd>) -> Result<Tried, String> {
    let files: Vec<Arc<OwnedFd>> = files.into_iter().map(Arc::new).collect();
    let file = |at: usize| files.get(at).cloned().ok_or("a file of the question did not come along");
    let now = Arc::new(in_force.other(wanted.rules.map(file).transpose()?, wanted.paranoia)?);
    let then = Arc::new(now.with(&wanted.own)?);
    let mut tried =
        Tried { judged: 0, times: None, stopped: Vec::new(), attacks: Vec::new(), refused: then.refused() };
    let end = Instant::now() + PATIENCE;
    for line in lines(&*file(wanted.requests)?)? {
        let line = line.map_err(|error| format!("what was kept cannot be read: {error}"))?;
        // A line may be half written.
        let Ok(request) = serde_json::from_slice::<ShadowedRequest>(&line) else { continue };
        if Instant::now() > end {
            break;
        }
        let Some(raw) = Raw::read(&request.sent) else { continue };
        tried.judged += 1;
        let (from, to) = tried.times.unwrap_or((request.time_unix_ms, request.time_unix_ms));
        tried.times = Some((from.min(request.time_unix_ms), to.max(request.time_unix_ms)));
        let places = wanted.attacked.iter().filter(|(id, _)| *id == request.request_id);
        let places: Vec<String> = places.map(|(_, place)| place.clone()).collect();
        for place in &places {
            if tried.attacks.len() < ATTACKED_MAX {
                tried.attacks.extend(attacked(&now, &then, &raw, place, &places));
            }
        }
        let (verdict, finding) = judge(&then, WafMode::Block, &raw, Inspection::finding);
        if verdict == Some(WafVerdict::Blocked) && tried.stopped.len() < STOPPED_MAX {
            tried.stopped.push(TriedRequest {
                path: request.sent.target.split('?').next().unwrap_or_default().to_owned(),
                method: request.sent.method,
                remote: request.sent.remote,
                request_id: request.request_id,
                status: request.status,
                matches: finding.map(|finding| finding.matches).unwrap_or_default(),
            });
        }
    }
    Ok(tried)
}

fn lines(file: &OwnedFd) -> Result<impl Iterator<Item = std::io::Result<Vec<u8>>>, String> {
    let file = file.try_clone().map(File::from).and_then(|mut file| file.rewind().map(|()| file));
    Ok(BufReader::new(file.map_err(|error| error.to_string())?).split(b'\n'))
}
