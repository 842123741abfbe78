//! What gRPC puts around a message: a frame of five bytes, and how it went in trailers
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use std::fmt::Write as _;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;

use super::{Answer, typed};

/// Fields that come behind the body of an answer.
#[derive(Debug, Clone)]
pub(in crate::serve) struct Trailers(pub HeaderMap);

/// How a call went, of which klar knows these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Code {
    Internal = 13,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Unavailable = 14,
    Unauthenticated = 16,
}

impl Code {
    /// The same as HTTP says it. OTLP sends again what was unavailable or late, and nothing else.
    pub(super) const fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            400 => Self::InvalidArgument,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 | 405 | 415 => Self::Unimplemented,
            408 => Self::DeadlineExceeded,
            413 => Self::ResourceExhausted,
            429 | 503 => Self::Unavailable,
            _ => Self::Internal,
        }
    }
}

/// Whether a request is a call, and its answer is to be one.
pub(in crate::serve) fn is(headers: &HeaderMap) -> bool {
    let media = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let rest = media.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest, b"" | b"+proto") || rest.starts_with(b";"))
}

/// The one message of a call, and whether it is compressed.
pub(super) fn message(body: &[u8]) -> Result<(bool, &[u8]), &'static str> {
    let (head, rest) = body.split_first_chunk::<5>().ok_or("a call without a message")?;
    let [flag, length @ ..] = *head;
    if u32::from_be_bytes(length) as usize != rest.len() {
        return Err("exactly one message is expected");
    }
    match flag {
        0 => Ok((false, rest)),
        1 => Ok((true, rest)),
        _ => Err("a frame has unknown flags"),
    }
}

fn call(body: Vec<u8>) -> Answer {
    typed(StatusCode::OK, "application/grpc", body)
}

/// An answer with a message.
pub(super) fn success(message: &[u8]) -> Answer {
    // An answer is a few hundred bytes.
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut answer = call([&[0][..], &length.to_be_bytes(), message].concat());
    let trailers = HeaderMap::from_iter([(
        header::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    answer.extensions_mut().insert(Trailers(trailers));
    answer
}

/// An answer without one: what would be trailers is in its head.
pub(super) fn failure(code: Code, why: &str) -> Answer {
    let mut answer = call(Vec::new());
    let headers = answer.headers_mut();
    headers.insert("grpc-status", HeaderValue::from(code as u16));
    let mut said = String::new();
    for byte in why.bytes().take(1024) {
        match byte {
            b' '..=b'~' if byte != b'%' => said.push(char::from(byte)),
            // Writing to a text never fails.
            _ => {
                let _ = write!(said, "%{byte:02X}");
            }
        }
    }
    if let Ok(said) = HeaderValue::from_str(&said) {
        headers.insert("grpc-message", said);
    }
    answer
}

/// What was answered as HTTP, for somebody who made a call.
pub(in crate::serve) async fn translated(answer: Answer) -> Answer {
    let is_call =
        answer.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes) == Some(b"application/grpc");
    if is_call {
        return answer;
    }
    let (head, body) = answer.into_parts();
    // It is in memory, and cannot fail.
    let why = body
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_else(|_: std::convert::Infallible| Bytes::new());
    failure(Code::of(head.status), String::from_utf8_lossy(&why).trim_end())
}
