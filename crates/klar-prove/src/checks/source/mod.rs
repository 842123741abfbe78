//! What the sources say, without running them.

pub mod secrets;
pub mod tree;

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::rc::Rc;

    use crate::check::{Check, Finding};
    use crate::world::World;

    /// What a check finds in one of the two shops: the careful one and its careless twin.
    fn found(check: Check, folder: &Path) -> Vec<Finding> {
        let mut world = World::new("folder");
        world.source = Some(folder.to_owned());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let seen = runtime.block_on(check.look(Rc::new(world))).map_err(|why| why.0.en).unwrap();
        check.judge(&seen).unwrap()
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
