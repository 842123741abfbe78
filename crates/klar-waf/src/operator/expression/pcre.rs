//! Translates patterns of PCRE, as ModSecurity has them, into the syntax of `regex-syntax`.
//!
//! Rules are written for PCRE2 without its UTF mode: a pattern is bytes, a character above 127 is two bytes or more,
//! and a class may hold any of these bytes by itself. So nothing is passed on as it stands: each literal and each
//! class is written anew, as bytes in hexadecimal digits where it is no letter and no digit.

use std::fmt::Write;

use super::Refusal;
use super::around::{self, Side};

/// Names of groups that mark what must not give back what it took: `possessive0`. No other groups have names.
pub(super) const POSSESSIVE: &str = "possessive";
/// Longer patterns are refused.
const PATTERN_MAX: usize = 64 * 1024;

/// A set of bytes.
type Set = [bool; 256];

/// What an escape stands for.
enum Escape {
    Byte(u8),
    /// A class, as the bytes in it.
    Set(Box<Set>),
    /// As it is written in the other syntax, and whether a quantifier can follow.
    Text(&'static str),
}

/// A group that is open.
struct Group {
    /// Where it begins in what has been written.
    begin: usize,
    /// Whether white space counted before it.
    is_extended: bool,
}

struct Translator<'a> {
    pattern: &'a [u8],
    at: usize,
    out: String,
    groups: Vec<Group>,
    /// White space and comments in the pattern do not count.
    is_extended: bool,
    /// Where the last item begins in what has been written, if a quantifier can follow it.
    item: Option<usize>,
    marks: usize,
}

/// The pattern in the other syntax, to be read with all bytes allowed and without Unicode.
pub(super) fn translate(pattern: &[u8]) -> Result<String, Refusal> {
    if pattern.len() > PATTERN_MAX {
        return Err(Refusal::TooLarge(format!("{} bytes of pattern", pattern.len())));
    }
    let mut translator = Translator {
        pattern,
        at: 0,
        out: String::with_capacity(pattern.len() * 2),
        groups: Vec::new(),
        is_extended: false,
        item: None,
        marks: 0,
    };
    while let Some(byte) = translator.next() {
        translator.item(byte)?;
    }
    Ok(translator.out)
}

