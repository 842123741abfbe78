//! Cuts a value into tokens of SQL, as no single database reads it but as one of the common ones would.

use memchr::{memchr, memmem};

use super::kind::Kind;
use super::words::{TEXT_MAX, WordId, Words};

/// A token. Offsets and lengths are in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// What opened a string: its quote, `u`, `q` or `$`; 0 where the value itself is taken to stand in a string.
    pub(super) open: u8,
    /// What closed it; 0 where nothing did.
    pub(super) close: u8,
    /// Length of its text, cut off at [`TEXT_MAX`].
    pub(super) len: u8,
    /// Whether its text is that of its word, not of the value: it was put together from two.
    pub(super) is_merged: bool,
    /// The entry of its text in the table of words, 0 for none.
    pub(super) word: WordId,
    /// Where its text begins.
    pub(super) at: usize,
}

/// How a value is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `--` begins a comment, `#` is an operator.
    Ansi,
    /// `#` begins a comment, `--` only before white space.
    Mysql,
}

/// Reads one token after the other.
pub(super) struct Scanner<'a> {
    input: &'a [u8],
    at: usize,
    words: &'static Words,
    /// The quote that is taken to stand before the value.
    quote: Option<u8>,
    dialect: Dialect,
    /// Tokens so far, and how many are read at most: then it ends, whatever is left.
    pub(super) tokens: u32,
    pub(super) tokens_max: u32,
    /// Whether there was something that the other dialect reads differently.
    pub(super) is_ambiguous: bool,
}

/// What a byte can begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    White,
    /// An operator that is one byte, whatever follows.
    Operator,
    /// An operator that may go on.
    Operators,
    /// A token of its own.
    Single,
    Quote,
    Hash,
    Money,
    Dash,
    Number,
    Slash,
    Backslash,
    Other,
    Variable,
    Word,
    BString,
    EString,
    NString,
    QString,
    UString,
    XString,
    Bracket,
    Tick,
}

const fn classes() -> [Class; 256] {
    let mut table = [Class::Word; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            0..=b' ' | 0x7f | 0xa0 => Class::White,
            b'%' | b'+' | b'^' | b'~' => Class::Operator,
            b'!' | b'&' | b'*' | b':' | b'<' | b'=' | b'>' | b'|' => Class::Operators,
            b'(' | b')' | b',' | b';' | b'{' | b'}' => Class::Single,
            b'"' | b'\'' => Class::Quote,
            b'#' => Class::Hash,
            b'$' => Class::Money,
            b'-' => Class::Dash,
            b'.' | b'0'..=b'9' => Class::Number,
            b'/' => Class::Slash,
            b'\\' => Class::Backslash,
            b'?' | b']' => Class::Other,
            b'@' => Class::Variable,
            b'B' | b'b' => Class::BString,
            b'E' | b'e' => Class::EString,
            b'N' | b'n' => Class::NString,
            b'Q' | b'q' => Class::QString,
            b'U' | b'u' => Class::UString,
            b'X' | b'x' => Class::XString,
            b'[' => Class::Bracket,
            b'`' => Class::Tick,
            _ => Class::Word,
        };
        byte += 1;
    }
    table
}

static CLASSES: [Class; 256] = classes();

/// Marks of bytes, one bit each.
const ENDS_WORD: u8 = 1;
const PARTS_WORD: u8 = 1 << 1;
const ENDS_VARIABLE: u8 = 1 << 2;
const DIGIT: u8 = 1 << 3;
const HEX: u8 = 1 << 4;
const BINARY: u8 = 1 << 5;
const AMOUNT: u8 = 1 << 6;
const LETTER: u8 = 1 << 7;

const fn marks() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let it = byte as u8;
        let mut mark = 0;
        if matches!(
            it,
            0 | b'\t'..=b'\r' | b' '..=b'#' | b'%'..=b'-' | b'/' | b':'..=b'@' | b'['..=b'^' | b'{'..=b'~' | 0xa0
        ) {
            mark |= ENDS_WORD;
        }
        if matches!(it, b'.' | b'`') {
            mark |= PARTS_WORD;
        }
        if matches!(
            it,
            0 | b'\t'..=b'\r' | b' '..=b'#' | b'%'..=b'-' | b'/' | b':'..=b'@' | b'\\' | b'^' | b'`' | b'|' | b'~'
        ) {
            mark |= ENDS_VARIABLE;
        }
        if it.is_ascii_digit() {
            mark |= DIGIT;
        }
        // libinjection counts a zero byte among the digits of every number, and so it is done here.
        if it == 0 || it.is_ascii_hexdigit() {
            mark |= HEX;
        }
        if matches!(it, 0 | b'0' | b'1') {
            mark |= BINARY;
        }
        if matches!(it, 0 | b'0'..=b'9' | b'.' | b',') {
            mark |= AMOUNT;
        }
        if it == 0 || it.is_ascii_alphabetic() {
            mark |= LETTER;
        }
        table[byte] = mark;
        byte += 1;
    }
    table
}

