//! Metrics as they are at one moment: what is shown at `/metrics`, and written down every few seconds.

use std::fmt::Write as _;

use klar_tsdb::Labels;
use klar_tsdb::labels::NAME;

/// What kind of numbers a family has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Grows; somebody else counts, and began earlier.
    Counter,
    /// Grows, and began at 0 here.
    Count,
    /// Goes up and down.
    Gauge,
    /// Counts of how many were at most so large; they began at 0 here.
    Histogram,
}

impl Kind {
    /// As Prometheus calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter | Self::Count => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Metrics of one name.
#[derive(Debug)]
pub struct Family {
    /// Its name, as Prometheus names things.
    pub name: &'static str,
    /// What it is about, in one line.
    pub help: &'static str,
    /// See [`Kind`].
    pub kind: Kind,
    /// The series: what is behind the name (`_bucket`, `_sum`, `_count` or nothing), labels, value.
    points: Vec<(&'static str, Labels, f64)>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Sheet {
    families: Vec<Family>,
}

impl Sheet {
    /// Begins a family; its points follow.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) -> &mut Family {
        let place = self.families.iter().position(|family| family.name == name);
        let place = place.unwrap_or_else(|| {
            self.families.push(Family { name, help, kind, points: Vec::new() });
            self.families.len() - 1
        });
        &mut self.families[place]
    }

    /// A family with one series without labels.
    pub fn single(&mut self, name: &'static str, kind: Kind, help: &'static str, value: f64) {
        self.family(name, kind, help).point(&[], value);
    }

    /// All families.
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// Each series with its name among the labels, its value, and whether it began at 0.
    pub fn series(&self) -> impl Iterator<Item = (Labels, f64, bool)> + '_ {
        self.families.iter().flat_map(|family| {
            family.points.iter().filter_map(|(suffix, labels, value)| {
                // A name of ours is no longer than a name may be.
                let labels = labels.with(NAME, &format!("{}{suffix}", family.name)).ok()?;
                Some((labels, *value, matches!(family.kind, Kind::Count | Kind::Histogram)))
            })
        })
    }

    /// As Prometheus reads it: its text format, version 0.0.4.
    pub fn text(&self) -> String {
        self.written(false)
    }

    /// As OpenMetrics 1.0 wants it: a counter is called without its `_total`, and the end is marked.
    pub fn openmetrics(&self) -> String {
        let mut out = self.written(true);
        out.push_str("# EOF\n");
        out
    }

    fn written(&self, openmetrics: bool) -> String {
        let mut out = String::new();
        for family in self.families.iter().filter(|family| !family.points.is_empty()) {
            let is_counter = matches!(family.kind, Kind::Counter | Kind::Count);
            let (name, kind) = match family.name.strip_suffix("_total") {
                Some(name) if openmetrics && is_counter => (name, family.kind.name()),
                None if openmetrics && is_counter => (family.name, "unknown"),
                _ => (family.name, family.kind.name()),
            };
            // Writing to memory does not fail.
            let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
            for (suffix, labels, value) in &family.points {
                out.push_str(family.name);
                out.push_str(suffix);
                let mut before = '{';
                for (name, value) in labels.iter() {
                    let _ = write!(out, "{before}{name}=\"");
                    escape(value, &mut out);
                    out.push('"');
                    before = ',';
                }
                if before == ',' {
                    out.push('}');
                }
                let _ = writeln!(out, " {}", number(*value));
            }
        }
        out
    }
}

impl Family {
    /// Adds a series. Labels that are none, because they are too long, are left out with it.
    pub fn point(&mut self, labels: &[(&str, &str)], value: f64) {
        self.suffixed("", labels, value);
    }

    /// The same with something behind the name.
    pub fn suffixed(&mut self, suffix: &'static str, labels: &[(&str, &str)], value: f64) {
        if let Ok(labels) = Labels::new(labels.iter().copied()) {
            self.points.push((suffix, labels, value));
        }
    }
}

/// A number as Go writes it, and everything around Prometheus reads it.
pub fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".into() } else { "-Inf".into() }
    } else {
        value.to_string()
    }
}

fn escape(value: &str, out: &mut String) {
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_prometheus_reads() {
        let mut sheet = Sheet::default();
        let family = sheet.family("a_total", Kind::Counter, "Things.");
        family.point(&[("path", "/a\"b\\c\nd"), ("empty", "")], 1.0);
        family.point(&[], 0.25);
        sheet.family("nothing", Kind::Gauge, "Is not shown.");
        sheet.family("h", Kind::Histogram, "Sizes.").suffixed("_bucket", &[("le", "+Inf")], f64::INFINITY);
        let text = "# HELP a_total Things.\n# TYPE a_total counter\na_total{path=\"/a\\\"b\\\\c\\nd\"} 1\na_total 0.25\n\
                    # HELP h Sizes.\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} +Inf\n";
        assert_eq!(sheet.text(), text);
        let open = text.replacen("# TYPE a_total", "# TYPE a", 1).replacen("# HELP a_total", "# HELP a", 1);
        assert_eq!(sheet.openmetrics(), format!("{open}# EOF\n"));
        let names: Vec<_> = sheet.series().map(|(labels, ..)| labels.metric().unwrap().to_owned()).collect();
        assert_eq!(names, ["a_total", "a_total", "h_bucket"]);
    }
}
