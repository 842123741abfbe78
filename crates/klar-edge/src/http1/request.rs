//! A head of HTTP/1.1, once it is all there, as the request that the rest of the edge knows.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, Uri, Version};

use crate::fields;
use crate::framing::{self, Framing, Refusal};

/// A request without its body, and what its connection has to know of it.
#[derive(Debug)]
pub struct Head {
    pub request: Request<()>,
    pub framing: Framing,
    pub asked: Asked,
}

/// What an answer depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub is_head: bool,
    /// HTTP/1.0: no chunks.
    pub is_old: bool,
    /// The visitor may ask again on the same connection (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// The visitor waits for `100 Continue` before it sends its body (RFC 9110 section 10.1.1).
    pub expects: bool,
    /// The visitor takes trailers (RFC 9110 section 10.1.4).
    pub takes_trailers: bool,
}

impl Asked {
    /// By a request that is refused: its connection ends with the answer.
    pub const REFUSED: Self =
        Self { is_head: false, is_old: false, keep_alive: false, expects: false, takes_trailers: false };
}

impl Asked {
    /// What the answer to this head depends on.
    pub fn of(head: &httparse::Request<'_, '_>) -> Self {
        let is_old = head.version != Some(1);
        let mut asked = Self {
            is_head: head.method == Some("HEAD"),
            is_old,
            keep_alive: !is_old,
            expects: false,
            takes_trailers: false,
        };
        let mut must_close = false;
        for line in head.headers.iter() {
            // By their length: hardly any line is one of these.
            match line.name.len() {
                10 if fields::is(line, &header::CONNECTION) => {
                    must_close |= has_token(line.value, "close");
                    asked.keep_alive |= has_token(line.value, "keep-alive");
                }
                6 if fields::is(line, &header::EXPECT) => {
                    asked.expects = !is_old && line.value.eq_ignore_ascii_case(b"100-continue");
                }
                2 if fields::is(line, &header::TE) => {
                    asked.takes_trailers = !is_old && has_token(line.value, "trailers");
                }
                _ => {}
            }
        }
        asked.keep_alive &= !must_close;
        asked
    }
}

/// Reads a whole head. Its values share the memory of `bytes`.
///
/// # Errors
/// How it is to be refused.
pub fn read(bytes: &Bytes) -> Result<Head, Refusal> {
    let mut lines = framing::no_lines();
    let parsed = framing::parse(bytes, &mut lines)?;
    let framing = framing::judge_request(&parsed)?;
    Ok(Head { request: request(bytes, &parsed)?, framing, asked: Asked::of(&parsed) })
}

/// Makes a request of what was parsed of `bytes`.
///
/// # Errors
/// How it is to be refused.
pub fn request(bytes: &Bytes, parsed: &httparse::Request<'_, '_>) -> Result<Request<()>, Refusal> {
    let method = parsed.method.unwrap_or_default();
    let method =
        Method::from_bytes(method.as_bytes()).map_err(|_| Refusal::Bad("the request line is not one"))?;
    let target = bytes.slice_ref(parsed.path.unwrap_or_default().as_bytes());
    let target =
        Uri::from_maybe_shared(target).map_err(|_| Refusal::Bad("the target is neither a path nor a URL"))?;
    let mut request = Request::new(());
    let headers = request.headers_mut();
    headers.reserve(parsed.headers.len());
    for line in parsed.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes())
            .map_err(|_| Refusal::Bad("a header has no valid name"))?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(line.value))
            .map_err(|_| Refusal::Bad("a header has no valid value"))?;
        headers.append(name, value);
    }
    *request.method_mut() = method;
    *request.uri_mut() = target;
    let is_old = parsed.version != Some(1);
    *request.version_mut() = if is_old { Version::HTTP_10 } else { Version::HTTP_11 };
    Ok(request)
}

/// Whether a list has a token, in whatever case. One that is not ASCII has none, as `headers.rs` reads it too.
pub fn has_token(list: &[u8], token: &str) -> bool {
    fields::text(list).is_some_and(|list| list.split(',').any(|item| item.trim().eq_ignore_ascii_case(token)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Head, Refusal> {
        read(&Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn everything_is_kept() {
        let head = head(
            "PATCH /a?b=c HTTP/1.1\r\nHost: a\r\nX-Y:  1 \r\nx-y: 2\r\nName: \u{e6}\r\nContent-Length: 3\r\n\r\n",
        )
        .unwrap();
        let request = head.request;
        assert_eq!((request.method(), request.version()), (&Method::PATCH, Version::HTTP_11));
        assert_eq!(request.uri(), "/a?b=c");
        let values: Vec<_> = request.headers().get_all("x-y").iter().collect();
        assert_eq!(values, ["1", "2"]);
        assert_eq!(request.headers()["name"].as_bytes(), "\u{e6}".as_bytes());
        assert_eq!((request.headers().len(), head.framing), (5, Framing::Length(3)));
    }

    /// RFC 9112 section 9.3.
    #[test]
    fn connections_persist_as_they_are_asked_to() {
        for (version, lines, keep_alive) in [
            ("1.1", "", true),
            ("1.1", "connection: close\r\n", false),
            ("1.1", "Connection: x, CLOSE\r\n", false),
            ("1.1", "connection: keep-alive\r\n", true),
            ("1.1", "connection: close\r\nconnection: keep-alive\r\n", false),
            ("1.1", "connection: closed\r\n", true),
            ("1.0", "", false),
            ("1.0", "connection: Keep-Alive\r\n", true),
            ("1.0", "connection: keep-alive, close\r\n", false),
            ("1.0", "connection: keep-alive, \u{e6}\r\n", false),
        ] {
            let head = head(&format!("GET / HTTP/{version}\r\nhost: a\r\n{lines}\r\n")).unwrap();
            assert_eq!(head.asked.keep_alive, keep_alive, "{version} {lines:?}");
        }
    }

    #[test]
    fn what_is_asked_for_beside() {
        for (method, version, lines, wanted) in [
            ("GET", "1.1", "", [false, false, false]),
            ("HEAD", "1.1", "", [true, false, false]),
            ("PUT", "1.1", "expect: 100-Continue\r\n", [false, true, false]),
            ("PUT", "1.1", "expect: more\r\n", [false, false, false]),
            ("PUT", "1.0", "expect: 100-continue\r\nte: trailers\r\n", [false, false, false]),
            ("GET", "1.1", "te: gzip;q=0, trailers\r\n", [false, false, true]),
        ] {
            let asked = head(&format!("{method} / HTTP/{version}\r\nhost: a\r\n{lines}\r\n")).unwrap().asked;
            assert_eq!([asked.is_head, asked.expects, asked.takes_trailers], wanted, "{method} {lines:?}");
        }
    }

    #[test]
    fn a_target_that_is_no_uri_is_refused() {
        for target in ["/a{b}", "/\u{e6}", "/<x>", "/a|b", "/a\"b", "https://a:b:c/"] {
            let refused = head(&format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n"));
            // What `http` takes, hyper took as well.
            match target.parse::<Uri>() {
                Ok(_) => assert!(refused.is_ok(), "{target}"),
                Err(_) => assert!(matches!(refused, Err(Refusal::Bad(_))), "{target}"),
            }
        }
    }
}
