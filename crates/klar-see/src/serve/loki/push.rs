//! Lines that Loki's clients push: promtail, Grafana Alloy, Fluent Bit, Vector, and libraries of many languages
//! (<https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs>).
//!
//! In JSON the labels of a stream may stand behind its lines, and one body may have very many lines; so it is read twice:
//! first its labels, and whether it is JSON at all, then its lines, which become rows as they are met.

use std::borrow::Cow;

use http::StatusCode;
use http::request::Parts;
use klar_base::AppKey;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::super::unpack::{header, snappy, unpacked};
use super::super::{Answer, text};
use super::logql::stream_labels;
use crate::intake::Draft;
use crate::proto::{Malformed, Message};
use crate::rows::Delivery;
use crate::{Shared, now_ms};

/// What a body may unpack to, in bytes.
const UNPACKED_MAX: usize = 32 << 20;
/// Labels of a stream.
const LABELS_MAX: usize = 128;
/// Streams of a body in JSON, and labels of all of them.
const STREAMS_MAX: usize = 50_000;
const ALL_LABELS_MAX: usize = 500_000;

/// Names and values.
pub(super) type Pairs<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// Why lines are not taken.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Proto(#[from] Malformed),
    #[error("{0}")]
    Labels(String),
    #[error(transparent)]
    Store(#[from] klar_rows::Error),
}

/// Takes in what was pushed. 204: it is on disk.
pub(in crate::serve) fn push(shared: &Shared, whose: Option<&AppKey>, head: &Parts, body: &[u8]) -> Answer {
    let media = header(head, "content-type").split(';').next().unwrap_or_default().trim();
    let is_json = media.eq_ignore_ascii_case("application/json");
    let coding = header(head, "content-encoding");
    // What is no JSON is packed with Snappy, and does not always say so.
    let unpacked = if !is_json && (coding.is_empty() || coding.eq_ignore_ascii_case("snappy")) {
        snappy(body, UNPACKED_MAX).map(Cow::Owned)
    } else {
        unpacked(head, body, UNPACKED_MAX)
    };
    let unpacked = match unpacked {
        Ok(unpacked) => unpacked,
        Err((status, why)) => return text(status, why),
    };
    let now_us = now_ms().saturating_mul(1000);
    let taken = shared.rows.delivery().map_err(Trouble::from).and_then(|delivery| {
        let mut sink = Sink { delivery, whose, now_us, failed: None };
        if is_json {
            json(&unpacked, &mut sink)?
        } else {
            protobuf(&unpacked, &mut sink)?
        }
        Ok(sink.delivery.keep()?)
    });
    match taken {
        Ok(()) => {
            let mut answer = text(StatusCode::NO_CONTENT, "");
            answer.headers_mut().remove(http::header::CONTENT_TYPE);
            answer
        }
        Err(Trouble::Store(error)) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
        Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

/// Where lines go.
struct Sink<'a> {
    delivery: Delivery<'a>,
    whose: Option<&'a AppKey>,
    now_us: i64,
    /// Why no more are taken.
    failed: Option<klar_rows::Error>,
}

impl Sink<'_> {
    fn line<'a>(&mut self, labels: &'a Pairs<'a>, time_ns: i64, body: Cow<'a, str>, more: &'a Pairs<'a>) {
        if self.failed.is_some() {
            return;
        }
        let draft = draft(labels, time_ns, body, more);
        let delivery = &mut self.delivery;
        self.failed = draft.finish(self.whose, self.now_us, |line| delivery.line(&line)).err();
    }
}

fn draft<'a>(labels: &'a Pairs<'a>, time_ns: i64, body: Cow<'a, str>, more: &'a Pairs<'a>) -> Draft<'a> {
    let mut draft = Draft::of(Some(time_ns.div_euclid(1000)), body);
    // Grafana's own agents guess a level, which counts less than one that was said.
    let mut guessed = None;
    for (name, value) in labels.iter().chain(more) {
        let fill = |place: &mut Cow<'a, str>| {
            if place.is_empty() {
                *place = Cow::Borrowed(value);
            }
        };
        match &**name {
            "app" => fill(&mut draft.app),
            "env" => fill(&mut draft.env),
            "service" | "service_name" => fill(&mut draft.service),
            "instance" => fill(&mut draft.instance),
            "stream" => fill(&mut draft.stream),
            "level" | "severity" | "severity_text" if draft.level.is_none() => {
                draft.say_level(value);
                if draft.level.is_none() {
                    draft.attr(&**name, &**value);
                }
            }
            "detected_level" => guessed = Some(value),
            "trace_id" | "traceID" | "traceId" | "traceid" if draft.trace_id.is_none() => {
                draft.say_trace(value);
                if draft.trace_id.is_none() {
                    draft.attr(&**name, &**value);
                }
            }
            "span_id" | "spanID" | "spanId" | "spanid" if draft.span_id.is_none() => {
                draft.say_span(value);
                if draft.span_id.is_none() {
                    draft.attr(&**name, &**value);
                }
            }
            _ => draft.attr(&**name, &**value),
        }
    }
    if let Some(guessed) = guessed.filter(|_| draft.level.is_none()) {
        draft.say_level(guessed);
    }
    // What stands in for a service where nobody names one; it stays findable under its own name.
    let instead = |draft: &Draft<'_>, names: &[&str]| {
        names.iter().find_map(|name| draft.kept(name)).map(str::to_owned).unwrap_or_default()
    };
    if draft.service.is_empty() {
        draft.service =
            instead(&draft, &["job", "container", "container_name", "unit", "syslog_identifier"]).into();
    }
    if draft.instance.is_empty() {
        draft.instance = instead(&draft, &["pod", "host", "hostname", "nodename"]).into();
    }
    if draft.stream.is_empty() {
        draft.stream = "loki".into();
    }
    draft
}

