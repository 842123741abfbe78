//! The bytes of a request that was kept, and the same with another value at a parameter.

use klar_base::replay::{Sent, bytes};
use klar_waf::body;
use klar_waf::seclang::BodyProcessor;
use klar_waf::transform::Transformation;
use serde_json::Value;

/// A request, byte for byte.
#[derive(Debug, Clone, Default)]
pub struct Raw {
    pub method: Vec<u8>,
    pub target: Vec<u8>,
    pub protocol: Vec<u8>,
    pub remote: Vec<u8>,
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub body: Vec<u8>,
    pub is_cut: bool,
}

impl Raw {
    /// `None`: it is not in letters that are bytes.
    pub fn read(sent: &Sent) -> Option<Self> {
        let headers = sent.headers.iter().map(|(name, value)| Some((bytes(name)?, bytes(value)?)));
        Some(Self {
            method: bytes(&sent.method)?,
            target: bytes(&sent.target)?,
            protocol: bytes(&sent.protocol)?,
            remote: bytes(&sent.remote)?,
            headers: headers.collect::<Option<_>>()?,
            body: bytes(&sent.body)?,
            is_cut: sent.is_cut,
        })
    }

    /// The same with another value at a parameter: `NAME`, `json.a.array_0`, `header:NAME`, `cookie:NAME`. `None`: it has
    /// no such parameter.
    pub fn with(&self, parameter: &str, value: &[u8]) -> Option<Self> {
        match parameter.split_once(':') {
            Some(("header", name)) => self.with_header(name, value),
            Some(("cookie", name)) => self.with_cookie(name, value),
            _ => self.with_argument(parameter, value),
        }
    }

    fn header(&self, name: &str) -> Option<(usize, &[u8])> {
        let is_it = |(its, _): &(Vec<u8>, Vec<u8>)| its.eq_ignore_ascii_case(name.as_bytes());
        let at = self.headers.iter().position(is_it)?;
        Some((at, &self.headers.get(at)?.1))
    }

    fn with_header(&self, name: &str, value: &[u8]) -> Option<Self> {
        let (at, _) = self.header(name)?;
        let mut other = self.clone();
        other.headers.get_mut(at)?.1 = value.to_vec();
        Some(other)
    }

    fn with_cookie(&self, name: &str, value: &[u8]) -> Option<Self> {
        let (at, cookies) = self.header("cookie")?;
        let mut is_there = false;
        let cookies: Vec<Vec<u8>> = cookies
            .split(|byte| *byte == b';')
            .map(|pair| match pair.trim_ascii().strip_prefix(name.as_bytes()) {
                Some([b'=', ..]) => {
                    is_there = true;
                    [name.as_bytes(), b"=", &encoded(value)].concat()
                }
                _ => pair.trim_ascii().to_vec(),
            })
            .collect();
        let mut other = self.clone();
        other.headers.get_mut(at)?.1 = cookies.join(&b"; "[..]);
        is_there.then_some(other)
    }

    fn with_argument(&self, name: &str, value: &[u8]) -> Option<Self> {
        let query = self.target.iter().position(|byte| *byte == b'?').map(|at| at + 1);
        if let Some(query) = query
            && let Some(pairs) = with_pair(self.target.get(query..)?, name, value)
        {
            let target = [self.target.get(..query)?, &pairs].concat();
            return Some(Self { target, ..self.clone() });
        }
        let kind = self.header("content-type").map_or(&b""[..], |(_, kind)| kind);
        let body = match body::of_type(kind).or_else(|| body::guess(&self.body))? {
            BodyProcessor::UrlEncoded => with_pair(&self.body, name, value)?,
            BodyProcessor::Multipart => with_part(&self.body, name, value)?,
            BodyProcessor::Json => {
                let mut json: Value = serde_json::from_slice(&self.body).ok()?;
                let text = String::from_utf8_lossy(value).into_owned();
                if !with_value(&mut json, "json", name, &text) {
                    return None;
                }
                serde_json::to_vec(&json).ok()?
            }
            BodyProcessor::Xml => return None,
        };
        let mut other = self.clone();
        if let Some((at, _)) = self.header("content-length") {
            other.headers.get_mut(at)?.1 = body.len().to_string().into_bytes();
        }
        Some(Self { body, ..other })
    }
}

