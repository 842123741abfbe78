//! What is planned for when the machine is lost, and what became of it when that was rehearsed.

use serde::{Deserialize, Serialize};

/// Between these lines of a document is what klar writes of the plan.
pub const MARKS: (&str, &str) = ("<!-- klar drill plan: from here -->", "<!-- klar drill plan: to here -->");

/// The plan of an app.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// As klar would write it now, [`MARKS`] included.
    pub text: String,
    /// The document that has one, and what is between the marks there, with them.
    pub written: Option<(String, String)>,
    /// Keys of `klar.toml` that it lacks: `recovery.contact`.
    pub lacks: Vec<String>,
    /// The second place; without one there is nothing to rebuild from.
    pub place: Option<String>,
    /// How long the app may be away, in milliseconds.
    pub rto_ms: u64,
    /// How much of the newest data may be lost, in milliseconds.
    pub rpo_ms: u64,
}

impl Plan {
    /// The commands of the plan that is followed: the one in a document, else the one that klar would write.
    #[must_use]
    pub fn commands(&self) -> Vec<String> {
        commands(self.written.as_ref().map_or(&self.text, |(_, text)| text))
    }
}

/// What a document has between the marks, with them.
#[must_use]
pub fn part(document: &str) -> Option<&str> {
    let from = document.find(MARKS.0)?;
    let to = document[from..].find(MARKS.1)? + from + MARKS.1.len();
    Some(&document[from..to])
}

/// The commands of klar in it: lines that begin with `$ klar`.
fn commands(text: &str) -> Vec<String> {
    let command = |line: &str| {
        line.trim().strip_prefix("$ ").filter(|line| line.starts_with("klar ")).map(str::to_owned)
    };
    text.lines().filter_map(command).collect()
}

/// What became of an app whose machine was lost, in a rig.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuilt {
    /// The commands that were given, how long each took in milliseconds, and what it said where it failed.
    pub commands: Vec<(String, u64, Option<String>)>,
    /// Whether `klar.toml` and the sources came from Git.
    pub from_git: bool,
    /// Files that `klar.toml` names and Git does not have: they came from the drawer.
    pub from_drawer: Vec<String>,
    /// Rows that were acknowledged before the loss, and those of them that came back.
    pub rows: u64,
    /// As above.
    pub back: u64,
    /// How old the oldest row was that did not come back, in milliseconds, when the machine was lost.
    pub lost_ms: u64,
    /// From the loss until the app answered as before on its data, in milliseconds.
    pub away_ms: Option<u64>,
    /// The status of the first page before, and after.
    pub before: Option<u16>,
    /// As above.
    pub after: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_found_in_a_document() {
        let text = format!(
            "{}\n\n```console\n$ klar up\n# apt install git\n$ klar status\n```\n{}",
            MARKS.0, MARKS.1
        );
        let document = format!("# Recovery\n\n$ klar down\n\n{text}\n\nCall Kari.\n");
        assert_eq!(part(&document), Some(&*text));
        assert_eq!(part("# Recovery"), None);
        let plan = Plan { written: Some(("docs/recovery.md".into(), text)), ..Plan::default() };
        assert_eq!(plan.commands(), ["klar up", "klar status"]);
    }
}
