//! Lines, each as a row beside those that instances write to their output.

use super::value::{self, Attributes, Resource};
use super::{BAD_TIME, Refused, Sender, Trouble, each, id, one, spans};
use crate::logs::{Line, named};
use crate::proto::{Malformed, Message};
use crate::rows::{LOG, line_row};

/// Where it came from, in the column that otherwise says stdout or stderr.
const STREAM: &str = "otlp";

/// Takes in an `ExportLogsServiceRequest`.
pub(super) fn take_in(sender: &Sender<'_>, bytes: &[u8]) -> Result<Refused, Trouble> {
    let mut rows = sender.shared.rows.own(LOG)?;
    let mut refused = Refused::default();
    each(bytes, 1, |of_resource| {
        let resource = Resource::read(one(of_resource, 1)?, sender.app)?;
        each(of_resource, 2, |of_scope| {
            let scope = spans::scope(one(of_scope, 1)?)?;
            each(of_scope, 2, |record| {
                let record = Record::read(record, &scope)?;
                let unix_ns = if record.time_ns == 0 { record.observed_ns } else { record.time_ns };
                let time_us = if unix_ns == 0 { Some(sender.now_us) } else { sender.time_us(unix_ns) };
                let Some(time_us) = time_us else {
                    refused.add(1, BAD_TIME);
                    return Ok(());
                };
                let mut scratch = String::new();
                let line = Line {
                    time_us,
                    app: &resource.app,
                    env: &resource.env,
                    service: &resource.service,
                    instance: &resource.instance,
                    stream: STREAM,
                    level: record.level,
                    body: &record.body,
                    trace_id: record.trace,
                    span_id: record.span,
                    attrs: &resource.with(&record.attributes, &mut scratch),
                };
                if let Err(bad) = rows.push(&line_row(&line))? {
                    refused.add(1, bad.to_string());
                }
                Ok::<_, Trouble>(())
            })
        })
    })?;
    rows.finish()?;
    Ok(refused)
}

#[derive(Debug, Default)]
pub(super) struct Record {
    time_ns: u64,
    observed_ns: u64,
    level: Option<&'static str>,
    body: String,
    attributes: Attributes,
    trace: Option<[u8; 16]>,
    span: Option<[u8; 8]>,
}

impl Record {
    pub(super) fn read(bytes: &[u8], scope: &str) -> Result<Self, Malformed> {
        let mut record = Self::default();
        let (mut severity, mut word, mut event) = (0, String::new(), String::new());
        let mut message = Message::new(bytes);
        while let Some((number, field)) = message.field()? {
            match number {
                1 => record.time_ns = field.number(),
                2 => severity = field.number(),
                3 => word = field.text().into_owned(),
                5 => record.body = value::text(field.bytes())?,
                6 => record.attributes.add(field.bytes())?,
                9 => record.trace = id(field.bytes()),
                10 => record.span = id(field.bytes()),
                11 => record.observed_ns = field.number(),
                12 => event = field.text().into_owned(),
                _ => {}
            }
        }
        record.level = match severity {
            1..=4 => Some("trace"),
            5..=8 => Some("debug"),
            9..=12 => Some("info"),
            13..=16 => Some("warn"),
            17..=20 => Some("error"),
            21..=24 => Some("fatal"),
            _ => named(&word),
        };
        for (name, text) in [("event.name", event.as_str()), ("otel.scope.name", scope)] {
            if !text.is_empty() {
                record.attributes.insert(name, text.to_owned());
            }
        }
        Ok(record)
    }
}
