//! Compression on the way out (RFC 9110 section 8.4): gzip, Brotli (RFC 7932) and Zstandard (RFC 8878).
//!
//! It stands between the app and everything else, so that what is kept or logged is what is sent. An app that
//! compresses by itself is left alone, and so is what says `no-transform` (RFC 9111 section 5.2.2.6). Files of a
//! release that have no compressed copy beside them are compressed when they are first asked for.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use hyper::body::Frame;

use crate::answer::{Answer, AppBody, Coming, FileBody, Source};
use crate::fields::{self, Fields};

/// Less than this, in bytes, is one packet anyway.
const WORTH_IT: u64 = 1024;
/// Low levels: an answer is packed once and read once.
const GZIP_LEVEL: u32 = 4;
const BROTLI_QUALITY: u32 = 4;
const ZSTD_LEVEL: i32 = 3;
/// The windows, as powers of two: 256 KiB, so that very many answers at once fit into memory.
const WINDOW: u32 = 18;

/// Files up to this size, in bytes, are compressed as a whole, while whoever is served by this worker waits.
const FILE_MAX: u64 = 1 << 20;
/// Memory for compressed files, in bytes.
const AT_REST_MAX: usize = 32 << 20;

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    Zstd,
    Brotli,
    Gzip,
}

impl Coding {
    /// The cheapest first, for what is compressed on the fly.
    const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    /// As `Content-Encoding` says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    /// The one that a visitor likes best of those that we speak; `None`: plain is as good, or nothing else is accepted.
    pub fn choose(asked: &impl Fields) -> Option<Self> {
        if !asked.has(&header::ACCEPT_ENCODING) {
            return None;
        }
        let identity = quality(asked, "identity").unwrap_or(0);
        let all = Self::ALL.map(|coding| (coding, quality(asked, coding.name()).unwrap_or(0)));
        // The first of the best: `max_by_key` would give the last.
        let best = all.into_iter().rev().max_by_key(|(_, quality)| *quality)?;
        (best.1 > 0 && best.1 >= identity).then_some(best.0)
    }
}

/// How much a visitor wants a coding, in thousandths (RFC 9110 section 12.5.3). `None`: it is not named.
pub fn quality(asked: &impl Fields, coding: &str) -> Option<u32> {
    let mut any = None;
    let items = asked.all(&header::ACCEPT_ENCODING).filter_map(fields::text);
    for item in items.flat_map(|value| value.split(',')) {
        let (name, weight) = item.split_once(';').unwrap_or((item, ""));
        let weight = weight.trim().trim_start_matches(['q', 'Q']).trim_start_matches('=');
        let weight = if weight.is_empty() { 1.0 } else { weight.parse::<f32>().unwrap_or(0.0) };
        let weight = (weight.clamp(0.0, 1.0) * 1000.0) as u32;
        let name = name.trim();
        if name.eq_ignore_ascii_case(coding) {
            return Some(weight);
        }
        if name == "*" {
            any = Some(weight);
        }
    }
    any
}

/// Compresses an answer for a visitor who asked with these headers, where that is allowed and of use.
pub fn compress(answer: Answer, method: &Method, asked: &HeaderMap) -> Answer {
    let (mut parts, source) = answer.into_parts();
    let headers = &mut parts.headers;
    if parts.status == StatusCode::NOT_MODIFIED {
        // It has the tag that the whole answer would have had (RFC 9110 section 15.4.5): a weak one for who knows it as
        // weak and would get it packed.
        if Coding::choose(asked).is_some() && knows_as_weak(asked, headers) {
            weaken(headers);
        }
        return Answer::from_parts(parts, source);
    }
    let here = match &source {
        Source::Full(bytes) => Some(bytes.len() as u64),
        _ => None,
    };
    if !is_worth_it(parts.status, headers, here) {
        return Answer::from_parts(parts, source);
    }
    // Whatever this visitor gets, another may get something else.
    vary(headers);
    let is_head = *method == Method::HEAD;
    if is_head && !headers.contains_key(header::CONTENT_LENGTH) {
        // Whether the whole answer is worth it is known only with its length, which the head may leave out
        // (RFC 9110 section 9.3.2).
        return Answer::from_parts(parts, source);
    }
    let Some(coding) = Coding::choose(asked) else { return Answer::from_parts(parts, source) };
    let source = match source {
        // `HEAD` is told what `GET` would get.
        source if is_head => source,
        Source::Full(bytes) => match Encoder::new(coding).and_then(|encoder| encoder.all(&bytes)) {
            Ok(compressed) => Source::Full(compressed),
            Err(_) => return Answer::from_parts(parts, Source::Full(bytes)),
        },
        Source::App(body) => match Encoder::new(coding) {
            Ok(encoder) => Source::Compressed(Box::new(Compressed::new(encoder, *body))),
            Err(_) => return Answer::from_parts(parts, Source::App(body)),
        },
        Source::File(file) => match at_rest(coding, file, headers.get(header::ETAG)) {
            Ok(compressed) => Source::Full(compressed),
            Err(file) => return Answer::from_parts(parts, Source::File(file)),
        },
        other @ (Source::Compressed(_) | Source::Fill(_) | Source::Kept { .. }) => {
            return Answer::from_parts(parts, other);
        }
    };
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::ACCEPT_RANGES);
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    weaken(headers);
    Answer::from_parts(parts, source)
}

