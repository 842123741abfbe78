//! Metrics that others send: Prometheus' remote write 1.0
//! (<https://prometheus.io/docs/specs/prw/remote_write_spec/>).
//!
//! What is answered with 204 is on disk. 400 says that sending it again is of no use, 5xx that it may be.

use std::collections::HashMap;
use std::sync::Arc;

use http::StatusCode;
use http::request::Parts;
use klar_base::AppKey;
use klar_tsdb::labels::NAME;
use klar_tsdb::{Labels, Sample, SeriesRef, Verdict};

use super::{Answer, Who, text};
use crate::Shared;
use crate::proto::{Malformed, Message};

/// What a body may unpack to, in bytes.
const UNPACKED_MAX: usize = 64 << 20;
/// Sets of labels that are known by their bytes; from there on it begins anew.
const KNOWN_MAX: usize = 500_000;

/// The first byte of a label in a series: field 1, which has a length.
const LABEL: u8 = 1 << 3 | 2;

/// By who sends.
pub(crate) type Known = HashMap<Option<AppKey>, Series>;

/// Senders say the same labels again and again, in the same bytes and mostly in the same order: what followed last time
/// is looked at before it is looked for.
#[derive(Debug, Default)]
pub(crate) struct Series {
    places: HashMap<Arc<[u8]>, usize>,
    all: Vec<One>,
    last: usize,
}

#[derive(Debug)]
struct One {
    labels: Arc<[u8]>,
    reference: SeriesRef,
    /// What came after it.
    next: usize,
}

impl Series {
    /// The one that a series of the wire begins with, and how many bytes its labels are.
    fn find(&mut self, series: &[u8]) -> Result<Result<(SeriesRef, usize), usize>, Malformed> {
        let next = self.all.get(self.last).map_or(0, |last| last.next);
        if let Some(guess) = self.all.get(next)
            && let Some(rest) = series.strip_prefix(&*guess.labels)
            // No more labels follow.
            && rest.first() != Some(&LABEL)
        {
            self.last = next;
            return Ok(Ok((guess.reference, guess.labels.len())));
        }
        let length = labels_length(series)?;
        let place = series.get(..length).and_then(|labels| self.places.get(labels));
        Ok(match place.and_then(|place| Some((*place, self.all.get(*place)?.reference))) {
            Some((place, reference)) => {
                self.follow(place);
                Ok((reference, length))
            }
            None => Err(length),
        })
    }

    fn follow(&mut self, place: usize) {
        if let Some(last) = self.all.get_mut(self.last) {
            last.next = place;
        }
        self.last = place;
    }

    fn keep(&mut self, labels: &[u8], reference: SeriesRef) {
        if let Some(one) = self.places.get(labels).and_then(|place| self.all.get_mut(*place)) {
            one.reference = reference;
            return;
        }
        if self.all.len() >= KNOWN_MAX {
            *self = Self::default();
        }
        let (labels, place) = (Arc::<[u8]>::from(labels), self.all.len());
        self.places.insert(labels.clone(), place);
        self.all.push(One { labels, reference, next: 0 });
        self.follow(place);
    }
}

/// Takes in what was sent.
pub(super) fn remote_write(shared: &Shared, who: &Who, head: &Parts, body: &[u8]) -> Answer {
    let header =
        |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if header("content-type").contains("io.prometheus.write.v2") {
        return text(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "remote write 1.0 is expected (prometheus.WriteRequest)\n",
        );
    }
    if !matches!(header("content-encoding"), "snappy" | "") {
        return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, "a body packed with snappy is expected\n");
    }
    match snap::raw::decompress_len(body) {
        Ok(length) if length > UNPACKED_MAX => {
            return text(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("a body may unpack to {UNPACKED_MAX} bytes\n"),
            );
        }
        _ => {}
    }
    let unpacked = match snap::raw::Decoder::new().decompress_vec(body) {
        Ok(unpacked) => unpacked,
        Err(error) => return text(StatusCode::BAD_REQUEST, format!("no snappy: {error}\n")),
    };
    let app = if let Who::App(app) = who { Some(app.clone()) } else { None };
    match take_in(shared, app, &unpacked) {
        Ok(refused) if refused.is_empty() => {
            let mut answer = text(StatusCode::NO_CONTENT, "");
            answer.headers_mut().remove(http::header::CONTENT_TYPE);
            answer
        }
        Ok(refused) => text(StatusCode::BAD_REQUEST, format!("{}\n", refused.join("; "))),
        Err(Trouble::Malformed(error)) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        Err(Trouble::Store(error)) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}

enum Trouble {
    Malformed(Malformed),
    Store(klar_tsdb::Error),
}

