//! Makes the tokens of a value few: what says the same about an attack is left out.
//!
//! `1 + 2 * 3` is a number, `a, b, c` is a name, `UNION` and `ALL` are one word. At most five tokens are left, and of
//! a value that is longer only its beginning is read. Rules look at two or three tokens in a window that moves to the
//! right; most that apply move it back to the beginning.

use super::kind::{Kind, Kinds};
use super::scan::{Scanner, Token};
use super::words::Words;

/// Tokens of a fingerprint at most. One more is read, to know what the last one is.
pub(super) const TOKENS_MAX: usize = 5;
/// Room for tokens: what is read ahead, and a comment behind.
const ROOM: usize = 8;

/// Tokens that are left, with what is behind them.
pub(super) struct Folded<'a> {
    pub(super) tokens: [Token; ROOM],
    /// How many of them count.
    pub(super) len: usize,
    /// How many were read.
    pub(super) read: u32,
    /// Whether the other dialect may read it differently.
    pub(super) is_ambiguous: bool,
    text: Text<'a>,
}

/// Where the texts of tokens are.
#[derive(Clone, Copy)]
struct Text<'a> {
    input: &'a [u8],
    words: &'static Words,
}

impl<'a> Text<'a> {
    fn of(&self, token: &Token) -> &'a [u8] {
        if token.is_merged {
            return self.words.word(token.word).text;
        }
        self.input.get(token.at..token.at + usize::from(token.len)).unwrap_or_default()
    }

    fn is(&self, token: &Token, words: &[&[u8]]) -> bool {
        let text = self.of(token);
        words.iter().any(|word| word.eq_ignore_ascii_case(text))
    }

    fn is_arithmetic(&self, token: &Token) -> bool {
        token.kind == Kind::Operator && matches!(self.of(token), [b'*' | b'/' | b'-' | b'+' | b'%'])
    }

    fn is_unary(&self, token: &Token) -> bool {
        token.kind == Kind::Operator
            && match self.of(token) {
                [b'+' | b'-' | b'!' | b'~'] | b"!!" => true,
                text => text.eq_ignore_ascii_case(b"not"),
            }
    }
}

/// Names that are functions only where a parenthesis follows.
const FUNCTIONS: [&[u8]; 11] = [
    b"USER",
    b"USER_ID",
    b"USER_NAME",
    b"DATABASE",
    b"PASSWORD",
    b"CURRENT_USER",
    b"CURRENT_DATE",
    b"CURRENT_TIME",
    b"CURRENT_TIMESTAMP",
    b"LOCALTIME",
    b"LOCALTIMESTAMP",
];

/// What may be a part of a phrase. The second part can be a logical operator, too.
const PHRASED: Kinds = Kinds::of(&[
    Kind::Keyword,
    Kind::Bareword,
    Kind::Operator,
    Kind::Union,
    Kind::Function,
    Kind::Expression,
    Kind::Tsql,
    Kind::SqlType,
]);
const NAMES: Kinds = Kinds::of(&[Kind::Bareword, Kind::Number]);
const VALUES: Kinds = Kinds::of(&[Kind::Bareword, Kind::Number, Kind::Variable, Kind::String]);
/// What a type can stand before without a meaning of its own.
const TYPED: Kinds = Kinds::of(&[
    Kind::Bareword,
    Kind::Number,
    Kind::SqlType,
    Kind::LeftParen,
    Kind::Function,
    Kind::Variable,
    Kind::String,
]);

/// What a rule did.
enum Step {
    /// It applied: begin again.
    Again,
    /// None did, look at one token more.
    Further,
    /// There is nothing more to find out.
    End,
}

struct Folder<'a> {
    scanner: Scanner<'a>,
    text: Text<'a>,
    tokens: [Token; ROOM],
    /// Where the next token goes.
    next: usize,
    /// Where the window begins; what is left of it is done.
    left: usize,
    /// Whether there may be more tokens.
    more: bool,
    /// The comment that was read last, if no token came behind it.
    comment: Option<Token>,
}

/// Reads and folds a value.
pub(super) fn fold<'a>(scanner: Scanner<'a>, input: &'a [u8], words: &'static Words) -> Folded<'a> {
    let mut folder = Folder {
        scanner,
        text: Text { input, words },
        tokens: [Token::default(); ROOM],
        next: 0,
        left: 0,
        more: true,
        comment: None,
    };
    let len = folder.run();
    Folded {
        tokens: folder.tokens,
        len,
        read: folder.scanner.tokens,
        is_ambiguous: folder.scanner.is_ambiguous,
        text: folder.text,
    }
}

