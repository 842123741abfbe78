//! What instances say, read from their files as it comes.
//!
//! A shim writes each line to `APP.ENV/logs/SERVICE/INSTANCE.log` in the format of container runtimes, and renames the file
//! when it is long ([`klar_run`'s shim]). Where it has been read to is written down when the rows are on disk: what comes
//! while nobody reads is read later, and after a kill some lines may be there twice.
//!
//! [`klar_run`'s shim]: https://kubernetes.io/docs/concepts/cluster-administration/logging/

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use klar_base::{AppKey, ServiceName};
use serde::{Deserialize, Serialize};

use crate::rows::{self, Rows};

/// How much is read of a file before the next one has its turn.
const TURN: usize = 1 << 20;
/// The longest line that is put together, in bytes.
const LINE_MAX: usize = 64 << 10;
/// Files that are followed.
const FILES_MAX: usize = 1_000;
/// Of a file that was never seen before, at most so much is read.
const PAST_MAX: u64 = 16 << 20;

/// A line.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Line<'a> {
    pub time_us: i64,
    pub app: &'a str,
    pub env: &'a str,
    pub service: &'a str,
    pub instance: &'a str,
    pub stream: &'a str,
    pub level: Option<&'static str>,
    pub body: &'a str,
    pub trace_id: Option<[u8; 16]>,
    pub span_id: Option<[u8; 8]>,
    /// What else is known, by name.
    pub attrs: &'a [(&'a str, &'a str)],
}

/// Where a file has been read to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct At {
    inode: u64,
    offset: u64,
}

#[derive(Debug)]
struct Followed {
    file: File,
    at: At,
    /// The beginning of a line whose end has not come yet.
    rest: Vec<u8>,
    /// Pieces of a long line, with the time and the stream of the first one.
    pieces: Option<(i64, String, String)>,
}

/// Follows all files.
#[derive(Debug, Default)]
pub struct Tails {
    files: BTreeMap<PathBuf, Followed>,
    /// Where others were read to before this process began.
    before: BTreeMap<PathBuf, At>,
    written: BTreeMap<PathBuf, At>,
}

fn state_file(folder: &Path) -> PathBuf {
    folder.join("tails.json")
}

impl Tails {
    /// Goes on where the last process was.
    pub fn open(folder: &Path) -> Self {
        // One that is missing or damaged: all is read anew.
        let before = fs::read(state_file(folder)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { before: before.unwrap_or_default(), ..Self::default() }
    }

    /// Reads what is new of all files of services of an app. Whether there may be more at once. The folder of all services
    /// may not be listed, so their names are asked for.
    pub fn read(&mut self, apps: &Path, key: &AppKey, services: &[ServiceName], rows: &Rows) -> bool {
        let (app, env) = (key.app.to_string(), key.env.to_string());
        let mut more = false;
        let folder = apps.join(key.to_string()).join("logs");
        for service in services {
            // There is none before it has said something.
            let entries = fs::read_dir(folder.join(service.as_str()));
            for entry in entries.into_iter().flatten().flatten() {
                let path = entry.path();
                let file_name = entry.file_name();
                let Some(instance) = file_name.to_str().and_then(|name| name.strip_suffix(".log")) else {
                    continue;
                };
                let whose =
                    Line { app: &app, env: &env, service: service.as_str(), instance, ..Line::default() };
                // What cannot be read now may be the next time.
                more |= self.read_file(&path, whose, rows).unwrap_or(false);
            }
        }
        more
    }

    fn read_file(&mut self, path: &Path, whose: Line<'_>, rows: &Rows) -> io::Result<bool> {
        let inode = fs::metadata(path)?.ino();
        if let Some(followed) = self.files.get_mut(path) {
            let more = followed.read(whose, rows)?;
            if followed.at.inode == inode || more {
                return Ok(more);
            }
            // It was renamed, and has been read to its end.
            self.files.remove(path);
        }
        if self.files.len() >= FILES_MAX {
            return Ok(false);
        }
        let mut file = File::open(path)?;
        let meta = file.metadata()?;
        let known = self.before.remove(path).filter(|at| at.inode == meta.ino() && at.offset <= meta.len());
        let offset = known.map_or(meta.len().saturating_sub(PAST_MAX), |at| at.offset);
        file.seek(SeekFrom::Start(offset))?;
        let mut followed =
            Followed { file, at: At { inode: meta.ino(), offset }, rest: Vec::new(), pieces: None };
        // In the middle of a line, if it was never seen before and is long.
        let more = followed.read(whose, rows)?;
        self.files.insert(path.to_owned(), followed);
        Ok(more)
    }

    /// Forgets files that are gone, and writes down where all others were read to. To be called when what was read is on
    /// disk.
    ///
    /// # Errors
    /// The disk; after a kill more would be there twice.
    pub fn write(&mut self, folder: &Path) -> io::Result<()> {
        self.files.retain(|path, _| path.exists());
        let now: BTreeMap<PathBuf, At> =
            self.files.iter().map(|(path, one)| (path.clone(), one.read_to())).collect();
        if now == self.written {
            return Ok(());
        }
        let next = folder.join("tails.next");
        fs::write(&next, serde_json::to_vec(&now)?)?;
        fs::rename(&next, state_file(folder))?;
        self.written = now;
        Ok(())
    }
}

impl Followed {
    /// Up to the last line that was whole.
    fn read_to(&self) -> At {
        At { offset: self.at.offset - self.rest.len() as u64, ..self.at }
    }

