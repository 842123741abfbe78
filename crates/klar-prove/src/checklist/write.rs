//! Ticks and evidence, written into the file.
//!
//! The file is changed in two places an item at most: the one byte in its box, and one comment at the end of its
//! line. A box that a person ticked is never touched: klar remembers in its comment whether it was klar who did.

use std::fmt::Write as _;

use super::{ChecklistError, is_id, read};

/// What is known about an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// All that it asks for was seen.
    Proven,
    /// It was looked for and not seen.
    NotProven,
    /// It could not be looked for.
    Unknown,
    /// klar does not know what the item asks for; the verdict's rows are the closest.
    Declined,
}

/// What to write at an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What is known.
    pub state: State,
    /// The rows it asks for, or the closest where it was declined.
    pub rows: Vec<String>,
    /// Some words: where the evidence is.
    pub evidence: String,
}

/// More than this of the evidence's words is cut off.
const WORDS: usize = 200;
const BY_HAND: &str = "(ticked by hand)";

impl State {
    const ALL: [Self; 4] = [Self::Proven, Self::NotProven, Self::Unknown, Self::Declined];

    /// As comments have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::NotProven => "not proven",
            Self::Unknown => "unknown",
            Self::Declined => "declined",
        }
    }
}

/// What klar's own comment says: the state, and whether a person had ticked the box. `None`: it is not klar's own.
pub(crate) fn state(said: &str) -> Option<(State, bool)> {
    let mut rest = said;
    loop {
        let word = rest.split([' ', ',']).next().unwrap_or_default();
        if !is_id(word) {
            break;
        }
        rest = rest[word.len()..].trim_start_matches([' ', ',']);
    }
    State::ALL.into_iter().find_map(|state| {
        let rest = rest.strip_prefix(state.name())?;
        let ends = rest.is_empty() || rest.starts_with([' ', ',']);
        ends.then(|| (state, rest.trim_start().starts_with(BY_HAND)))
    })
}

/// The file with these verdicts in it, one for each item in order; `None` leaves an item as it is.
///
/// Writing the same verdicts on the same day again changes nothing.
///
/// # Errors
/// When the file cannot be read, or the verdicts are not for this file.
pub fn write(
    bytes: &[u8],
    verdicts: &[Option<Verdict>],
    day: jiff::civil::Date,
) -> Result<Vec<u8>, ChecklistError> {
    let items = read(bytes)?.items;
    if items.len() != verdicts.len() {
        return Err(ChecklistError::Changed { items: items.len(), verdicts: verdicts.len() });
    }
    let mut out = Vec::with_capacity(bytes.len() + items.len() * 96);
    let mut done = 0;
    for (item, verdict) in items.iter().zip(verdicts) {
        let Some(verdict) = verdict else { continue };
        if let Some(id) = verdict.rows.iter().find(|id| !is_id(id)) {
            return Err(ChecklistError::BadId { line: item.line, id: id.clone() });
        }
        let by_klar = item.note.as_ref().is_some_and(|note| note.ticked_by_klar);
        let by_hand = item.ticked && !by_klar;
        let proven = verdict.state == State::Proven;
        out.extend_from_slice(&bytes[done..item.mark]);
        out.push(match (item.ticked, proven) {
            (false, true) => b'x',
            (true, false) if by_klar => b' ',
            _ => bytes[item.mark],
        });
        let comment = comment(verdict, by_hand, day);
        let (from, to) =
            item.note.as_ref().map_or((item.end, item.end), |note| (note.place.start, note.place.end));
        out.extend_from_slice(&bytes[item.mark + 1..from]);
        if item.note.is_none() {
            out.push(b' ');
        }
        out.extend_from_slice(comment.as_bytes());
        done = to;
    }
    out.extend_from_slice(&bytes[done..]);
    Ok(out)
}

fn comment(verdict: &Verdict, by_hand: bool, day: jiff::civil::Date) -> String {
    let rows = verdict.rows.join(", ");
    let mut text = String::from("<!-- klar: ");
    if verdict.state != State::Declined && !rows.is_empty() {
        let _ = write!(text, "{rows} ");
    }
    text += verdict.state.name();
    if by_hand {
        let _ = write!(text, " {BY_HAND}");
    }
    let _ = write!(text, " {day}");
    if verdict.state == State::Declined && !rows.is_empty() {
        let _ = write!(text, ", closest: {rows}");
    }
    let evidence = harmless(&verdict.evidence);
    if !evidence.is_empty() {
        let _ = write!(text, ", {evidence}");
    }
    text + " -->"
}