static MARKS: [u8; 256] = marks();

/// What ends a comment after `--`.
const fn is_white(byte: u8) -> bool {
    matches!(byte, 0 | b'\t'..=b'\r' | b' ' | 0xa0)
}

impl<'a> Scanner<'a> {
    /// Passes over bytes that are a token each.
    pub(super) fn skip_run(&mut self, byte: u8) {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let run = rest.iter().take_while(|next| **next == byte).count();
        self.at += run;
        self.tokens = self.tokens.saturating_add(u32::try_from(run).unwrap_or(u32::MAX));
    }

    pub(super) fn new(input: &'a [u8], quote: Option<u8>, dialect: Dialect, words: &'static Words) -> Self {
        Self { input, at: 0, words, quote, dialect, tokens: 0, tokens_max: u32::MAX, is_ambiguous: false }
    }

    /// How many bytes have been read.
    #[cfg(test)]
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The next token.
    pub(super) fn next(&mut self) -> Option<Token> {
        if self.tokens >= self.tokens_max {
            return None;
        }
        let token = match self.quote.take() {
            Some(quote) => self.string(0, quote, 0),
            None => self.read()?,
        };
        self.tokens += 1;
        Some(token)
    }

    fn read(&mut self) -> Option<Token> {
        loop {
            let byte = self.peek(0)?;
            return Some(match CLASSES[usize::from(byte)] {
                Class::White => {
                    self.at += 1;
                    continue;
                }
                Class::Word => self.word(),
                Class::Number => self.number(byte),
                Class::Operator => self.single(Kind::Operator),
                Class::Operators => self.operators(byte),
                Class::Single => self.single(match byte {
                    b'(' => Kind::LeftParen,
                    b')' => Kind::RightParen,
                    b',' => Kind::Comma,
                    b';' => Kind::Semicolon,
                    b'{' => Kind::LeftBrace,
                    _ => Kind::RightBrace,
                }),
                Class::Quote => self.string(self.at + 1, byte, byte),
                Class::Hash => {
                    self.is_ambiguous = true;
                    if self.dialect == Dialect::Mysql { self.comment() } else { self.single(Kind::Operator) }
                }
                Class::Dash => self.dash(),
                Class::Slash => self.slash(),
                Class::Money => self.money(),
                Class::Backslash if self.peek(1) == Some(b'N') => self.take(Kind::Number, 2),
                Class::Backslash => self.single(Kind::Backslash),
                Class::Other => self.single(Kind::Unknown),
                Class::Variable => self.variable(),
                Class::BString => self.digits_string(BINARY),
                Class::XString => self.digits_string(HEX),
                Class::EString => self.escaped_string(),
                Class::NString if self.is_quoted(1) => self.escaped_string(),
                Class::NString => self.delimited_string(1),
                Class::QString => self.delimited_string(0),
                Class::UString => self.unicode_string(),
                Class::Bracket => self.bracket(),
                Class::Tick => self.tick(self.at),
            });
        }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.input.get(self.at + ahead).copied()
    }