impl From<Malformed> for Trouble {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

impl From<klar_tsdb::Error> for Trouble {
    fn from(error: klar_tsdb::Error) -> Self {
        Self::Store(error)
    }
}

/// Gives what was refused for good, in words.
fn take_in(shared: &Shared, app: Option<AppKey>, body: &[u8]) -> Result<Vec<String>, Trouble> {
    let mut refused = Vec::new();
    let mut batch = Vec::new();
    // For each sample of the batch, the bytes of its labels.
    let mut labels_of: Vec<(usize, usize)> = Vec::new();
    {
        let mut all = crate::lock(&shared.known);
        let known = all.entry(app.clone()).or_default();
        let mut request = Message::new(body);
        while let Some((number, field)) = request.field()? {
            if number != 1 {
                continue;
            }
            let series = field.bytes();
            let (reference, labels) = match known.find(series)? {
                Ok(found) => found,
                Err(length) => {
                    let Some(raw) = series.get(..length) else { continue };
                    match new_series(shared, app.as_ref(), raw)? {
                        Ok(reference) => {
                            known.keep(raw, reference);
                            (reference, length)
                        }
                        Err(why) => {
                            if refused.len() < 10 {
                                refused.push(why);
                            }
                            continue;
                        }
                    }
                }
            };
            let Some((raw, samples)) = series.split_at_checked(labels) else { continue };
            let begin = raw.as_ptr() as usize - body.as_ptr() as usize;
            let mut message = Message::new(samples);
            while let Some((number, field)) = message.field()? {
                if number == 2 {
                    batch.push((reference, sample(field.bytes())?));
                    labels_of.push((begin, begin + labels));
                }
            }
        }
    }
    let appended = shared.store.append(&batch)?;
    let mut upto = appended.upto;
    let mut counts = [0_usize; 8];
    let mut again = Vec::new();
    for (((_, sample), (from, to)), verdict) in batch.iter().zip(&labels_of).zip(&appended.verdicts) {
        counts[*verdict as usize] += 1;
        // A series that nobody had touched for long was put away: it is asked for again.
        if *verdict == Verdict::Unknown
            && let Some(raw) = body.get(*from..*to)
            && let Ok(reference) = new_series(shared, app.as_ref(), raw)?
        {
            crate::lock(&shared.known).entry(app.clone()).or_default().keep(raw, reference);
            again.push((reference, *sample));
        }
    }
    if !again.is_empty() {
        upto = shared.store.append(&again)?.upto;
    }
    shared.store.commit(upto)?;
    for (verdict, words) in [
        (Verdict::TooOld, "are older than late samples may be"),
        (Verdict::TooNew, "are in the future"),
        (Verdict::Conflict, "have another value than one of the same time"),
    ] {
        if counts[verdict as usize] > 0 {
            refused.push(format!("{} samples {words}", counts[verdict as usize]));
        }
    }
    Ok(refused)
}

/// How many bytes at the beginning of a series are labels.
fn labels_length(series: &[u8]) -> Result<usize, Malformed> {
    let mut message = Message::new(series);
    let mut length = 0;
    while let Some((1, _)) = message.field()? {
        length = series.len() - message.rest().len();
    }
    Ok(length)
}

fn new_series(
    shared: &Shared,
    app: Option<&AppKey>,
    raw: &[u8],
) -> Result<Result<SeriesRef, String>, Trouble> {
    let mut pairs = Vec::new();
    let mut message = Message::new(raw);
    while let Some((_, field)) = message.field()? {
        let (mut name, mut value) = (Default::default(), Default::default());
        let mut label = Message::new(field.bytes());
        while let Some((number, field)) = label.field()? {
            match number {
                1 => name = field.text(),
                2 => value = field.text(),
                _ => {}
            }
        }
        pairs.push((name.into_owned(), value.into_owned()));
    }
    if let Some(app) = app {
        // Nobody writes as somebody else.
        pairs.retain(|(name, _)| name != "app" && name != "env");
        pairs.push(("app".into(), app.app.to_string()));
        pairs.push(("env".into(), app.env.to_string()));
    }
    let labels = match Labels::new(pairs.iter().map(|(name, value)| (&**name, &**value))) {
        Ok(labels) if labels.get(NAME).is_some() => labels,
        Ok(_) => return Ok(Err("a series has no name (`__name__`)".into())),
        Err(error) => return Ok(Err(error.to_string())),
    };
    match shared.store.series(&labels) {
        Ok(reference) => Ok(Ok(reference)),
        Err(error @ klar_tsdb::Error::SeriesLimit(_)) => Ok(Err(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

fn sample(bytes: &[u8]) -> Result<Sample, Malformed> {
    let mut sample = Sample { time_ms: 0, value: 0.0 };
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.field()? {
        match number {
            1 => sample.value = field.double(),
            2 => sample.time_ms = field.signed(),
            _ => {}
        }
    }
    Ok(sample)
}