/// Whether an answer may be compressed, and is better for it. `here`: its length, where it is known without being said.
pub fn is_worth_it(status: StatusCode, headers: &impl Fields, here: Option<u64>) -> bool {
    let says = |name, word: &str| {
        let values = headers.all(name).filter_map(fields::text);
        values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(word))
    };
    let length = headers.text(&header::CONTENT_LENGTH).and_then(|value| value.parse().ok()).or(here);
    let bodiless =
        status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT);
    // What is known at once comes first.
    !bodiless
        && status != StatusCode::PARTIAL_CONTENT
        && length.is_none_or(|length| length >= WORTH_IT)
        && headers.text(&header::CONTENT_TYPE).is_some_and(is_text)
        && !headers.has(&header::CONTENT_ENCODING)
        && !headers.has(&header::CONTENT_RANGE)
        && !says(&header::CACHE_CONTROL, "no-transform")
}

/// Files that were compressed, by entity tag.
#[derive(Default)]
struct AtRest {
    files: HashMap<(Vec<u8>, Coding), Bytes>,
    bytes: usize,
}

/// A whole file, compressed once for all who ask. The tag names its content. `Err`: it is too large, or unreadable.
fn at_rest(coding: Coding, file: FileBody, tag: Option<&HeaderValue>) -> Result<Bytes, FileBody> {
    static AT_REST: LazyLock<Mutex<AtRest>> = LazyLock::new(Mutex::default);
    let known = || AT_REST.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(tag) = tag.filter(|_| file.left <= FILE_MAX) else { return Err(file) };
    let key = (tag.as_bytes().to_vec(), coding);
    if let Some(compressed) = known().files.get(&key) {
        return Ok(compressed.clone());
    }
    let content = file.read_all();
    let compressed = content.and_then(|content| Encoder::new(coding)?.all(&content));
    let Ok(compressed) = compressed else { return Err(file) };
    let mut all = known();
    if all.bytes + compressed.len() > AT_REST_MAX {
        *all = AtRest::default();
    }
    all.bytes += compressed.len();
    all.files.insert(key, compressed.clone());
    Ok(compressed)
}

/// Media types that compress well. An event stream is left alone: each event would be flushed, and win nothing.
fn is_text(kind: &str) -> bool {
    const OTHERS: [&str; 9] = [
        "application/json",
        "application/javascript",
        "application/xml",
        "application/wasm",
        "application/x-ndjson",
        "application/rtf",
        "image/bmp",
        "font/ttf",
        "font/otf",
    ];
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let begins = |with: &str| kind.get(..with.len()).is_some_and(|part| part.eq_ignore_ascii_case(with));
    let ends = |with: &str| {
        let from = kind.len().checked_sub(with.len());
        from.and_then(|from| kind.get(from..)).is_some_and(|part| part.eq_ignore_ascii_case(with))
    };
    (begins("text/") && !kind.eq_ignore_ascii_case("text/event-stream"))
        || ends("+json")
        || ends("+xml")
        || OTHERS.iter().any(|other| kind.eq_ignore_ascii_case(other))
}

/// Adds `accept-encoding` to `vary`, unless it says so already.
fn vary(headers: &mut HeaderMap) {
    if !varies(headers) {
        headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// Whether `vary` speaks of `accept-encoding`.
pub fn varies(headers: &impl Fields) -> bool {
    let known = headers.all(&header::VARY).filter_map(fields::text);
    let mut known = known.flat_map(|value| value.split(',')).map(str::trim);
    known.any(|name| name == "*" || name.eq_ignore_ascii_case("accept-encoding"))
}

/// A strong entity tag promises the same bytes (RFC 9110 section 8.8.1), which is true no more.
fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(header::ETAG).filter(|tag| tag.as_bytes().starts_with(b"\"")) else { return };
    if let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        headers.insert(header::ETAG, weak);
    }
}

