//! Images in the size and format that a visitor can use, made of those that the app has.
//!
//! `wish.rs` reads what is wanted, `workers.rs` has it made, `cache/derived.rs` keeps it. Nothing here looks into an
//! image: that is done in another process, which has no keys, no files and no network (`klar-image`, and
//! [`klar_base::images`] for what is said between the two).
//!
//! The source is always found first, in the way that it is found without any of this: so who may not have it gets
//! nothing made of it, and what was made of an older one is not found.
//!
//! **Invariant:** whatever goes wrong, the original is the answer.
//! **Invariant:** no request waits longer than [`PATIENCE`] for an image to be made.

mod wish;
mod workers;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use klar_base::images::{Format, SOURCE_MAX};
use klar_base::signal::{CacheOutcome, ImageOutcome};
use sha2::{Digest, Sha256};

use crate::answer::{Answer, Source};
use crate::cache::{Cache, Derived, Stored, has_it, wants_part};
use crate::files::Range;
use crate::page::Reason;
use crate::story::Story;
use crate::table::{RouteTable, SiteTable};
use wish::{Wish, format_of, without_width};
use workers::{Job, Made, Workers};

/// How long a visitor waits for an image to be made. Then the original is sent, and the next visitor gets what was made.
const PATIENCE: Duration = Duration::from_millis(1500);

/// What belongs to the original and to nothing that is made of it.
const OF_ORIGINAL: [HeaderName; 7] = [
    header::CONTENT_LENGTH,
    header::LAST_MODIFIED,
    header::ACCEPT_RANGES,
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("content-md5"),
];

/// See the [module](self).
#[derive(Debug)]
pub struct Images {
    cache: Arc<Cache>,
    pub workers: Arc<Workers>,
}

/// Who asks for an image, and how.
#[derive(Debug)]
pub struct Asked {
    wish: Wish,
    method: Method,
    uri: Uri,
    /// With its conditions, which are about what will be sent.
    headers: HeaderMap,
    host: String,
}

impl Asked {
    /// What a request on a route asks for; `None`: an original will do.
    pub fn of<B>(route: &RouteTable, request: &Request<B>, host: &str) -> Option<Self> {
        let wish = Wish::of(route.images.as_ref()?, request)?;
        let (method, uri) = (request.method().clone(), request.uri().clone());
        Some(Self { wish, method, uri, headers: request.headers().clone(), host: host.to_owned() })
    }

    /// The request for the whole original.
    fn plain(&self) -> Request<()> {
        let mut request = Request::new(());
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        [header::RANGE, header::IF_RANGE, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE]
            .iter()
            .for_each(|name| drop(request.headers_mut().remove(name)));
        request
    }

    /// The address of the original.
    fn target(&self) -> String {
        let query = self.uri.query().map(without_width).filter(|query| !query.is_empty());
        query.map_or_else(|| self.uri.path().to_owned(), |query| format!("{}?{query}", self.uri.path()))
    }
}

/// What there is in place of an original.
enum Found {
    Image(Arc<Stored>, ImageOutcome),
    /// Not yet, or not at all.
    Original(ImageOutcome),
}

impl Images {
    /// Ready for the first request. `ask` asks the core for a process.
    pub fn new(cache: Arc<Cache>, ask: impl Fn() + Send + Sync + 'static) -> Self {
        Self { workers: Arc::new(Workers::new(cache.clone(), ask)), cache }
    }

    /// Answers a request for an image in a folder. `read` finds a file there. `None`: there is nothing to convert, and
    /// the request is to be answered like any other.
    pub async fn of_folder(
        &self,
        asked: &Asked,
        site: &SiteTable,
        read: impl FnOnce(&Request<()>) -> Result<Answer, Reason>,
        story: &mut Story,
    ) -> Option<Answer> {
        let original = read(&asked.plain()).ok()?;
        let source = convertible(&original)?;
        let tag = original.headers().get(header::ETAG)?.to_str().ok()?.to_owned();
        let (parts, body) = original.into_parts();
        let file = match &body {
            Source::File(file) => file,
            _ => return None,
        };
        let found = self.find(asked, site, source, (asked.uri.path(), &tag), || file.read_all().ok()).await;
        match found {
            Found::Image(stored, outcome) => {
                story.record.image = Some(outcome);
                Some(give(asked, parts.headers, &stored))
            }
            Found::Original(outcome) => {
                story.record.image = Some(outcome);
                None
            }
        }
    }

