//! Answers that a cache in front of the app may give to many, and how often the app is asked for them.

use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

use super::good_reads;
use crate::check::Unable;
use crate::world::http::{Answer, Ask};
use crate::world::{Klar, World};

/// How long the edge may take to tell klar what its instances were asked.
const TOLD: Duration = Duration::from_millis(2500);
/// So many files, and so many answers of the API, are looked at.
const MOST: usize = 30;

/// What the edge did with a request, as `Cache-Status` says it (RFC 9211).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Did {
    /// It gave what it had.
    Hit,
    /// It gave what it had although that was too old.
    Stale,
    /// It asked the app.
    Miss,
    /// It took no part.
    Bypass,
    /// It says nothing: it serves the file itself, or it is no cache.
    Silent,
}

impl Did {
    pub(super) fn of(answer: &Answer) -> Self {
        // The last member is that of the cache nearest to the visitor.
        let mut all = answer.headers.get_all("cache-status").iter().filter_map(|value| value.to_str().ok());
        let Some(last) = all.next_back().and_then(|value| value.rsplit(',').next()) else {
            return Self::Silent;
        };
        let mut words = last.split(';').map(str::trim).skip(1);
        let ttl = last.split(';').find_map(|word| word.trim().strip_prefix("ttl=")?.parse::<i64>().ok());
        match words.find(|word| *word == "hit" || word.starts_with("fwd=")) {
            Some("hit") if ttl.is_some_and(|left| left < 0) => Self::Stale,
            Some("hit") => Self::Hit,
            Some("fwd=bypass") => Self::Bypass,
            _ => Self::Miss,
        }
    }

    /// Whether the app was left in peace.
    pub(super) fn is_kept(self) -> bool {
        matches!(self, Self::Hit | Self::Stale)
    }
}

/// For how many seconds an answer may be shared between visitors without asking the app; `None` when it may not.
pub(super) fn lifetime(answer: &Answer) -> Option<u64> {
    let all = answer.headers.get_all("cache-control").iter().filter_map(|value| value.to_str().ok());
    let text = all.collect::<Vec<_>>().join(",").to_ascii_lowercase();
    let words = text.split(',').map(str::trim);
    let refused =
        |word: &str| ["no-store", "no-cache", "private"].contains(&word.split('=').next().unwrap_or(word));
    if words.clone().any(refused) || !answer.status.is_success() || answer.headers.contains_key("set-cookie")
    {
        return None;
    }
    let number = |name: &str| {
        words.clone().find_map(|word| word.strip_prefix(name)?.trim_matches('"').parse::<u64>().ok())
    };
    let shared = number("s-maxage=").or_else(|| number("max-age="));
    shared.filter(|seconds| *seconds > 0)
}

/// Whether an answer lets caches give it when it is old: at once while it is fetched anew, and when the app is away
/// (RFC 5861).
pub(super) fn may_be_stale(answer: &Answer) -> bool {
    let all = answer.headers.get_all("cache-control").iter().filter_map(|value| value.to_str().ok());
    let text = all.collect::<Vec<_>>().join(",").to_ascii_lowercase();
    ["stale-while-revalidate", "stale-if-error"].iter().all(|word| text.contains(word))
}

/// What a cache in front has to do with: the files of pages, and reads of the API that everybody may share.
pub(super) struct Candidates {
    /// Paths of files, whatever they say of caches.
    pub files: Vec<String>,
    /// Paths of data with the seconds that they may be shared for.
    pub data: Vec<(String, u64)>,
}

pub(super) async fn candidates(world: &Rc<World>) -> Result<Candidates, Unable> {
    let crawl = world.crawl().await?;
    // A page may link to data as well; whether those may be kept, they say themselves.
    let is_file = |answer: &Answer| answer.status.is_success() && !answer.media_type().contains("json");
    let files = crawl.files.iter().filter(|(_, answer)| is_file(answer));
    let files: Vec<String> = files.map(|(path, _)| path.clone()).take(MOST).collect();
    // An app without an API, or whose API is for those who are signed in only, has files all the same.
    let mut reads = good_reads(world, None).await.unwrap_or_default();
    if let Some(api) = world.api().await.filter(|api| api.from.starts_with('/')) {
        reads.push(api.from.clone());
    }
    let mut data = Vec::new();
    for path in reads.into_iter().take(MOST) {
        if let Ok(answer) = world.ask(Ask::get(&path)).await
            && let Some(seconds) = lifetime(&answer)
        {
            data.push((path, seconds));
        }
    }
    Ok(Candidates { files, data })
}

