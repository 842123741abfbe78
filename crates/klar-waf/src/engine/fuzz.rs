//! Whatever rules and a request hold: what is decided beforehand, at a glance, by who sleeps or from memory is decided as
//! it is where every question is asked in full.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use klar_fuzz::{Feed, Fuzz};

use super::memory::decimal;
use super::{Answer, Caches, Files, Head, Kept, Matched, Memory, Transaction, Waf};
use crate::compile::compile_plainly;
use crate::program::{Operator, Piece, Template};
use crate::seclang::{self, Collection, RuleSet, Source};

/// The same rules twice: as they run, and as they stand there.
struct Both {
    waf: Waf,
    caches: Caches,
    plain: Waf,
    plain_caches: Caches,
    memory: Box<Memory>,
    plain_memory: Box<Memory>,
}

/// What came of a request.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    matched: Vec<String>,
    ended: Option<String>,
    variables: Vec<String>,
}

/// A request as it is written in an input: a byte of settings, lines, an empty line and a body.
struct Request<'a> {
    settings: u8,
    line: Vec<&'a [u8]>,
    headers: Vec<(&'a [u8], &'a [u8])>,
    body: &'a [u8],
}

impl<'a> Request<'a> {
    fn read(input: &'a [u8]) -> Self {
        let mut feed = Feed::new(input);
        let settings = feed.byte();
        let line = feed.until(b'\n').splitn(3, |byte| *byte == b' ').collect();
        let mut headers = Vec::new();
        while !feed.is_empty() {
            let header = feed.until(b'\n');
            if header.is_empty() {
                break;
            }
            let mut parts = header.splitn(2, |byte| *byte == b':');
            let name = parts.next().unwrap_or_default();
            headers.push((name, parts.next().unwrap_or_default().trim_ascii()));
        }
        Self { settings, line, headers, body: feed.rest() }
    }

    fn has(&self, setting: u8) -> bool {
        self.settings >> setting & 1 != 0
    }

    fn judge(&self, waf: &Waf, caches: &Caches, memory: Box<Memory>) -> (Said, Box<Memory>) {
        let part = |at: usize, usual: &'static [u8]| self.line.get(at).copied().unwrap_or(usual);
        let head = Head {
            method: part(0, b"GET"),
            target: part(1, b"/"),
            protocol: part(2, b"HTTP/1.1"),
            headers: &self.headers,
            remote: if self.has(0) { b"127.0.0.1" } else { b"192.0.2.7" },
            unique_id: b"0123456789abcdef",
        };
        let mut transaction = waf.begin(memory);
        if self.has(1) {
            transaction.only_detect();
        }
        let is_over = transaction.request(caches, &head).is_some() || {
            transaction.push_body(self.body);
            transaction.request_body(caches).is_some()
        };
        if !is_over && self.has(2) {
            let headers: [(&[u8], &[u8]); 1] = [(b"Content-Type", b"text/html; charset=utf-8")];
            let status = if self.has(3) { 500 } else { 200 };
            transaction.response(caches, &Answer { status, protocol: b"HTTP/1.1", headers: &headers });
            transaction.push_response_body(self.body);
            transaction.response_body(caches);
        }
        transaction.log(caches);
        (Said::of(&transaction), transaction.end())
    }
}

