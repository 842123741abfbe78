//! Just enough of the grammar of JavaScript, TypeScript, Python and PHP to know what is code, what is a comment, what
//! is text, and which values are put into that text.
//!
//! The lexers never fail: what they do not understand becomes punctuation. All of a file's tokens are kept in
//! streams: the first is the file, and each value that is put into a text has one of its own.

/// A language that is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// JavaScript and TypeScript.
    Js,
    /// Python 3.
    Python,
    /// PHP.
    Php,
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Letters.
    Text(String),
    /// A value that is put in: the number of its stream.
    Hole(usize),
}

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tok {
    /// A text.
    Str {
        /// What it is put together from.
        pieces: Vec<Piece>,
        /// Whether it is a template of JavaScript, which may have a tag.
        template: bool,
    },
    /// A name or keyword; variables of PHP have their `$`.
    Word(String),
    /// A number.
    Number,
    /// A regular expression.
    Regex,
    /// Anything else.
    Punct(&'static str),
}

/// A token and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub tok: Tok,
    /// Its line, from 1.
    pub line: usize,
    /// In Python, where a line of code begins: how far it is indented.
    pub indent: Option<usize>,
}

impl Token {
    /// Whether it is this punctuation.
    #[must_use]
    pub fn is(&self, punct: &str) -> bool {
        matches!(self.tok, Tok::Punct(each) if each == punct)
    }

    /// The name that it is.
    #[must_use]
    pub fn word(&self) -> Option<&str> {
        match &self.tok {
            Tok::Word(word) => Some(word),
            _ => None,
        }
    }
}

/// Texts may have values in them that have texts in them; deeper than this nobody writes.
const DEEPEST: usize = 24;
const MOST_ENDLESS: usize = 50;

const PUNCTS: &[&str] = &[
    "===", "!==", "...", "**=", "??=", "||=", "&&=", "<=>", "//=", "?->", ">>>", "=>", "==", "!=", "<=",
    ">=", "&&", "||", "??", "?.", "+=", "-=", "*=", "/=", "%=", ".=", "->", "::", "++", "--", "**", "//",
    ":=", "(", ")", "[", "]", "{", "}", ";", ",", ".", "+", "-", "*", "/", "%", "=", "<", ">", "?", ":", "!",
    "&", "|", "^", "~", "@", "#", "$", "\\", "`", "'", "\"",
];

/// The tokens of a file, as streams; the first is the file.
#[must_use]
pub fn lex(language: Language, text: &str) -> Vec<Vec<Token>> {
    let mut lexer = Lexer {
        language,
        text,
        bytes: text.as_bytes(),
        at: 0,
        line: 1,
        streams: vec![Vec::new()],
        depth: 0,
        endless: 0,
    };
    if language == Language::Php {
        lexer.skip_html();
    }
    let tokens = lexer.tokens(false);
    lexer.streams[0] = tokens;
    lexer.streams
}

struct Lexer<'t> {
    language: Language,
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    line: usize,
    streams: Vec<Vec<Token>>,
    depth: usize,
    /// Texts that did not end: a file with many is none that somebody wrote, and looking costs time.
    endless: usize,
}

