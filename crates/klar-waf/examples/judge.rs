//! Judges requests that come as lines of JSON, for `bench/waf`.
//!
//!     judge FILE... [--count N]
//!
//! Each FILE is one of rules, in their order; names of data files in it are looked for beside it. In comes
//! `{"n": 1, "request": BASE64, "response": BASE64}` (the response may be missing), out goes
//! `{"n": 1, "matched": [942100], "status": 403, "error": null}`. With `--count`, each request is judged so many
//! times, and how many nanoseconds of processor time one took comes out as `"ns"`.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use klar_waf::engine::{Answer, Caches, Head, Memory, Transaction, Waf};
use klar_waf::seclang::{self, Source};
use klar_waf::transform::Transformation;
use serde_json::{Value, json};

fn main() {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut count = 1_u32;
    let mut given = std::env::args().skip(1);
    while let Some(one) = given.next() {
        if one == "--count" {
            count = given.next().and_then(|count| count.parse().ok()).expect("--count N");
        } else {
            files.push(one.into());
        }
    }
    let waf = load(&files);
    let caches = waf.caches();
    let mut memory = Box::<Memory>::default();
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let request = bytes(&line["request"]).unwrap_or_default();
        let response = bytes(&line["response"]);
        let mut said = Value::Null;
        let begun = Instant::now();
        for _ in 0..count {
            let mut transaction = waf.begin(memory);
            let error = judge(&mut transaction, &caches, &request, response.as_deref());
            if said.is_null() {
                let mut matched: Vec<u32> = transaction.matched().map(|one| one.rule).collect();
                matched.dedup();
                let status = transaction.interruption().filter(|one| one.blocks).map(|one| one.status);
                said = json!({ "n": line["n"], "matched": matched, "status": status, "error": error });
            }
            memory = transaction.end();
        }
        if count > 1 {
            said["ns"] = json!(begun.elapsed().as_nanos() / u128::from(count));
        }
        writeln!(out, "{said}").unwrap();
        out.flush().unwrap();
    }
}

fn load(files: &[PathBuf]) -> Waf {
    let mut directives = Vec::new();
    for file in files {
        let text = String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
        let parsed = seclang::parse(&Source { name: &file.to_string_lossy(), text: &text });
        parsed.refused.iter().for_each(|refused| eprintln!("{refused}"));
        directives.extend(parsed.directives);
    }
    let set = seclang::resolve(directives);
    set.refused.iter().for_each(|refused| eprintln!("{refused}"));
    let beside = |file: &str, name: &str| std::fs::read(Path::new(file).parent()?.join(name)).ok();
    let (waf, refused) = Waf::new(&set, &beside);
    refused.iter().for_each(|refused| eprintln!("{refused}"));
    eprintln!("{} rules", waf.len());
    waf
}

fn bytes(text: &Value) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    Transformation::Base64Decode.apply(text.as_str()?.as_bytes(), &mut out);
    Some(out)
}

/// A message in parts, as a lenient server takes it.
struct Message<'a> {
    line: Vec<&'a [u8]>,
    headers: Vec<(&'a [u8], &'a [u8])>,
    body: &'a [u8],
}

fn message(bytes: &[u8]) -> Message<'_> {
    let mut at = 0;
    let mut lines = Vec::new();
    while let Some(end) = bytes[at..].iter().position(|byte| *byte == b'\n') {
        let line = bytes[at..at + end].strip_suffix(b"\r").unwrap_or(&bytes[at..at + end]);
        at += end + 1;
        if line.is_empty() && !lines.is_empty() {
            break;
        }
        if !line.is_empty() {
            lines.push(line);
        }
    }
    let line = lines.first().copied().unwrap_or_default().splitn(3, |byte| *byte == b' ').collect();
    let headers = lines.iter().skip(1).filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((line[..colon].trim_ascii(), line[colon + 1..].trim_ascii()))
    });
    Message { line, headers: headers.collect(), body: &bytes[at..] }
}

fn judge(
    transaction: &mut Transaction<'_>,
    caches: &Caches,
    request: &[u8],
    response: Option<&[u8]>,
) -> Option<&'static str> {
    let Message { line, headers, body } = message(request);
    let part = |at: usize| line.get(at).copied().unwrap_or_default();
    let head = Head {
        method: part(0),
        target: part(1),
        protocol: part(2),
        headers: &headers,
        remote: b"127.0.0.1",
        unique_id: b"0123456789abcdef",
    };
    let is_over = transaction.request(caches, &head).is_some() || {
        if transaction.wants_body() {
            transaction.push_body(body);
        }
        transaction.request_body(caches).is_some()
    };
    if !is_over && let Some(response) = response {
        let Message { line, headers, body } = message(response);
        let status = line.get(1).and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
        let protocol = line.first().copied().unwrap_or_default();
        let answer = Answer { status: status.unwrap_or(200), protocol, headers: &headers };
        if transaction.response(caches, &answer).is_none() {
            if transaction.wants_response_body() {
                transaction.push_response_body(body);
            }
            transaction.response_body(caches);
        }
    }
    transaction.log(caches);
    None
}
