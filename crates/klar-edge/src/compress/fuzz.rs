//! What a visitor accepts, read twice: by the code that serves, and by the grammar.

use klar_fuzz::Fuzz;

use super::*;

const FUZZ: Fuzz<'_> = Fuzz {
    name: "Accept-Encoding",
    seeds: &[
        b"gzip, deflate, br, zstd",
        b"gzip;q=0.5, br;q=1.0",
        b"*;q=0, identity",
        b"br;q=0.001\ngzip;q=0",
        b"identity;q=0.5, *;q=0.1",
        b"GZIP ; q=0.8",
        b"",
        b"gzip;q=1.0000",
    ],
    words: &[
        b"gzip",
        b"br",
        b"zstd",
        b"identity",
        b"*",
        b";q=",
        b";q=0",
        b";q=0.001",
        b", ",
        b"0.5",
        b"1.0",
        b"NaN",
        b"inf",
        b"-1",
        b"1e3",
        b"q",
        b"\n",
        b" ",
    ],
    longest: 120,
};

/// A member of the list as RFC 9110 section 12.5.3 has it: its name and its weight in thousandths. `None`: it is none.
fn member(item: &str) -> Option<(String, u32)> {
    let (name, weight) = match item.split_once(';') {
        None => (item.trim_matches([' ', '\t']), None),
        Some((name, weight)) => (name.trim_matches([' ', '\t']), Some(weight.trim_matches([' ', '\t']))),
    };
    let is_token = |char: char| char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char);
    if name.is_empty() || !name.chars().all(is_token) {
        return None;
    }
    let weight = match weight {
        None => 1000,
        Some(weight) => {
            let digits = weight.strip_prefix("q=").or_else(|| weight.strip_prefix("Q="))?;
            let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
            if part.len() > 3 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            let part: u32 = format!("{part:0<3}").parse().unwrap();
            match (whole, part) {
                ("0", part) => part,
                ("1", 0) => 1000,
                _ => return None,
            }
        }
    };
    Some((name.to_ascii_lowercase(), weight))
}

#[test]
fn the_weights_are_those_that_the_grammar_gives() {
    FUZZ.run(|input| {
        let values = input.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
        let asked: HeaderMap = values.map(|value| (header::ACCEPT_ENCODING, value)).collect();
        let lines: Vec<&str> =
            asked.values().filter_map(|value| value.to_str().ok()).flat_map(|line| line.split(',')).collect();
        let lines = || lines.iter().filter(|item| !item.trim_matches([' ', '\t']).is_empty());
        let members: Option<Vec<(String, u32)>> = lines().map(|item| member(item)).collect();
        let chosen = Coding::choose(&asked);
        // Whatever it says, what is chosen was named, or everything was.
        if let Some(coding) = chosen {
            let named = quality(&asked, coding.name());
            assert!(named.is_some_and(|weight| (1..=1000).contains(&weight)), "{named:?}");
        }
        // What is well-formed has one meaning.
        let Some(members) = members else { return };
        for name in ["gzip", "br", "zstd", "identity"] {
            let own = members.iter().find(|(known, _)| known == name);
            let any = members.iter().rev().find(|(known, _)| known == "*");
            let wanted = own.or(any).map(|(_, weight)| *weight);
            let weight = quality(&asked, name);
            // Thousandths of a binary fraction may fall short by one.
            let is_near = |one: u32, other: u32| one.abs_diff(other) <= 1 && (one == 0) == (other == 0);
            let agree = match (weight, wanted) {
                (Some(one), Some(other)) => is_near(one, other),
                (one, other) => one == other,
            };
            assert!(agree, "{name}: {weight:?} for {wanted:?} in {members:?}");
        }
    });
}
