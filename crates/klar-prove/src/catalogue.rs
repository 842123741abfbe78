//! What "ready for production" asks for: the rows, read from `catalogue/`.
//!
//! A row is a demand ("TLS everywhere"); a check is how klar looks whether it is met. They are apart because one
//! check may settle several rows, a row may need several checks, and many rows have none yet.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::words::Words;

/// Where a row counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Category {
    /// Unit, integration and browser tests, load.
    Testing,
    /// What happens when something goes wrong.
    ErrorHandling,
    /// Metrics, logs, traces, alerts.
    Monitoring,
    /// TLS, attacks, access, secrets.
    Security,
    /// Data that comes back.
    Backup,
    /// How fast it is, and stays.
    Performance,
    /// What is written down, and true.
    Documentation,
    /// Deploys, instances, cost, models.
    Scalability,
    /// Made of other rows: they decide the verdict and are not scored.
    Gate,
    /// What people do week by week; not scored.
    Operations,
}

/// How much a row weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Weighs 3. While such a row is at 0, its category gets 6 at most.
    Critical,
    /// Weighs 2.
    High,
    /// Weighs 1.
    Medium,
    /// Not said: weighs as its category does.
    None,
}

/// Who has to act for a row to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    /// klar does it, or measures it.
    Klar,
    /// The app's own code.
    App,
    /// What it runs on.
    Infra,
    /// People.
    Human,
}

/// One part of what must be seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Part {
    /// Unique in its row.
    pub id: String,
    /// What has to be seen.
    #[serde(flatten)]
    pub text: Words,
}

/// One demand.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// For ever the same: `edge.tls`.
    pub id: String,
    /// Where it counts.
    pub category: Category,
    /// What it weighs.
    pub priority: Priority,
    /// Who has to act.
    pub who: Who,
    /// The working time it takes from nothing: `4h`, `2d`.
    pub effort: String,
    /// Who vouches for what, where that is part of it.
    pub sign: Option<Words>,
    /// For how many days such a signature is good.
    pub sign_days: Option<u32>,
    /// A few words.
    pub title: Words,
    /// What happens without it.
    pub risk: Words,
    /// What to do first.
    pub fix: Words,
    /// All that has to be seen.
    pub proof: Vec<Part>,
}

/// A row as its file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    who: Who,
    priority: Priority,
    effort: String,
    sign: Option<Words>,
    sign_days: Option<u32>,
    title: Words,
    risk: Words,
    fix: Words,
    proof: Vec<Part>,
}

/// All rows, in the order of the files.
pub struct Catalogue {
    rows: Vec<Row>,
    places: BTreeMap<String, usize>,
}

const FILES: [(Category, &str); 10] = [
    (Category::Testing, include_str!("../catalogue/testing.toml")),
    (Category::ErrorHandling, include_str!("../catalogue/error-handling.toml")),
    (Category::Monitoring, include_str!("../catalogue/monitoring.toml")),
    (Category::Security, include_str!("../catalogue/security.toml")),
    (Category::Backup, include_str!("../catalogue/backup.toml")),
    (Category::Performance, include_str!("../catalogue/performance.toml")),
    (Category::Documentation, include_str!("../catalogue/documentation.toml")),
    (Category::Scalability, include_str!("../catalogue/scalability.toml")),
    (Category::Gate, include_str!("../catalogue/gate.toml")),
    (Category::Operations, include_str!("../catalogue/operations.toml")),
];

static BUILT_IN: LazyLock<Catalogue> = LazyLock::new(|| {
    let read = |category, text: &str| -> Vec<Row> {
        // The files are part of the program, and a test reads each: this cannot fail where klar was built.
        let rows: BTreeMap<String, Written> =
            toml::from_str(text).unwrap_or_else(|why| unreachable!("catalogue of {category:?}: {why}"));
        rows.into_iter().map(|(id, row)| row.named(id, category)).collect()
    };
    Catalogue::new(FILES.into_iter().flat_map(|(category, text)| read(category, text)).collect())
});

impl Written {
    fn named(self, id: String, category: Category) -> Row {
        let Self { who, priority, effort, sign, sign_days, title, risk, fix, proof } = self;
        Row { id, category, priority, who, effort, sign, sign_days, title, risk, fix, proof }
    }
}

impl Catalogue {
    /// The one that is part of the program.
    #[must_use]
    pub fn built_in() -> &'static Self {
        &BUILT_IN
    }

    /// A catalogue of these rows, for tests and for apps with checks of their own.
    #[must_use]
    pub fn new(rows: Vec<Row>) -> Self {
        let places = rows.iter().enumerate().map(|(place, row)| (row.id.clone(), place)).collect();
        Self { rows, places }
    }

    /// All rows.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Row> {
        self.places.get(id).map(|place| &self.rows[*place])
    }
}

impl Category {
    /// The eight that make up the score, in the order of the table.
    pub const SCORED: [Self; 8] = [
        Self::Testing,
        Self::ErrorHandling,
        Self::Monitoring,
        Self::Security,
        Self::Backup,
        Self::Performance,
        Self::Documentation,
        Self::Scalability,
    ];

    /// The priority of the category itself: that of its rows that have none, and its weight in the weighted line.
    #[must_use]
    pub fn priority(self) -> Priority {
        match self {
            Self::Testing | Self::ErrorHandling | Self::Monitoring | Self::Security | Self::Backup => {
                Priority::Critical
            }
            Self::Performance | Self::Documentation => Priority::High,
            Self::Scalability => Priority::Medium,
            Self::Gate | Self::Operations => Priority::None,
        }
    }

