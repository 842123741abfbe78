//! What must stay as it is, to the byte: because a digest of it stands somewhere, or because something beside it speaks
//! of its lines.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256, Sha384, Sha512};

use super::minify;
use super::pack::Coding;
use super::walk::Entry;

/// Larger files are not searched for digests, in bytes.
const SEARCHED_MAX: u64 = 8 << 20;
/// Files that may have digests of others in them: pages, scripts, manifests.
const SEARCHED: [&str; 7] = ["html", "htm", "js", "mjs", "json", "webmanifest", "svg"];

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Pinned {
    /// Digests as `integrity` and content security policies write them (Subresource Integrity, section 3.1).
    digests: HashSet<String>,
    paths: HashSet<String>,
    /// Styles of the folder show white space as it is written.
    pub keeps_spaces: bool,
}

impl Pinned {
    /// Looks through a folder. What cannot be read says nothing.
    pub fn of(folder: &Path, files: &[Entry]) -> Self {
        let mut pinned =
            Self { paths: files.iter().map(|file| file.path.clone()).collect(), ..Self::default() };
        for file in files.iter().filter(|file| file.length <= SEARCHED_MAX) {
            let ending = file.path.rsplit_once('.').map_or("", |(_, ending)| ending);
            let (searched, style) = (SEARCHED.contains(&ending), ending == "css");
            if !searched && !style {
                continue;
            }
            let Ok(content) = fs::read(folder.join(&file.path)) else { continue };
            let text = String::from_utf8_lossy(&content);
            if searched {
                pinned.digests.extend(digests(&text));
            }
            // Scripts bring styles with them, too.
            pinned.keeps_spaces |= minify::keeps_spaces(&text) || text.contains("whiteSpace");
        }
        pinned
    }

    /// Whether a file may change.
    pub fn is_free(&self, file: &Entry, content: &[u8]) -> bool {
        let has_map = self.paths.contains(&format!("{}.map", file.path));
        let has_copy = Coding::ALL.iter().any(|coding| file.has_copy(*coding));
        if has_map || has_copy {
            return false;
        }
        if self.digests.is_empty() {
            return true;
        }
        let named = |digest: &[u8]| self.digests.contains(&base64(digest));
        !(named(&Sha256::digest(content))
            || named(&Sha384::digest(content))
            || named(&Sha512::digest(content)))
    }
}

/// Every digest in a text, without the name of its algorithm.
fn digests(text: &str) -> impl Iterator<Item = String> {
    ["sha256-", "sha384-", "sha512-"].into_iter().flat_map(move |name| {
        text.match_indices(name).map(|(at, name)| {
            let rest = &text[at + name.len()..];
            let end = rest.find(|char: char| !char.is_ascii_alphanumeric() && !"+/=-_".contains(char));
            // Both alphabets are in use (RFC 4648 sections 4 and 5).
            rest[..end.unwrap_or(rest.len())].trim_end_matches('=').replace('-', "+").replace('_', "/")
        })
    })
}

/// RFC 4648 section 4, without padding.
fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let number =
            three.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..=three.len() {
            out.push(char::from(SIGNS[(number >> (18 - 6 * place) & 63) as usize]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_as_they_are_written() {
        // What `printf 'a{b: c}' | openssl dgst -sha256 -binary | base64` says.
        for (bytes, wanted) in [(&b"M"[..], "TQ"), (b"Ma", "TWE"), (b"Man", "TWFu"), (b"Mane", "TWFuZQ")] {
            assert_eq!(base64(bytes), wanted);
        }
        let text = "integrity=\"sha384-ab+/c= sha256-x-y_z==\" 'sha512-q'";
        let found: Vec<String> = digests(text).collect();
        assert_eq!(found, ["x+y/z", "ab+/c", "q"]);
    }
}