/// `logproto.PushRequest`.
fn protobuf(body: &[u8], sink: &mut Sink<'_>) -> Result<(), Trouble> {
    let mut request = Message::new(body);
    while let Some((number, field)) = request.field()? {
        if number != 1 {
            continue;
        }
        let mut labels = Pairs::new();
        let mut stream = Message::new(field.bytes());
        // Labels come first in the bytes of everybody who writes fields in their order; others are read twice.
        while let Some((number, field)) = stream.field()? {
            if number == 1 {
                let text = std::str::from_utf8(field.bytes())
                    .map_err(|_| Trouble::Labels("labels are no UTF-8".into()))?;
                labels = stream_labels(text, LABELS_MAX).map_err(Trouble::Labels)?;
                break;
            }
        }
        let mut stream = Message::new(field.bytes());
        while let Some((number, field)) = stream.field()? {
            if number == 2 {
                entry(field.bytes(), &labels, sink)?;
            }
        }
    }
    sink.failed.take().map_or(Ok(()), |error| Err(error.into()))
}

fn entry(bytes: &[u8], labels: &Pairs<'_>, sink: &mut Sink<'_>) -> Result<(), Trouble> {
    let (mut time_ns, mut line, mut more) = (0_i64, Cow::Borrowed(""), Pairs::new());
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.field()? {
        match number {
            1 => {
                let mut time = Message::new(field.bytes());
                while let Some((number, field)) = time.field()? {
                    let unit = if number == 1 { 1_000_000_000 } else { 1 };
                    time_ns = time_ns.saturating_add(field.signed().saturating_mul(unit));
                }
            }
            2 => line = field.text(),
            3 if more.len() < LABELS_MAX => {
                let (mut name, mut value) = Default::default();
                let mut pair = Message::new(field.bytes());
                while let Some((number, field)) = pair.field()? {
                    match number {
                        1 => name = field.text(),
                        2 => value = field.text(),
                        _ => {}
                    }
                }
                more.push((name, value));
            }
            _ => {}
        }
    }
    sink.line(labels, time_ns, line, &more);
    Ok(())
}

fn json(body: &[u8], sink: &mut Sink<'_>) -> Result<(), Trouble> {
    #[derive(Deserialize)]
    struct Labels<'a> {
        #[serde(borrow, default)]
        streams: AllLabels<'a>,
    }
    let body = std::str::from_utf8(body).map_err(|_| Trouble::Labels("the body is no UTF-8".into()))?;
    let labels = serde_json::from_str::<Labels<'_>>(body)?.streams.0;
    let mut reader = serde_json::Deserializer::from_str(body);
    Whole { labels: &labels, sink }.deserialize(&mut reader)?;
    sink.failed.take().map_or(Ok(()), |error| Err(error.into()))
}

/// The labels of all streams, without their lines.
#[derive(Default)]
struct AllLabels<'a>(Vec<Pairs<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for AllLabels<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Stream<'a> {
            #[serde(borrow, default)]
            stream: Strings<'a>,
        }
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = AllLabels<'de>;
            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("a list of streams")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
                let (mut found, mut labels) = (Vec::new(), 0);
                while let Some(Stream { stream }) = all.next_element()? {
                    labels += stream.0.len();
                    if found.len() >= STREAMS_MAX || labels > ALL_LABELS_MAX {
                        return Err(A::Error::custom(format!(
                            "more than {STREAMS_MAX} streams, or {ALL_LABELS_MAX} labels of all of them"
                        )));
                    }
                    found.push(stream.0);
                }
                Ok(AllLabels(found))
            }
        }
        deserializer.deserialize_seq(Visit)
    }
}

/// An object whose values are texts; numbers and the like are taken as they are written.
#[derive(Default)]
struct Strings<'a>(Pairs<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Strings<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Strings<'de>;
            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("an object of texts")
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Strings::default())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Pairs::new();
                while let Some(Text(name)) = map.next_key()? {
                    let Text(value) = map.next_value()?;
                    if pairs.len() < LABELS_MAX {
                        pairs.push((name, value));
                    }
                }
                Ok(Strings(pairs))
            }
        }
        deserializer.deserialize_any(Visit)
    }
}

