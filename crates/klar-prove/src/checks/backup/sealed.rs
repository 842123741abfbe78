//! Whether nobody can read what is kept without its key: a text that was written to the database is looked for in every
//! object of the repository.

use std::rc::Rc;
use std::time::Duration;

use klar_base::Secret;
use klar_base::keep::{Ask, Told};
use serde::{Deserialize, Serialize};

use super::{asked, unexpected};
use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::words;
use crate::world::World;

/// A canary.
pub struct Sealed;

/// Where the text was found.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Objects of the repository, and their bytes.
    objects: u64,
    bytes: u64,
    /// Objects that have the text.
    in_repository: Vec<String>,
    /// Files of the database that have it: they are not sealed, so it is found where it is.
    in_database: Vec<String>,
    encrypted_volume: bool,
    /// Objects that have the repository's key.
    keys: Vec<String>,
    /// What a drill with a wrong key said; `None`: it restored something.
    wrong_key: Option<String>,
}

const CANARY: (&str, &str) = ("sec.encryption-at-rest", "canary");
const CONTROL: (&str, &str) = ("sec.encryption-at-rest", "control");
const KEY: (&str, &str) = ("sec.encryption-at-rest", "key-apart");
const WRONG: (&str, &str) = ("sec.encryption-at-rest", "wrong-key");

const TABLE: &str = "klar_canary";

impl Probe for Sealed {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "backup-sealed",
        version: 1,
        question: "Can nobody read what is kept without its key?",
        does: "Writes a text to a table of its own, takes a backup, and looks for the text in every object of the repository, and in the database's own files, where the same search has to find it; looks for the repository's key in it, and tries to restore with a wrong one.",
        shows: &[CANARY, CONTROL, KEY, WRONG],
        needs: &[Need::Klar, Need::Kept, Need::Database],
        disturbs: Disturbs::Attacks,
        good_for: Duration::from_secs(7 * 24 * 3600),
        limit: Duration::from_secs(1800),
        faults: &[
            Fault::Foil("plain-backup", CANARY),
            Fault::Foil("searches-nothing", CONTROL),
            Fault::Foil("key-in-repository", KEY),
            Fault::Foil("any-key-opens", WRONG),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let database = world.database().await?;
        let text = format!("canary-{:032x}", fastrand::u128(..));
        database.run("SET default_transaction_read_only = off").await?;
        let fill =
            format!("DROP TABLE IF EXISTS {TABLE}; CREATE TABLE {TABLE} AS SELECT '{text}'::text AS t");
        database.run(&fill).await?;
        // A base begins with a checkpoint, after which the text is in the database's files too.
        let proof = asked(&*klar, Ask::Now { store: None }).await;
        let searched = asked(&*klar, Ask::Search { store: None, text }).await;
        database.run(&format!("DROP TABLE {TABLE}")).await?;
        proof?;
        let Told::Searched { objects, bytes, found, in_database, encrypted_volume, keys } = searched? else {
            return Err(unexpected());
        };
        let escrow = Some(Secret::new("this is not the key".to_owned()));
        let wrong_key =
            match asked(&*klar, Ask::Drill { store: None, point: None, escrow, second: false }).await {
                Ok(_) => None,
                Err(Unable(why)) => Some(why.en),
            };
        Ok(Seen { objects, bytes, in_repository: found, in_database, encrypted_volume, keys, wrong_key })
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let Seen { objects, bytes, in_repository, in_database, encrypted_volume, keys, wrong_key } = seen;
        let first = in_repository.first().map_or("-", String::as_str);
        let canary = if !in_repository.is_empty() {
            let text = words!(
                "it lies in clear in {first}",
                "den ligger i klartekst i {first}",
                "den ligger i klartext i {first}"
            );
            Finding::broken(CANARY, text)
        } else if *encrypted_volume {
            let text = words!(
                "it is in none of {objects} objects ({bytes} bytes), and the database's volume is encrypted",
                "den er i ingen av {objects} objekter ({bytes} byte), og databasens volum er kryptert",
                "den är i inget av {objects} objekt ({bytes} byte), och databasens volym är krypterad"
            );
            Finding::held(CANARY, text)
        } else {
            let text = words!(
                "it is in none of {objects} objects of the backups ({bytes} bytes); the database's own files lie in clear on a volume that this machine does not encrypt",
                "den er i ingen av {objects} objekter i sikkerhetskopiene ({bytes} byte); databasens egne filer ligger i klartekst på et volum som denne maskinen ikke krypterer",
                "den är i inget av {objects} objekt i säkerhetskopiorna ({bytes} byte); databasens egna filer ligger i klartext på en volym som denna maskin inte krypterar"
            );
            Finding::unseen(CANARY, text)
        };
        let files = in_database.len();
        let control = words!(
            "the same search finds it in {files} of the database's own files",
            "det samme søket finner den i {files} av databasens egne filer",
            "samma sökning hittar den i {files} av databasens egna filer"
        );
        let beside = keys.first().map_or("-", String::as_str);
        let key = if keys.is_empty() {
            words!(
                "no object of the repository has its key",
                "ingen objekter i depotet har nøkkelen",
                "inget objekt i förrådet har nyckeln"
            )
        } else {
            words!("{beside} has the key", "{beside} har nøkkelen", "{beside} har nyckeln")
        };
        let said = wrong_key.as_deref().unwrap_or("-");
        let wrong = match wrong_key {
            Some(_) => words!("{said}", "{said}", "{said}"),
            None => words!(
                "a wrong key restored something",
                "en feil nøkkel gjenopprettet noe",
                "en felaktig nyckel återställde något"
            ),
        };
        vec![
            canary,
            Finding::when(!in_database.is_empty(), CONTROL, control),
            Finding::when(keys.is_empty(), KEY, key),
            Finding::when(wrong_key.is_some(), WRONG, wrong),
        ]
    }
}