    /// Whether there may be more.
    fn read(&mut self, whose: Line<'_>, rows: &Rows) -> io::Result<bool> {
        let mut piece = vec![0; 64 << 10];
        let mut read = 0;
        while read < TURN {
            let count = self.file.read(&mut piece)?;
            if count == 0 {
                return Ok(false);
            }
            read += count;
            self.at.offset += count as u64;
            self.rest.extend_from_slice(piece.get(..count).unwrap_or_default());
            let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let lines: Vec<u8> = self.rest.drain(..whole).collect();
            for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                self.line(&String::from_utf8_lossy(line), whose, rows);
            }
            if self.rest.len() > LINE_MAX {
                self.rest.clear();
            }
        }
        Ok(true)
    }

    /// `2026-11-21T07:20:10.123456Z stdout F text`, where `P` stands for `F` if the text goes on with the next line.
    fn line(&mut self, line: &str, whose: Line<'_>, rows: &Rows) {
        let mut parts = line.splitn(4, ' ');
        let (Some(time), Some(stream), Some(tag)) = (parts.next(), parts.next(), parts.next()) else {
            return;
        };
        let text = parts.next().unwrap_or_default();
        let Ok(time) = time.parse::<jiff::Timestamp>() else { return };
        let time_us = time.as_microsecond();
        let add = |time_us: i64, stream: &str, text: &str| {
            // What brings colours to a terminal is noise here.
            let plain = without_escapes(text);
            let (trace_id, span_id) = ids(&plain);
            rows.line(&Line {
                time_us,
                stream,
                level: level(&plain),
                body: &plain,
                trace_id,
                span_id,
                ..whose
            });
        };
        match (self.pieces.take(), tag) {
            (None, "P") => self.pieces = Some((time_us, stream.to_owned(), text.to_owned())),
            (Some((first_us, first, mut whole)), tag) if first == stream => {
                if whole.len() + text.len() <= LINE_MAX {
                    whole.push_str(text);
                }
                if tag == "P" {
                    self.pieces = Some((first_us, first, whole));
                } else {
                    add(first_us, &first, &whole);
                }
            }
            (pieces, _) => {
                if let Some((first_us, first, whole)) = pieces {
                    add(first_us, &first, &whole);
                }
                add(time_us, stream, text);
            }
        }
    }
}

/// Without sequences that control a terminal (ECMA-48: ESC `[`, parameters, a letter).
fn without_escapes(text: &str) -> std::borrow::Cow<'_, str> {
    if !text.contains('\u{1b}') {
        return text.into();
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = match behind.strip_prefix('[') {
            Some(sequence) => {
                let end = sequence.find(|letter: char| ('@'..='~').contains(&letter));
                end.and_then(|end| sequence.get(end + 1..)).unwrap_or_default()
            }
            None => behind,
        };
    }
    plain.push_str(rest);
    plain.into()
}

/// How bad a line is, as its writer says: in JSON under the usual names, otherwise by a word at its beginning.
pub fn level(text: &str) -> Option<&'static str> {
    #[derive(Deserialize)]
    struct Json {
        #[serde(alias = "severity", alias = "lvl", alias = "levelname", alias = "log.level")]
        level: serde_json::Value,
    }
    if text.starts_with('{') {
        let said = serde_json::from_str::<Json>(text).ok()?.level;
        return named(said.as_str().unwrap_or(&said.to_string()));
    }
    const LOOK: usize = 6;
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    // Words in capitals, or before a colon as many write it: `error: ...`.
    let mut words = words.take(LOOK);
    words.find_map(|word| {
        let is_loud = word.bytes().all(|byte| byte.is_ascii_uppercase());
        let is_named = text.strip_prefix(word).is_some_and(|rest| rest.starts_with(':'));
        if is_loud || is_named {
            named(word).filter(|_| !word.bytes().all(|byte| byte.is_ascii_digit()))
        } else {
            None
        }
    })
}