/// A text, borrowed where it can be; also a number or a truth.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Text<'de>;
            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("a text")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(text.into()))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(text.to_owned().into()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Text(number.to_string().into()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Text(number.to_string().into()))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Text(number.to_string().into()))
            }
            fn visit_bool<E>(self, is: bool) -> Result<Self::Value, E> {
                Ok(Text(if is { "true" } else { "false" }.into()))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Text("".into()))
            }
        }
        deserializer.deserialize_any(Visit)
    }
}

/// The whole of a body: `{"streams": [...]}`.
struct Whole<'a, 'b> {
    labels: &'a [Pairs<'a>],
    sink: &'a mut Sink<'b>,
}

impl<'de> DeserializeSeed<'de> for Whole<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Whole<'_, '_> {
    type Value = ();
    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("an object with `streams`")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(name)) = map.next_key()? {
            if name == "streams" {
                map.next_value_seed(Streams { labels: self.labels, sink: &mut *self.sink })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct Streams<'a, 'b> {
    labels: &'a [Pairs<'a>],
    sink: &'a mut Sink<'b>,
}

impl<'de> DeserializeSeed<'de> for Streams<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Streams<'_, '_> {
    type Value = ();
    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("a list of streams")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<(), A::Error> {
        let mut labels = self.labels.iter();
        // As many as were found the first time.
        while let Some(of) = labels.next().or(Some(&Pairs::new())) {
            if all.next_element_seed(One { labels: of, sink: &mut *self.sink })?.is_none() {
                break;
            }
        }
        Ok(())
    }
}

struct One<'a, 'b> {
    labels: &'a Pairs<'a>,
    sink: &'a mut Sink<'b>,
}

impl<'de> DeserializeSeed<'de> for One<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for One<'_, '_> {
    type Value = ();
    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("a stream with `stream` and `values`")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(name)) = map.next_key()? {
            if name == "values" {
                map.next_value_seed(Values { labels: self.labels, sink: &mut *self.sink })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct Values<'a, 'b> {
    labels: &'a Pairs<'a>,
    sink: &'a mut Sink<'b>,
}

impl<'de> DeserializeSeed<'de> for Values<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Values<'_, '_> {
    type Value = ();
    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("a list of [time, line]")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<(), A::Error> {
        while let Some(Value { time_ns, line, more }) = all.next_element()? {
            self.sink.line(self.labels, time_ns, line, &more.0);
        }
        Ok(())
    }
}

/// `["1700000000000000000", "the line", {"more": "of it"}]`.
struct Value<'a> {
    time_ns: i64,
    line: Cow<'a, str>,
    more: Strings<'a>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Value<'de>;
            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("[time, line]")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
                let too_few = || A::Error::custom("a value is [time, line]");
                let Text(time) = all.next_element()?.ok_or_else(too_few)?;
                let time_ns = time.parse().map_err(|_| {
                    A::Error::custom(format!("`{time:.40}` is no time: nanoseconds since 1970 are expected"))
                })?;
                let Text(line) = all.next_element()?.ok_or_else(too_few)?;
                let more = all.next_element()?.unwrap_or_default();
                while all.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Value { time_ns, line, more })
            }
        }
        deserializer.deserialize_seq(Visit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rows::Rows;
    use crate::tests::Folder;

    /// Takes a body in and throws it away.
    fn taken(rows: &Rows, body: &[u8], is_json: bool) -> Result<(), Trouble> {
        let mut sink = Sink { delivery: rows.delivery()?, whose: None, now_us: 0, failed: None };
        if is_json { json(body, &mut sink) } else { protobuf(body, &mut sink) }
    }

    #[test]
    fn any_body_is_taken_or_refused() {
        let folder = Folder::new("push");
        let (rows, _) = Rows::open(folder.path()).unwrap();
        let strategy = (
            proptest::collection::vec(any::<u8>(), 0..200),
            r#"(\{|\}|\[|\]|,|:|"streams"|"stream"|"values"|"a"|"1"|1|null| ){0,30}"#,
            0..100_usize,
            any::<u8>(),
        );
        proptest!(|((bytes, text, at, byte) in strategy)| {
            let _ = (taken(&rows, &bytes, true), taken(&rows, &bytes, false), taken(&rows, text.as_bytes(), true));
            // What was good, but for one byte.
            let mut good = br#"{"streams":[{"stream":{"a":"b"},"values":[["1","x",{"c":"d"}]]}],"other":[1]}"#.to_vec();
            taken(&rows, &good, true).unwrap();
            let at = at % good.len();
            good[at] = byte;
            let _ = taken(&rows, &good, true);
        });
        let many = format!(r#"{{"streams":[{}{{}}]}}"#, "{},".repeat(STREAMS_MAX));
        assert!(taken(&rows, many.as_bytes(), true).is_err());
    }
}
