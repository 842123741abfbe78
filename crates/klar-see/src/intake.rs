//! Lines that other programs send, whatever they speak: what of them is a column, what else is kept, and how much.
//!
//! Loki's push (`serve/loki`), Elasticsearch's bulk (`serve/bulk.rs`) and syslog (`serve/syslog.rs`) all know names and
//! values, and call the same thing by different names. They say what they have to a [`Draft`], which bounds it.
//!
//! **Invariant:** nobody who shows the token of an app writes as another one, whatever the line says.

use std::borrow::Cow;

use klar_base::AppKey;

use crate::logs::{Line, level, named};
use crate::rows::{cut, from_hex};

/// How much of a name or label that is a column is kept, in bytes.
const LABEL_MAX: usize = 255;
/// What else is known of a line: how many things, and how long each name and value may be, and all of it.
const ATTRS_MAX: usize = 64;
const NAME_MAX: usize = 128;
const VALUE_MAX: usize = 2 << 10;
const ALL_MAX: usize = 16 << 10;
/// A line may be from so long ago: what is older would be removed at once.
const PAST_US: i64 = 29 * 86_400_000_000;
/// And from so far ahead of this clock.
const AHEAD_US: i64 = 3_600_000_000;

/// A line that is being put together.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Draft<'a> {
    /// When it was written, in microseconds; none if nobody says so.
    pub time_us: Option<i64>,
    /// Whose it is, as it says itself. Only a sender who may write as anybody is believed.
    pub app: Cow<'a, str>,
    /// And of which environment.
    pub env: Cow<'a, str>,
    /// The part of the app that wrote it.
    pub service: Cow<'a, str>,
    /// Which one of several, or the machine.
    pub instance: Cow<'a, str>,
    /// Which way it came.
    pub stream: Cow<'a, str>,
    /// How bad it is; found in the text if nobody says so.
    pub level: Option<&'static str>,
    /// The text.
    pub body: Cow<'a, str>,
    /// The trace that it belongs to.
    pub trace_id: Option<[u8; 16]>,
    /// The span that it belongs to.
    pub span_id: Option<[u8; 8]>,
    attrs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    attrs_bytes: usize,
    left_out: usize,
}

impl<'a> Draft<'a> {
    /// Of a text, and when it was written.
    pub fn of(time_us: Option<i64>, body: impl Into<Cow<'a, str>>) -> Self {
        Self { time_us, body: body.into(), ..Self::default() }
    }

    /// Keeps something that is no column. The first one of a name counts; what is too long is cut, what is too much left
    /// out and counted.
    pub fn attr(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        let (name, value) = (shortened(name.into(), NAME_MAX), shortened(value.into(), VALUE_MAX));
        let bytes = name.len() + value.len();
        if name.is_empty() || value.is_empty() || self.attrs.iter().any(|(its, _)| *its == name) {
            return;
        }
        if self.attrs.len() >= ATTRS_MAX || self.attrs_bytes + bytes > ALL_MAX {
            self.left_out += 1;
            return;
        }
        self.attrs_bytes += bytes;
        self.attrs.push((name, value));
    }

    /// What was kept under a name.
    pub fn kept(&self, name: &str) -> Option<&str> {
        self.attrs.iter().find(|(its, _)| its == name).map(|(_, value)| &**value)
    }

    /// All that was kept beside the columns.
    pub fn all_kept(&self) -> impl Iterator<Item = (&str, &str)> {
        self.attrs.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Takes a level by whatever name, if it is one.
    pub fn say_level(&mut self, word: &str) {
        self.level = self.level.or_else(|| named(word.trim()));
    }

    /// Takes the id of a trace: 32 digits, or 16 as some write it.
    pub fn say_trace(&mut self, text: &str) {
        let mut id = [0; 16];
        let (mut short, text) = ([0; 8], text.trim());
        if from_hex(text, &mut id) {
            self.trace_id = Some(id);
        } else if from_hex(text, &mut short) {
            id[8..].copy_from_slice(&short);
            self.trace_id = Some(id);
        }
    }

    /// Takes the id of a span.
    pub fn say_span(&mut self, text: &str) {
        let mut id = [0; 8];
        if from_hex(text.trim(), &mut id) {
            self.span_id = Some(id);
        }
    }

    /// Makes a line of it, as of now, and shows it. `whose` is the app whose token was shown.
    pub fn finish<T>(&self, whose: Option<&AppKey>, now_us: i64, then: impl FnOnce(Line<'_>) -> T) -> T {
        let (own_app, own_env) =
            whose.map(|key| (key.app.to_string(), key.env.to_string())).unwrap_or_default();
        let mut attrs: Vec<(&str, &str)> =
            self.attrs.iter().map(|(name, value)| (&**name, &**value)).collect();
        let (app, env) = match whose {
            // What it says of itself otherwise is not lost.
            Some(_) => {
                for (name, said, own) in
                    [("exported_app", &self.app, &own_app), ("exported_env", &self.env, &own_env)]
                {
                    if !said.is_empty() && said != own {
                        attrs.push((name, cut(said, LABEL_MAX)));
                    }
                }
                (&*own_app, &*own_env)
            }
            None => (cut(&self.app, LABEL_MAX), cut(&self.env, LABEL_MAX)),
        };
        let left_out = if self.left_out > 0 { self.left_out.to_string() } else { String::new() };
        if self.left_out > 0 {
            attrs.push(("klar_left_out", &left_out));
        }
        let said = self.time_us.unwrap_or(now_us);
        let is_kept = (now_us.saturating_sub(PAST_US)..=now_us.saturating_add(AHEAD_US)).contains(&said);
        let said_text = if is_kept {
            String::new()
        } else {
            jiff::Timestamp::from_microsecond(said).map_or_else(|_| said.to_string(), |time| time.to_string())
        };
        if !is_kept {
            // A clock that is wrong must not make files of other years, and the line is worth keeping.
            attrs.push(("klar_time", &said_text));
        }
        let body = cut(&self.body, crate::rows::TEXT_MAX);
        then(Line {
            time_us: if is_kept { said } else { now_us },
            app,
            env,
            service: cut(&self.service, LABEL_MAX),
            instance: cut(&self.instance, LABEL_MAX),
            stream: cut(&self.stream, LABEL_MAX),
            level: self.level.or_else(|| level(body)),
            body,
            trace_id: self.trace_id,
            span_id: self.span_id,
            attrs: &attrs,
        })
    }
}

fn shortened(text: Cow<'_, str>, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return text;
    }
    match text {
        Cow::Borrowed(text) => cut(text, most).into(),
        Cow::Owned(mut text) => {
            text.truncate(cut(&text, most).len());
            text.into()
        }
    }
}
