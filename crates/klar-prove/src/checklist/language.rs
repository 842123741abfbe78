//! Which language a list is in.
//!
//! By the small words that a list in that language cannot do without; Norwegian and Swedish share most words of the
//! trade, so those count for nothing.

use super::matching::Lexicons;
use super::text::tokens;
use crate::words::Lang;

/// The language of most of these texts; English where nothing tells.
pub(crate) fn of<'a>(texts: impl Iterator<Item = &'a str>) -> Lang {
    let lexicons = Lexicons::built_in();
    let mut counts = Lang::ALL.map(|lang| (lang, 0));
    for text in texts {
        // Letters tell before they are folded: `ø` and `æ` are not Swedish, `ö` and `ä` not Norwegian.
        for c in text.chars().flat_map(char::to_lowercase) {
            for (lang, count) in &mut counts {
                *count += usize::from(lexicons.letters(*lang).contains(c)) * 2;
            }
        }
        for word in tokens(text) {
            for (lang, count) in &mut counts {
                *count += usize::from(lexicons.is_marker(*lang, &word)) * 2;
            }
        }
    }
    // The first of those with the most.
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map_or(Lang::En, |(lang, _)| lang)
}
