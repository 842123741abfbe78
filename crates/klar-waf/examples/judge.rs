//! Judges requests that come as lines of JSON, for `bench/waf`.
//!
//!     judge FILE... [--count N [--vary]] [--profile]
//!
//! Each FILE is one of rules, in their order; names of data files in it are looked for beside it. In comes
//! `{"n": 1, "request": BASE64, "response": BASE64}` (the response may be missing), out goes
//! `{"n": 1, "matched": [942100], "status": 403, "error": null}`. With `--count`, each request is judged so many
//! times, and what one took comes out as well: `"ns"` of processor time, and how many `"allocations"`, both of the second
//! half, when all is warm; and `"bytes"`, the memory that one takes at most; `"work"` is what was read of long values. With `--vary`, letters and digits of values
//! (in the query, in cookies and in the body) are others each time. With `--profile`, what each rule cost comes out on
//! stderr, the most expensive first.
#![allow(clippy::unwrap_used)]

mod counting;

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use klar_waf::engine::{Answer, Caches, Head, Memory, Transaction, Waf};
use klar_waf::seclang::{self, Source};
use klar_waf::transform::Transformation;
use serde_json::{Value, json};

fn main() {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut count = 1_u32;
    let (mut profiles, mut varies) = (false, false);
    let mut given = std::env::args().skip(1);
    while let Some(one) = given.next() {
        if one == "--count" {
            count = given.next().and_then(|count| count.parse().ok()).expect("--count N");
        } else if one == "--vary" {
            varies = true;
        } else if one == "--profile" {
            profiles = true;
        } else {
            files.push(one.into());
        }
    }
    let waf = load(&files);
    let mut caches = waf.caches();
    if profiles {
        caches.profile();
    }
    let mut memory = Box::<Memory>::default();
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let request = bytes(&line["request"]).unwrap_or_default();
        let response = bytes(&line["response"]);
        let variants: Vec<Vec<u8>> = match varies {
            true => (0..count).map(|round| varied(&request, round)).collect(),
            false => vec![request],
        };
        let asked: Vec<Message<'_>> = variants.iter().map(|request| message(request)).collect();
        let answered = response.as_deref().map(message);
        let mut said = Value::Null;
        let (mut begun, mut allocations, mut before) = (cpu_ns(), counting::allocations(), counting::begin());
        let mut took = (0, 0);
        for round in 0..count {
            if round == count / 2 {
                (begun, allocations) = (cpu_ns(), counting::allocations());
            }
            // The last one has a memory of its own, to see what that takes.
            if round > 0 && round == count - 1 {
                let rounds = u64::from((round - count / 2).max(1));
                took = ((cpu_ns() - begun) / rounds, (counting::allocations() - allocations) / rounds);
                drop(memory);
                before = counting::begin();
                memory = Box::default();
            }
            let mut transaction = waf.begin(memory);
            let asked = &asked[round as usize % asked.len()];
            let error = judge(&mut transaction, &caches, asked, answered.as_ref());
            if said.is_null() {
                let mut matched: Vec<u32> = transaction.matched().map(|one| one.rule).collect();
                matched.dedup();
                let status = transaction.interruption().filter(|one| one.blocks).map(|one| one.status);
                said = json!({ "n": line["n"], "matched": matched, "status": status, "error": error,
                    "work": transaction.work() });
            }
            memory = transaction.end();
        }
        if count > 1 {
            said["ns"] = json!(took.0);
            said["allocations"] = json!(took.1);
            said["bytes"] = json!(counting::peak().saturating_sub(before));
        }
        writeln!(out, "{said}").unwrap();
        out.flush().unwrap();
    }
    if profiles {
        eprintln!("{:>8} {:>10} {:>12} {:>10} {:>12}", "rule", "asked", "ns", "run", "ns");
        for cost in caches.costs() {
            eprintln!(
                "{:>8} {:>10} {:>12} {:>10} {:>12}",
                cost.rule, cost.asked, cost.asked_ns, cost.run, cost.run_ns
            );
        }
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

/// How long this thread has run: what else the machine does is no part of it.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// A request with other letters and digits in its values, and all else as it is.
fn varied(request: &[u8], round: u32) -> Vec<u8> {
    const LETTERS: &[u8] = b"etaoinshrdlucmfw";
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(u64::from(round) + 1);
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as usize
    };
    let mut made = request.to_vec();
    let head = request.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(request.len());
    let is_json = request.get(head + 4) == Some(&b'{');
    let (mut is_value, mut is_cookie, mut is_quoted) = (false, false, false);
    let first_line = request.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    for at in 0..made.len() {
        let in_body = at > head;
        if made[at] == b'\n' && !in_body {
            is_cookie = made[at + 1..].starts_with(b"Cookie:");
            is_value = false;
        }
        match made[at] {
            b'=' if !is_json || !in_body => is_value = at < first_line || is_cookie || in_body,
            b'&' | b';' => is_value = false,
            b' ' if !in_body => is_value = false,
            b'"' if is_json && in_body => is_quoted = !is_quoted,
            b':' if is_json && in_body && !is_quoted => is_value = true,
            b',' | b'}' | b'{' if is_json && in_body && !is_quoted => is_value = false,
            b'a'..=b'z' if is_value && (!is_json || !in_body || is_quoted) => {
                made[at] = LETTERS[next() % LETTERS.len()];
            }
            b'1'..=b'9' if is_value => made[at] = b'1' + (next() % 9) as u8,
            _ => {}
        }
    }
    made
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
    request: &Message<'_>,
    response: Option<&Message<'_>>,
) -> Option<&'static str> {
    let Message { line, headers, body } = request;
    let part = |at: usize| line.get(at).copied().unwrap_or_default();
    let head = Head {
        method: part(0),
        target: part(1),
        protocol: part(2),
        headers,
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
        let Message { line, headers, body } = response;
        let status = line.get(1).and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
        let protocol = line.first().copied().unwrap_or_default();
        let answer = Answer { status: status.unwrap_or(200), protocol, headers };
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