/// Whether a request names the tag of an answer, as a weak one.
fn knows_as_weak(asked: &HeaderMap, headers: &HeaderMap) -> bool {
    let Some(tag) = headers.get(header::ETAG) else { return false };
    let weak = [b"W/", tag.as_bytes()].concat();
    let mut lines = asked.get_all(header::IF_NONE_MATCH).iter();
    lines.any(|line| line.as_bytes().windows(weak.len()).any(|part| part == weak))
}

/// A compressor that writes into memory.
enum Encoder {
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Gzip(GzEncoder<Vec<u8>>),
}

impl Encoder {
    fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(WINDOW)?;
                Self::Zstd(encoder)
            }
            Coding::Brotli => {
                let writer = brotli::CompressorWriter::new(Vec::new(), 4096, BROTLI_QUALITY, WINDOW);
                Self::Brotli(Box::new(writer))
            }
            Coding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL))),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Zstd(encoder) => encoder.write_all(bytes),
            Self::Brotli(encoder) => encoder.write_all(bytes),
            Self::Gzip(encoder) => encoder.write_all(bytes),
        }
    }

    /// Brings out everything that was written, so that a reader need not wait for what follows.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Zstd(encoder) => encoder.flush(),
            Self::Brotli(encoder) => encoder.flush(),
            Self::Gzip(encoder) => encoder.flush(),
        }
    }

    /// What has come out since it was last taken.
    fn take(&mut self) -> Bytes {
        std::mem::take(match self {
            Self::Zstd(encoder) => encoder.get_mut(),
            Self::Brotli(encoder) => encoder.get_mut(),
            Self::Gzip(encoder) => encoder.get_mut(),
        })
        .into()
    }

    /// The rest, with the end.
    fn end(self) -> io::Result<Bytes> {
        Ok(match self {
            Self::Zstd(encoder) => encoder.finish()?,
            Self::Brotli(encoder) => encoder.into_inner(),
            Self::Gzip(encoder) => encoder.finish()?,
        }
        .into())
    }

    /// All of an answer.
    fn all(mut self, bytes: &[u8]) -> io::Result<Bytes> {
        self.write(bytes)?;
        self.end()
    }
}

/// A body that an app is still sending, compressed as it comes.
pub struct Compressed {
    /// `None`: the end was sent.
    encoder: Option<Encoder>,
    body: AppBody,
    /// Something was written that has not come out.
    unsent: bool,
    /// They come after the end of the body.
    trailers: Option<Frame<Bytes>>,
}

impl std::fmt::Debug for Compressed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressed").field("body", &self.body).finish_non_exhaustive()
    }
}

impl Compressed {
    fn new(encoder: Encoder, body: AppBody) -> Self {
        Self { encoder: Some(encoder), body, unsent: false, trailers: None }
    }

    /// Whether the app's answer has an end of its own.
    pub fn is_delimited(&self) -> bool {
        self.body.is_delimited()
    }

    /// Whether everything was sent.
    pub fn is_end(&self) -> bool {
        self.encoder.is_none() && self.trailers.is_none()
    }
}

