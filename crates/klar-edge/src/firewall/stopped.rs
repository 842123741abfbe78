//! Requests that were stopped, or would have been, kept for whoever asks why.
//!
//! What may be secret is masked before it is kept: letters and digits of credentials, of cookies, and of values whose
//! names say that they are secret. What is left has the same length and the same signs, so that most rules find in it
//! what they found.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use klar_base::replay::{BODY_MAX, Sent, StoppedRequest, letters};
use klar_waf::engine::Request;

/// So many are kept in a second: of a flood of attacks a few say as much as all.
const EACH_SECOND: u32 = 20;
/// So many wait for the core.
const WAITING_MAX: usize = 100;
/// Headers and targets are kept up to this length, in bytes.
const HEAD_MAX: usize = 64 << 10;

/// Headers whose values are nobody's business.
const SECRET_HEADERS: [&str; 8] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "x-api-key",
    "x-auth-token",
    "x-csrf-token",
    "x-xsrf-token",
    "klar-check",
];
/// What the name of a secret value has in it, in small letters.
const SECRET_WORDS: [&[u8]; 10] =
    [b"passw", b"passord", b"losen", b"pwd", b"secret", b"token", b"api_key", b"apikey", b"card", b"cvc"];

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Stopped(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    requests: Vec<StoppedRequest>,
    /// The second that is counted, and how many were kept in it.
    second: Option<(Instant, u32)>,
}

impl Stopped {
    /// Whether there is room for one more just now.
    pub fn has_room(&self) -> bool {
        let waiting = self.lock();
        waiting.this_second().1 < EACH_SECOND && waiting.requests.len() < WAITING_MAX
    }

    /// Keeps one, until the core takes it. Those that begin at the same time may be a few more than there is room for.
    pub fn add(&self, request: StoppedRequest) {
        let mut waiting = self.lock();
        let (since, count) = waiting.this_second();
        waiting.second = Some((since, count + 1));
        waiting.requests.push(request);
    }

    /// What has come since.
    pub fn take(&self) -> Vec<StoppedRequest> {
        std::mem::take(&mut self.lock().requests)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Since when it is counted, and how many there are since.
    fn this_second(&self) -> (Instant, u32) {
        let now = Instant::now();
        let known = self.second.filter(|(since, _)| now.duration_since(*since) < Duration::from_secs(1));
        known.unwrap_or((now, 0))
    }
}

/// The request as it came, without what may be secret. `is_cut`: more of its body was to come.
pub fn sent(seen: &Request<'_>, is_cut: bool) -> Sent {
    let mut is_masked = false;
    let mut size = 0;
    let mut headers = Vec::new();
    for (name, value) in &seen.headers {
        size += name.len() + value.len();
        if size > HEAD_MAX {
            break;
        }
        let mut value = value.to_vec();
        if SECRET_HEADERS.iter().any(|secret| name.eq_ignore_ascii_case(secret.as_bytes())) {
            is_masked |= mask(&mut value);
        }
        headers.push((letters(name), letters(&value)));
    }
    let mut target = seen.target.get(..HEAD_MAX).unwrap_or(seen.target).to_vec();
    let mut body = seen.body.get(..BODY_MAX).unwrap_or(seen.body).to_vec();
    is_masked |= mask_values(&mut target);
    is_masked |= mask_values(&mut body);
    Sent {
        method: letters(seen.method),
        target: letters(&target),
        protocol: letters(seen.protocol),
        remote: letters(seen.remote),
        headers,
        is_cut: is_cut || body.len() < seen.body.len(),
        body: letters(&body),
        is_masked,
    }
}

fn mask(value: &mut [u8]) -> bool {
    let mut has_changed = false;
    for byte in value {
        let masked = match *byte {
            b'a'..=b'z' | b'A'..=b'Z' => b'x',
            b'0'..=b'9' => b'0',
            other => other,
        };
        has_changed |= masked != *byte;
        *byte = masked;
    }
    has_changed
}

/// Masks values with secret names, whatever they stand in: `NAME=value`, `"NAME": "value"`, `<NAME>value<`, and parts
/// named `"NAME"`.
fn mask_values(text: &mut [u8]) -> bool {
    let mut has_changed = false;
    let mut at = 0;
    while let Some(end) = end_of_secret_name(text, at) {
        let value = value_behind(text, end);
        has_changed |= mask(text.get_mut(value.clone()).unwrap_or_default());
        at = value.end.max(end);
    }
    has_changed
}

/// Where the next name ends that has a secret word in it.
fn end_of_secret_name(text: &[u8], from: usize) -> Option<usize> {
    let found = (from..text.len()).find_map(|at| {
        let rest = text.get(at..)?;
        let word = SECRET_WORDS
            .iter()
            .find(|word| rest.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word)))?;
        Some(at + word.len())
    })?;
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.[]%".contains(byte);
    let more = text.get(found..)?.iter().take_while(|byte| is_name(byte)).count();
    Some(found + more)
}