    /// Makes the request for an image one for the whole of it: a part of the original would be no part of what is made.
    pub fn widen<B>(asked: Option<&Asked>, request: &mut Request<B>) {
        if asked.is_some() {
            [header::RANGE, header::IF_RANGE]
                .iter()
                .for_each(|name| drop(request.headers_mut().remove(name)));
        }
    }

    /// Puts in place of an app's image, if the cache has it for everybody, what suits the visitor better.
    pub async fn of_app(&self, asked: &Asked, site: &SiteTable, answer: Answer, story: &mut Story) -> Answer {
        let is_kept = matches!(
            story.record.cache,
            Some(CacheOutcome::Hit | CacheOutcome::Stale | CacheOutcome::Revalidated)
        );
        let (Some(source), true) = (convertible(&answer), is_kept) else { return varying(answer) };
        let bytes = match answer.body() {
            Source::Full(bytes) => bytes.clone(),
            _ => return varying(answer),
        };
        // What it came with may be the same for two versions; the content is not.
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let target = asked.target();
        match self.find(asked, site, source, (&target, &digest), || Some(bytes)).await {
            Found::Image(stored, outcome) => {
                story.record.image = Some(outcome);
                give(asked, answer.into_parts().0.headers, &stored)
            }
            Found::Original(outcome) => {
                story.record.image = Some(outcome);
                let answer = varying(answer);
                if outcome == ImageOutcome::Later { for_now(answer) } else { answer }
            }
        }
    }

    /// Finds the image that suits best, or has it made.
    async fn find(
        &self,
        asked: &Asked,
        site: &SiteTable,
        source: Format,
        (target, of): (&str, &str),
        read: impl FnOnce() -> Option<Bytes>,
    ) -> Found {
        let mut outcome = ImageOutcome::Original;
        let mut read = Some(read);
        let mut bytes = None;
        for wanted in asked.wish.formats(source) {
            let derived = derived(site, &asked.host, target, of, asked.wish.width, wanted);
            if self.workers.is_left(&derived) || !self.workers.writes(wanted) || self.cache.room() == 0 {
                continue;
            }
            // Before it is looked for, so that what is forgotten meanwhile is not kept again.
            let ticket = self.cache.ticket_of(&derived);
            if let Some(stored) = self.cache.find_derived(&derived).await {
                return Found::Image(stored, ImageOutcome::Kept);
            }
            if let Some(read) = read.take() {
                bytes = read();
            }
            let Some(bytes) = &bytes else { break };
            // It takes seconds. Meanwhile there is something else.
            let is_urgent = wanted != Format::Avif;
            let job = Job { derived, ticket, source, wanted, width: asked.wish.width, bytes: bytes.clone() };
            let Some(told) = self.workers.order(job, is_urgent) else {
                outcome = ImageOutcome::Later;
                continue;
            };
            if !is_urgent {
                outcome = ImageOutcome::Later;
                continue;
            }
            match tokio::time::timeout(PATIENCE, told).await {
                Ok(Ok(Made::Image(stored))) => return Found::Image(stored, ImageOutcome::Made),
                Ok(Ok(Made::Left)) => {}
                Ok(Ok(Made::Failed) | Err(_)) | Err(_) => return Found::Original(ImageOutcome::Later),
            }
        }
        Found::Original(outcome)
    }

    /// What would become of a request for the file or answer at `target`, in words for a person.
    pub fn explain(&self, asked: &Asked, site: &SiteTable, original: Option<&Answer>) -> String {
        let source = match original {
            Some(original) => match convertible(original) {
                Some(source) => source,
                None => return "what is there is no image that is converted".into(),
            },
            None => match format_of(asked.uri.path()) {
                Some(source) => source,
                None => return "converted if it is an image, once the cache has it".into(),
            },
        };
        if self.cache.room() == 0 {
            return "as it is: the cache has no room (edge.cache_memory)".into();
        }
        let width =
            asked.wish.width.map_or("its own width".into(), |width| format!("at most {width} px wide"));
        let tag = original.and_then(|original| original.headers().get(header::ETAG)?.to_str().ok());
        for wanted in asked.wish.formats(source).filter(|format| self.workers.writes(*format)) {
            let how = format!("{}, {width}", wanted.media_type());
            let Some(tag) = tag else { return format!("{how}, once the cache has it") };
            let derived = derived(site, &asked.host, asked.uri.path(), tag, asked.wish.width, wanted);
            if self.workers.is_left(&derived) {
                continue;
            }
            let state = if self.cache.has_derived(&derived) { "kept" } else { "to be made" };
            return format!("{how} ({state})");
        }
        "as it is: it cannot be converted, or is the smaller one".into()
    }
}