impl Translator<'_> {
    fn next(&mut self) -> Option<u8> {
        let byte = self.pattern.get(self.at).copied()?;
        self.at += 1;
        Some(byte)
    }

    fn rest(&self) -> &[u8] {
        self.pattern.get(self.at..).unwrap_or_default()
    }

    /// Passes over a text if it is next.
    fn eat(&mut self, text: &[u8]) -> bool {
        let is_next = self.rest().starts_with(text);
        if is_next {
            self.at += text.len();
        }
        is_next
    }

    /// What cannot be done in linear time, or is not understood. It stands before where the reading is.
    fn refuse<T>(&self, what: &'static str) -> Result<T, Refusal> {
        Err(Refusal::Unsupported { what, at: self.at.saturating_sub(1) })
    }

    /// Writes an item that a quantifier can follow.
    fn put(&mut self, text: &str) {
        self.item = Some(self.out.len());
        self.out.push_str(text);
    }

    fn put_byte(&mut self, byte: u8) {
        self.item = Some(self.out.len());
        write_byte(&mut self.out, byte);
    }

    fn item(&mut self, byte: u8) -> Result<(), Refusal> {
        match byte {
            b'\\' => return self.escape(),
            b'[' => return self.class(),
            b'(' => return self.open(),
            b')' => {
                let Some(group) = self.groups.pop() else { return self.refuse("a `)` without its `(`") };
                self.out.push(')');
                self.item = Some(group.begin);
                self.is_extended = group.is_extended;
            }
            b'|' => {
                self.out.push('|');
                self.item = None;
            }
            b'.' => self.put("."),
            b'^' => self.put("^"),
            b'$' => self.put("$"),
            b'*' | b'+' | b'?' if self.item.is_some() => {
                self.out.push(char::from(byte));
                self.quantified();
            }
            b'*' | b'+' | b'?' => return self.refuse("a quantifier of nothing"),
            b'{' if self.counted() => {
                if self.item.is_none() {
                    return self.refuse("a quantifier of nothing");
                }
                self.quantified();
            }
            b'#' if self.is_extended => {
                let rest = self.rest();
                self.at += memchr::memchr(b'\n', rest).map_or(rest.len(), |len| len + 1);
            }
            b'\t'..=b'\r' | b' ' if self.is_extended => {}
            _ => self.put_byte(byte),
        }
        Ok(())
    }

    /// Writes `{2,3}` if that is what stands behind a `{`; says whether it was.
    fn counted(&mut self) -> bool {
        let rest = self.rest();
        let Some(len) = memchr::memchr(b'}', rest) else { return false };
        let Some(inside) = rest.get(..len).and_then(|inside| str::from_utf8(inside).ok()) else {
            return false;
        };
        let is_number = |text: &str| {
            !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        let is_count = match inside.split_once(',') {
            None => is_number(inside),
            Some((min, max)) => is_number(min) && (max.is_empty() || is_number(max)),
        };
        if is_count {
            let inside = inside.to_owned();
            let _ = write!(self.out, "{{{inside}}}");
            self.at += len + 1;
        }
        is_count
    }

    /// Behind a quantifier.
    fn quantified(&mut self) {
        if self.eat(b"?") {
            self.out.push('?');
        } else if self.eat(b"+") {
            let begin = self.item.unwrap_or_default();
            self.out.insert_str(begin, &format!("(?P<{POSSESSIVE}{}>", self.marks));
            self.out.push(')');
            self.marks += 1;
        }
        self.item = None;
    }

    /// Behind `(`.
    fn open(&mut self) -> Result<(), Refusal> {
        let begin = self.out.len();
        if self.rest().starts_with(b"*") {
            return self.refuse("a verb of backtracking");
        }
        if !self.eat(b"?") {
            self.out.push('(');
            return self.opened(begin);
        }
        for (text, side, is_wanted, what) in [
            (&b"="[..], Side::Behind, true, "look-ahead `(?=`"),
            (b"!", Side::Behind, false, "look-ahead `(?!`"),
            (b"<=", Side::Before, true, "look-behind `(?<=`"),
            (b"<!", Side::Before, false, "look-behind `(?<!`"),
        ] {
            let at = self.at;
            if self.eat(text) {
                return self.around(side, is_wanted).ok_or(Refusal::Unsupported { what, at: at - 1 });
            }
        }
        for (text, what) in [
            (&b"("[..], "a condition `(?(`"),
            (b"|", "a group `(?|` that counts anew"),
            (b"P=", "a back-reference `(?P=`"),
            (b"P>", "a recursion `(?P>`"),
            (b"&", "a recursion `(?&`"),
            (b"R", "a recursion `(?R)`"),
            (b"C", "a callout `(?C`"),
        ] {
            if self.rest().starts_with(text) {
                return self.refuse(what);
            }
        }
        match self.rest() {
            [b'0'..=b'9', ..] | [b'+' | b'-', b'0'..=b'9', ..] => return self.refuse("a recursion"),
            _ => {}
        }
        if self.eat(b"#") {
            let rest = self.rest();
            let Some(len) = memchr::memchr(b')', rest) else {
                return self.refuse("a comment without its end");
            };
            self.at += len + 1;
            return Ok(());
        }
        if self.eat(b":") {
            self.out.push_str("(?:");
            return self.opened(begin);
        }
        if self.eat(b">") {
            let _ = write!(self.out, "(?P<{POSSESSIVE}{}>", self.marks);
            self.marks += 1;
            return self.opened(begin);
        }
        for (open, close) in [(&b"P<"[..], b'>'), (b"<", b'>'), (b"'", b'\'')] {
            if self.eat(open) {
                let Some(len) = memchr::memchr(close, self.rest()) else {
                    return self.refuse("a name without its end");
                };
                self.at += len + 1;
                self.out.push('(');
                return self.opened(begin);
            }
        }
        self.flags(begin)
    }

    /// Behind `(?=` and its like: what is looked at is read as part of the match, which comes to the same at an end of the
    /// pattern. `None`: it stands elsewhere, or is too much.
    fn around(&mut self, side: Side, is_wanted: bool) -> Option<()> {
        let len = end_of_group(self.rest())?;
        let inside = self.rest().get(..len).unwrap_or_default().to_vec();
        self.at += len + 1;
        let is_at_end = match side {
            Side::Before => self.out.is_empty() || self.out.ends_with('|'),
            Side::Behind => matches!(self.rest(), [] | [b'|', ..]),
        };
        let inside = translate(&inside).ok()?;
        // Groups in it are counted, and under `(?i)` a byte is more than one.
        if !is_at_end
            || self.is_extended
            || !self.groups.is_empty()
            || has_groups_or_settings(&inside)
            || has_settings(&self.out)
        {
            return None;
        }
        if is_wanted {
            let _ = write!(self.out, "(?:{inside})");
        } else {
            let words = around::words(&super::parse(&inside).ok()?)?;
            self.out.push_str(&around::none_of(&words, side)?);
        }
        self.item = None;
        Some(())
    }

    fn opened(&mut self, begin: usize) -> Result<(), Refusal> {
        self.groups.push(Group { begin, is_extended: self.is_extended });
        self.item = None;
        Ok(())
    }

    /// Behind `(?`, where settings stand: `(?i)`, `(?s-m:`.
    fn flags(&mut self, begin: usize) -> Result<(), Refusal> {
        let (mut on, mut off, mut is_off) = (String::new(), String::new(), false);
        let was_extended = self.is_extended;
        loop {
            match self.next() {
                Some(flag @ (b'i' | b'm' | b's' | b'U')) => {
                    let flags = if is_off { &mut off } else { &mut on };
                    if !flags.contains(char::from(flag)) {
                        flags.push(char::from(flag));
                    }
                }
                Some(b'x') => self.is_extended = !is_off,
                // Names may occur twice: they are not used.
                Some(b'J') => {}
                Some(b'-') if !is_off => is_off = true,
                Some(b'^') if on.is_empty() && !is_off => {
                    off.push_str("ims");
                    self.is_extended = false;
                }
                Some(end @ (b')' | b':')) => {
                    off.retain(|flag| !on.contains(flag));
                    let dash = if off.is_empty() { "" } else { "-" };
                    if end == b':' {
                        let _ = write!(self.out, "(?{on}{dash}{off}:");
                        self.groups.push(Group { begin, is_extended: was_extended });
                    } else if !on.is_empty() || !off.is_empty() {
                        let _ = write!(self.out, "(?{on}{dash}{off})");
                    }
                    self.item = None;
                    return Ok(());
                }
                _ => return self.refuse("a setting `(?`"),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Refusal> {
        match self.rest().first() {
            Some(b'Q') => {
                self.at += 1;
                let rest = self.rest();
                let len = memchr::memmem::find(rest, b"\\E").unwrap_or(rest.len());
                let literal = rest.get(..len).unwrap_or_default().to_vec();
                self.at += (len + 2).min(rest.len());
                literal.iter().for_each(|byte| self.put_byte(*byte));
                return Ok(());
            }
            // The end of a quotation that has not begun; where a match is said to begin, which does not change whether
            // there is one.
            Some(b'E' | b'K') => {
                self.at += 1;
                return Ok(());
            }
            _ => {}
        }
        match self.read_escape(false)? {
            Escape::Byte(byte) => self.put_byte(byte),
            Escape::Text(text) => self.put(text),
            Escape::Set(set) => {
                self.item = Some(self.out.len());
                write_class(&mut self.out, &set, false);
            }
        }
        Ok(())
    }

    /// Behind a backslash, in a class or not.
    fn read_escape(&mut self, in_class: bool) -> Result<Escape, Refusal> {
        let Some(byte) = self.next() else { return self.refuse("a backslash at the end") };
        Ok(match byte {
            b'a' => Escape::Byte(7),
            b'e' => Escape::Byte(0x1b),
            b'f' => Escape::Byte(0x0c),
            b'n' => Escape::Byte(b'\n'),
            b'r' => Escape::Byte(b'\r'),
            b't' => Escape::Byte(b'\t'),
            b'b' if in_class => Escape::Byte(8),
            b'c' => match self.next() {
                Some(byte) => Escape::Byte(byte.to_ascii_uppercase() ^ 0x40),
                None => return self.refuse("`\\c` at the end"),
            },
            b'x' => self.hexadecimal()?,
            b'0' => Escape::Byte(self.octal(2, 0)),
            b'1'..=b'7' if in_class => Escape::Byte(self.octal(2, u32::from(byte - b'0'))),
            b'o' if self.eat(b"{") => {
                let value = self.octal(3, 0);
                if !self.eat(b"}") {
                    return self.refuse("`\\o{`");
                }
                Escape::Byte(value)
            }
            b'1'..=b'9' | b'g' | b'k' => return self.refuse("a back-reference"),
            b'd' | b'D' | b'w' | b'W' | b's' | b'S' | b'h' | b'H' | b'v' | b'V' => {
                Escape::Set(Box::new(shorthand(byte)))
            }
            b'N' if !in_class => Escape::Set(Box::new(set_of(|byte| byte != b'\n'))),
            b'R' if !in_class => Escape::Text(r"(?:\x0D\x0A|[\x0A-\x0D\x85])"),
            b'C' if !in_class => Escape::Text("(?s:.)"),
            b'b' => Escape::Text(r"\b"),
            b'B' if !in_class => Escape::Text(r"\B"),
            b'A' | b'G' if !in_class => Escape::Text(r"\A"),
            b'z' if !in_class => Escape::Text(r"\z"),
            b'Z' if !in_class => Escape::Text(r"(?:\x0A?\z)"),
            b'p' | b'P' | b'X' => return self.refuse("a property of Unicode"),
            b'a'..=b'z' | b'A'..=b'Z' => return self.refuse("an unknown escape"),
            literal => Escape::Byte(literal),
        })
    }

    fn hexadecimal(&mut self) -> Result<Escape, Refusal> {
        let is_braced = self.eat(b"{");
        let digits_max = if is_braced { 8 } else { 2 };
        let rest = self.rest();
        let len = rest.iter().take(digits_max).take_while(|byte| byte.is_ascii_hexdigit()).count();
        let digits = rest.get(..len).and_then(|digits| str::from_utf8(digits).ok()).unwrap_or_default();
        let value = u32::from_str_radix(digits, 16).unwrap_or_default();
        self.at += len;
        if is_braced && !self.eat(b"}") {
            return self.refuse("`\\x{`");
        }
        u8::try_from(value).map(Escape::Byte).or_else(|_| self.refuse("a character above 255"))
    }

    /// Up to so many octal digits more; what is above 255 is cut off, as all of this is.
    fn octal(&mut self, digits_max: usize, first: u32) -> u8 {
        let mut value = first;
        for _ in 0..digits_max {
            let Some(digit @ b'0'..=b'7') = self.rest().first().copied() else { break };
            value = value * 8 + u32::from(digit - b'0');
            self.at += 1;
        }
        value.to_le_bytes()[0]
    }

    /// Behind `[`.
    fn class(&mut self) -> Result<(), Refusal> {
        let is_negated = self.eat(b"^");
        let (mut set, mut is_first) = ([false; 256], true);
        loop {
            let Some(byte) = self.next() else { return self.refuse("a `[` without its `]`") };
            if byte == b']' && !is_first {
                break;
            }
            is_first = false;
            let Some(low) = self.member(byte, &mut set)? else { continue };
            // A hyphen at the end, or before what is no byte, is one of the members.
            let high = match self.rest() {
                [b'-', end, ..] if *end != b']' => {
                    let before = self.at;
                    self.at += 1;
                    let end = self.next().unwrap_or_default();
                    let high = self.member(end, &mut set)?;
                    if high.is_none() {
                        set[usize::from(b'-')] = true;
                    } else if high < Some(low) {
                        self.at = before + 1;
                        return self.refuse("a range that ends before it begins");
                    }
                    high
                }
                _ => None,
            };
            for byte in low..=high.unwrap_or(low) {
                set[usize::from(byte)] = true;
            }
        }
        self.item = Some(self.out.len());
        write_class(&mut self.out, &set, is_negated);
        Ok(())
    }

    /// Reads one member of a class that begins with a byte: a byte, or several, which it puts in.
    fn member(&mut self, byte: u8, set: &mut Set) -> Result<Option<u8>, Refusal> {
        match byte {
            b'\\' if self.eat(b"E") => Ok(None),
            b'\\' => match self.read_escape(true)? {
                Escape::Byte(byte) => Ok(Some(byte)),
                Escape::Set(more) => {
                    set.iter_mut().zip(more.iter()).for_each(|(has, more)| *has |= more);
                    Ok(None)
                }
                Escape::Text(_) => self.refuse("an escape in a class"),
            },
            b'[' if self.rest().starts_with(b":") => self.posix(set),
            _ => Ok(Some(byte)),
        }
    }

    /// Behind `[` in a class, where `:` follows: `[:alpha:]`, or a bracket after all.
    fn posix(&mut self, set: &mut Set) -> Result<Option<u8>, Refusal> {
        let rest = self.rest();
        let name = memchr::memmem::find(rest, b":]").and_then(|len| rest.get(1..len)).unwrap_or_default();
        let (is_negated, word) = match name {
            [b'^', word @ ..] => (true, word),
            word => (false, word),
        };
        if word.is_empty() || !word.iter().all(u8::is_ascii_alphabetic) {
            return Ok(Some(b'['));
        }
        let has: fn(&u8) -> bool = match word {
            b"alnum" => u8::is_ascii_alphanumeric,
            b"alpha" => u8::is_ascii_alphabetic,
            b"ascii" => u8::is_ascii,
            b"blank" => |byte| matches!(byte, b'\t' | b' '),
            b"cntrl" => u8::is_ascii_control,
            b"digit" => u8::is_ascii_digit,
            b"graph" => u8::is_ascii_graphic,
            b"lower" => u8::is_ascii_lowercase,
            b"print" => |byte| matches!(byte, b' '..=b'~'),
            b"punct" => u8::is_ascii_punctuation,
            b"space" => |byte| matches!(byte, b'\t'..=b'\r' | b' '),
            b"upper" => u8::is_ascii_uppercase,
            b"word" => |byte| byte.is_ascii_alphanumeric() || *byte == b'_',
            b"xdigit" => u8::is_ascii_hexdigit,
            _ => return self.refuse("an unknown class"),
        };
        self.at += name.len() + 3;
        for byte in 0..=u8::MAX {
            set[usize::from(byte)] |= has(&byte) != is_negated;
        }
        Ok(None)
    }
}

fn has_settings(translated: &str) -> bool {
    let mut marks = translated.match_indices("(?").filter_map(|(at, _)| translated.as_bytes().get(at + 2));
    marks.any(|mark| !matches!(mark, b':' | b'P'))
}

fn has_groups_or_settings(translated: &str) -> bool {
    translated.match_indices('(').any(|(at, _)| !translated[at..].starts_with("(?:"))
}

/// How far it is to the `)` of the group that is open.
fn end_of_group(pattern: &[u8]) -> Option<usize> {
    let (mut at, mut depth, mut in_class) = (0, 0, false);
    while let Some(byte) = pattern.get(at) {
        match byte {
            b'\\' => at += 1,
            b'[' => in_class = true,
            b']' => in_class = false,
            b'(' if !in_class => depth += 1,
            b')' if !in_class && depth == 0 => return Some(at),
            b')' if !in_class => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

fn set_of(has: impl Fn(u8) -> bool) -> Set {
    let mut set = [false; 256];
    for byte in 0..=u8::MAX {
        set[usize::from(byte)] = has(byte);
    }
    set
}

/// `\d` and its like, for bytes; capitals are the others.
fn shorthand(letter: u8) -> Set {
    let is_other = letter.is_ascii_uppercase();
    set_of(|byte| {
        let has = match letter.to_ascii_lowercase() {
            b'd' => byte.is_ascii_digit(),
            b'w' => byte.is_ascii_alphanumeric() || byte == b'_',
            b's' => matches!(byte, b'\t'..=b'\r' | b' '),
            b'h' => matches!(byte, b'\t' | b' ' | 0xa0),
            _ => matches!(byte, b'\n'..=b'\r' | 0x85),
        };
        has != is_other
    })
}

fn write_byte(out: &mut String, byte: u8) {
    if byte.is_ascii_alphanumeric() {
        out.push(char::from(byte));
    } else {
        let _ = write!(out, "\\x{byte:02X}");
    }
}

/// Whether it is negated is left to the other side: under `(?i)` that makes a difference.
fn write_class(out: &mut String, set: &Set, is_negated: bool) {
    out.push_str(if is_negated { "[^" } else { "[" });
    let mut at = 0;
    while let Some(begin) = (at..256).find(|byte| set[*byte]) {
        let end = (begin..256).find(|byte| !set[*byte]).unwrap_or(256);
        let _ = write!(out, "\\x{begin:02X}-\\x{:02X}", end - 1);
        at = end;
    }
    out.push(']');
}