    fn rest(&self, from: usize) -> &'a [u8] {
        self.input.get(from..).unwrap_or_default()
    }

    /// Where the bytes with a mark end that begin at `from`.
    fn end_of(&self, from: usize, mark: u8) -> usize {
        let bytes = self.rest(from);
        from + bytes.iter().position(|byte| MARKS[usize::from(*byte)] & mark == 0).unwrap_or(bytes.len())
    }

    fn token(kind: Kind, at: usize, end: usize) -> Token {
        let len = u8::try_from(end.saturating_sub(at).min(TEXT_MAX)).unwrap_or_default();
        Token { kind, at, len, ..Token::default() }
    }

    /// A token of the next bytes.
    fn take(&mut self, kind: Kind, len: usize) -> Token {
        let token = Self::token(kind, self.at, self.at + len);
        self.at += len;
        token
    }

    fn single(&mut self, kind: Kind) -> Token {
        self.take(kind, 1)
    }

    /// To the end of the line.
    fn comment(&mut self) -> Token {
        let line = memchr(b'\n', self.rest(self.at));
        let token = Self::token(Kind::Comment, self.at, line.map_or(self.input.len(), |len| self.at + len));
        self.at = line.map_or(self.input.len(), |len| self.at + len + 1);
        token
    }

    fn dash(&mut self) -> Token {
        match (self.peek(1), self.peek(2)) {
            (Some(b'-'), None) => self.comment(),
            (Some(b'-'), Some(byte)) if is_white(byte) => self.comment(),
            (Some(b'-'), Some(_)) if self.dialect == Dialect::Ansi => {
                self.is_ambiguous = true;
                self.comment()
            }
            _ => self.single(Kind::Operator),
        }
    }

    fn slash(&mut self) -> Token {
        if self.peek(1) != Some(b'*') {
            return self.single(Kind::Operator);
        }
        let inside = self.rest(self.at + 2);
        let close = memmem::find(inside, b"*/");
        // PostgreSQL nests comments, and MySQL runs those that begin with `!`: whoever writes that hides something.
        let is_nested = close.is_some_and(|len| memmem::find(&inside[..=len], b"/*").is_some());
        let kind = if is_nested || inside.first() == Some(&b'!') { Kind::Evil } else { Kind::Comment };
        self.take(kind, close.map_or(inside.len() + 2, |len| len + 4))
    }

    fn operators(&mut self, byte: u8) -> Token {
        let Some(second) = self.peek(1) else { return self.single(Kind::Operator) };
        if byte == b'<' && second == b'=' && self.peek(2) == Some(b'>') {
            return self.take(Kind::Operator, 3);
        }
        let word = self.words.find(&[byte, second]);
        let kind = self.words.word(word).kind;
        if kind != Kind::None {
            return Token { word, ..self.take(kind, 2) };
        }
        self.single(if byte == b':' { Kind::Colon } else { Kind::Operator })
    }

    /// A string whose content begins at `begin`.
    fn string(&mut self, begin: usize, delimiter: u8, open: u8) -> Token {
        let mut from = begin;
        while let Some(len) = memchr(delimiter, self.rest(from)) {
            let quote = from + len;
            let before = self.input.get(begin..quote).unwrap_or_default();
            if before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1 {
                from = quote + 1;
            } else if self.input.get(quote + 1) == Some(&delimiter) {
                from = quote + 2;
            } else {
                self.at = quote + 1;
                return Token { open, close: delimiter, ..Self::token(Kind::String, begin, quote) };
            }
        }
        self.at = self.input.len();
        Token { open, ..Self::token(Kind::String, begin, self.input.len()) }
    }

    /// Whether a single quote follows, and at least one byte behind it.
    fn is_quoted(&self, ahead: usize) -> bool {
        self.peek(ahead) == Some(b'\'') && self.peek(ahead + 1).is_some()
    }

    /// `E'...'` of PostgreSQL, `N'...'` of the standard.
    fn escaped_string(&mut self) -> Token {
        if self.is_quoted(1) { self.string(self.at + 2, b'\'', b'\'') } else { self.word() }
    }

    /// `U&'...'` of the standard.
    fn unicode_string(&mut self) -> Token {
        if self.peek(1) != Some(b'&') || self.peek(2) != Some(b'\'') {
            return self.word();
        }
        let token = self.string(self.at + 3, b'\'', b'u');
        Token { close: if token.close == 0 { 0 } else { b'u' }, ..token }
    }

    /// `B'01'` and `X'0F'`: numbers.
    fn digits_string(&mut self, mark: u8) -> Token {
        if !self.is_quoted(1) {
            return self.word();
        }
        let end = self.end_of(self.at + 2, mark);
        if self.input.get(end) != Some(&b'\'') {
            return self.word();
        }
        self.take(Kind::Number, end + 1 - self.at)
    }

    /// `Q'[...]'` of Oracle, at `ahead` bytes from here.
    fn delimited_string(&mut self, ahead: usize) -> Token {
        let delimiter = match self.peek(ahead + 2) {
            Some(delimiter @ 33..=127)
                if matches!(self.peek(ahead), Some(b'q' | b'Q')) && self.peek(ahead + 1) == Some(b'\'') =>
            {
                delimiter
            }
            _ => return self.word(),
        };
        let close = match delimiter {
            b'(' => b')',
            b'[' => b']',
            b'{' => b'}',
            b'<' => b'>',
            other => other,
        };
        let begin = self.at + ahead + 3;
        let end = memmem::find(self.rest(begin), &[close, b'\'']);
        self.enclosed(begin, end.map(|len| begin + len), 2, b'q')
    }

    /// A string between marks of several bytes.
    fn enclosed(&mut self, begin: usize, end: Option<usize>, mark_len: usize, quote: u8) -> Token {
        let token = Self::token(Kind::String, begin, end.unwrap_or(self.input.len()));
        self.at = end.map_or(self.input.len(), |end| end + mark_len);
        Token { open: quote, close: if end.is_some() { quote } else { 0 }, ..token }
    }

    /// `[name]` of Transact-SQL.
    fn bracket(&mut self) -> Token {
        let rest = self.rest(self.at);
        self.take(Kind::Bareword, memchr(b']', rest).map_or(rest.len(), |len| len + 1))
    }

    /// `` `name` `` of MySQL: a bareword, unless it names a function.
    fn tick(&mut self, at: usize) -> Token {
        let mut token = self.string(at + 1, b'`', b'`');
        token.word = self.words.find(self.rest(token.at).get(..usize::from(token.len)).unwrap_or_default());
        token.kind = match self.words.word(token.word).kind {
            Kind::Function => Kind::Function,
            _ => Kind::Bareword,
        };
        token
    }

    fn word(&mut self) -> Token {
        let (rest, mut seen) = (self.rest(self.at), 0);
        let is_end = |byte: &u8| {
            let mark = MARKS[usize::from(*byte)];
            seen |= mark;
            mark & ENDS_WORD != 0
        };
        let len = rest.iter().position(is_end).unwrap_or(rest.len());
        let text = rest.get(..len).unwrap_or_default();
        if seen & PARTS_WORD != 0 {
            // `SELECT.1` and ``SELECT`column` ``
            for part in (1..len.min(TEXT_MAX))
                .filter(|at| text.get(*at).is_some_and(|byte| matches!(byte, b'.' | b'`')))
            {
                let word = self.words.find(text.get(..part).unwrap_or_default());
                let kind = self.words.word(word).kind;
                if kind != Kind::None && kind != Kind::Bareword {
                    return Token { word, ..self.take(kind, part) };
                }
            }
        }
        let word = self.words.find(text);
        let kind = match self.words.word(word).kind {
            Kind::None => Kind::Bareword,
            kind => kind,
        };
        Token { word, ..self.take(kind, len) }
    }

    /// `@name`, `@@name`, and both with quotes.
    fn variable(&mut self) -> Token {
        let at = self.at + if self.peek(1) == Some(b'@') { 2 } else { 1 };
        match self.input.get(at) {
            Some(b'`') => Token { kind: Kind::Variable, ..self.tick(at) },
            Some(quote @ (b'\'' | b'"')) => {
                Token { kind: Kind::Variable, ..self.string(at + 1, *quote, *quote) }
            }
            _ => {
                let name = self.rest(at);
                let is_end = |byte: &u8| MARKS[usize::from(*byte)] & ENDS_VARIABLE != 0;
                self.at = at + name.iter().position(is_end).unwrap_or(name.len());
                Self::token(Kind::Variable, at, self.at)
            }
        }
    }

    /// `$1,000.00`, `$$text$$`, `$tag$text$tag$`, or a dollar sign.
    fn money(&mut self) -> Token {
        let amount = self.end_of(self.at + 1, AMOUNT) - self.at;
        match (amount, self.peek(1)) {
            (_, None) => self.single(Kind::Bareword),
            (2, Some(b'.')) => self.word(),
            (1, Some(b'$')) => {
                let begin = self.at + 2;
                let end = memmem::find(self.rest(begin), b"$$");
                self.enclosed(begin, end.map(|len| begin + len), 2, b'$')
            }
            (1, _) => {
                let end = self.end_of(self.at + 1, LETTER);
                let Some(tag) = self.input.get(self.at..=end) else { return self.single(Kind::Bareword) };
                if tag.len() < 3 || tag.last() != Some(&b'$') {
                    return self.single(Kind::Bareword);
                }
                let begin = end + 1;
                let close = memmem::find(self.rest(begin), tag);
                self.enclosed(begin, close.map(|len| begin + len), tag.len(), b'$')
            }
            _ => self.take(Kind::Number, amount),
        }
    }

    fn number(&mut self, first: u8) -> Token {
        let prefixed = match (first, self.peek(1)) {
            (b'0', Some(b'x' | b'X')) => Some(HEX),
            (b'0', Some(b'b' | b'B')) => Some(BINARY),
            _ => None,
        };
        if let Some(mark) = prefixed {
            let len = self.end_of(self.at + 2, mark) - self.at;
            return self.take(if len == 2 { Kind::Bareword } else { Kind::Number }, len);
        }
        let mut end = self.end_of(self.at, DIGIT);
        if self.input.get(end) == Some(&b'.') {
            end = self.end_of(end + 1, DIGIT);
            if end - self.at == 1 {
                return self.single(Kind::Dot);
            }
        }
        let mut lacks_exponent = false;
        if matches!(self.input.get(end), Some(b'e' | b'E')) {
            end += 1;
            if matches!(self.input.get(end), Some(b'+' | b'-')) {
                end += 1;
            }
            let digits = self.end_of(end, DIGIT);
            lacks_exponent = digits == end;
            end = digits;
        }
        // Oracle's suffix of floats; and `1fUNION` is read as `1f UNION`.
        if matches!(self.input.get(end), Some(b'd' | b'D' | b'f' | b'F')) {
            match self.input.get(end + 1) {
                None | Some(b';' | b'u' | b'U') => end += 1,
                Some(byte) if is_white(*byte) => end += 1,
                _ => {}
            }
        }
        self.take(if lacks_exponent { Kind::Bareword } else { Kind::Number }, end - self.at)
    }
}