impl<'t> Lexer<'t> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn starts(&self, with: &str) -> bool {
        self.bytes[self.at.min(self.bytes.len())..].starts_with(with.as_bytes())
    }

    fn done(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Goes on by so many bytes, counting lines.
    fn skip(&mut self, bytes: usize) {
        for _ in 0..bytes {
            if self.peek(0) == b'\n' {
                self.line += 1;
            }
            self.at = (self.at + 1).min(self.bytes.len());
        }
    }

    fn skip_to(&mut self, end: &str) {
        while !self.done() && !self.starts(end) {
            self.skip(1);
        }
        self.skip(end.len());
    }

    fn skip_html(&mut self) {
        while !self.done() && !self.starts("<?php") && !self.starts("<?=") {
            self.skip(1);
        }
        self.skip(if self.starts("<?php") { 5 } else { 3 });
    }

    /// Tokens up to the end, or in a hole up to the bracket that closes it, which is left.
    fn tokens(&mut self, hole: bool) -> Vec<Token> {
        let mut tokens: Vec<Token> = Vec::new();
        let mut brackets = 0_usize;
        let mut new_line = true;
        while !self.done() {
            let byte = self.peek(0);
            if byte == b'\n' {
                new_line |= brackets == 0;
                self.skip(1);
                continue;
            }
            if byte.is_ascii_whitespace() {
                self.skip(1);
                continue;
            }
            if self.language == Language::Python && byte == b'\\' && self.peek(1) == b'\n' {
                self.skip(2);
                continue;
            }
            if self.comment() {
                continue;
            }
            if hole && brackets == 0 {
                if byte == b'}' {
                    break;
                }
                // `{value!r}`, `{value:>10}`, `{value=}`
                let python = self.language == Language::Python;
                let format = byte == b':'
                    || byte == b'!' && self.peek(1) != b'='
                    || byte == b'=' && matches!(self.peek(1), b'}' | b':' | b'!');
                if python && format {
                    break;
                }
            }
            if self.language == Language::Php && self.starts("?>") {
                tokens.push(Token { tok: Tok::Punct(";"), line: self.line, indent: None });
                self.skip_html();
                continue;
            }
            let line = self.line;
            let first = new_line && self.language == Language::Python && !hole;
            let indent = first.then(|| self.column());
            let tok = self.token(tokens.last());
            match tok {
                Tok::Punct("(" | "[" | "{") => brackets += 1,
                Tok::Punct(")" | "]" | "}") => brackets = brackets.saturating_sub(1),
                _ => {}
            }
            new_line = false;
            tokens.push(Token { tok, line, indent });
        }
        tokens
    }

    fn column(&self) -> usize {
        self.at - self.bytes[..self.at].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
    }

    fn comment(&mut self) -> bool {
        let line = match self.language {
            Language::Js => self.starts("//") || self.at == 0 && self.starts("#!"),
            Language::Python => self.peek(0) == b'#',
            Language::Php => self.starts("//") || self.peek(0) == b'#' && self.peek(1) != b'[',
        };
        if line {
            while !self.done() && self.peek(0) != b'\n' {
                if self.language == Language::Php && self.starts("?>") {
                    break;
                }
                self.skip(1);
            }
            return true;
        }
        if self.language != Language::Python && self.starts("/*") {
            self.skip(2);
            self.skip_to("*/");
            return true;
        }
        false
    }

    fn token(&mut self, before: Option<&Token>) -> Tok {
        let byte = self.peek(0);
        match (self.language, byte) {
            (Language::Js, b'`') if self.depth < DEEPEST => {
                self.skip(1);
                let pieces = self.text_until("`", "${", true);
                return Tok::Str { pieces, template: true };
            }
            (Language::Js, b'"' | b'\'') => return self.plain(byte, true),
            (Language::Js, b'/') if self.endless < MOST_ENDLESS && regex_may_follow(before) => {
                if let Some(length) = self.regex() {
                    self.skip(length);
                    return Tok::Regex;
                }
                self.endless += 1;
            }
            (Language::Php, b'\'') => return self.plain(byte, false),
            (Language::Php, b'"') => {
                self.skip(1);
                return Tok::Str { pieces: self.php_text(Some("\"")), template: false };
            }
            (Language::Php, b'<') if self.starts("<<<") && self.endless < MOST_ENDLESS => {
                if let Some(tok) = self.heredoc() {
                    return tok;
                }
            }
            (Language::Php, b'$') if is_word(self.peek(1)) => {
                let start = self.at;
                self.at += 1;
                while is_word(self.peek(0)) {
                    self.at += 1;
                }
                return Tok::Word(self.text[start..self.at].to_owned());
            }
            (Language::Python, _) => {
                if let Some(tok) = self.python_text() {
                    return tok;
                }
            }
            _ => {}
        }
        if byte.is_ascii_digit() {
            while is_word(self.peek(0)) || self.peek(0) == b'.' && self.peek(1).is_ascii_digit() {
                self.at += 1;
            }
            return Tok::Number;
        }
        if is_word(byte) {
            let start = self.at;
            while is_word(self.peek(0)) {
                self.at += 1;
            }
            // Names may be of letters of any script; a byte of one never ends in its middle here.
            return Tok::Word(self.text.get(start..self.at).unwrap_or_default().to_owned());
        }
        if self.language == Language::Js && byte == b'#' && is_word(self.peek(1)) {
            self.at += 1;
            return self.token(None); // a private field is a name
        }
        let punct = PUNCTS.iter().find(|punct| {
            self.starts(punct)
                && match **punct {
                    ".=" | "?->" | "->" | "::" => self.language != Language::Js,
                    "?." => self.language == Language::Js && !self.peek(2).is_ascii_digit(),
                    "//" | "//=" => self.language == Language::Python,
                    _ => true,
                }
        });
        let punct = punct.copied().unwrap_or("\\");
        self.skip(punct.len());
        Tok::Punct(punct)
    }

    /// A text in simple quotes; in JavaScript it ends with its line at the latest.
    fn plain(&mut self, quote: u8, ends_with_line: bool) -> Tok {
        self.skip(1);
        let start = self.at;
        while !self.done() && self.peek(0) != quote {
            if self.peek(0) == b'\\' {
                self.skip(2);
                continue;
            }
            if ends_with_line && self.peek(0) == b'\n' {
                break;
            }
            self.skip(1);
        }
        let text = unescape(self.text.get(start..self.at).unwrap_or_default());
        if self.peek(0) == quote {
            self.skip(1);
        }
        Tok::Str { pieces: vec![Piece::Text(text)], template: false }
    }

    /// A text with holes that begin with `open` and end with `}`.
    fn text_until(&mut self, end: &str, open: &str, many_lines: bool) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut start = self.at;
        loop {
            let text = |this: &Self, start: usize| {
                Piece::Text(unescape(this.text.get(start..this.at).unwrap_or_default()))
            };
            if self.done() || self.starts(end) || !many_lines && self.peek(0) == b'\n' {
                pieces.push(text(self, start));
                if self.starts(end) {
                    self.skip(end.len());
                }
                return pieces;
            }
            let doubled = open == "{" && (self.starts("{{") || self.starts("}}"));
            if self.peek(0) == b'\\' || doubled {
                self.skip(2);
            } else if self.starts(open) && self.depth < DEEPEST {
                pieces.push(text(self, start));
                self.skip(open.len());
                pieces.push(self.hole());
                start = self.at;
            } else {
                self.skip(1);
            }
        }
    }

    /// A hole up to and with its `}`.
    fn hole(&mut self) -> Piece {
        self.depth += 1;
        let tokens = self.tokens(true);
        self.depth -= 1;
        // How the value is to be shown: `:>10`, in which holes are rare.
        while !self.done() && self.peek(0) != b'}' && self.peek(0) != b'\n' {
            self.skip(1);
        }
        if self.peek(0) == b'}' {
            self.skip(1);
        }
        self.streams.push(tokens);
        Piece::Hole(self.streams.len() - 1)
    }

    fn python_text(&mut self) -> Option<Tok> {
        let prefix = (0..3).find(|ahead| matches!(self.peek(*ahead), b'"' | b'\''))?;
        let letters = self.bytes.get(self.at..self.at + prefix)?.to_ascii_lowercase();
        if !letters.iter().all(|letter| b"rbuft".contains(letter)) {
            return None;
        }
        self.skip(prefix);
        let quote = self.peek(0) as char;
        let triple = self.peek(1) == self.peek(0) && self.peek(2) == self.peek(0);
        let end: String = std::iter::repeat_n(quote, if triple { 3 } else { 1 }).collect();
        self.skip(end.len());
        // No text has a NUL that opens a hole.
        let open = if letters.contains(&b'f') { "{" } else { "\0" };
        Some(Tok::Str { pieces: self.text_until(&end, open, triple), template: false })
    }

    /// The text of PHP's double quotes, or of a heredoc that ends at the end of what is there.
    fn php_text(&mut self, end: Option<&str>) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut start = self.at;
        let push = |this: &Self, pieces: &mut Vec<Piece>, start: usize| {
            pieces.push(Piece::Text(unescape(this.text.get(start..this.at).unwrap_or_default())));
        };
        loop {
            if self.done() || end.is_some_and(|end| self.starts(end)) {
                push(self, &mut pieces, start);
                self.skip(end.map_or(0, str::len));
                return pieces;
            }
            if self.peek(0) == b'\\' {
                self.skip(2);
            } else if (self.starts("{$") || self.starts("${")) && self.depth < DEEPEST {
                push(self, &mut pieces, start);
                let braces_first = self.starts("{$");
                self.skip(if braces_first { 1 } else { 2 });
                let hole = self.hole();
                if let (false, Piece::Hole(stream)) = (braces_first, &hole)
                    && let Some(Token { tok: Tok::Word(word), .. }) = self.streams[*stream].first_mut()
                {
                    word.insert(0, '$');
                }
                pieces.push(hole);
                start = self.at;
            } else if self.peek(0) == b'$' && (self.peek(1).is_ascii_alphabetic() || self.peek(1) == b'_') {
                push(self, &mut pieces, start);
                let from = self.at;
                self.skip(1);
                while is_word(self.peek(0)) {
                    self.skip(1);
                }
                let mut tokens = vec![self.simple(Tok::Word(self.text[from..self.at].to_owned()))];
                if self.starts("->") && is_word(self.peek(2)) {
                    self.skip(2);
                    let from = self.at;
                    while is_word(self.peek(0)) {
                        self.skip(1);
                    }
                    tokens.push(self.simple(Tok::Punct("->")));
                    tokens.push(self.simple(Tok::Word(self.text[from..self.at].to_owned())));
                } else if self.peek(0) == b'[' {
                    while !self.done() && self.peek(0) != b']' && self.peek(0) != b'\n' {
                        self.skip(1);
                    }
                    self.skip(1);
                    for tok in [Tok::Punct("["), Tok::Number, Tok::Punct("]")] {
                        tokens.push(self.simple(tok));
                    }
                }
                self.streams.push(tokens);
                pieces.push(Piece::Hole(self.streams.len() - 1));
                start = self.at;
            } else {
                self.skip(1);
            }
        }
    }

    fn simple(&self, tok: Tok) -> Token {
        Token { tok, line: self.line, indent: None }
    }

    /// `<<<SQL` and `<<<'SQL'`, up to a line that begins with the name.
    fn heredoc(&mut self) -> Option<Tok> {
        let rest = self.text.get(self.at + 3..)?;
        let head = rest.lines().next()?.trim();
        let name = head.trim_matches(['"', '\'']);
        if name.is_empty() || !name.bytes().all(is_word) {
            return None;
        }
        let body = self.at + 3 + rest.find('\n')? + 1;
        let mut end = body;
        for line in self.text[body..].split_inclusive('\n') {
            let trimmed = line.trim_start();
            if trimmed.strip_prefix(name).is_some_and(|after| !after.bytes().next().is_some_and(is_word)) {
                let close = end + (line.len() - trimmed.len()) + name.len();
                let mut inner = Lexer {
                    language: Language::Php,
                    text: &self.text[..end],
                    bytes: &self.bytes[..end],
                    at: body,
                    line: self.line + 1,
                    streams: std::mem::take(&mut self.streams),
                    depth: self.depth,
                    endless: 0,
                };
                let pieces = if head.starts_with('\'') {
                    vec![Piece::Text(self.text[body..end].to_owned())]
                } else {
                    inner.php_text(None)
                };
                self.streams = inner.streams;
                self.skip(close - self.at);
                return Some(Tok::Str { pieces, template: false });
            }
            end += line.len();
        }
        self.endless += 1;
        None
    }

    fn regex(&self) -> Option<usize> {
        let mut class = false;
        let mut at = 1;
        loop {
            match self.peek(at) {
                0 | b'\n' => return None,
                b'\\' => at += 1,
                b'[' => class = true,
                b']' => class = false,
                b'/' if !class => break,
                _ => {}
            }
            at += 1;
        }
        at += 1;
        while self.peek(at).is_ascii_alphabetic() {
            at += 1;
        }
        Some(at)
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn regex_may_follow(before: Option<&Token>) -> bool {
    match before.map(|token| &token.tok) {
        None => true,
        Some(Tok::Punct(punct)) => !matches!(*punct, ")" | "]" | "}" | "++" | "--"),
        Some(Tok::Word(word)) => [
            "return", "typeof", "case", "in", "of", "delete", "void", "throw", "await", "yield", "else", "do",
        ]
        .contains(&word.as_str()),
        Some(_) => false,
    }
}

/// What matters of escapes: line ends are white space, and a quote is a quote.
fn unescape(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    text.replace("\\n", "\n")
        .replace("\\t", "\t")
        .replace("\\'", "'")
        .replace("\\\"", "\"")
        .replace("\\`", "`")
        .replace("\\$", "$")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of a file, holes as `{…}`.
    fn texts(language: Language, text: &str) -> Vec<String> {
        let streams = lex(language, text);
        let mut found = Vec::new();
        for token in &streams[0] {
            if let Tok::Str { pieces, .. } = &token.tok {
                let shown = pieces.iter().map(|piece| match piece {
                    Piece::Text(text) => text.clone(),
                    Piece::Hole(stream) => format!("{{{}}}", streams[*stream].len()),
                });
                found.push(format!("{}:{}", token.line, shown.collect::<String>()));
            }
        }
        found
    }

    #[test]
    fn javascript() {
        let code = "// `no`\nconst a = `x ${b + `y ${c}`} z`, r = /[`'/]+/g.test('it\\'s') /* \" */\nreturn /`/.exec(\"q\") / 2 / `t`\n";
        assert_eq!(texts(Language::Js, code), ["2:x {3} z", "2:it's", "3:q", "3:t"]);
    }

    #[test]
    fn python() {
        let code = "# 'no'\na = f\"x {b!r:>{w}} {{c}} {d['e']}\" r'ra\\w' \"\"\"doc\n'it'\"\"\"\nb = rb'z'\n";
        assert_eq!(texts(Language::Python, code)[0], "2:x {1}} {{c}} {4}");
        assert_eq!(texts(Language::Python, code).last().unwrap(), "4:z");
        let code = "f'''\n{a}\n'''";
        assert_eq!(texts(Language::Python, code), ["1:\n{1}\n"]);
    }

    #[test]
    fn php() {
        let code = "<p>it's</p><?php # \"no\n$a = \"x $b {$c->d} $e->f $g[1] ${h}\" . 'y $z'; ?><b>\"</b><?= $q ?>\n<?php $s = <<<SQL\nSELECT {$a}\n  SQL;\n$t = <<<'X'\n$no\nX;\n$u = 'end';";
        assert_eq!(
            texts(Language::Php, code),
            ["2:x {1} {3} {3} {4} {1}", "2:y $z", "3:SELECT {1}\n", "6:$no\n", "9:end"]
        );
    }

    #[test]
    fn rubbish_ends() {
        for language in [Language::Js, Language::Python, Language::Php] {
            for rubbish in
                ["`${", "f'{", "<?php \"{$", "<?php <<<", "/", "'\\", "\u{e6}\u{f8}`${\u{e5}", "f\"{a!", "#"]
            {
                let _ = lex(language, rubbish);
            }
            let _ = lex(language, &"`${".repeat(5000));
            let _ = lex(language, &"f'{".repeat(5000));
            let _ = lex(language, &format!("<?php {}", "<<<A\n".repeat(20_000)));
            let _ = lex(language, &"=/[".repeat(20_000));
        }
    }
}