    /// Its name.
    #[must_use]
    pub fn title(self) -> Words {
        let (en, nb, sv) = match self {
            Self::Testing => ("Testing", "Testing", "Testning"),
            Self::ErrorHandling => ("Error handling", "Feilhåndtering", "Felhantering"),
            Self::Monitoring => ("Monitoring", "Overvåking", "Övervakning"),
            Self::Security => ("Security", "Sikkerhet", "Säkerhet"),
            Self::Backup => ("Backup", "Backup", "Backup"),
            Self::Performance => ("Performance", "Ytelse", "Prestanda"),
            Self::Documentation => ("Documentation", "Dokumentasjon", "Dokumentation"),
            Self::Scalability => ("Scalability", "Skalerbarhet", "Skalbarhet"),
            Self::Gate => ("Gate", "Port", "Grind"),
            Self::Operations => ("Operations", "Drift", "Drift"),
        };
        Words { en: en.into(), nb: nb.into(), sv: sv.into() }
    }
}

impl Row {
    /// Its weight in the score.
    #[must_use]
    pub fn weight(&self) -> u32 {
        let priority = if self.priority == Priority::None { self.category.priority() } else { self.priority };
        priority.weight()
    }

    /// Whether the score has it: not the rows that are made of others, which would count them twice.
    #[must_use]
    pub fn is_scored(&self) -> bool {
        Category::SCORED.contains(&self.category)
            && !self.id.starts_with("ready.score.")
            && !self.id.starts_with("ready.success.")
    }
}

impl Priority {
    /// 3, 2, 1; 0 where there is none.
    #[must_use]
    pub fn weight(self) -> u32 {
        match self {
            Self::Critical => 3,
            Self::High => 2,
            Self::Medium => 1,
            Self::None => 0,
        }
    }

    /// Its name.
    #[must_use]
    pub fn title(self) -> Words {
        let (en, nb, sv) = match self {
            Self::Critical => ("Critical", "Kritisk", "Kritisk"),
            Self::High => ("High", "Høy", "Hög"),
            Self::Medium => ("Medium", "Middels", "Medel"),
            Self::None => ("-", "-", "-"),
        };
        Words { en: en.into(), nb: nb.into(), sv: sv.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::words::Lang;

    #[test]
    fn every_row_is_whole() {
        for (category, text) in FILES {
            if let Err(why) = toml::from_str::<BTreeMap<String, Written>>(text) {
                panic!("catalogue of {category:?}: {why}");
            }
        }
        let rows = Catalogue::built_in().rows();
        assert_eq!(rows.len(), 287);
        assert_eq!(rows.iter().map(|row| &row.id).collect::<BTreeSet<_>>().len(), rows.len());
        for row in rows {
            let id = &row.id;
            let parts: BTreeSet<&str> = row.proof.iter().map(|part| part.id.as_str()).collect();
            assert_eq!(parts.len(), row.proof.len(), "{id}: a part is there twice");
            assert!(row.who == Who::Human || !row.proof.is_empty(), "{id}: nothing proves it");
            assert_eq!(row.sign.is_some(), row.sign_days.is_some(), "{id}: who signs, and for how long?");
            assert!(row.who != Who::Human || row.sign.is_some(), "{id}: nobody signs");
            let texts = [&row.title, &row.risk, &row.fix].into_iter().chain(&row.sign);
            for words in texts.chain(row.proof.iter().map(|part| &part.text)) {
                for lang in Lang::ALL {
                    assert!(!words.get(lang).trim().is_empty(), "{id}: a text is missing in {lang}");
                    assert!(!words.get(lang).contains('\n'), "{id}: a text has more than one line");
                }
            }
            let units = row.effort.trim_start_matches(|c: char| c.is_ascii_digit());
            assert!(
                ["m", "h", "d", "w"].contains(&units) && units != row.effort,
                "{id}: effort {:?}",
                row.effort
            );
        }
    }

    /// The users' own inventory, where it lies beside the project: the same ids, weights and signatures.
    #[test]
    fn the_rows_are_those_of_the_inventory() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/seeds/canonical.tsv");
        let Ok(text) = std::fs::read_to_string(path) else {
            return eprintln!("skipped: there is no shared/seeds beside the project");
        };
        let mut lines = text.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        let head = lines.next().unwrap();
        let column = |name| head.iter().position(|each| *each == name).unwrap();
        let mut seen = 0;
        for line in lines {
            let row = Catalogue::built_in().get(line[column("canonical")]).unwrap();
            assert_eq!(name(row.priority), line[column("priority")], "{}", row.id);
            let category = line[column("score_category")].trim_end_matches(" (unscored)");
            assert_eq!(name(row.category), category, "{}", row.id);
            let who = line[column("who")].split('-').next().unwrap();
            assert_eq!(name(row.who), who, "{}", row.id);
            assert_eq!(row.sign.is_some(), line[column("attestation")] != "-", "{}", row.id);
            seen += 1;
        }
        assert_eq!(seen, Catalogue::built_in().rows().len());
    }

    fn name(value: impl Serialize) -> String {
        serde_json::to_value(value).unwrap().as_str().unwrap().to_owned()
    }
}
