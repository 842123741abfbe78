//! Broken files: each must be answered with something a newcomer can act on.
//!
//! One file in `broken/` per mistake; what klar says about it stands beside it in a `.snap`. The first line may
//! say `# env: NAME` to choose an environment.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::Path;

use klar_base::EnvName;
use klar_config::{Config, ConfigErrors};

fn errors_of(text: &str) -> Option<ConfigErrors> {
    let env = text.lines().next().and_then(|line| line.strip_prefix("# env: "));
    let env = env.map_or_else(EnvName::default, |name| name.trim().parse().unwrap());
    Config::parse(text, "klar.toml", &env).err()
}

#[test]
fn broken_files_say_what_to_do() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let mut files: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(files.len() >= 30, "{} files", files.len());
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(&dir);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for file in files {
            let name = file.file_stem().unwrap().to_string_lossy().into_owned();
            let text = fs::read_to_string(&file).unwrap();
            let errors = errors_of(&text).unwrap_or_else(|| panic!("{name} is accepted"));
            let rendered = errors.render(false);
            assert!(!rendered.contains("hunter2"), "{name} shows a secret:\n{rendered}");
            let json = serde_json::to_string(&errors).unwrap();
            assert!(!json.contains("hunter2"), "{name} shows a secret as JSON:\n{json}");
            assert!(
                errors.errors().iter().all(|error| error.hint.is_some()),
                "{name} has an error without a way out"
            );
            insta::assert_snapshot!(name, rendered);
        }
    });
}