/// The trace and the span that a line says it belongs to: in JSON under the usual names, and in any text as a
/// `traceparent` (<https://www.w3.org/TR/trace-context/>), for instance in the comment of a statement that a database writes
/// down (<https://google.github.io/sqlcommenter/>).
fn ids(text: &str) -> (Option<[u8; 16]>, Option<[u8; 8]>) {
    // Most lines have none.
    if !text.contains("trace") && !text.contains("Trace") {
        return (None, None);
    }
    if text.starts_with('{')
        && let Ok(Ids { trace: trace @ Some(_), span }) = serde_json::from_str(text)
    {
        return (trace, span);
    }
    for (at, name) in text.match_indices("traceparent") {
        let rest = text.get(at + name.len()..).unwrap_or_default();
        let value = rest.trim_start_matches(['"', '\'', '=', ':', ' ', '\\']);
        if let Some((trace, span)) = traceparent(value) {
            return (Some(trace), Some(span));
        }
    }
    (None, None)
}

/// What a text begins with: `00-`, the trace, `-`, the span, `-` and flags.
fn traceparent(text: &str) -> Option<([u8; 16], [u8; 8])> {
    let rest = text.strip_prefix("00-")?;
    let (trace, span) = (hex::<16>(rest.get(..32)?)?, hex::<8>(rest.get(33..49)?)?);
    (rest.get(32..33) == Some("-") && rest.get(49..50) == Some("-")).then_some((trace, span))
}

/// An id, unless it is all zeros.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut id = [0; N];
    (rows::from_hex(text, &mut id) && id != [0; N]).then_some(id)
}

/// The ids of a line in JSON.
#[derive(Default)]
struct Ids {
    trace: Option<[u8; 16]>,
    span: Option<[u8; 8]>,
}

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> serde::de::Visitor<'de> for Pairs {
            type Value = Ids;

            fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                to.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Ids, A::Error> {
                let mut ids = Ids::default();
                while let Some(name) = map.next_key::<std::borrow::Cow<'_, str>>()? {
                    let is_trace =
                        matches!(&*name, "trace_id" | "traceId" | "traceID" | "trace.id" | "otelTraceID");
                    let is_span =
                        matches!(&*name, "span_id" | "spanId" | "spanID" | "span.id" | "otelSpanID");
                    if !is_trace && !is_span && name != "traceparent" {
                        map.next_value::<serde::de::IgnoredAny>()?;
                        continue;
                    }
                    let value = map.next_value::<serde_json::Value>()?;
                    let value = value.as_str().unwrap_or_default();
                    if is_trace {
                        ids.trace = hex(value).or(ids.trace);
                    } else if is_span {
                        ids.span = hex(value).or(ids.span);
                    } else if let Some((trace, span)) = traceparent(value) {
                        ids.trace = ids.trace.or(Some(trace));
                        ids.span = ids.span.or(Some(span));
                    }
                }
                Ok(ids)
            }
        }
        from.deserialize_map(Pairs)
    }
}

