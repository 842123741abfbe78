//! Spans, each as a row.

use klar_rows::Value;
use serde_json::json;

use super::value::{Attributes, Resource, TEXT_MAX};
use super::{BAD_TIME, Refused, Sender, Trouble, each, id, one};
use crate::proto::{Malformed, Message};
use crate::rows::{Own, SPAN, cut};

/// Events and links of a span that are kept.
const LISTED_MAX: usize = 64;
const NAME_MAX: usize = 256;

/// Takes in an `ExportTraceServiceRequest`.
pub(super) fn take_in(sender: &Sender<'_>, bytes: &[u8]) -> Result<Refused, Trouble> {
    let mut rows = sender.shared.rows.own(SPAN)?;
    let mut refused = Refused::default();
    each(bytes, 1, |of_resource| {
        let resource = Resource::read(one(of_resource, 1)?, sender.app)?;
        each(of_resource, 2, |of_scope| {
            let scope = scope(one(of_scope, 1)?)?;
            each(of_scope, 2, |span| {
                let span = Span::read(span)?;
                if let Err(why) = span.write(sender, &resource, &scope, &mut rows)? {
                    refused.add(1, why);
                }
                Ok::<_, Trouble>(())
            })
        })
    })?;
    rows.finish()?;
    Ok(refused)
}

/// Its name.
pub(super) fn scope(bytes: &[u8]) -> Result<String, Malformed> {
    let mut name = String::new();
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.field()? {
        if number == 1 {
            name = cut(&field.text(), NAME_MAX).to_owned();
        }
    }
    Ok(name)
}

#[derive(Debug, Default)]
pub(super) struct Span<'a> {
    trace: &'a [u8],
    id: &'a [u8],
    parent: &'a [u8],
    name: String,
    kind: u64,
    start_ns: u64,
    end_ns: u64,
    attributes: Attributes,
    events: Vec<serde_json::Value>,
    events_bytes: usize,
    links: Vec<serde_json::Value>,
    status: u64,
    status_message: String,
}

impl<'a> Span<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut span = Self::default();
        let mut message = Message::new(bytes);
        while let Some((number, field)) = message.field()? {
            match number {
                1 => span.trace = field.bytes(),
                2 => span.id = field.bytes(),
                4 => span.parent = field.bytes(),
                5 => span.name = cut(&field.text(), NAME_MAX).to_owned(),
                6 => span.kind = field.number(),
                7 => span.start_ns = field.number(),
                8 => span.end_ns = field.number(),
                9 => span.attributes.add(field.bytes())?,
                11 => span.event(field.bytes())?,
                13 => span.link(field.bytes())?,
                15 => span.status(field.bytes())?,
                _ => {}
            }
        }
        Ok(span)
    }

    fn event(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let (mut time_ns, mut name, mut attributes) = (0, String::new(), Attributes::default());
        let mut message = Message::new(bytes);
        while let Some((number, field)) = message.field()? {
            match number {
                1 => time_ns = field.number(),
                2 => name = cut(&field.text(), NAME_MAX).to_owned(),
                3 => attributes.add(field.bytes())?,
                _ => {}
            }
        }
        let time_us = i64::try_from(time_ns / 1000).unwrap_or_default();
        let time = jiff::Timestamp::from_microsecond(time_us).map(|time| time.to_string());
        let attributes: serde_json::Map<_, _> =
            attributes.iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        let event = json!({ "time": time.unwrap_or_default(), "name": name, "attrs": attributes });
        let length = event.to_string().len();
        if self.events.len() < LISTED_MAX && self.events_bytes + length <= TEXT_MAX {
            self.events_bytes += length;
            self.events.push(event);
        }
        Ok(())
    }

    fn link(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let (mut trace, mut span) = (None, None);
        let mut message = Message::new(bytes);
        while let Some((number, field)) = message.field()? {
            match number {
                1 => trace = id::<16>(field.bytes()),
                2 => span = id::<8>(field.bytes()),
                _ => {}
            }
        }
        if let (Some(trace), Some(span)) = (trace, span)
            && self.links.len() < LISTED_MAX
        {
            let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            self.links.push(json!({ "trace_id": hex(&trace), "span_id": hex(&span) }));
        }
        Ok(())
    }

    fn status(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let mut message = Message::new(bytes);
        while let Some((number, field)) = message.field()? {
            match number {
                2 => self.status_message = cut(&field.text(), 1024).to_owned(),
                3 => self.status = field.number(),
                _ => {}
            }
        }
        Ok(())
    }

    /// Gives why it is not taken, if it is not.
    fn write(
        mut self,
        sender: &Sender<'_>,
        resource: &Resource,
        scope: &str,
        rows: &mut Own<'_>,
    ) -> Result<Result<(), String>, Trouble> {
        let (Some(trace), Some(span)) = (id::<16>(self.trace), id::<8>(self.id)) else {
            return Ok(Err("a span has no trace id of 16 bytes, or no span id of 8".into()));
        };
        let Some(time_us) = sender.time_us(self.start_ns) else { return Ok(Err(BAD_TIME.into())) };
        let parent = id::<8>(self.parent);
        let attributes = &mut self.attributes;
        let db = attributes.take(&["db.system.name", "db.system"]);
        let statement = attributes.take(&["db.query.text", "db.statement"]);
        let route = attributes.take(&["http.route"]);
        let status = attributes.take(&["http.response.status_code", "http.status_code"]);
        let status = status.and_then(|status| status.parse::<u16>().ok());
        let events = (!self.events.is_empty()).then(|| serde_json::Value::from(self.events).to_string());
        let links = (!self.links.is_empty()).then(|| serde_json::Value::from(self.links).to_string());
        let optional = |text: &'_ str| !text.is_empty();
        let text = |text| if optional(text) { Value::Text(text) } else { Value::Null };
        let given = |of: &'_ Option<String>| of.as_ref().is_some_and(|text| !text.is_empty());
        let mut scratch = String::new();
        let attrs = resource.with(&self.attributes, &mut scratch);
        let row = [
            Value::Signed(time_us),
            Value::Text(&resource.app),
            Value::Text(&resource.env),
            Value::Text(&resource.service),
            text(&resource.instance),
            text(&resource.release),
            Value::Bytes(&trace),
            Value::Bytes(&span),
            parent.as_ref().map_or(Value::Null, |id| Value::Bytes(id)),
            Value::Text(&self.name),
            Value::Text(match self.kind {
                2 => "server",
                3 => "client",
                4 => "producer",
                5 => "consumer",
                _ => "internal",
            }),
            Value::Unsigned(self.end_ns.saturating_sub(self.start_ns) / 1000),
            Value::Text(match self.status {
                1 => "ok",
                2 => "error",
                _ => "unset",
            }),
            text(&self.status_message),
            text(scope),
            if given(&db) { Value::Text(cut(db.as_deref().unwrap_or_default(), 64)) } else { Value::Null },
            statement.as_deref().map_or(Value::Null, Value::Text),
            if given(&route) {
                Value::Text(cut(route.as_deref().unwrap_or_default(), NAME_MAX))
            } else {
                Value::Null
            },
            status.map_or(Value::Null, |status| Value::Unsigned(status.into())),
            if attrs.is_empty() { Value::Null } else { Value::Map(&attrs) },
            events.as_deref().map_or(Value::Null, Value::Text),
            links.as_deref().map_or(Value::Null, Value::Text),
        ];
        Ok(rows.push(&row)?.map_err(|bad| bad.to_string()))
    }
}
