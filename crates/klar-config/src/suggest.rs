//! "Did you mean": the nearest of a few names, or none.

/// Returns the candidate that `wrong` was most likely meant to be.
///
/// Case, `-` and `_` do not count. Otherwise a third of the letters may differ, and at least one.
pub(crate) fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if wrong.is_empty() || wrong.len() > 64 {
        return None;
    }
    let plain = plain(wrong);
    let allowed = (plain.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let distance = distance(&plain, candidate);
            (distance <= allowed && distance < candidate.chars().count()).then_some((distance, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

fn distance(plain_wrong: &str, candidate: &str) -> usize {
    let candidate = plain(candidate);
    let distance = strsim::damerau_levenshtein(plain_wrong, &candidate);
    // `postgresql` for `postgres`, `instance` for `instances`: the one begins with the whole of the other.
    let (short, long) = if plain_wrong.len() < candidate.len() {
        (plain_wrong, &*candidate)
    } else {
        (&*candidate, plain_wrong)
    };
    if short.len() >= 4 && long.starts_with(short) { distance.min(1) } else { distance }
}

fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect()
}

/// A name as it may be shown in a message: in backticks, without control characters, not endless.
pub(crate) fn quote(name: &str) -> String {
    let mut shown: String = name.chars().take(48).flat_map(printable).collect();
    if name.chars().count() > 48 {
        shown.push('…');
    }
    format!("`{shown}`")
}

fn printable(c: char) -> impl Iterator<Item = char> {
    let (plain, escaped) = if is_hidden(c) { (None, Some(c.escape_unicode())) } else { (Some(c), None) };
    plain.into_iter().chain(escaped.into_iter().flatten())
}

/// What does something to a terminal, or to the order of what is shown, instead of being seen.
fn is_hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A piece of TOML as it can be shown and copied: what cannot be seen is escaped as TOML does it.
pub(crate) fn shown_toml(toml: &str) -> String {
    let escape = |c: char| if is_hidden(c) { format!("\\u{:04X}", u32::from(c)) } else { c.to_string() };
    toml.chars().map(escape).collect()
}

/// `a`, `b` or `c`.
pub(crate) fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(quote).collect();
    match &names[..] {
        [] => "nothing".into(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// `a`, `b` and `c`.
pub(crate) fn all_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let text = one_of(names);
    match text.rsplit_once("` or `") {
        Some((first, last)) => format!("{first}` and `{last}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_names() {
        for (wrong, expected) in [
            ("helth", Some("health")),
            ("Health", Some("health")),
            ("ready-timeout", Some("ready_timeout")),
            ("instance", Some("instances")),
            ("xyz", None),
            ("", None),
        ] {
            assert_eq!(nearest(wrong, ["health", "ready_timeout", "instances", "run"]), expected, "{wrong}");
        }
    }

    #[test]
    fn names_are_shown_without_control_characters() {
        assert_eq!(quote("a\u{1b}[31m"), "`a\\u{1b}[31m`");
    }
}
