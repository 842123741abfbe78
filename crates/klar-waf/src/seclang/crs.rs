//! The OWASP Core Rule Set is read whole, and what is read of it is counted against the lines of its files.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// Where Debian's package puts its rules, and its settings.
const DEBIAN: (&str, &str) = ("/usr/share/modsecurity-crs/rules", "/etc/modsecurity/crs/crs-setup.conf");

/// Reads the settings first, and then all files of rules by their names.
fn read(setup: &Path, rules: &Path) -> Vec<(String, Parsed)> {
    let mut files: Vec<PathBuf> = fs::read_dir(rules).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    files.insert(0, setup.to_path_buf());
    files
        .iter()
        .map(|file| {
            let text = fs::read_to_string(file).unwrap();
            let parsed = parse(&Source { name: &file.display().to_string(), text: &text });
            (text, parsed)
        })
        .collect()
}

/// How many directives of a name there are, as `grep -c` counts them.
fn lines(text: &str, name: &str) -> usize {
    text.lines().filter(|line| line.split_whitespace().next() == Some(name)).count()
}

#[track_caller]
fn check(setup: &Path, rules: &Path) {
    let files = read(setup, rules);
    let mut all = Vec::new();
    let mut count = [0; 4];
    for (text, parsed) in files {
        let shown: Vec<String> = parsed.refused.iter().map(ToString::to_string).collect();
        assert!(shown.is_empty(), "{}", shown.join("\n"));
        let mut read = [0; 4];
        for directive in &parsed.directives {
            match directive {
                Directive::Rule(rule) => {
                    for link in &rule.links {
                        read[usize::from(link.targets.is_empty())] += 1;
                    }
                }
                Directive::Marker(..) => read[2] += 1,
                _ => read[3] += 1,
            }
        }
        let others =
            ["SecRuleUpdateTargetById", "SecDefaultAction", "SecComponentSignature", "SecCollectionTimeout"];
        let there = [
            lines(&text, "SecRule"),
            lines(&text, "SecAction"),
            lines(&text, "SecMarker"),
            others.iter().map(|name| lines(&text, name)).sum(),
        ];
        assert_eq!(read, there, "{:?}", parsed.directives.first());
        count.iter_mut().zip(read).for_each(|(sum, read)| *sum += read);
        all.extend(parsed.directives);
    }
    let heads = all.iter().filter(|directive| matches!(directive, Directive::Rule(_))).count();
    println!("{count:?} SecRule, SecAction, SecMarker and others; {heads} rules");
    assert!(count[0] > 500 && heads > 300);
    assert_eq!(duplicates(&all), []);
    let set = resolve(all);
    assert_eq!((set.refused, set.idle), (vec![], vec![]));
    assert_eq!(set.items.len(), heads + count[2]);
}

#[test]
fn debians_rules_are_read_whole() {
    let (rules, setup) = (Path::new(DEBIAN.0), Path::new(DEBIAN.1));
    if rules.is_dir() && setup.is_file() {
        check(setup, rules);
    } else {
        println!("skipped: the package modsecurity-crs is not installed");
    }
}

#[test]
fn the_settings_beside_them_are_read_whole() {
    // Of the package libnginx-mod-http-modsecurity.
    let file = Path::new("/etc/nginx/modsecurity.conf");
    match fs::read_to_string(file) {
        Ok(text) => {
            let parsed = parse(&Source { name: "modsecurity.conf", text: &text });
            assert_eq!(parsed.refused, []);
            let there = text.lines().filter(|line| line.starts_with("Sec")).count();
            assert!(there > 10 && parsed.directives.len() == there);
        }
        Err(_) => println!("skipped: {} is not there", file.display()),
    }
}

#[test]
fn the_rules_of_a_folder_are_read_whole() {
    match std::env::var_os("KLAR_CRS_DIR").map(PathBuf::from) {
        Some(folder) => check(&folder.join("crs-setup.conf.example"), &folder.join("rules")),
        None => println!("skipped: KLAR_CRS_DIR names no folder with the OWASP Core Rule Set"),
    }
}
