//! OTLP in JSON, written anew as Protocol Buffers
//! (<https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>): ids in hex, numbers of 64 bits as texts, names in
//! camel case, unknown names passed over.
//!
//! It is done as the text is read, by tables of fields, so that no tree of the text is ever in memory: a few bytes of JSON
//! would be a hundred times as much as a tree.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Signal;
use crate::proto::{put_fixed64, put_key, put_number};

/// A field that is known.
pub struct Entry {
    name: &'static str,
    number: u32,
    kind: Kind,
}

type Schema = &'static [Entry];

#[derive(Clone, Copy)]
enum Kind {
    Message(Schema),
    Text,
    /// Bytes in hex.
    Id,
    /// Bytes in Base64.
    Bytes,
    Bool,
    /// A number as a varint.
    Number,
    /// The same, with its sign in the lowest bit.
    Zigzag,
    Fixed64,
    Double,
}

const fn entry(name: &'static str, number: u32, kind: Kind) -> Entry {
    Entry { name, number, kind }
}

use Kind::{Bool, Double, Fixed64, Id, Number, Text, Zigzag};

static ANY: [Entry; 7] = [
    entry("stringValue", 1, Text),
    entry("boolValue", 2, Bool),
    entry("intValue", 3, Number),
    entry("doubleValue", 4, Double),
    entry("arrayValue", 5, Kind::Message(&LIST)),
    entry("kvlistValue", 6, Kind::Message(&MAP)),
    entry("bytesValue", 7, Kind::Bytes),
];
static LIST: [Entry; 1] = [entry("values", 1, Kind::Message(&ANY))];
static MAP: [Entry; 1] = [entry("values", 1, Kind::Message(&PAIR))];
static PAIR: [Entry; 2] = [entry("key", 1, Text), entry("value", 2, Kind::Message(&ANY))];
static RESOURCE: [Entry; 1] = [entry("attributes", 1, Kind::Message(&PAIR))];
static SCOPE: [Entry; 2] = [entry("name", 1, Text), entry("version", 2, Text)];

static TRACES: [Entry; 1] = [entry("resourceSpans", 1, Kind::Message(&RESOURCE_SPANS))];
static RESOURCE_SPANS: [Entry; 2] =
    [entry("resource", 1, Kind::Message(&RESOURCE)), entry("scopeSpans", 2, Kind::Message(&SCOPE_SPANS))];
static SCOPE_SPANS: [Entry; 2] =
    [entry("scope", 1, Kind::Message(&SCOPE)), entry("spans", 2, Kind::Message(&SPAN))];
static SPAN: [Entry; 11] = [
    entry("traceId", 1, Id),
    entry("spanId", 2, Id),
    entry("parentSpanId", 4, Id),
    entry("name", 5, Text),
    entry("kind", 6, Number),
    entry("startTimeUnixNano", 7, Fixed64),
    entry("endTimeUnixNano", 8, Fixed64),
    entry("attributes", 9, Kind::Message(&PAIR)),
    entry("events", 11, Kind::Message(&EVENT)),
    entry("links", 13, Kind::Message(&LINK)),
    entry("status", 15, Kind::Message(&STATUS)),
];
static EVENT: [Entry; 3] =
    [entry("timeUnixNano", 1, Fixed64), entry("name", 2, Text), entry("attributes", 3, Kind::Message(&PAIR))];
static LINK: [Entry; 2] = [entry("traceId", 1, Id), entry("spanId", 2, Id)];
static STATUS: [Entry; 2] = [entry("message", 2, Text), entry("code", 3, Number)];

static LOGS: [Entry; 1] = [entry("resourceLogs", 1, Kind::Message(&RESOURCE_LOGS))];
static RESOURCE_LOGS: [Entry; 2] =
    [entry("resource", 1, Kind::Message(&RESOURCE)), entry("scopeLogs", 2, Kind::Message(&SCOPE_LOGS))];
static SCOPE_LOGS: [Entry; 2] =
    [entry("scope", 1, Kind::Message(&SCOPE)), entry("logRecords", 2, Kind::Message(&LINE))];
static LINE: [Entry; 9] = [
    entry("timeUnixNano", 1, Fixed64),
    entry("observedTimeUnixNano", 11, Fixed64),
    entry("severityNumber", 2, Number),
    entry("severityText", 3, Text),
    entry("body", 5, Kind::Message(&ANY)),
    entry("attributes", 6, Kind::Message(&PAIR)),
    entry("traceId", 9, Id),
    entry("spanId", 10, Id),
    entry("eventName", 12, Text),
];

