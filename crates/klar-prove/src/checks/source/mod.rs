//! What the sources say, without running them.

pub mod coverage;
pub mod dependencies;
pub mod documents;
pub mod lex;
pub mod reports;
pub mod runtime;
pub mod secrets;
pub mod sql_built;
pub mod tests_run;
pub mod tests_there;
pub mod tree;

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::rc::Rc;

    use crate::check::{Check, Finding, Saw};
    use crate::world::World;

    /// What a check finds in one of the two shops: the careful one and its careless twin.
    fn found(check: Check, folder: &Path) -> Vec<Finding> {
        let mut world = World::new("folder");
        world.source = Some(folder.to_owned());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let seen = runtime.block_on(check.look(Rc::new(world))).map_err(|why| why.0.en).unwrap();
        check.judge(&seen).unwrap()
    }

    #[test]
    fn the_careful_shop_builds_no_sql_and_its_careless_twin_does() {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo");
        let saw = |check: Check, shop: &str, row: &str, part: &str| {
            let found = found(check, &demo.join(shop));
            let found = found.into_iter().find(|each| each.row == row && each.part == part).unwrap();
            (found.saw, found.because.en)
        };
        let sql = Check::of::<super::sql_built::SqlBuilt>();
        let secrets = Check::of::<super::secrets::Secrets>();
        let (sec, stage) = ("sec.parameterized-queries", "deploy.stage.security");
        assert_eq!(saw(sql, "lisens", sec, "source").0, Saw::Held);
        assert_eq!(saw(sql, "raw", sec, "source").0, Saw::Broken);
        assert_ne!(saw(secrets, "lisens", stage, "secrets").0, Saw::Broken);
        assert_eq!(saw(secrets, "raw", stage, "secrets").0, Saw::Broken);
    }

    /// `KLAR_SOURCE=/some/folder cargo test -p klar-prove what_a_folder_says -- --ignored --nocapture`
    #[test]
    #[ignore = "for trying checks on a folder by hand"]
    fn what_a_folder_says() {
        let folder = std::env::var("KLAR_SOURCE").unwrap();
        for check in crate::checks::ALL {
            if check.about.needs == [crate::check::Need::Source] {
                let started = std::time::Instant::now();
                for finding in found(*check, Path::new(&folder)) {
                    println!("{}.{} {:?}: {}", finding.row, finding.part, finding.saw, finding.because.en);
                }
                println!("{}: {:?}", check.about.id, started.elapsed());
            }
        }
    }
}