/// The name of a level, whatever it is called; numbers are those of pino and bunyan.
pub fn named(word: &str) -> Option<&'static str> {
    Some(match word.to_ascii_lowercase().as_str() {
        "trace" | "10" => "trace",
        "debug" | "dbg" | "20" => "debug",
        "info" | "information" | "notice" | "log" | "30" => "info",
        "warn" | "warning" | "40" => "warn",
        "error" | "err" | "50" => "error",
        "fatal" | "critical" | "crit" | "alert" | "emerg" | "emergency" | "panic" | "60" => "fatal",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::{Duration, Instant};

    use klar_rows::Order;

    use super::*;
    use crate::rows::{LOG, Wanted};
    use crate::tests::Folder;

    #[test]
    fn levels() {
        for (text, expected) in [
            (r#"{"level":"warn","msg":"x"}"#, Some("warn")),
            (r#"{"level":50,"msg":"x"}"#, Some("error")),
            (r#"{"severity":"CRITICAL"}"#, Some("fatal")),
            (r#"{"msg":"ERROR"}"#, None),
            ("2026-01-01 12:00:00,123 ERROR in app: x", None),
            ("[ERROR] x", Some("error")),
            ("WARNING:root:x", Some("warn")),
            ("error: x", Some("error")),
            ("the error was mine", None),
            ("LOG:  database system is ready", Some("info")),
            ("10 green bottles", None),
            ("", None),
        ] {
            assert_eq!(level(text), expected, "{text}");
        }
    }

    #[test]
    fn lines_say_which_trace_they_belong_to() {
        const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
        const SPAN: &str = "b7ad6b7169203331";
        let parent = format!("00-{TRACE}-{SPAN}-01");
        for (text, trace, span) in [
            (format!(r#"{{"msg":"x","trace_id":"{TRACE}","span_id":"{SPAN}"}}"#), true, true),
            (format!(r#"{{"traceId":"{TRACE}"}}"#), true, false),
            (format!(r#"{{"trace.id":"{TRACE}","span.id":"{SPAN}"}}"#), true, true),
            (format!(r#"{{"otelTraceID":"{TRACE}","otelSpanID":"0"}}"#), true, false),
            (format!(r#"{{"traceparent":"{parent}"}}"#), true, true),
            (format!(r#"{{"req":{{"headers":{{"traceparent":"{parent}"}}}}}}"#), true, true),
            (format!(r#"{{"req":"{{\"traceparent\":\"{parent}\"}}"}}"#), true, true),
            (format!("LOG:  statement: SELECT 1 /*application='x',traceparent='{parent}'*/"), true, true),
            (format!("traceparent: {parent}"), true, true),
            (format!("traceparent: 00-{TRACE}"), false, false),
            (format!("traceparent: 00-{TRACE}-{SPAN}"), false, false),
            (format!("a trace {TRACE}"), false, false),
            (format!(r#"{{"trace_id":"{}"}}"#, "0".repeat(32)), false, false),
            (format!(r#"{{"trace_id":"{TRACE}x"}}"#), false, false),
            (r#"{"trace_id":7}"#.to_owned(), false, false),
            (r#"{"trace_id":"#.to_owned(), false, false),
            ("traceparent: 00-ø".repeat(20), false, false),
        ] {
            let found = ids(&text);
            assert_eq!((found.0.is_some(), found.1.is_some()), (trace, span), "{text}");
            assert!(found.0.is_none() || found.0 == hex(TRACE), "{text}");
        }
    }

    fn bodies(rows: &Rows) -> Vec<String> {
        rows.hand_in();
        let wanted = Wanted {
            table: LOG,
            from_us: 0,
            to_us: i64::MAX,
            filters: Vec::new(),
            order: Order::Oldest,
            limit: 1000,
            deadline: Instant::now() + Duration::from_secs(60),
        };
        let (found, is_partial) = rows.find(&wanted).unwrap();
        assert!(!is_partial);
        found.iter().map(|row| row["body"].as_str().unwrap().to_owned()).collect()
    }

    /// Lines in pieces, files that are renamed, half a line, and going on after a restart: each line once.
    #[test]
    fn each_line_is_read_once() {
        let folder = Folder::new("tails");
        let (rows, _) = Rows::open(&folder.path().join("rows")).unwrap();
        let (key, services): (AppKey, _) = ("shop.prod".parse().unwrap(), ["web".parse().unwrap()]);
        let logs = folder.path().join("shop.prod/logs/web");
        fs::create_dir_all(&logs).unwrap();
        let path = logs.join("web.1.log");
        let mut file = File::options().create(true).append(true).open(&path).unwrap();
        let mut tails = Tails::open(folder.path());
        let time = |second: u32| format!("2026-11-21T07:20:{second:02}.000000Z");
        writeln!(file, "{} stdout F \u{1b}[31mred\u{1b}[0m one", time(1)).unwrap();
        write!(file, "{} stdout P tw", time(2)).unwrap();
        assert!(!tails.read(folder.path(), &key, &services, &rows));
        assert_eq!(bodies(&rows), ["red one"]);
        writeln!(file, "\n{} stdout F o", time(3)).unwrap();
        tails.read(folder.path(), &key, &services, &rows);
        assert_eq!(bodies(&rows), ["red one", "two"]);
        tails.write(folder.path()).unwrap();
        writeln!(file, "{} stdout F three", time(4)).unwrap();
        fs::rename(&path, logs.join("web.1.log.00000000000001")).unwrap();
        let mut file = File::options().create(true).append(true).open(&path).unwrap();
        writeln!(file, "{} stderr F four", time(5)).unwrap();
        tails.read(folder.path(), &key, &services, &rows);
        assert_eq!(bodies(&rows), ["red one", "two", "three", "four"]);
        tails.write(folder.path()).unwrap();
        drop(tails);
        writeln!(file, "{} stderr F five", time(6)).unwrap();
        let mut tails = Tails::open(folder.path());
        tails.read(folder.path(), &key, &services, &rows);
        assert_eq!(bodies(&rows), ["red one", "two", "three", "four", "five"]);
        writeln!(file, "nonsense").unwrap();
        tails.read(folder.path(), &key, &services, &rows);
        assert_eq!(bodies(&rows).len(), 5);
    }
}