/// The value of the name that ends there; nothing where it is no name of a value.
fn value_behind(text: &[u8], end: usize) -> std::ops::Range<usize> {
    let rest = text.get(end..).unwrap_or_default();
    let until = |from: usize, is_end: &dyn Fn(&u8) -> bool| {
        let behind = text.get(from..).unwrap_or_default();
        from..from + behind.iter().position(is_end).unwrap_or(behind.len())
    };
    match rest {
        [b'=', ..] => until(end + 1, &|byte| b"&\r\n \"'".contains(byte)),
        [b'>', ..] => until(end + 1, &|byte| *byte == b'<'),
        [b'"', behind @ ..] => {
            let blanks = behind.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            match behind.get(blanks..) {
                Some([b':', value @ ..]) => {
                    let more = value.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
                    let begin = end + 1 + blanks + 1 + more;
                    match text.get(begin) {
                        Some(b'"') => string(text, begin + 1),
                        _ => until(begin, &|byte| b",}]\r\n".contains(byte)),
                    }
                }
                // A part of a form: its lines end with an empty one.
                _ => match behind.windows(4).take(1024).position(|four| four == b"\r\n\r\n") {
                    Some(at) => {
                        let begin = end + 1 + at + 4;
                        let behind = text.get(begin..).unwrap_or_default();
                        let length = behind.windows(4).position(|four| four == b"\r\n--");
                        begin..begin + length.unwrap_or(behind.len())
                    }
                    None => end..end,
                },
            }
        }
        _ => end..end,
    }
}

/// A string up to its quote.
fn string(text: &[u8], begin: usize) -> std::ops::Range<usize> {
    let mut at = begin;
    loop {
        match text.get(at) {
            Some(b'\\') => at += 2,
            Some(b'"') | None => return begin..at.min(text.len()),
            Some(_) => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_secret_is_masked() {
        for (came, kept) in [
            ("/a?q=1&password=Hemlig7!&b=2", "/a?q=1&password=xxxxxx0!&b=2"),
            ("user%5Bpasswd%5D=abc", "user%5Bpasswd%5D=xxx"),
            (r#"{"newPassword" : "a\"b1","n":1}"#, r#"{"newPassword" : "x\"x0","n":1}"#),
            (r#"{"cvc":123,"n":1}"#, r#"{"cvc":000,"n":1}"#),
            ("<password>abc</password><n>1</n>", "<password>xxx</password><n>1</n>"),
            (
                "Content-Disposition: form-data; name=\"token\"\r\n\r\nab1\r\n--B\r\nname=\"n\"\r\n\r\nab1",
                "Content-Disposition: form-data; name=\"token\"\r\n\r\nxx0\r\n--B\r\nname=\"n\"\r\n\r\nab1",
            ),
            ("text=tokens are fun", "text=tokens are fun"),
            ("q=1' UNION SELECT password FROM users", "q=1' UNION SELECT password FROM users"),
            ("token", "token"),
            (r#""pwd":"#, r#""pwd":"#),
            (r#""pwd":"\"#, r#""pwd":"\"#),
        ] {
            let mut text = came.as_bytes().to_vec();
            assert_eq!(mask_values(&mut text), came != kept, "{came}");
            assert_eq!(String::from_utf8_lossy(&text), kept);
        }
    }

    #[test]
    fn a_flood_is_not_kept() {
        let stopped = Stopped::default();
        let seen =
            Request { method: b"GET", target: b"/", protocol: b"", remote: b"", headers: vec![], body: b"" };
        let app: klar_base::AppKey = "shop.prod".parse().unwrap();
        let one = || StoppedRequest { request_id: "1".into(), app: app.clone(), sent: sent(&seen, false) };
        for _ in 0..1000 {
            if stopped.has_room() {
                stopped.add(one());
            }
        }
        let kept = stopped.take().len();
        // A second may end meanwhile.
        assert!((EACH_SECOND as usize..=WAITING_MAX).contains(&kept), "{kept}");
    }

    proptest! {
        #[test]
        fn signs_and_lengths_stay(text in "([a-zA-Z0-9=&\":<>{}\\\\ \r\n-]|password|token|\r\n\r\n){0,60}") {
            let mut masked = text.clone().into_bytes();
            mask_values(&mut masked);
            prop_assert_eq!(masked.len(), text.len());
            for (one, other) in masked.iter().zip(text.bytes()) {
                prop_assert!(*one == other || (other.is_ascii_alphanumeric() && matches!(one, b'x' | b'0')));
            }
        }
    }
}