impl Coming for Compressed {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            let Some(encoder) = &mut self.encoder else { return Poll::Ready(self.trailers.take().map(Ok)) };
            let out = match self.body.poll(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        self.unsent = true;
                        encoder.write(&data).map(|()| encoder.take())
                    }
                    Err(frame) => {
                        self.trailers = Some(frame);
                        continue;
                    }
                },
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => self.encoder.take().map_or(Ok(Bytes::new()), Encoder::end),
                // The app is thinking: the visitor gets what there is.
                Poll::Pending if self.unsent => {
                    self.unsent = false;
                    encoder.flush().map(|()| encoder.take())
                }
                Poll::Pending => return Poll::Pending,
            };
            match out {
                Ok(bytes) if bytes.is_empty() => {}
                out => return Poll::Ready(Some(out.map(Frame::data))),
            }
        }
    }

    fn count_failure(&self) {
        self.body.count_failure();
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap())
        };
        lines.iter().map(pair).collect()
    }

    #[test]
    fn the_visitor_chooses() {
        let table = [
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("gzip, deflate, br", Some(Coding::Brotli)),
            ("GZIP", Some(Coding::Gzip)),
            ("gzip;q=0.5, br;q=0.4", Some(Coding::Gzip)),
            ("gzip; q=0", None),
            ("br;q=0.001", Some(Coding::Brotli)),
            ("*", Some(Coding::Zstd)),
            ("zstd;q=0, *;q=0.5", Some(Coding::Brotli)),
            ("identity, gzip;q=0.5", None),
            ("identity;q=0.5, gzip", Some(Coding::Gzip)),
            ("gzip;q=x", None),
            ("deflate", None),
            ("", None),
        ];
        for (asked, wanted) in table {
            assert_eq!(Coding::choose(&map(&[("accept-encoding", asked)])), wanted, "{asked}");
        }
        assert_eq!(Coding::choose(&HeaderMap::new()), None);
    }

    #[test]
    fn what_is_compressed() {
        let html = ("content-type", "text/html; charset=utf-8");
        type Case<'a> = (&'a [(&'a str, &'a str)], u16, bool);
        let table: [Case<'_>; 12] = [
            (&[html], 200, true),
            (&[html, ("content-length", "1024")], 404, true),
            (&[html, ("content-length", "1023")], 200, false),
            (&[html, ("content-encoding", "br")], 200, false),
            (&[html, ("cache-control", "public, no-transform")], 200, false),
            (&[html, ("content-range", "bytes 0-9/10")], 206, false),
            (&[html], 204, false),
            (&[("content-type", "image/png")], 200, false),
            (&[("content-type", "text/event-stream")], 200, false),
            (&[("content-type", "Application/JSON")], 200, true),
            (&[("content-type", "application/problem+json")], 500, true),
            (&[], 200, false),
        ];
        for (headers, status, wanted) in table {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(is_worth_it(status, &map(headers), Some(2000)), wanted, "{status} {headers:?}");
        }
    }

    fn answer(headers: &[(&str, &str)], body: &'static [u8]) -> Answer {
        let mut answer = Answer::new(Source::Full(Bytes::from_static(body)));
        *answer.headers_mut() = map(headers);
        answer
    }

    #[test]
    fn the_head_says_what_became_of_the_body() {
        let page = [
            ("content-type", "text/html"),
            ("etag", "\"a\""),
            ("accept-ranges", "bytes"),
            ("content-length", "2000"),
        ];
        let asked = map(&[("accept-encoding", "br")]);
        let out = compress(answer(&page, &[b'x'; 2000]), &Method::GET, &asked);
        let wanted = map(&[
            ("content-type", "text/html"),
            ("etag", "W/\"a\""),
            ("vary", "accept-encoding"),
            ("content-encoding", "br"),
        ]);
        assert_eq!(*out.headers(), wanted);
        let head = compress(answer(&page, b""), &Method::HEAD, &asked);
        assert_eq!(*head.headers(), wanted, "HEAD says the same");
        let plain = compress(answer(&page, &[b'x'; 2000]), &Method::GET, &HeaderMap::new());
        assert_eq!(plain.headers()["vary"], "accept-encoding");
        assert_eq!(plain.headers()["etag"], "\"a\"");
        assert_eq!(plain.headers()["content-length"], "2000");
        for (known, tag) in
            [("W/\"a\"", "W/\"a\""), ("\"b\", W/\"a\"", "W/\"a\""), ("\"a\"", "\"a\""), ("*", "\"a\"")]
        {
            let mut same = answer(&[("etag", "\"a\"")], b"");
            *same.status_mut() = StatusCode::NOT_MODIFIED;
            let asked = map(&[("accept-encoding", "br"), ("if-none-match", known)]);
            assert_eq!(compress(same, &Method::GET, &asked).headers()["etag"], tag, "{known}");
        }
        let varies = [("content-type", "text/html"), ("vary", "Cookie, Accept-Encoding")];
        let out = compress(answer(&varies, &[b'x'; 2000]), &Method::GET, &asked);
        assert_eq!(out.headers().get_all("vary").iter().count(), 1);
    }

    fn plain(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            Coding::Zstd => {
                zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut out).unwrap();
            }
            Coding::Brotli => {
                brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out).unwrap();
            }
            Coding::Gzip => {
                flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
            }
        }
        out
    }

    proptest! {
        #[test]
        fn whatever_goes_in_comes_out(
            pieces in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..3000), any::<bool>()), 0..12),
        ) {
            let whole: Vec<u8> = pieces.iter().flat_map(|(piece, _)| piece).copied().collect();
            for coding in Coding::ALL {
                let mut encoder = Encoder::new(coding).unwrap();
                let mut out = Vec::new();
                for (piece, flush) in &pieces {
                    encoder.write(piece).unwrap();
                    if *flush {
                        encoder.flush().unwrap();
                    }
                    out.extend_from_slice(&encoder.take());
                }
                out.extend_from_slice(&encoder.end().unwrap());
                prop_assert_eq!(plain(coding, &out), &whole[..], "{:?}", coding);
            }
        }
    }
}
