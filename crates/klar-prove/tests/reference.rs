//! The committed reference is what the checks say.

#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

#[test]
fn the_committed_reference_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/checks.md");
    let current = klar_prove::reference::markdown();
    if std::env::var_os("KLAR_BLESS").is_some() {
        std::fs::write(&path, &current).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = committed.lines().zip(current.lines()).position(|(a, b)| a != b);
    let differs =
        differs.or((committed != current).then(|| committed.lines().count().min(current.lines().count())));
    assert!(
        differs.is_none(),
        "docs/reference/checks.md is not what the checks say (first at line {}); run `KLAR_BLESS=1 cargo test -p klar-prove --test reference`",
        differs.unwrap_or(0) + 1
    );
}
