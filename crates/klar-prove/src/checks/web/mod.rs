//! What any visitor gets: files, pages, and how they come.

pub mod assets;
pub mod caching;
pub mod front_end;
pub mod images;
pub mod topology;

use crate::words;
use crate::words::Words;

/// Whether the name of a file carries a hash of its content, as builds write it: `app-0a1b2c3d.js`,
/// `index.BkX2a_9Z.css`.
#[must_use]
pub fn has_hash(path: &str) -> bool {
    let name = path.split(['?', '#']).next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    let Some((stem, _)) = name.rsplit_once('.') else { return false };
    stem.split(['-', '.']).skip(1).any(is_hash)
}

fn is_hash(text: &str) -> bool {
    let any = |good: fn(char) -> bool| text.chars().any(good);
    let all = |good: fn(char) -> bool| text.chars().all(good);
    let mixed = any(|c| c.is_ascii_digit()) && any(|c| c.is_ascii_alphabetic());
    let hex = all(|c| c.is_ascii_digit() || matches!(c, 'a'..='f'));
    let base64 = all(|c| c.is_ascii_alphanumeric() || c == '_')
        && any(|c| c.is_ascii_uppercase())
        && any(|c| c.is_ascii_lowercase());
    text.len() >= 8 && mixed && (hex || base64)
}

/// How many of how many are not as they should be, and the first of them.
fn those(bad: &[String], all: usize) -> Words {
    let count = bad.len();
    match bad.first() {
        None => words!("all {all} looked at", "alle {all} som ble sett på", "alla {all} som granskades"),
        Some(first) => words!(
            "{count} of {all}; first {first}",
            "{count} av {all}; først {first}",
            "{count} av {all}; först {first}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_in_a_name_is_told_from_other_numbers() {
        for path in ["/a/app-0a1b2c3d.js", "/index.BkX2a_9Z.css", "/use-swr-emll9s78-5aa80c8fac9e91af.js?x"] {
            assert!(has_hash(path), "{path}");
        }
        for path in [
            "/",
            "/icon-192x192.png",
            "/photo-20240101.jpg",
            "/deadbeef1.js",
            "/face-decade.js",
            "/v1.2.3/app.js",
        ] {
            assert!(!has_hash(path), "{path}");
        }
    }
}
