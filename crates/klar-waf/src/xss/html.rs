//! Cuts a value into what is HTML of it, as browsers do, old ones with their oddities among them.
//!
//! The states are those of the HTML standard, section 13.2.5, less what does not matter here: text, references to
//! characters, and what is inside of scripts.

use memchr::{memchr, memmem};

/// What is found. Names and values as they stand there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// The name of a tag that is opened; of one that is closed, too, where something follows its name.
    Tag(&'a [u8]),
    /// The name of an attribute.
    Name(&'a [u8]),
    /// The value of the attribute that was named last.
    Value(&'a [u8]),
    /// The inside of a comment, or of what browsers take for one.
    Comment(&'a [u8]),
    /// `<!DOCTYPE`
    Doctype,
}

/// Where a value is taken to stand, and where its reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// In text.
    Data,
    /// Behind `<`.
    TagOpen,
    /// In a tag, before the name of an attribute.
    BeforeName,
    /// Behind the name of an attribute and white space.
    AfterName,
    /// Behind `=`.
    BeforeValue,
    /// In a value that this quote closes.
    Quoted(u8),
}

/// Reads one token after the other.
pub(super) struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    state: State,
}

/// White space in tags. Old versions of Internet Explorer took vertical tabs and zero bytes for it, too.
const fn is_white(byte: u8) -> bool {
    matches!(byte, 0 | b'\t'..=b'\r' | b' ')
}

impl<'a> Reader<'a> {
    pub(super) fn new(input: &'a [u8], state: State) -> Self {
        Self { input, at: 0, state }
    }

    /// The next token.
    pub(super) fn next(&mut self) -> Option<Token<'a>> {
        loop {
            match self.state {
                State::Data => {
                    self.at += memchr(b'<', self.rest())? + 1;
                    self.state = State::TagOpen;
                }
                State::TagOpen => {
                    let token = self.tag();
                    if token.is_some() {
                        return token;
                    }
                }
                State::BeforeName => match self.skip_white()? {
                    b'/' => self.at += 1,
                    b'>' => self.go(1, State::Data),
                    _ => return Some(self.name()),
                },
                State::AfterName => match self.skip_white()? {
                    b'/' => self.go(1, State::BeforeName),
                    b'=' => self.go(1, State::BeforeValue),
                    b'>' => self.go(1, State::Data),
                    _ => return Some(self.name()),
                },
                State::BeforeValue => match self.skip_white()? {
                    // Internet Explorer took backticks for quotes.
                    quote @ (b'"' | b'\'' | b'`') => self.go(1, State::Quoted(quote)),
                    _ => return Some(self.bare_value()),
                },
                State::Quoted(quote) => {
                    let len = memchr(quote, self.rest());
                    return Some(Token::Value(self.take(len, 1, State::BeforeName)));
                }
            }
        }
    }

    fn rest(&self) -> &'a [u8] {
        self.input.get(self.at..).unwrap_or_default()
    }

    fn go(&mut self, ahead: usize, state: State) {
        self.at += ahead;
        self.state = state;
    }

    /// The next `len` bytes, or all that are left, and the state behind them and `mark` bytes more.
    fn take(&mut self, len: Option<usize>, mark: usize, state: State) -> &'a [u8] {
        let rest = self.rest();
        let taken = len.and_then(|len| rest.get(..len)).unwrap_or(rest);
        self.go(taken.len() + mark, state);
        taken
    }

    fn skip_white(&mut self) -> Option<u8> {
        let rest = self.rest();
        let len = rest.iter().position(|byte| !is_white(*byte))?;
        self.at += len;
        rest.get(len).copied()
    }

    /// Behind `<`. Without a token, the state tells how it goes on; at the end it is left as it is, with nothing left.
    fn tag(&mut self) -> Option<Token<'a>> {
        match self.rest() {
            [] => {
                self.state = State::Data;
                None
            }
            [b'!', ..] => {
                self.at += 1;
                Some(self.declaration())
            }
            [b'/', b'>', ..] => {
                self.go(2, State::Data);
                None
            }
            [b'/', b'a'..=b'z' | b'A'..=b'Z', ..] => {
                self.at += 1;
                self.tag_name(true)
            }
            [b'/'] => {
                self.go(1, State::Data);
                None
            }
            [b'/' | b'?', ..] => {
                self.at += 1;
                Some(self.bogus_comment())
            }
            // A comment in Internet Explorer up to 9 and Safari up to 4.
            [b'%', ..] => {
                self.at += 1;
                let len = memmem::find(self.rest(), b"%>");
                Some(Token::Comment(self.take(len, 2, State::Data)))
            }
            [0 | b'a'..=b'z' | b'A'..=b'Z', ..] => self.tag_name(false),
            _ => {
                self.state = State::Data;
                None
            }
        }
    }

    fn tag_name(&mut self, closes: bool) -> Option<Token<'a>> {
        // Zero bytes are left out of names by some.
        let is_end = |byte: &u8| matches!(byte, b'\t'..=b'\r' | b' ' | b'/' | b'>');
        let len = self.rest().iter().position(is_end);
        let end = len.and_then(|len| self.rest().get(len)).copied();
        let state = if end == Some(b'>') { State::Data } else { State::BeforeName };
        let name = self.take(len, 1, state);
        if closes && end == Some(b'>') { None } else { Some(Token::Tag(name)) }
    }

    fn name(&mut self) -> Token<'a> {
        // Whatever comes first is a part of it.
        let is_end = |byte: &u8| is_white(*byte) || matches!(byte, b'/' | b'=' | b'>');
        let behind = self.rest().get(1..).unwrap_or_default();
        let len = behind.iter().position(is_end);
        let state = match len.and_then(|len| behind.get(len)) {
            Some(b'/') => State::BeforeName,
            Some(b'=') => State::BeforeValue,
            Some(b'>') => State::Data,
            _ => State::AfterName,
        };
        Token::Name(self.take(len.map(|len| len + 1), 1, state))
    }

    fn bare_value(&mut self) -> Token<'a> {
        let len = self.rest().iter().position(|byte| is_white(*byte) || *byte == b'>');
        let is_last = len.and_then(|len| self.rest().get(len)) == Some(&b'>');
        Token::Value(self.take(len, 1, if is_last { State::Data } else { State::BeforeName }))
    }

    /// Behind `<!`.
    fn declaration(&mut self) -> Token<'a> {
        let rest = self.rest();
        if rest.get(..7).is_some_and(|word| word.eq_ignore_ascii_case(b"doctype")) {
            let len = memchr(b'>', rest);
            self.take(len, 1, State::Data);
            return Token::Doctype;
        }
        if rest.starts_with(b"[CDATA[") {
            self.at += 7;
            let len = memmem::find(self.rest(), b"]]>");
            self.take(len, 3, State::Data);
            // Text; nothing is hidden in it.
            return Token::Comment(b"");
        }
        if rest.starts_with(b"--") {
            self.at += 2;
            return self.comment();
        }
        self.bogus_comment()
    }

    fn bogus_comment(&mut self) -> Token<'a> {
        let len = memchr(b'>', self.rest());
        Token::Comment(self.take(len, 1, State::Data))
    }

    /// To `-->` or `-!>`, with zero bytes behind the first dash or without.
    fn comment(&mut self) -> Token<'a> {
        let rest = self.rest();
        for dash in memchr::memchr_iter(b'-', rest) {
            let behind = rest.get(dash + 1..).unwrap_or_default();
            let zeros = behind.iter().take_while(|byte| **byte == 0).count();
            if let [b'-' | b'!', b'>', ..] = behind.get(zeros..).unwrap_or_default() {
                return Token::Comment(self.take(Some(dash), zeros + 3, State::Data));
            }
        }
        Token::Comment(self.take(None, 0, State::Data))
    }
}