/// How many requests all instances of the app have had, as soon as that is known.
pub(super) async fn asked(world: &World, klar: &dyn Klar) -> Result<u64, String> {
    tokio::time::sleep(world.patience(TOLD)).await;
    let status = klar.status().await?;
    let services = status.get("services").and_then(Value::as_array).into_iter().flatten();
    let instances = services.filter_map(|service| service.get("instances")?.as_array()).flatten();
    Ok(instances.filter_map(|instance| instance.get("requests")?.as_u64()).sum())
}

/// What came of many who want the same at the same time.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Rush {
    pub path: String,
    pub sent: usize,
    /// How many got it.
    pub good: usize,
    /// How often the app was asked.
    pub asked: u64,
    /// How often it may be: once, and once more for each time that the answer grew old meanwhile.
    pub most: u64,
}

/// How many come at once: the row says a hundred.
const RUSH: usize = 100;

/// Many want the same, which nobody has yet.
pub(super) async fn rush(
    world: &Rc<World>,
    klar: &dyn Klar,
    path: &str,
    fresh_s: u64,
) -> Result<Rush, String> {
    klar.purge(path).await?;
    let before = asked(world, klar).await?;
    let began = tokio::time::Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..RUSH {
        let (world, path) = (Rc::clone(world), path.to_owned());
        // Past the turns: that they come at once is what is tried.
        running.spawn_local(async move {
            let Some(site) = world.site.as_ref() else { return false };
            site.get(&path).await.is_ok_and(|answer| answer.status.is_success())
        });
    }
    let good = running.join_all().await.into_iter().filter(|good| *good).count();
    let most = 1 + began.elapsed().as_secs() / fresh_s.max(1);
    let asked = asked(world, klar).await?.saturating_sub(before);
    Ok(Rush { path: path.to_owned(), sent: RUSH, good, asked, most })
}

impl Rush {
    pub(super) fn is_one(&self) -> bool {
        self.good == self.sent && (1..=self.most).contains(&self.asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(headers: &[(&'static str, &str)]) -> Answer {
        let mut map = http::HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let (status, body, took) = (http::StatusCode::OK, bytes::Bytes::new(), Duration::ZERO);
        Answer { status, headers: map, body, took }
    }

    #[test]
    fn what_the_edge_says_is_read() {
        for (said, did) in [
            (&["klar; hit; ttl=9"][..], Did::Hit),
            (&["klar; hit; ttl=-2; detail=refresh"], Did::Stale),
            (&["klar; fwd=uri-miss; ttl=60; stored"], Did::Miss),
            (&["klar; fwd=bypass"], Did::Bypass),
            (&["App; hit", "klar; fwd=stale; fwd-status=304"], Did::Miss),
            (&["App; fwd=miss, klar; hit"], Did::Hit),
            (&[], Did::Silent),
        ] {
            let headers: Vec<_> = said.iter().map(|said| ("cache-status", *said)).collect();
            assert_eq!(Did::of(&answer(&headers)), did, "{said:?}");
        }
    }

    #[test]
    fn lifetimes() {
        for (said, seconds) in [
            ("public, max-age=60", Some(60)),
            ("max-age=60, s-maxage=5", Some(5)),
            ("max-age=60, s-maxage=0", None),
            ("private, max-age=60", None),
            ("no-cache=\"x\", max-age=60", None),
            ("No-Store", None),
            ("public", None),
        ] {
            assert_eq!(lifetime(&answer(&[("cache-control", said)])), seconds, "{said}");
        }
        assert_eq!(lifetime(&answer(&[("cache-control", "max-age=9"), ("set-cookie", "a=b")])), None);
    }
}