static METRICS: [Entry; 1] = [entry("resourceMetrics", 1, Kind::Message(&RESOURCE_METRICS))];
static RESOURCE_METRICS: [Entry; 2] =
    [entry("resource", 1, Kind::Message(&RESOURCE)), entry("scopeMetrics", 2, Kind::Message(&SCOPE_METRICS))];
static SCOPE_METRICS: [Entry; 2] =
    [entry("scope", 1, Kind::Message(&SCOPE)), entry("metrics", 2, Kind::Message(&METRIC))];
static METRIC: [Entry; 7] = [
    entry("name", 1, Text),
    entry("unit", 3, Text),
    entry("gauge", 5, Kind::Message(&NUMBERS)),
    entry("sum", 7, Kind::Message(&NUMBERS)),
    entry("histogram", 9, Kind::Message(&HISTOGRAM)),
    entry("exponentialHistogram", 10, Kind::Message(&EXPONENTIAL)),
    entry("summary", 11, Kind::Message(&SUMMARY)),
];
static NUMBERS: [Entry; 3] = [
    entry("dataPoints", 1, Kind::Message(&NUMBER)),
    entry("aggregationTemporality", 2, Number),
    entry("isMonotonic", 3, Bool),
];
static NUMBER: [Entry; 6] = [
    entry("attributes", 7, Kind::Message(&PAIR)),
    entry("startTimeUnixNano", 2, Fixed64),
    entry("timeUnixNano", 3, Fixed64),
    entry("asDouble", 4, Double),
    entry("asInt", 6, Fixed64),
    entry("flags", 8, Number),
];
static HISTOGRAM: [Entry; 2] =
    [entry("dataPoints", 1, Kind::Message(&BUCKETS)), entry("aggregationTemporality", 2, Number)];
static BUCKETS: [Entry; 7] = [
    entry("attributes", 9, Kind::Message(&PAIR)),
    entry("timeUnixNano", 3, Fixed64),
    entry("count", 4, Fixed64),
    entry("sum", 5, Double),
    entry("bucketCounts", 6, Fixed64),
    entry("explicitBounds", 7, Double),
    entry("flags", 10, Number),
];
static EXPONENTIAL: [Entry; 2] =
    [entry("dataPoints", 1, Kind::Message(&SCALED)), entry("aggregationTemporality", 2, Number)];
static SCALED: [Entry; 10] = [
    entry("attributes", 1, Kind::Message(&PAIR)),
    entry("timeUnixNano", 3, Fixed64),
    entry("count", 4, Fixed64),
    entry("sum", 5, Double),
    entry("scale", 6, Zigzag),
    entry("zeroCount", 7, Fixed64),
    entry("positive", 8, Kind::Message(&SPREAD)),
    entry("negative", 9, Kind::Message(&SPREAD)),
    entry("flags", 10, Number),
    entry("zeroThreshold", 14, Double),
];
static SPREAD: [Entry; 2] = [entry("offset", 1, Zigzag), entry("bucketCounts", 2, Number)];
static SUMMARY: [Entry; 1] = [entry("dataPoints", 1, Kind::Message(&QUANTILES))];
static QUANTILES: [Entry; 6] = [
    entry("attributes", 7, Kind::Message(&PAIR)),
    entry("timeUnixNano", 3, Fixed64),
    entry("count", 4, Fixed64),
    entry("sum", 5, Double),
    entry("quantileValues", 6, Kind::Message(&QUANTILE)),
    entry("flags", 8, Number),
];
static QUANTILE: [Entry; 2] = [entry("quantile", 1, Double), entry("value", 2, Double)];

/// The fields of an `Export…ServiceRequest`.
pub(super) fn schema(signal: Signal) -> Schema {
    match signal {
        Signal::Traces => &TRACES,
        Signal::Logs => &LOGS,
        Signal::Metrics => &METRICS,
    }
}

/// The same message in Protocol Buffers, `max` bytes at most.
pub(super) fn to_protobuf(schema: Schema, json: &[u8], max: usize) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Vec::new();
    let mut reader = serde_json::Deserializer::from_slice(json);
    Fields { schema, out: &mut out, max }.deserialize(&mut reader)?;
    reader.end()?;
    Ok(out)
}

/// The fields of one message.
struct Fields<'o> {
    schema: Schema,
    out: &'o mut Vec<u8>,
    max: usize,
}

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(known) = map.next_key_seed(Name(self.schema))? {
            match known {
                Some(entry) => map.next_value_seed(Given { entry, out: &mut *self.out, max: self.max })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
            if self.out.len() > self.max {
                return Err(Error::custom("there is too much of it; send fewer signals at once"));
            }
        }
        Ok(())
    }
}