/// Words that cannot end the comment, start another, or begin code: on one line, of letters that are shown.
fn harmless(evidence: &str) -> String {
    let mut out = String::new();
    for c in evidence.chars() {
        match c {
            '<' | '>' | '`' | '|' | '\\' => {}
            '-' if out.ends_with('-') => {}
            c if c.is_whitespace() || c.is_control() => out.push(' '),
            // Marks that turn the writing around would hide what follows them.
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {}
            c => out.push(c),
        }
    }
    let short: String = out.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(WORDS).collect();
    short.trim_matches([' ', '-']).to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn day() -> jiff::civil::Date {
        jiff::civil::date(2026, 11, 21)
    }

    fn verdict(state: State, evidence: &str) -> Option<Verdict> {
        let rows = if state == State::Declined { &["a.b", "c.d", "e.f"][..] } else { &["edge.tls"] };
        Some(Verdict {
            state,
            rows: rows.iter().map(|id| (*id).to_owned()).collect(),
            evidence: evidence.to_owned(),
        })
    }

    fn one(text: &str, state: State) -> String {
        String::from_utf8(write(text.as_bytes(), &[verdict(state, "evidence 1234abcd")], day()).unwrap())
            .unwrap()
    }

    #[test]
    fn boxes_are_ticked_and_unticked() {
        let proven = "- [x] a <!-- klar: edge.tls proven 2026-11-21, evidence 1234abcd -->  \r\n";
        let not = "- [ ] a <!-- klar: edge.tls not proven 2026-11-21, evidence 1234abcd -->  \r\n";
        assert_eq!(one("- [ ] a  \r\n", State::Proven), proven);
        assert_eq!(one("- [ ] a  \r\n", State::NotProven), not);
        assert_eq!(one(proven, State::Proven), proven);
        assert_eq!(one(proven, State::NotProven), not);
        assert_eq!(one(not, State::Proven), proven);
        for state in [State::Unknown, State::Declined] {
            assert!(one(proven, state).starts_with("- [ ] a <!-- klar: "));
        }
        let declined =
            "- [ ] a <!-- klar: declined 2026-11-21, closest: a.b, c.d, e.f, evidence 1234abcd -->";
        assert_eq!(one("- [ ] a", State::Declined), declined);
    }

    #[test]
    fn what_a_person_ticked_stays_ticked() {
        let mut text = "- [X] a".to_owned();
        for state in [State::Proven, State::NotProven, State::Proven, State::Unknown, State::Declined] {
            text = one(&text, state);
            assert!(text.starts_with("- [X] a <!-- klar: ") && text.contains(BY_HAND), "{text}");
            assert_eq!(text.matches("<!--").count(), 1);
        }
        // Ticked by a person after klar had looked.
        let text = one("- [x] a <!-- klar: edge.tls not proven 2026-01-01 -->", State::NotProven);
        assert!(text.starts_with("- [x]"), "{text}");
    }

    #[test]
    fn what_a_person_wrote_stays() {
        let text = one("- [ ] a <!-- klar: edge.tls --> | b | <!-- x -->", State::Proven);
        assert_eq!(
            text,
            "- [x] a <!-- klar: edge.tls --> | b | <!-- x --> <!-- klar: edge.tls proven 2026-11-21, evidence 1234abcd -->"
        );
        let text = one("- [ ] a <!-- x\ny -->", State::Proven);
        assert_eq!(
            text,
            "- [x] a <!-- klar: edge.tls proven 2026-11-21, evidence 1234abcd --> <!-- x\ny -->"
        );
        assert_eq!(one(&text, State::Proven), text);
        assert_eq!(
            one("- [ ]", State::Unknown),
            "- [ ] <!-- klar: edge.tls unknown 2026-11-21, evidence 1234abcd -->"
        );
    }

    #[test]
    fn evidence_cannot_leave_its_comment() {
        for bad in [
            "--> - [x] b",
            "a\n- [x] b",
            "--!> x",
            "-",
            "a--",
            "<!-- b",
            "`",
            "- - >",
            "(ticked by hand)",
            "-\u{0}->",
        ] {
            let text = write(b"- [ ] a\n", &[verdict(State::Proven, bad)], day()).unwrap();
            let items = read(&text).unwrap().items;
            assert_eq!((items.len(), items[0].text.as_str()), (1, "a"), "{bad:?}");
            assert!(items[0].note.as_ref().is_some_and(|note| note.ticked_by_klar), "{bad:?}");
            assert_eq!(text.iter().filter(|b| **b == b'>').count(), 1);
        }
    }

    #[test]
    fn verdicts_have_to_be_for_this_file() {
        assert_eq!(write(b"- [ ] a", &[], day()), Err(ChecklistError::Changed { items: 1, verdicts: 0 }));
        let mut bad = verdict(State::Proven, "");
        bad.as_mut().unwrap().rows[0] = "x --> y".to_owned();
        let error = write(b"\n- [ ] a", &[bad], day()).unwrap_err();
        assert!(error.to_string().starts_with("line 2: "), "{error}");
        assert!(matches!(read(&vec![b'\n'; super::super::LIMIT + 1]), Err(ChecklistError::TooLarge { .. })));
        assert_eq!(read(b"\xff\xfe-\0"), Err(ChecklistError::Utf16));
    }

    /// Pieces that documents are made of, and that trip readers up.
    fn document() -> impl Strategy<Value = Vec<u8>> {
        let pieces = prop::sample::select(vec![
            "- [ ] ",
            "- [x] ",
            "* [X] ",
            "1. [ ] ",
            "> ",
            "  ",
            "\t",
            "\n",
            "\r\n",
            "\r",
            "```",
            "~~~",
            "`",
            "<!--",
            "-->",
            "<!-- klar: edge.tls proven 2026-01-01 -->",
            "<!-- klar: edge.tls -->",
            "<!-- klar: a.b unknown",
            "<!-- klar: a.b not proven (ticked by hand) 2026-01-01, x -->",
            "{a.b}",
            "a",
            "å",
            "\\",
            "|",
            "# ",
            "---",
            " ",
            "<pre>",
        ]);
        let piece = prop_oneof![8 => pieces.prop_map(|s| s.as_bytes().to_vec()), 1 => prop::collection::vec(any::<u8>(), 0..4)];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn writing_again_changes_nothing(bytes in document(), states in prop::collection::vec(0_usize..5, 40), evidence in "\\PC{0,20}|-->|[-<>!` ]{0,9}") {
            let items = read(&bytes).unwrap().items;
            let verdicts: Vec<_> = (0..items.len()).map(|n| State::ALL.get(states[n % 40]).and_then(|s| verdict(*s, &evidence))).collect();
            let once = write(&bytes, &verdicts, day()).unwrap();
            let again = read(&once).unwrap().items;
            prop_assert_eq!(again.len(), items.len());
            for ((before, after), verdict) in items.iter().zip(&again).zip(&verdicts) {
                prop_assert_eq!(&before.text, &after.text);
                prop_assert_eq!(&before.ids, &after.ids);
                if let Some(verdict) = verdict {
                    let by_klar = before.note.as_ref().is_some_and(|note| note.ticked_by_klar);
                    let by_hand = before.ticked && !by_klar;
                    prop_assert_eq!(after.ticked, by_hand || verdict.state == State::Proven);
                }
            }
            prop_assert_eq!(write(&once, &verdicts, day()).unwrap(), once);
        }

        #[test]
        fn every_other_byte_stays(bytes in document()) {
            let items = read(&bytes).unwrap().items;
            let none: Vec<_> = items.iter().map(|_| None).collect();
            prop_assert_eq!(&write(&bytes, &none, day()).unwrap(), &bytes);
            // Take klar's comments out again, and reset the marks: what is left is what was there.
            let verdicts: Vec<_> = items.iter().map(|_| verdict(State::Unknown, "x")).collect();
            let written = write(&bytes, &verdicts, day()).unwrap();
            let strip = |bytes: &[u8], fresh: bool| {
                let mut out = bytes.to_vec();
                for (item, old) in read(bytes).unwrap().items.iter().zip(&items).rev() {
                    if let Some(note) = &item.note {
                        let from = note.place.start - usize::from(fresh && old.note.is_none());
                        out.drain(from..note.place.end);
                    }
                    out[item.mark] = b'_';
                }
                out
            };
            prop_assert_eq!(strip(&written, true), strip(&bytes, false));
        }
    }
}
