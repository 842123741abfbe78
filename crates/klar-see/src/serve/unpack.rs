//! Bodies that come packed: what they may unpack to is bounded, whatever they say of themselves.

use std::borrow::Cow;
use std::io::Read;

use http::StatusCode;
use http::request::Parts;

/// Why a body is not taken.
pub(super) type Refused = (StatusCode, String);

/// A header as text; nothing if it is not there.
pub(super) fn header<'a>(head: &'a Parts, name: &str) -> &'a str {
    head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn too_large(most: usize) -> Refused {
    (StatusCode::PAYLOAD_TOO_LARGE, format!("a body may unpack to {most} bytes\n"))
}

/// What is in a body, by its `content-encoding`; `most` bytes at most.
pub(super) fn unpacked<'a>(head: &Parts, body: &'a [u8], most: usize) -> Result<Cow<'a, [u8]>, Refused> {
    let coding = header(head, "content-encoding").trim();
    if coding.is_empty() || coding.eq_ignore_ascii_case("identity") {
        return if body.len() > most { Err(too_large(most)) } else { Ok(body.into()) };
    }
    if coding.eq_ignore_ascii_case("gzip") {
        return inflated(flate2::read::MultiGzDecoder::new(body), most).map(Cow::Owned);
    }
    if coding.eq_ignore_ascii_case("deflate") {
        return inflated(flate2::read::ZlibDecoder::new(body), most).map(Cow::Owned);
    }
    if coding.eq_ignore_ascii_case("snappy") {
        return snappy(body, most).map(Cow::Owned);
    }
    let words = format!("a body packed with gzip, deflate or snappy is expected, not `{coding:.40}`\n");
    Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, words))
}

fn inflated(packed: impl Read, most: usize) -> Result<Vec<u8>, Refused> {
    let mut out = Vec::new();
    let room = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    match packed.take(room).read_to_end(&mut out) {
        Ok(_) if out.len() > most => Err(too_large(most)),
        Ok(_) => Ok(out),
        Err(error) => Err((StatusCode::BAD_REQUEST, format!("the body cannot be unpacked: {error}\n"))),
    }
}

/// A block of Snappy, as Prometheus and Loki send it: it says beforehand how long it gets.
pub(super) fn snappy(packed: &[u8], most: usize) -> Result<Vec<u8>, Refused> {
    let bad = |error| (StatusCode::BAD_REQUEST, format!("no snappy: {error}\n"));
    if snap::raw::decompress_len(packed).map_err(bad)? > most {
        return Err(too_large(most));
    }
    snap::raw::Decoder::new().decompress_vec(packed).map_err(bad)
}