impl Said {
    fn of(transaction: &Transaction<'_>) -> Self {
        let (program, memory) = (transaction.program, &transaction.memory);
        let hits = memory.hits.iter().map(|hit| {
            let rule = &program.rules[hit.rule as usize];
            let link = &program.links[(rule.links.start + hit.link) as usize];
            let captures = link.capture
                && !link.negated
                && matches!(link.operator, Operator::Expression(_) | Operator::Phrases(_) | Operator::Sqli);
            // What a rule says may name what another one captured, if that one was run.
            let is_own = |template: u32| match &program.templates[template as usize] {
                Template::Constant(_) => true,
                Template::Mixed(pieces) => pieces.iter().all(|piece| match piece {
                    Piece::Slot(slot) => match &program.slots[*slot as usize] {
                        (Collection::Tx, name) if **name == *b"0" => captures,
                        (Collection::Tx, name) => !is_captured(name),
                        _ => true,
                    },
                    _ => true,
                }),
            };
            link.log_data.is_none_or(is_own)
        });
        let matched = transaction.matched().zip(hits).map(|(one, is_own)| {
            let data = if is_own { one.data } else { b"" };
            format!("{:?}", Matched { data, ..one })
        });
        // Names of variables that rules put together are in no slot, and neither do rules that sleep set them.
        let mut variables: Vec<String> = program
            .slots
            .iter()
            .zip(&memory.slots)
            .filter(|((_, name), kept)| !is_captured(name) && **kept != Kept::Unset)
            .map(|((collection, name), kept)| {
                let mut digits = [0; 20];
                let text = match kept {
                    Kept::Unset => b"".to_vec(),
                    Kept::Number(number) if *number < 0 => number.to_string().into_bytes(),
                    Kept::Number(number) => decimal(number.unsigned_abs(), &mut digits).to_vec(),
                    Kept::Cell(cell) => memory.cell(*cell).to_vec(),
                };
                format!("{collection:?} {} = {}", name.escape_ascii(), text.escape_ascii())
            })
            .collect();
        variables.sort();
        // The places of rules are those of a program.
        let ended = transaction.interruption().map(|one| {
            format!("{} {} {} {} {:?}", one.rule, one.status, one.closes, one.blocks, one.location)
        });
        Self { matched: matched.collect(), ended, variables }
    }
}

/// `TX:0` to `TX:9`.
fn is_captured(name: &[u8]) -> bool {
    matches!(name, [b'0'..=b'9'])
}

impl Both {
    fn of(set: &RuleSet, files: Files<'_>) -> Self {
        let (waf, refused) = Waf::new(set, files);
        let (plain, plainly_refused) = Waf::of(compile_plainly(set, files));
        assert!(refused.len() >= plainly_refused.len());
        let (caches, plain_caches) = (waf.caches(), plain.caches());
        Self { waf, caches, plain, plain_caches, memory: Box::default(), plain_memory: Box::default() }
    }

    /// Panics where both do not say the same of a request, the first time or when it has been seen.
    fn check(&mut self, request: &Request<'_>) {
        let memory = std::mem::take(&mut self.plain_memory);
        let (plainly, memory) = request.judge(&self.plain, &self.plain_caches, memory);
        self.plain_memory = memory;
        for round in 0..3 {
            let memory = std::mem::take(&mut self.memory);
            let (said, memory) = request.judge(&self.waf, &self.caches, memory);
            self.memory = memory;
            for (one, plain) in said.matched.iter().zip(&plainly.matched) {
                assert_eq!(one, plain, "round {round}");
            }
            assert_eq!(said, plainly, "round {round}");
        }
    }
}

const REQUESTS: &[&[u8]] = &[
    b"\x00GET / HTTP/1.1\nHost: a.example\n\n",
    b"\x04GET /search?q=running+shoes&size=42 HTTP/1.1\nHost: shop.example\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\nAccept: text/html,*/*;q=0.8\nCookie: session=Zm9v; theme=dark\n\nYou have an error in your SQL syntax",
    b"\x02POST /login?next=%2f HTTP/1.1\nHost: a.example\nContent-Type: application/x-www-form-urlencoded\n\nname=admin%27--&pass=1%27%20or%20%271%27=%271",
    b"\x00POST /api HTTP/1.1\nHost: a.example\nContent-Type: application/json\n\n{\"a\":{\"b\":[\"<script>alert(1)</script>\",2,null]},\"c\":\"; cat /etc/passwd\"}",
    b"\x02POST /soap HTTP/1.1\nHost: a.example\nContent-Type: text/xml\n\n<r k='../../etc/passwd'>${jndi:ldap://x/a}</r>",
    b"\x02POST /up HTTP/1.1\nHost: a.example\nContent-Type: multipart/form-data; boundary=b\n\n--b\r\nContent-Disposition: form-data; name=f; filename=\"x.php\"\r\n\r\n<?php system('id');\r\n--b\r\nContent-Disposition: form-data; name=\"q\"\r\n\r\nunion select 1\r\n--b--\r\n",
    b"\x03TRACE /a/../b/.env?x={{7*7}}&y=http://169.254.169.254/latest HTTP/1.0\nHost: 10.0.0.1\nUser-Agent: sqlmap/1.8\nX-Forwarded-For: 1.2.3.4\nReferer: javascript:alert(1)\n\n",
    b"\x0eGET /?a=%25%32%37&b=%u0027&c=%c0%af&d=&e HTTP/1.1\nHost: a.example\nRange: bytes=0-,5-0\nproxy: x\n\nORA-00933 <html>",
    b"\x02PUT /x HTTP/1.1\nHost: a.example\nContent-Type: text/plain\n\na=1&b=`id`&c=$(sleep 5)",
];