/// `a=1&b=2` with another value at `name`, where it has one.
fn with_pair(pairs: &[u8], name: &str, value: &[u8]) -> Option<Vec<u8>> {
    let mut is_there = false;
    let pairs: Vec<Vec<u8>> = pairs
        .split(|byte| *byte == b'&')
        .map(|pair| {
            let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            let (its, _) = pair.split_at(end);
            let mut decoded = Vec::new();
            let is_decoded = Transformation::UrlDecode.apply(its, &mut decoded);
            if (if is_decoded { &decoded } else { its }) != name.as_bytes() {
                return pair.to_vec();
            }
            is_there = true;
            [its, b"=", &encoded(value)].concat()
        })
        .collect();
    is_there.then(|| pairs.join(&b'&'))
}

fn with_part(body: &[u8], name: &str, value: &[u8]) -> Option<Vec<u8>> {
    // `filename="t"` ends like it.
    let wanted = format!(" name=\"{name}\"");
    let find = |from: usize, what: &[u8]| {
        let rest = body.get(from..)?;
        rest.windows(what.len()).position(|here| here == what).map(|at| from + at)
    };
    let begin = find(find(0, wanted.as_bytes())?, b"\r\n\r\n")? + 4;
    let end = find(begin, b"\r\n--")?;
    Some([body.get(..begin)?, value, body.get(end..)?].concat())
}

/// Puts a text at a place of a JSON value. Whether there is such a place.
fn with_value(here: &mut Value, path: &str, wanted: &str, text: &str) -> bool {
    match here {
        Value::Object(members) => members.iter_mut().any(|(name, member)| {
            let name = if name.is_empty() { "empty-key" } else { name };
            with_value(member, &format!("{path}.{name}"), wanted, text)
        }),
        Value::Array(elements) => (0..).zip(elements).any(|(at, element): (usize, _)| {
            with_value(element, &format!("{path}.array_{at}"), wanted, text)
        }),
        single if path == wanted => {
            *single = Value::String(text.to_owned());
            true
        }
        _ => false,
    }
}

fn encoded(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in value {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(*byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, kind: &str, body: &str) -> Raw {
        let header = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        Raw {
            method: b"POST".to_vec(),
            target: target.as_bytes().to_vec(),
            protocol: b"HTTP/1.1".to_vec(),
            remote: b"203.0.113.7".to_vec(),
            headers: vec![
                header("Content-Type", kind),
                header("content-length", &body.len().to_string()),
                header("cookie", "a=1; b=2"),
                header("referer", "x"),
            ],
            body: body.as_bytes().to_vec(),
            is_cut: false,
        }
    }

    #[test]
    fn a_value_is_put_in_its_place() {
        let multipart = "multipart/form-data; boundary=B";
        let parts = "--B\r\nContent-Disposition: form-data; name=\"t\"\r\n\r\nold\r\n--B--\r\n";
        let file = "--B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"t\"\r\n\r\nfile\r\n";
        let after_file = format!("{file}{parts}");
        for (kind, body, parameter, wanted) in [
            ("application/x-www-form-urlencoded", "n=1&t%5B%5D=2", "t[]", "n=1&t%5B%5D=%27%20x"),
            ("application/json; charset=utf-8", r#"{"a":{"t":"o"}}"#, "json.a.t", r#"{"a":{"t":"' x"}}"#),
            (
                "application/json",
                r#"{"a":[1,{"":2}]}"#,
                "json.a.array_1.empty-key",
                r#"{"a":[1,{"":"' x"}]}"#,
            ),
            ("text/plain", "n=1&t=2", "t", "n=1&t=%27%20x"),
            ("", r#"{"t":1}"#, "json.t", r#"{"t":"' x"}"#),
            (multipart, parts, "t", &parts.replace("old", "' x")),
            (multipart, &after_file, "t", &after_file.replace("old", "' x")),
        ] {
            let other = request("/a?q=1", kind, body).with(parameter, b"' x").unwrap();
            assert_eq!(String::from_utf8_lossy(&other.body), wanted);
            assert_eq!(other.header("content-length").unwrap().1, wanted.len().to_string().as_bytes());
        }
        let old = request("/a?q=1&r", "text/plain", "");
        assert_eq!(old.with("q", b"a b").unwrap().target, b"/a?q=a%20b&r");
        assert_eq!(old.with("r", b"1").unwrap().target, b"/a?q=1&r=1");
        assert_eq!(old.with("cookie:b", b"3;").unwrap().header("cookie").unwrap().1, b"a=1; b=3%3B");
        assert_eq!(old.with("header:Referer", b"y").unwrap().header("referer").unwrap().1, b"y");
        for absent in ["s", "cookie:c", "header:x", "json.a"] {
            assert!(old.with(absent, b"1").is_none(), "{absent}");
        }
    }
}
