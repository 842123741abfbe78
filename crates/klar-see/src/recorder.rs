//! Writing metrics down, every few seconds.

use std::collections::{HashMap, HashSet};

use klar_tsdb::{Error, Labels, STALE, Sample, SeriesRef, Store, Verdict};

use crate::sheet::Sheet;

/// Knows which series there were the last time.
#[derive(Debug, Default)]
pub struct Recorder {
    known: HashMap<Labels, SeriesRef>,
}

impl Recorder {
    /// Writes down a sheet as of a time. Series that are no longer on it end. Gives how many samples there were.
    ///
    /// # Errors
    /// The store takes nothing, or is full of series; what it takes is written.
    pub fn record(&mut self, store: &Store, sheet: &Sheet, time_ms: i64) -> Result<usize, Error> {
        let mut trouble = None;
        let mut batch: Vec<(SeriesRef, Sample)> = Vec::new();
        let mut labels_of: Vec<Labels> = Vec::new();
        let mut seen: HashSet<Labels> = HashSet::new();
        for (labels, value) in sheet.series() {
            let reference = match self.known.get(&labels) {
                Some(reference) => *reference,
                None => match store.series(&labels) {
                    Ok(reference) => {
                        self.known.insert(labels.clone(), reference);
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
    use crate::sheet::Kind;
    use crate::tests::Folder;

    #[test]
    fn what_has_gone_ends() {
        let folder = Folder::new("recorder");
        let (store, _) = Store::open(folder.path(), Settings { ahead: None, ..Settings::default() }).unwrap();
        let mut recorder = Recorder::default();
        let sheet = |names: &[&str]| {
            let mut sheet = Sheet::default();
            let family = sheet.family("up", Kind::Gauge, "Whether it runs.");
            names.iter().for_each(|name| family.point(&[("of", name)], 1.0));
            sheet
        };
        recorder.record(&store, &sheet(&["a", "b"]), 1_000).unwrap();
        recorder.record(&store, &sheet(&["b"]), 2_000).unwrap();
        recorder.record(&store, &sheet(&["a", "b"]), 3_000).unwrap();
        let found = |of: &str| -> Vec<(i64, bool)> {
            let matchers = [Matcher::new("of", Op::Equal, of).unwrap()];
            let selection = store.select(&matchers, 0, 10_000).unwrap();
            let samples = selection.series.first().unwrap().samples().unwrap();
            samples.iter().map(|sample| (sample.time_ms, klar_tsdb::is_stale(sample.value))).collect()
        };
        assert_eq!(found("a"), [(1_000, false), (2_000, true), (3_000, false)]);
        assert_eq!(found("b"), [(1_000, false), (2_000, false), (3_000, false)]);
    }
}