#[rustfmt::skip] // a list of words
const WORDS: &[&[u8]] = &[
    b"GET ", b"POST ", b" HTTP/1.1\n", b"Host: ", b"Content-Type: ", b"Cookie: ", b"User-Agent: ", b"Referer: ", b"\n", b"\n\n",
    b"application/json", b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=b", b"text/xml", b"charset=utf-7",
    b"?", b"&", b"=", b"%27", b"%2527", b"%u0027", b"&lt;", b"&#x3c;", b"\\u003c", b"\\x3c", b"+", b"%00", b"\xc3\xa5", b"\xe5",
    b"select ", b"UNION", b"' or '1'='1", b"\"", b"--", b"/*", b"*/", b"1=1", b"sleep(5)", b"information_schema",
    b"<script>", b"onerror=", b"javascript:", b"<svg/", b"<!--", b"../", b"..\\", b"/etc/passwd", b".env", b"WEB-INF",
    b";", b"|", b"`id`", b"$(", b"cat ", b"/bin/sh", b"wget ", b"cmd.exe", b"{{", b"}}", b"${jndi:", b"<?php", b"system(", b"php://",
    b"http://127.0.0.1/", b"file://", b"{\"a\":", b"[", b"]", b"}", b"\",\"", b"<a>", b"</a>", b"__proto__", b"$where", b"x-forwarded-for",
    b"--b\r\n", b"Content-Disposition: form-data; name=\"a\"", b"; filename=\"a.php\"", b"\r\n\r\n", b"--b--\r\n", b"proxy", b"transfer-encoding",
];

/// Fewer where each takes long and nobody waits for more.
fn is_passed_over(count: &mut u32) -> bool {
    *count += 1;
    std::env::var_os("KLAR_FUZZ_SECONDS").is_none() && *count > 20 && !count.is_multiple_of(6)
}

#[test]
fn requests_by_klar_core() {
    let core = crate::rules::KLAR_CORE.iter().flat_map(|source| seclang::parse(source).directives);
    let mut both = Both::of(&seclang::resolve(core.collect()), &|_, _| None);
    let mut count = 0;
    Fuzz { name: "requests by klar-core", seeds: REQUESTS, words: WORDS, longest: 1200 }.run(|input| {
        if !is_passed_over(&mut count) {
            both.check(&Request::read(input));
        }
    });
}

/// The rules in a folder, with all that its settings can switch on; `None` if it is not there.
fn rules_of(folder: &Path, level: u8) -> Option<Both> {
    let Ok(listed) = std::fs::read_dir(folder) else {
        println!("skipped: there is no {}", folder.display());
        return None;
    };
    let mut names: Vec<_> = listed.map(|one| one.unwrap().path()).collect();
    names.retain(|name| name.extension().is_some_and(|extension| extension == "conf"));
    names.sort();
    let setup = format!(
        "SecAction \"id:900990,phase:1,nolog,pass,setvar:tx.crs_setup_version=420,\
         setvar:tx.paranoia_level={level},setvar:tx.blocking_paranoia_level={level},\
         setvar:tx.max_num_args=6,setvar:tx.arg_length=40\""
    );
    let mut directives = seclang::parse(&Source { name: "setup.conf", text: &setup }).directives;
    for name in &names {
        let text = String::from_utf8_lossy(&std::fs::read(name).unwrap()).into_owned();
        directives.extend(seclang::parse(&Source { name: "rules.conf", text: &text }).directives);
    }
    let beside = |_: &str, name: &str| std::fs::read(folder.join(name)).ok();
    Some(Both::of(&seclang::resolve(directives), &beside))
}

