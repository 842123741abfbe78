//! Crates use what is below them, never what is beside or above: read from their manifests.

/// From the ground up; crates on one line do not know each other.
const LAYERS: [&[&str]; 7] = [
    &["klar-fuzz"],
    &["klar-base", "klar-sandbox"],
    &["klar-config", "klar-image", "klar-repo", "klar-rows", "klar-store", "klar-tsdb", "klar-waf"],
    &["klar-edge", "klar-keep", "klar-promql", "klar-run"],
    &["klar-api", "klar-see"],
    &["klar-prove"],
    &["klar"],
];

const PICTURE: &str = "
    roof    klar        the program
            klar-prove  checks, evidence, score
            klar-api    the control API and its client; klar-see, telemetry
            klar-run    klar-edge   klar-keep   klar-promql     these do not know each other
            klar-config klar-image  klar-repo  klar-rows  klar-store  klar-tsdb  klar-waf  nor do these
    ground  klar-base   klar-sandbox
    beneath klar-fuzz        for tests alone
";

#[test]
fn dependencies_point_downwards() {
    let layer = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
    let crates = crate::shell::repository().join("crates");
    let mut seen = 0;
    for entry in std::fs::read_dir(crates).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let own = layer(&name).unwrap_or_else(|| panic!("{name} has no place in this picture:\n{PICTURE}"));
        let manifest = std::fs::read_to_string(entry.path().join("Cargo.toml")).unwrap();
        let used = manifest.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
        for used in used.filter(|used| *used != name && layer(used).is_some()) {
            assert!(layer(used) < Some(own), "{name} uses {used}, which is not below it:\n{PICTURE}");
        }
        seen += 1;
    }
    assert_eq!(seen, LAYERS.concat().len());
}