fn derived(
    site: &SiteTable,
    host: &str,
    target: &str,
    of: &str,
    width: Option<u32>,
    wanted: Format,
) -> Derived {
    let how = format!("{}/{}", width.unwrap_or(0), wanted as u8);
    Derived::new(site, host, target, of, &how)
}

/// The format of an answer that holds the whole of an image, and may be given as another one.
fn convertible(answer: &Answer) -> Option<Format> {
    let headers = answer.headers();
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let control = text(header::CACHE_CONTROL).unwrap_or_default().to_ascii_lowercase();
    let is_fixed = ["no-transform", "private", "no-store"].iter().any(|word| control.contains(word));
    let length = match answer.body() {
        Source::Full(bytes) => bytes.len() as u64,
        Source::File(file) => file.left,
        _ => return None,
    };
    let suits = answer.status() == StatusCode::OK
        && !headers.contains_key(header::CONTENT_ENCODING)
        && !headers.contains_key(header::SET_COOKIE)
        && !is_fixed
        && (1..=SOURCE_MAX as u64).contains(&length);
    let format = Format::of_media_type(text(header::CONTENT_TYPE)?)?;
    (suits && format != Format::Avif).then_some(format)
}

/// Says that another `Accept` gets another answer (RFC 9110, section 12.5.5), where the answer is an image.
pub fn varying(mut answer: Answer) -> Answer {
    let headers = answer.headers_mut();
    let is_image =
        headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"image/"));
    if is_image || answer.status() == StatusCode::NOT_MODIFIED {
        vary(answer.headers_mut());
    }
    answer
}

/// For now: the visitor asks again, and may get something better.
pub fn for_now(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

fn vary(headers: &mut HeaderMap) {
    let is_named = headers.get_all(header::VARY).iter().any(|line| {
        let line = line.to_str().unwrap_or_default();
        line.split(',').any(|name| name.trim() == "*" || name.trim().eq_ignore_ascii_case("accept"))
    });
    if !is_named {
        headers.append(header::VARY, HeaderValue::from_static("accept"));
    }
}

/// Makes an answer of an image, in place of an original with these headers: all of it, a part, or only that the visitor
/// has it.
fn give(asked: &Asked, mut headers: HeaderMap, stored: &Stored) -> Answer {
    OF_ORIGINAL.iter().for_each(|name| drop(headers.remove(name)));
    for name in [header::CONTENT_TYPE, header::ETAG] {
        if let Some(value) = stored.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    vary(&mut headers);
    let mut answer = Response::new(Source::empty());
    if has_it(&asked.headers, &stored.headers, SystemTime::now()) {
        headers.remove(header::CONTENT_TYPE);
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        *answer.headers_mut() = headers;
        return answer;
    }
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let length = stored.body.len() as u64;
    let range = asked.headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let range = range.filter(|_| asked.method == Method::GET && wants_part(&asked.headers, &stored.headers));
    let (content, body) = match range.map_or(Range::All, |range| Range::read(range, length)) {
        Range::All => (None, stored.body.clone()),
        Range::Part(first, last) => {
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            (
                Some(format!("bytes {first}-{last}/{length}")),
                stored.body.slice(first as usize..=last as usize),
            )
        }
        Range::None => {
            *answer.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            (Some(format!("bytes */{length}")), Bytes::new())
        }
    };
    if let Some(content) = content.and_then(|content| HeaderValue::try_from(content).ok()) {
        headers.insert(header::CONTENT_RANGE, content);
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    *answer.headers_mut() = headers;
    *answer.body_mut() = Source::Full(body);
    answer
}
