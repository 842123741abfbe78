//! The committed reference is what the table of keys says. `KLAR_BLESS=1` writes it anew.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::Path;

#[test]
fn the_committed_reference_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/klar-toml.md");
    let expected = klar_config::reference_markdown();
    if std::env::var_os("KLAR_BLESS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, &expected).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    let differs = committed.lines().zip(expected.lines()).position(|(one, other)| one != other);
    assert!(
        committed == expected,
        "docs/reference/klar-toml.md is not what crates/klar-config says (first at line {}); \
         run `KLAR_BLESS=1 cargo test -p klar-config --test reference`",
        differs.map_or(committed.lines().count().min(expected.lines().count()), |at| at) + 1
    );
}