#[test]
fn requests_by_the_core_rule_set() {
    let named = std::env::var_os("KLAR_CRS_DIR").map(|folder| Path::new(&folder).join("rules"));
    for folder in [Some("/usr/share/modsecurity-crs/rules".into()), named].into_iter().flatten() {
        for level in [1, 4] {
            let Some(mut both) = rules_of(&folder, level) else { continue };
            let mut count = 0;
            let name = format!("requests by the Core Rule Set, level {level}");
            Fuzz { name: &name, seeds: REQUESTS, words: WORDS, longest: 1200 }.run(|input| {
                if !is_passed_over(&mut count) {
                    both.check(&Request::read(input));
                }
            });
        }
    }
}

#[rustfmt::skip] // lists of what rules are made of
mod parts {
    pub const TARGETS: &[&str] = &[
        "ARGS", "ARGS:a", "ARGS:/^b/", "ARGS|!ARGS:a", "ARGS_NAMES", "ARGS_GET", "ARGS_POST", "&ARGS", "&ARGS:a", "&REQUEST_COOKIES",
        "REQUEST_HEADERS", "REQUEST_HEADERS:Host", "REQUEST_HEADERS_NAMES", "!REQUEST_HEADERS:Cookie|REQUEST_HEADERS", "&REQUEST_HEADERS:Host",
        "REQUEST_COOKIES", "REQUEST_COOKIES_NAMES", "REQUEST_COOKIES|ARGS|XML:/*", "REQUEST_URI", "REQUEST_FILENAME", "REQUEST_BASENAME",
        "REQUEST_METHOD", "REQUEST_PROTOCOL", "REQUEST_LINE", "QUERY_STRING", "REQUEST_BODY", "REQBODY_ERROR", "REQBODY_PROCESSOR", "REMOTE_ADDR",
        "FILES", "FILES_NAMES", "FILES_SIZES", "MULTIPART_PART_HEADERS", "ARGS_COMBINED_SIZE", "TX:a", "TX:b", "&TX:a", "TX:/^made_/", "TX:score",
        "MATCHED_VARS", "MATCHED_VAR", "MATCHED_VARS_NAMES", "RESPONSE_BODY", "RESPONSE_STATUS", "UNIQUE_ID", "ARGS|REQUEST_HEADERS:User-Agent",
    ];
    pub const OPERATORS: &[&str] = &[
        "@rx a", "@rx ^$", "@rx ^.*$", "@rx (?i)(un)ion|(se)lect", "@rx ^[a-z0-9]*$", "@rx (?i)<scri", "@rx \\d+", "@rx [^\\x00-\\x7f]", "@pm a or select <", "@pm etc passwd",
        "@streq a", "@streq b", "@contains a", "@contains ..", "@containsWord select", "@beginsWith /", "@endsWith a", "@within GET POST a b", "@within %{tx.b}",
        "@eq 0", "@eq 1", "@gt 1", "@ge %{tx.a}", "@lt 5", "@le 0", "@validateByteRange 32-126", "@validateUrlEncoding", "@validateUtf8Encoding",
        "@detectSQLi", "@detectXSS", "@ipMatch 127.0.0.0/8", "@unconditionalMatch", "@noMatch", "@streq %{tx.0}", "@contains %{tx.1}", "@eq %{tx.score}",
    ];
    pub const TRANSFORMATIONS: &[&str] = &[
        "none", "lowercase", "urlDecodeUni", "htmlEntityDecode", "removeNulls", "length", "jsDecode", "cssDecode", "compressWhitespace", "removeWhitespace",
        "replaceComments", "removeCommentsChar", "normalizePath", "normalizePathWin", "cmdLine", "base64Decode", "hexDecode", "trim", "utf8toUnicode", "escapeSeqDecode", "sha1", "uppercase",
    ];
    pub const ACTIONS: &[&str] = &[
        "capture", "multiMatch", "nolog", "log", "setvar:tx.a=1", "setvar:tx.a=+1", "setvar:'tx.b=%{tx.0}'", "setvar:'tx.b=%{MATCHED_VAR}'", "setvar:!tx.a", "setvar:'tx.score=+%{tx.a}'",
        "setvar:'tx.made_%{tx.0}=/%{tx.0}/'", "setvar:'tx.b=GET POST'", "setvar:tx.score=-2", "logdata:'%{TX.0} in %{MATCHED_VAR_NAME}'", "logdata:'%{MATCHED_VAR}'", "severity:2",
        "ctl:ruleRemoveById=3", "ctl:ruleRemoveById=2-4", "ctl:ruleRemoveTargetById=3;ARGS:a", "ctl:ruleRemoveTargetById=1-9;ARGS", "ctl:ruleEngine=DetectionOnly", "ctl:forceRequestBodyVariable=On",
        "ctl:requestBodyProcessor=JSON", "skip:1", "skipAfter:END", "skipAfter:4", "tag:'a'", "ctl:ruleRemoveByTag=a",
    ];
    pub const DISRUPTIVE: &[&str] = &["pass", "pass", "pass", "deny,status:403", "allow", "allow:phase", "drop", "redirect:'/%{tx.b}'"];
}