impl<'a> Folded<'a> {
    /// The text of one of the tokens.
    pub(super) fn text(&self, token: &Token) -> &'a [u8] {
        self.text.of(token)
    }
}

impl Folder<'_> {
    /// How many tokens are left.
    fn run(&mut self) -> usize {
        if !self.skip_opening() {
            return 0;
        }
        loop {
            if self.next >= TOKENS_MAX {
                self.fold_five();
            }
            if !self.more || self.left >= TOKENS_MAX {
                break;
            }
            if !self.fill(2) {
                self.left = self.next;
                continue;
            }
            // Two names that are in no phrase, as in text: no rule is about them, whatever follows.
            let (first, second) = (self.at(0), self.at(1));
            let is_text = first.kind == Kind::Bareword && second.kind == Kind::Bareword && first.word == 0;
            if is_text && self.fill(3) {
                self.left += 1;
                continue;
            }
            match self.fold_two() {
                Step::Again => continue,
                Step::End => return self.left + 2,
                Step::Further => {}
            }
            if !self.fill(3) {
                self.left = self.next;
                continue;
            }
            if !self.fold_three() {
                self.left += 1;
            }
        }
        if let Some(comment) = self.comment.filter(|_| self.next < TOKENS_MAX) {
            self.tokens[self.next] = comment;
            return self.next + 1;
        }
        self.next.min(TOKENS_MAX)
    }

    /// Passes over what may stand before anything: comments, parentheses, types and signs. Says whether something
    /// comes behind.
    fn skip_opening(&mut self) -> bool {
        while let Some(token) = self.scanner.next() {
            if token.kind == Kind::LeftParen {
                self.scanner.skip_run(b'(');
            }
            if !matches!(token.kind, Kind::Comment | Kind::LeftParen | Kind::SqlType)
                && !self.text.is_unary(&token)
            {
                self.tokens[0] = token;
                self.next = 1;
                return true;
            }
        }
        false
    }

    /// Reads until `count` tokens are in the window, and says whether they are.
    fn fill(&mut self, count: usize) -> bool {
        while self.more && self.next <= TOKENS_MAX && self.next < self.left + count {
            match self.scanner.next() {
                None => self.more = false,
                Some(comment) if comment.kind == Kind::Comment => self.comment = Some(comment),
                Some(token) => {
                    self.comment = None;
                    self.tokens[self.next] = token;
                    self.next += 1;
                }
            }
        }
        self.next >= self.left + count
    }

    /// A token of the window.
    fn at(&self, offset: usize) -> Token {
        self.tokens.get(self.left + offset).copied().unwrap_or_default()
    }

    fn set(&mut self, offset: usize, token: Token) {
        if let Some(place) = self.tokens.get_mut(self.left + offset) {
            *place = token;
        }
    }

    fn set_kind(&mut self, offset: usize, kind: Kind) {
        self.set(offset, Token { kind, ..self.at(offset) });
    }

    /// Takes the last tokens away and begins again at the first.
    fn drop_last(&mut self, count: usize) {
        self.next = self.next.saturating_sub(count);
        self.left = 0;
    }

    /// Five tokens are full: some that say no more than one make room.
    fn fold_five(&mut self) {
        use Kind::{Bareword, Comma, LeftParen, Number, Operator, RightParen};
        let [first, second, third, fourth, fifth, sixth, ..] = self.tokens;
        let is_dull = match (first.kind, second.kind, third.kind, fourth.kind, fifth.kind) {
            (Number, Operator | Comma, LeftParen, Number, RightParen)
            | (Number, RightParen, Comma, LeftParen, Number)
            | (Bareword, RightParen, Operator, LeftParen, Bareword) => true,
            (Bareword, Operator, LeftParen, inner, RightParen) => NAMES.has(inner),
            _ => false,
        };
        if is_dull {
            if self.next > TOKENS_MAX {
                self.tokens[1] = sixth;
                self.next = 2;
            } else {
                self.next = 1;
            }
            self.left = 0;
        }
    }

    fn fold_two(&mut self) -> Step {
        use Kind::*;
        let (first, second) = (self.at(0), self.at(1));
        match (first.kind, second.kind) {
            (String, String) | (Semicolon, Semicolon) => self.next -= 1,
            (Operator | Logic, SqlType) => self.drop_last(1),
            (Operator | Logic, Operator) if self.text.is_unary(&second) => self.drop_last(1),
            (LeftParen, Operator) if self.text.is_unary(&second) => {
                self.next -= 1;
                self.left = self.left.saturating_sub(1);
            }
            _ if self.merge(first, second) => {
                self.next -= 1;
                self.left = self.left.saturating_sub(1);
            }
            // IF begins a statement in Transact-SQL, and is a function elsewhere.
            (Semicolon, Function) if matches!(self.text.of(&second), [b'I' | b'i', b'F' | b'f', ..]) => {
                self.set_kind(1, Tsql);
            }
            (Bareword | Variable, LeftParen) if self.text.is(&first, &FUNCTIONS) => {
                self.set_kind(0, Function)
            }
            (Keyword, _) if self.text.is(&first, &[b"IN", b"NOT IN"]) => {
                self.set_kind(0, if second.kind == LeftParen { Operator } else { Bareword });
            }
            (Operator, _) if self.text.is(&first, &[b"LIKE", b"NOT LIKE"]) => {
                if second.kind == LeftParen {
                    self.set_kind(0, Function);
                }
                return Step::Further;
            }
            (SqlType, other) if TYPED.has(other) => {
                self.set(0, second);
                self.drop_last(1);
            }
            (Collate, Bareword) => {
                // There are too many collations for a list, but all have an underscore.
                if self.text.of(&second).contains(&b'_') {
                    self.set_kind(1, SqlType);
                    self.left = 0;
                }
                return Step::Further;
            }
            // Transact-SQL reads `\%1` as `0 % 1`, and `\1` as `1`.
            (Backslash, _) if self.text.is_arithmetic(&second) => {
                self.set_kind(0, Number);
                self.left = 0;
            }
            (Backslash, _) => {
                self.set(0, second);
                self.drop_last(1);
            }
            (LeftParen, LeftParen) | (RightParen, RightParen) => self.drop_last(1),
            // MySQL takes ``{``.``.name}`` for a name.
            (LeftBrace, Bareword) if second.len == 0 => {
                self.set_kind(1, Evil);
                return Step::End;
            }
            // ODBC: `{name expression}`
            (LeftBrace, Bareword) => self.drop_last(2),
            (_, RightBrace) => self.drop_last(1),
            _ => return Step::Further,
        }
        Step::Again
    }

    /// Makes one word of two that are a phrase.
    fn merge(&mut self, first: Token, second: Token) -> bool {
        let words = self.text.words;
        if first.word == 0
            || second.word == 0
            || !words.word(first.word).begins
            || !words.word(second.word).ends
            || !PHRASED.has(first.kind)
            || !(PHRASED.has(second.kind) || second.kind == Kind::Logic)
        {
            return false;
        }
        let Some(word) = words.phrase(first.word, second.word) else { return false };
        let phrase = words.word(word);
        let len = u8::try_from(phrase.text.len()).unwrap_or_default();
        self.set(0, Token { kind: phrase.kind, word, len, is_merged: true, ..first });
        true
    }

    /// Says whether a rule applied.
    fn fold_three(&mut self) -> bool {
        use Kind::*;
        let (first, second, third) = (self.at(0), self.at(1), self.at(2));
        match (first.kind, second.kind, third.kind) {
            (Number, Operator, Number) => self.drop_last(2),
            (Operator, middle, Operator) if middle != LeftParen => self.drop_last(2),
            (Logic, _, Logic) => self.drop_last(2),
            (Variable, Operator, Variable | Number | Bareword) => self.drop_last(2),
            (Bareword | Number, Operator, Number | Bareword) => self.drop_last(2),
            (value, Operator, SqlType) if VALUES.has(value) && self.text.of(&second) == b"::" => {
                self.drop_last(2)
            }
            (value, Comma, other) if VALUES.has(value) && VALUES.has(other) => self.drop_last(2),
            (Expression | Group | Comma, Operator, LeftParen) if self.text.is_unary(&second) => {
                self.set(1, third);
                self.drop_last(1);
            }
            (Keyword | Expression | Group, Operator, operand)
                if (VALUES.has(operand) || operand == Function) && self.text.is_unary(&second) =>
            {
                self.set(1, third);
                self.drop_last(1);
            }
            // `, -1` is `, 1`, and with what stands before it may be even less.
            (Comma, Operator, operand) if VALUES.has(operand) && self.text.is_unary(&second) => {
                self.set(1, third);
                self.drop_last(3);
            }
            (Comma, Operator, Function) if self.text.is_unary(&second) => {
                self.set(1, third);
                self.drop_last(1);
            }
            (Bareword, Dot, Bareword) => self.drop_last(2),
            (Expression, Dot, Bareword) => {
                self.set(1, third);
                self.drop_last(1);
            }
            (Function, LeftParen, other) => {
                // USER() takes nothing; with something in it, it is no function.
                if other != RightParen && self.text.is(&first, &[b"USER"]) {
                    self.set_kind(0, Bareword);
                }
                return false;
            }
            _ => return false,
        }
        true
    }
}
