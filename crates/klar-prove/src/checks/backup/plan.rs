//! Whether it is written down what is done when the machine is lost.

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::words::Words;
use crate::world::World;

/// The plan.
pub struct Written;

/// What it has.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// The document.
    path: Option<String>,
    /// Whether it is what klar would write now.
    current: bool,
    /// What `klar.toml` does not say.
    lacks: Vec<String>,
    /// Its commands, and whether there are such.
    commands: Vec<(String, bool)>,
}

const CONTENT: (&str, &str) = ("dr.plan", "content");
const COMMANDS: (&str, &str) = ("dr.plan", "commands");

impl Probe for Written {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "recovery-plan",
        version: 1,
        question: "Is it written down what is done when the machine is lost, by whom, and how long it may take?",
        does: "Looks for the plan among the documents of the app, compares it with what `klar drill plan` would write from the klar.toml that is there now, and looks whether klar knows each of its commands.",
        shows: &[CONTENT, COMMANDS],
        needs: &[Need::Klar],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(30),
        faults: &[
            Fault::Foil("no-recovery-plan", CONTENT),
            Fault::Foil("old-recovery-plan", CONTENT),
            Fault::Foil("nobody-to-call", CONTENT),
            Fault::Foil("made-up-command", COMMANDS),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let cannot = |why: String| Unable(Words::same(why));
        let plan = klar.plan().await.map_err(cannot)?;
        let mut commands = Vec::new();
        for command in plan.commands() {
            let is_known = klar.knows(&command).await.map_err(cannot)?;
            commands.push((command, is_known));
        }
        let (path, current) = match plan.written {
            Some((path, text)) => (Some(path), text == plan.text),
            None => (None, false),
        };
        Ok(Seen { path, current, lacks: plan.lacks, commands })
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let Seen { path, current, lacks, commands } = seen;
        let Some(path) = path else {
            let none = words!(
                "no document has a plan: `klar drill plan --out docs/recovery.md` writes it",
                "ingen dokumenter har en plan: `klar drill plan --out docs/recovery.md` skriver den",
                "inget dokument har en plan: `klar drill plan --out docs/recovery.md` skriver den"
            );
            return vec![Finding::broken(CONTENT, none.clone()), Finding::broken(COMMANDS, none)];
        };
        let lacking = lacks.join(", ");
        let content = if !lacks.is_empty() {
            words!(
                "{path} lacks what klar.toml does not say: {lacking}",
                "{path} mangler det klar.toml ikke sier: {lacking}",
                "{path} saknar det som klar.toml inte säger: {lacking}"
            )
        } else if *current {
            words!(
                "{path} is what klar.toml says now",
                "{path} er det klar.toml sier nå",
                "{path} är vad klar.toml säger nu"
            )
        } else {
            words!(
                "{path} is older than klar.toml: `klar drill plan --out {path}` writes it again",
                "{path} er eldre enn klar.toml: `klar drill plan --out {path}` skriver den på nytt",
                "{path} är äldre än klar.toml: `klar drill plan --out {path}` skriver den på nytt"
            )
        };
        let number = commands.len();
        let known = match commands.iter().find(|(_, known)| !known) {
            Some((command, _)) => words!(
                "there is no command `{command}`",
                "det finnes ingen kommando `{command}`",
                "det finns inget kommando `{command}`"
            ),
            None => words!(
                "{number} commands, and klar knows them all",
                "{number} kommandoer, og klar kjenner alle",
                "{number} kommandon, och klar kan dem alla"
            ),
        };
        let all_known = number > 0 && commands.iter().all(|(_, known)| *known);
        vec![
            Finding::when(*current && lacks.is_empty(), CONTENT, content),
            Finding::when(all_known, COMMANDS, known),
        ]
    }
}
