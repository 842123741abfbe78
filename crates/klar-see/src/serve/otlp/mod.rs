//! Traces, lines and metrics as OpenTelemetry sends them: OTLP 1.x over HTTP and gRPC, in Protocol Buffers and in JSON
//! (<https://opentelemetry.io/docs/specs/otlp/>).
//!
//! There is one reader, of Protocol Buffers. JSON is turned into those first (`json.rs`), and gRPC is a frame around them
//! (`grpc.rs`), so that the same signal becomes the same rows whichever way it came. Nothing builds a tree of what was
//! sent: each span, line and point is read, becomes a row or a sample, and is forgotten, so what comes takes no more memory
//! than its own bytes.
//!
//! What is answered with success is on disk. 400 says that sending it again is of no use, 503 that it may be; what was
//! refused of a good message is counted in its answer (partial success).

#[cfg(test)]
mod clients;
pub(super) mod grpc;
mod json;
mod lines;
mod metrics;
mod names;
mod spans;
#[cfg(test)]
mod tests;
mod value;

use std::io::Read;

use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use klar_base::AppKey;

use super::{Answer, Who, typed};
use crate::proto::{Malformed, Message, put_bytes, put_number};
use crate::{Shared, lock, now_ms};

/// What a body may unpack to, in bytes.
const UNPACKED_MAX: usize = 64 << 20;
/// Bodies that unpack to more are unpacked one at a time: all of telemetry has 512 MiB.
const SMALL: usize = 8 << 20;
/// Different reasons that an answer gives.
const REASONS_MAX: usize = 5;
/// How far back a row may be, and how far ahead, in microseconds: each hour is a file of its own.
const PAST_US: i64 = 7 * 86_400_000_000;
const AHEAD_US: i64 = 3_600_000_000;

/// What can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    Traces,
    Logs,
    Metrics,
}

impl Signal {
    /// What its answer calls that which was refused, in JSON.
    const fn rejected(self) -> &'static str {
        match self {
            Self::Traces => "rejectedSpans",
            Self::Logs => "rejectedLogRecords",
            Self::Metrics => "rejectedDataPoints",
        }
    }
}

/// Spans.
pub(super) fn traces(shared: &Shared, who: &Who, head: &Parts, body: &[u8]) -> Answer {
    answer(Signal::Traces, shared, who, head, body)
}

/// Lines.
pub(super) fn logs(shared: &Shared, who: &Who, head: &Parts, body: &[u8]) -> Answer {
    answer(Signal::Logs, shared, who, head, body)
}

/// Points of metrics.
pub(super) fn metrics(shared: &Shared, who: &Who, head: &Parts, body: &[u8]) -> Answer {
    answer(Signal::Metrics, shared, who, head, body)
}

/// How the body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Protobuf,
    Json,
    Grpc,
}

/// Why nothing was taken in.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("no OTLP in JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Packed(String),
    #[error("a body may unpack to {UNPACKED_MAX} bytes; send fewer signals at once")]
    Large,
    #[error(transparent)]
    Rows(#[from] klar_rows::Error),
    #[error(transparent)]
    Store(#[from] klar_tsdb::Error),
}

impl Trouble {
    const fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::Json(_) | Self::Packed(_) => StatusCode::BAD_REQUEST,
            Self::Large => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Rows(_) | Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// What was not taken of a message that was.
#[derive(Debug, Default, PartialEq, Eq)]
struct Refused {
    count: u64,
    why: Vec<String>,
}

impl Refused {
    fn add(&mut self, count: u64, why: impl Into<String>) {
        self.count += count;
        let why = why.into();
        if self.why.len() < REASONS_MAX && !self.why.contains(&why) {
            self.why.push(why);
        }
    }
}

/// Who sends, and when.
struct Sender<'a> {
    shared: &'a Shared,
    /// Nobody writes as somebody else; the owner of the host may.
    app: Option<&'a AppKey>,
    now_us: i64,
}

impl Sender<'_> {
    /// Microseconds from nanoseconds, if a row may be of that time.
    fn time_us(&self, unix_ns: u64) -> Option<i64> {
        let time_us = i64::try_from(unix_ns / 1000).ok()?;
        (self.now_us - PAST_US..self.now_us + AHEAD_US).contains(&time_us).then_some(time_us)
    }
}

/// What is said of rows of another time.
const BAD_TIME: &str = "a time is more than 7 days ago or more than an hour ahead";