/// Finds a name among those that are known.
struct Name(Schema);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<&'static Entry>;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<&'static Entry>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|entry| entry.name == name))
    }
}

/// What is given for a field: a value, several, or none.
struct Given<'o> {
    entry: &'static Entry,
    out: &'o mut Vec<u8>,
    max: usize,
}

impl<'de> DeserializeSeed<'de> for Given<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl Given<'_> {
    fn other<E: Error>(&self, what: &str) -> E {
        E::custom(format!("{what} where `{}` has another kind of value", self.entry.name))
    }

    fn bytes(self, bytes: &[u8]) {
        crate::proto::put_bytes(self.out, self.entry.number, bytes);
    }
}

impl<'de> Visitor<'de> for Given<'_> {
    type Value = ();

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "a value of `{}`", self.entry.name)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, is: bool) -> Result<(), E> {
        match self.entry.kind {
            Bool => put_number(self.out, self.entry.number, u64::from(is)),
            _ => return Err(self.other("yes or no")),
        }
        Ok(())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        let field = self.entry.number;
        match self.entry.kind {
            Number => put_number(self.out, field, number),
            Zigzag => match i32::try_from(number) {
                Ok(number) => return self.visit_i64(number.into()),
                Err(_) => return Err(self.other("a number this large")),
            },
            Fixed64 => put_fixed64(self.out, field, number),
            Double => put_fixed64(self.out, field, (number as f64).to_bits()),
            _ => return Err(self.other("a number")),
        }
        Ok(())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        match self.entry.kind {
            Double => put_fixed64(self.out, self.entry.number, (number as f64).to_bits()),
            Zigzag => {
                put_number(self.out, self.entry.number, ((number << 1) ^ (number >> 63)).cast_unsigned());
            }
            _ => return self.visit_u64(number.cast_unsigned()),
        }
        Ok(())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        const WHOLE: f64 = 9e15;
        match self.entry.kind {
            Double => put_fixed64(self.out, self.entry.number, number.to_bits()),
            _ if number.fract() == 0.0 && number.abs() <= WHOLE => return self.visit_i64(number as i64),
            _ => return Err(self.other("a fraction")),
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match self.entry.kind {
            Text => self.bytes(text.as_bytes()),
            Id if text.is_empty() => {}
            Id => match hex(text) {
                Some(id) => self.bytes(&id),
                None => return Err(self.other("no hex")),
            },
            Kind::Bytes => match super::super::base64(text) {
                Some(bytes) => self.bytes(&bytes),
                None => return Err(self.other("no Base64")),
            },
            Double => match text {
                "NaN" => return self.visit_f64(f64::NAN),
                "Infinity" => return self.visit_f64(f64::INFINITY),
                "-Infinity" => return self.visit_f64(f64::NEG_INFINITY),
                _ => match text.parse::<f64>() {
                    Ok(number) => return self.visit_f64(number),
                    Err(_) => return Err(self.other("a text")),
                },
            },
            Number | Zigzag | Fixed64 => match (text.parse::<u64>(), text.parse::<i64>()) {
                (Ok(number), _) => return self.visit_u64(number),
                (_, Ok(number)) => return self.visit_i64(number),
                _ => return Err(self.other("a text")),
            },
            _ => return Err(self.other("a text")),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let (entry, out, max) = (self.entry, self.out, self.max);
        while list.next_element_seed(Given { entry, out: &mut *out, max })?.is_some() {
            if out.len() > max {
                return Err(Error::custom("there is too much of it; send fewer signals at once"));
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Kind::Message(schema) = self.entry.kind else { return Err(self.other("an object")) };
        put_key(self.out, self.entry.number, 2);
        // How long it is turns out at its end; a number may have more bytes than it needs.
        let place = self.out.len();
        self.out.extend_from_slice(&[0; 5]);
        Fields { schema, out: &mut *self.out, max: self.max }.visit_map(map)?;
        let length = self.out.len() - place - 5;
        if let Some(bytes) = self.out.get_mut(place..place + 5) {
            for (number, byte) in bytes.iter_mut().enumerate() {
                let more = if number < 4 { 0x80 } else { 0 };
                *byte = ((length >> (7 * number)) & 0x7f) as u8 | more;
            }
        }
        Ok(())
    }
}

/// Two digits for each byte, of an id.
fn hex(text: &str) -> Option<Vec<u8>> {
    const LONGEST: usize = 64;
    if !text.len().is_multiple_of(2)
        || text.len() > LONGEST
        || !text.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(byte).collect()
}