/// Rules, put together as an input says.
fn rules_in(feed: &mut Feed<'_>) -> String {
    use std::fmt::Write;
    let mut text = String::from("SecRequestBodyAccess On\nSecResponseBodyAccess On\n");
    for id in 1..=2 + feed.below(5) {
        let phase = feed.one_of(&["1", "2", "2", "2", "3", "4", "5"]);
        let _ = write!(text, "SecRule ");
        let mut links = 1 + feed.below(4).saturating_sub(1);
        let mut is_head = true;
        loop {
            let negation = feed.one_of(&["", "", "", "!"]);
            let (targets, operator) = (feed.one_of(parts::TARGETS), feed.one_of(parts::OPERATORS));
            let _ = write!(text, "{targets} \"{negation}{operator}\" \"t:none");
            if is_head {
                let _ = write!(text, ",id:{id},phase:{phase},{}", feed.one_of(parts::DISRUPTIVE));
            }
            for _ in 0..feed.below(4) {
                let _ = write!(text, ",t:{}", feed.one_of(parts::TRANSFORMATIONS));
            }
            for _ in 0..feed.below(4) {
                let action = feed.one_of(parts::ACTIONS);
                // These are for heads alone.
                let is_of_head =
                    ["skip", "severity", "tag", "nolog", "log"].iter().any(|one| action.starts_with(one));
                if is_head || !is_of_head {
                    let _ = write!(text, ",{action}");
                }
            }
            links -= 1;
            if links == 0 {
                text.push_str("\"\n");
                break;
            }
            text.push_str(",chain\"\n    SecRule ");
            is_head = false;
        }
        if feed.below(6) == 1 {
            text.push_str("SecMarker END\n");
        }
    }
    text
}

#[test]
fn rules_of_any_kind() {
    let seeds: Vec<Vec<u8>> = REQUESTS
        .iter()
        .enumerate()
        .flat_map(|(at, request)| {
            // Rules that differ from request to request, and the request behind them.
            [7_usize, 31, 57].map(|step| {
                let rules = (0..48).map(|place: usize| (place * step + at * 13) as u8);
                let rules: Vec<u8> = rules.filter(|byte| *byte != b'\n').collect();
                [&rules[..], b"\n", request].concat()
            })
        })
        .collect();
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    let (mut compiled, mut matched) = (0_u64, 0_u64);
    Fuzz { name: "rules of any kind", seeds: &seeds, words: WORDS, longest: 1000 }.run(|input| {
        let mut feed = Feed::new(input);
        let text = rules_in(&mut Feed::new(feed.until(b'\n')));
        let parsed = seclang::parse(&Source { name: "rules.conf", text: &text });
        assert!(parsed.refused.is_empty(), "{:?}\n{text}", parsed.refused);
        let mut both = Both::of(&seclang::resolve(parsed.directives), &|_, _| None);
        // A pattern or a text that rules change is refused by the one and waits for its rule in the other.
        if both.waf.len() != both.plain.len() {
            return;
        }
        compiled += 1;
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for request in [feed.rest(), REQUESTS[1], REQUESTS[2]] {
                both.check(&Request::read(request));
                matched += u64::from(!both.memory.hits.is_empty());
            }
        }));
        if let Err(cause) = ended {
            eprintln!("{text}");
            std::panic::resume_unwind(cause);
        }
    });
    assert!(matched * 4 > compiled, "{matched} requests of {compiled} rule sets matched a rule");
}