fn answer(signal: Signal, shared: &Shared, who: &Who, head: &Parts, body: &[u8]) -> Answer {
    let media = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media = media.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let written = match &*media {
        "application/x-protobuf" | "application/protobuf" => Written::Protobuf,
        "application/json" => Written::Json,
        _ if grpc::is(&head.headers) => Written::Grpc,
        _ => {
            return super::text(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "`content-type` has to be application/x-protobuf, application/json or application/grpc\n",
            );
        }
    };
    let app = if let Who::App(app) = who { Some(app) } else { None };
    let taken = unpacked(written, head, body).and_then(|packed| {
        // Held while what is large is in memory.
        let mut room = None;
        let bytes = match packed {
            Packed::Plain(bytes) => std::borrow::Cow::Borrowed(bytes),
            Packed::Gzip(bytes) => gunzip(bytes, || room = Some(lock(&shared.room)))?.into(),
        };
        let bytes = match written {
            Written::Json => {
                if room.is_none() && bytes.len() > SMALL {
                    room = Some(lock(&shared.room));
                }
                json::to_protobuf(json::schema(signal), &bytes, UNPACKED_MAX)?.into()
            }
            _ => bytes,
        };
        let sender = Sender { shared, app, now_us: now_ms().saturating_mul(1000) };
        let taken = take_in(signal, &sender, &bytes);
        drop((bytes, room));
        taken
    });
    match (taken, written) {
        (Ok(refused), Written::Grpc) => grpc::success(&partial(&refused)),
        (Ok(refused), Written::Protobuf) => {
            typed(StatusCode::OK, "application/x-protobuf", partial(&refused))
        }
        (Ok(refused), Written::Json) => {
            let mut said = serde_json::json!({});
            if refused.count > 0 {
                said["partialSuccess"] = serde_json::json!({
                    signal.rejected(): refused.count.to_string(),
                    "errorMessage": refused.why.join("; "),
                });
            }
            typed(StatusCode::OK, "application/json", said.to_string())
        }
        (Err(trouble), written) => failed(written, trouble.status(), &trouble.to_string()),
    }
}

fn take_in(signal: Signal, sender: &Sender<'_>, bytes: &[u8]) -> Result<Refused, Trouble> {
    match signal {
        Signal::Traces => spans::take_in(sender, bytes),
        Signal::Logs => lines::take_in(sender, bytes),
        Signal::Metrics => metrics::take_in(sender, bytes),
    }
}

/// An error as OTLP wants it: a `google.rpc.Status`.
fn failed(written: Written, status: StatusCode, why: &str) -> Answer {
    let code = grpc::Code::of(status);
    let mut answer = match written {
        Written::Grpc => return grpc::failure(code, why),
        Written::Json => {
            let said = serde_json::json!({ "code": code as i32, "message": why });
            typed(status, "application/json", said.to_string())
        }
        Written::Protobuf => {
            let mut said = Vec::new();
            put_number(&mut said, 1, code as u64);
            put_bytes(&mut said, 2, why.as_bytes());
            typed(status, "application/x-protobuf", said)
        }
    };
    if status == StatusCode::SERVICE_UNAVAILABLE {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

/// An `Export…ServiceResponse`. All three are alike; one in which nothing was refused is empty.
fn partial(refused: &Refused) -> Vec<u8> {
    let mut said = Vec::new();
    if refused.count > 0 {
        let mut partial = Vec::new();
        put_number(&mut partial, 1, refused.count);
        put_bytes(&mut partial, 2, refused.why.join("; ").as_bytes());
        put_bytes(&mut said, 1, &partial);
    }
    said
}

enum Packed<'a> {
    Plain(&'a [u8]),
    Gzip(&'a [u8]),
}

/// The message, as it is packed.
fn unpacked<'a>(written: Written, head: &Parts, body: &'a [u8]) -> Result<Packed<'a>, Trouble> {
    let name = if written == Written::Grpc { "grpc-encoding" } else { "content-encoding" };
    let encoding = head.headers.get(name).map_or(Ok("identity"), |value| value.to_str());
    let encoding = encoding.unwrap_or("?").trim().to_ascii_lowercase();
    let (is_packed, message) = match written {
        Written::Grpc => grpc::message(body).map_err(|why| Trouble::Packed(why.to_owned()))?,
        _ => (encoding != "identity", body),
    };
    match &*encoding {
        _ if !is_packed => Ok(Packed::Plain(message)),
        "gzip" => Ok(Packed::Gzip(message)),
        other => Err(Trouble::Packed(format!("`{other}` cannot be unpacked; send gzip or nothing"))),
    }
}

/// Unpacks up to the limit, whatever the body claims. `is_large` is called as soon as it is.
fn gunzip(body: &[u8], is_large: impl FnOnce()) -> Result<Vec<u8>, Trouble> {
    let mut reader = flate2::read::MultiGzDecoder::new(body);
    let mut out = Vec::new();
    let mut more = |out: &mut Vec<u8>, most: usize| {
        let read = reader.by_ref().take((most + 1 - out.len()) as u64).read_to_end(out);
        read.map_err(|error| Trouble::Packed(format!("no gzip: {error}")))
    };
    more(&mut out, SMALL)?;
    if out.len() > SMALL {
        is_large();
        more(&mut out, UNPACKED_MAX)?;
    }
    if out.len() > UNPACKED_MAX { Err(Trouble::Large) } else { Ok(out) }
}

/// Each message that is a field of another one.
fn each<'a, E: From<Malformed>>(
    bytes: &'a [u8],
    number: u32,
    mut then: impl FnMut(&'a [u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut message = Message::new(bytes);
    while let Some((its, field)) = message.field()? {
        if its == number {
            then(field.bytes())?;
        }
    }
    Ok(())
}

/// The last message that is such a field of another one; if there is none, an empty one.
fn one(bytes: &[u8], number: u32) -> Result<&[u8], Malformed> {
    let mut found: &[u8] = &[];
    each(bytes, number, |bytes| {
        found = bytes;
        Ok::<_, Malformed>(())
    })?;
    Ok(found)
}

/// An id, unless it is of another length or all zeros.
fn id<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    let id: [u8; N] = bytes.try_into().ok()?;
    (id != [0; N]).then_some(id)
}
