//! The reference of `klar.toml` for people: every table and key, from the table of keys.
//!
//! The result is committed as `docs/reference/klar-toml.md`; a test compares the two, and writes the file when
//! `KLAR_BLESS=1` is set.

use crate::explain::{applies_to, default_in_words, inner_sections};
use crate::keys::{ENV, ENV_DOC, ROOTS};
use crate::load::TEMPLATE;
use crate::table::{Key, Kind, Preset, Section};

const INTRO: &str = "# klar.toml

<!-- Generated from crates/klar-config/src/keys.rs. To change it, edit there and run
     `KLAR_BLESS=1 cargo test -p klar-config --test reference`. -->

One file describes one app. Only two things must be in it: the name of the app, and one service.

";

/// The reference in Markdown, with a line break at its end.
pub fn reference_markdown() -> String {
    let mut out = INTRO.to_owned();
    fence(&mut out, TEMPLATE);
    out.push_str(
        "Everything else has a default. `klar explain` shows each setting that is in force and where it comes from, \
         `klar explain KEY` what is written here about one key. `NAME` and `PATH` stand for names that you choose.\n\n\
         Times are a whole number and a unit: `ms`, `s`, `m`, `h` or `d`. Sizes are a whole number and `B`, `KiB`, \
         `MiB`, `GiB` or `TiB`.\n\n",
    );
    for root in &ROOTS {
        let title = header_of(root.section);
        out.push_str(&format!(
            "- [`{title}`](#{}): {}\n",
            anchor(&title),
            first_sentence(&root.section.summary())
        ));
    }
    let env = "[env.NAME]";
    out.push_str(&format!("- [`{env}`](#{}): what is different in one environment.\n", anchor(env)));
    for root in &ROOTS {
        write_section(&mut out, root.section);
    }
    out.push_str(&format!("\n## `{env}`\n\n{ENV_DOC}\n\n"));
    fence(
        &mut out,
        &format!(
            "[{ENV}.staging.app]\ndomains = [\"staging.shop.example\"]\n\n[{ENV}.staging.services.web]\ninstances = 1\n"
        ),
    );
    let mut out = out.replace("\n\n\n", "\n\n");
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn write_section(out: &mut String, section: &'static Section) {
    out.push_str(&format!("\n## `{}`\n\n{}\n\n", header_of(section), section.summary()));
    if let [first @ .., last] = section.alternatives {
        let names: Vec<String> = first.iter().map(|name| format!("`{name}`")).collect();
        out.push_str(&format!("Exactly one of {} and `{last}` must be set.\n\n", names.join(", ")));
    }
    out.push_str("| Key | Default | |\n|---|---|---|\n");
    for key in section.keys {
        let (name, default) =
            (format!("[`{}`](#{})", key.name, anchor(&title_of(key))), cell(&default_of(key)));
        out.push_str(&format!("| {name} | {default} | {} |\n", cell(&first_sentence(&key.summary()))));
    }
    for key in section.keys {
        write_key(out, key);
    }
}

fn write_key(out: &mut String, key: &'static Key) {
    out.push_str(&format!("\n### `{}`\n\n{}\n\n", title_of(key), key.summary()));
    out.push_str(&format!("- Takes: {}\n- Default: {}\n", key.expected(), default_of(key)));
    if !key.only.is_empty() {
        out.push_str(&format!("- For: {}\n", applies_to(key)));
    }
    if let Kind::Choice(choices) = key.kind {
        for choice in choices {
            out.push_str(&format!("- `\"{}\"`: {}\n", choice.name, choice.doc));
        }
    }
    for inner in inner_sections(&key.kind).into_iter().flat_map(|section| section.keys) {
        out.push_str(&format!("- `{}`: {} Default: {}\n", inner.name, inner.summary(), default_of(inner)));
    }
    out.push('\n');
    fence(out, key.example);
}

/// `[services.NAME]`, `[routes."PATH"]`.
fn header_of(section: &Section) -> String {
    match section.path {
        "routes.*" => "[routes.\"PATH\"]".into(),
        _ => section.header(),
    }
}

/// `services.NAME.health`: a heading that no other key has.
fn title_of(key: &Key) -> String {
    let name = if key.section == "routes.*" { "\"PATH\"" } else { "NAME" };
    key.path().replace('*', name)
}

fn default_of(key: &Key) -> String {
    match key.preset {
        Preset::Fixed(toml) => format!("`{toml}`"),
        _ => default_in_words(key),
    }
}

/// Where a heading is found: small letters, digits, `-` and `_`; spaces become `-`, all else is left out.
fn anchor(title: &str) -> String {
    let letter = |c: char| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        c if c.is_alphanumeric() => Some(c.to_ascii_lowercase()),
        _ => None,
    };
    title.chars().filter_map(letter).collect()
}

fn first_sentence(text: &str) -> String {
    let end = text.find(". ").or_else(|| text.find(".\n")).map_or(text.len(), |at| at + 1);
    text[..end].trim_end().to_owned()
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn fence(out: &mut String, toml: &str) {
    out.push_str(&format!("```toml\n{}\n```\n\n", toml.trim_end()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::every_key;

    #[test]
    fn every_link_has_its_heading() {
        let text = reference_markdown();
        let headings: Vec<String> = text
            .lines()
            .filter(|line| line.starts_with("##"))
            .map(|line| anchor(line.trim_start_matches('#').trim()))
            .collect();
        let mut sorted = headings.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), headings.len(), "two headings are alike");
        let links: Vec<&str> =
            text.match_indices("](#").filter_map(|(at, _)| text[at + 3..].split(')').next()).collect();
        assert!(links.len() > 50);
        for link in links {
            assert!(headings.iter().any(|heading| heading == link), "{link}");
        }
        for key in every_key() {
            assert!(text.contains(&format!("`{}`", key.name)), "{}", key.path());
        }
    }
}
