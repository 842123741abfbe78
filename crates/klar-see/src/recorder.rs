//! Writing metrics down, every few seconds.

use std::collections::{HashMap, HashSet};

use klar_tsdb::{Error, Labels, STALE, Sample, SeriesRef, Store, Verdict};

/// Knows which series there were the last time.
#[derive(Debug)]
pub struct Recorder {
    known: HashMap<Labels, SeriesRef>,
    /// When that was.
    before_ms: i64,
}

impl Recorder {
    /// Of a process that began to count at a time.
    pub fn new(begun_ms: i64) -> Self {
        Self { known: HashMap::new(), before_ms: begun_ms }
    }

    /// Writes down values as of a time; of each whether it began at 0. Series that are no longer there end. A counter that
    /// is new and began at 0 was that the last time, and that is written down too: whoever asks how much it grew finds
    /// also the first that it counted. Gives how many samples there were.
    ///
    /// # Errors
    /// The store takes nothing, or is full of series; what it takes is written.
    pub fn record(
        &mut self,
        store: &Store,
        series: impl Iterator<Item = (Labels, f64, bool)>,
        time_ms: i64,
    ) -> Result<usize, Error> {
        let mut trouble = None;
        let mut batch: Vec<(SeriesRef, Sample)> = Vec::new();
        let mut labels_of: Vec<Labels> = Vec::new();
        let mut seen: HashSet<Labels> = HashSet::new();
        let mut zeros = Vec::new();
        for (labels, value, from_zero) in series {
            let reference = match self.known.get(&labels) {
                Some(reference) => *reference,
                None => match store.series(&labels) {
                    Ok(reference) => {
                        self.known.insert(labels.clone(), reference);
                        if from_zero && value != 0.0 && self.before_ms < time_ms {
                            zeros.push((reference, Sample { time_ms: self.before_ms, value: 0.0 }));
                        }
                        reference
                    }
                    Err(error) => {
                        trouble = Some(error);
                        continue;
                    }
                },
            };
            seen.insert(labels.clone());
            batch.push((reference, Sample { time_ms, value }));
            labels_of.push(labels);
        }
        self.known.retain(|labels, reference| {
            let stays = seen.contains(labels);
            if !stays {
                batch.push((*reference, Sample { time_ms, value: STALE }));
            }
            stays
        });
        self.before_ms = time_ms;
        // One that was there before, and has a sample of that time, keeps it.
        store.append(&zeros)?;
        let appended = store.append(&batch)?;
        // A series that nobody had touched for long was put away: it is asked for again.
        let mut again = Vec::new();
        for ((labels, (_, sample)), verdict) in labels_of.iter().zip(&batch).zip(&appended.verdicts) {
            if *verdict == Verdict::Unknown {
                let reference = store.series(labels)?;
                self.known.insert(labels.clone(), reference);
                again.push((reference, *sample));
            }
        }
        let upto = if again.is_empty() { appended.upto } else { store.append(&again)?.upto };
        store.commit(upto)?;
        trouble.map_or(Ok(batch.len()), Err)
    }
}

#[cfg(test)]
mod tests {
    use klar_tsdb::{Matcher, Op, Settings};

    use super::*;
    use crate::sheet::{Kind, Sheet};
    use crate::tests::Folder;

    #[test]
    fn what_has_gone_ends() {
        let folder = Folder::new("recorder");
        let (store, _) = Store::open(folder.path(), Settings { ahead: None, ..Settings::default() }).unwrap();
        let mut recorder = Recorder::new(0);
        let sheet = |names: &[&str]| {
            let mut sheet = Sheet::default();
            let family = sheet.family("up", Kind::Gauge, "Whether it runs.");
            names.iter().for_each(|name| family.point(&[("of", name)], 1.0));
            sheet
        };
        recorder.record(&store, sheet(&["a", "b"]).series(), 1_000).unwrap();
        recorder.record(&store, sheet(&["b"]).series(), 2_000).unwrap();
        recorder.record(&store, sheet(&["a", "b"]).series(), 3_000).unwrap();
        let found = |of: &str| -> Vec<(i64, bool)> {
            let matchers = [Matcher::new("of", Op::Equal, of).unwrap()];
            let selection = store.select(&matchers, 0, 10_000).unwrap();
            let samples = selection.series.first().unwrap().samples().unwrap();
            samples.iter().map(|sample| (sample.time_ms, klar_tsdb::is_stale(sample.value))).collect()
        };
        let mut counts = |count: f64, time_ms: i64| {
            let mut sheet = Sheet::default();
            sheet.single("requests_total", Kind::Count, "Requests.", count);
            recorder.record(&store, sheet.series(), time_ms).unwrap();
        };
        counts(7.0, 4_000);
        counts(9.0, 5_000);
        let matchers = [Matcher::new("__name__", Op::Equal, "requests_total").unwrap()];
        let samples = store.select(&matchers, 0, 10_000).unwrap().series.first().unwrap().samples().unwrap();
        let samples: Vec<_> = samples.iter().map(|sample| (sample.time_ms, sample.value)).collect();
        assert_eq!(samples, [(3_000, 0.0), (4_000, 7.0), (5_000, 9.0)]);
        assert_eq!(found("a"), [(1_000, false), (2_000, true), (3_000, false), (4_000, true)]);
        assert_eq!(found("b"), [(1_000, false), (2_000, false), (3_000, false), (4_000, true)]);
    }
}
