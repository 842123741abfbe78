//! From words to an expression, operators by how strongly they bind.

mod check;
mod length;
mod operators;
mod selector;

use crate::ast::{Aggregate, AggregateOp, Binary, Expr, Kind, Number, Place};
use crate::error::ParseError;
use crate::functions;
use crate::lex::{Lexed, Token, Trouble, lex};

/// The longest query, in bytes.
pub const LENGTH_MAX: usize = 64 << 10;
/// How many expressions may lie in one another.
pub const DEPTH_MAX: usize = 128;

/// Reads a query and checks its types.
///
/// # Errors
/// Where it is none, and what to write instead.
pub fn parse(query: &str) -> Result<Expr, ParseError> {
    read(query).map_err(|trouble| located(query, trouble))
}

fn read(query: &str) -> Result<Expr, Trouble> {
    if query.len() > LENGTH_MAX {
        let what = format!("the query has {} bytes, at most {LENGTH_MAX} are read; split it", query.len());
        return Err(Trouble::new(Place { from: LENGTH_MAX, to: query.len() }, what));
    }
    let mut parser = Parser { tokens: lex(query)?, at: 0, depth: 0 };
    if parser.token() == &Token::End {
        return Err(parser.trouble("the query is empty; write an expression such as `up`"));
    }
    let expr = parser.expr(0)?;
    if parser.token() != &Token::End {
        return Err(parser.unexpected("an operator or the end of the query"));
    }
    check::check(&expr)?;
    Ok(expr)
}

/// With the line and the column counted.
fn located(query: &str, trouble: Trouble) -> ParseError {
    let Trouble { place: Place { from, to }, what } = trouble;
    let mut from = from.min(query.len());
    while !query.is_char_boundary(from) {
        from -= 1;
    }
    let before = query.get(..from).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    ParseError { line, column, from, to: to.max(from), what }
}

struct Parser<'a> {
    tokens: Vec<Lexed<'a>>,
    at: usize,
    /// How many expressions are open.
    depth: usize,
}

/// The end, for whoever reads behind it.
const END: Lexed<'static> = Lexed { token: Token::End, place: Place { from: 0, to: 0 } };

impl<'a> Parser<'a> {
    fn ahead(&self, by: usize) -> &Lexed<'a> {
        self.tokens.get(self.at + by).or(self.tokens.last()).unwrap_or(&END)
    }

    fn token(&self) -> &Token<'a> {
        &self.ahead(0).token
    }

    fn place(&self) -> Place {
        self.ahead(0).place
    }

    fn next(&mut self) -> Lexed<'a> {
        let next = self.ahead(0).clone();
        self.at += 1;
        next
    }

    fn is(&self, symbol: &str) -> bool {
        self.is_ahead(0, symbol)
    }

    fn is_ahead(&self, by: usize, symbol: &str) -> bool {
        matches!(self.ahead(by).token, Token::Symbol(its) if its == symbol)
    }

    /// The next word, if it is one.
    fn word(&self) -> Option<&'a str> {
        match self.token() {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    /// Whether the next word is this keyword, in any case.
    fn is_word(&self, keyword: &str) -> bool {
        self.word().is_some_and(|word| word.eq_ignore_ascii_case(keyword))
    }

    /// Steps over a symbol, if it is next.
    fn take(&mut self, symbol: &str) -> bool {
        let is = self.is(symbol);
        self.at += usize::from(is);
        is
    }

    fn take_word(&mut self, keyword: &str) -> bool {
        let is = self.is_word(keyword);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, symbol: &str, why: &str) -> Result<Place, Trouble> {
        if self.is(symbol) {
            Ok(self.next().place)
        } else {
            Err(self.unexpected(&format!("`{symbol}` {why}")))
        }
    }

    fn trouble(&self, what: impl Into<String>) -> Trouble {
        Trouble::new(self.place(), what)
    }

    fn unexpected(&self, expected: &str) -> Trouble {
        self.trouble(format!("expected {expected}, found {}", self.token()))
    }

    /// One level deeper, unless it is too deep already.
    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Trouble>) -> Result<T, Trouble> {
        if self.depth >= DEPTH_MAX {
            return Err(self.too_deep());
        }
        self.depth += 1;
        let read = read(self);
        self.depth -= 1;
        read
    }

    fn too_deep(&self) -> Trouble {
        self.trouble(format!("more than {DEPTH_MAX} expressions lie in one another; split the query"))
    }

    fn made(&self, kind: Kind, place: Place) -> Result<Expr, Trouble> {
        let expr = Expr::new(kind, place);
        if expr.depth > DEPTH_MAX { Err(self.too_deep()) } else { Ok(expr) }
    }

    /// An expression of operators that bind at least so strongly.
    fn expr(&mut self, strength: u8) -> Result<Expr, Trouble> {
        self.deeper(|parser| {
            let mut left = parser.signed()?;
            while let Some(op) = parser.operator() {
                let its = op.strength();
                if its < strength {
                    break;
                }
                parser.at += 1;
                let (is_bool, matching) = parser.matching(op)?;
                // `^` binds to the right, the others to the left.
                let right = parser.expr(if its == 6 { its } else { its + 1 })?;
                let place = left.place.through(right.place);
                let binary = Binary { op, is_bool, matching, left, right };
                left = parser.made(Kind::Binary(Box::new(binary)), place)?;
            }
            Ok(left)
        })
    }

    /// `-2 ^ 2` is `-(2 ^ 2)`, and `-2 * 2` is `(-2) * 2`.
    fn signed(&mut self) -> Result<Expr, Trouble> {
        let is_minus = self.is("-");
        if !is_minus && !self.is("+") {
            let primary = self.primary()?;
            return self.postfix(primary);
        }
        let sign = self.next().place;
        let of = self.expr(6)?;
        let place = sign.through(of.place);
        if let Kind::Number(Number(number)) = of.kind {
            return self.made(Kind::Number(Number(if is_minus { -number } else { number })), place);
        }
        self.made(Kind::Sign { is_minus, of: Box::new(of) }, place)
    }

    fn primary(&mut self) -> Result<Expr, Trouble> {
        let place = self.place();
        match self.token().clone() {
            Token::Number(number) | Token::Duration(number) => {
                self.at += 1;
                self.made(Kind::Number(Number(number)), place)
            }
            Token::Text(text) => {
                self.at += 1;
                self.made(Kind::Text(text), place)
            }
            Token::Symbol("(") => {
                self.at += 1;
                let inner = self.expr(0)?;
                let end = self.expect(")", "behind the expression in parentheses")?;
                self.made(Kind::Parens(Box::new(inner)), place.through(end))
            }
            Token::Symbol("{") => self.selector(None, place),
            Token::Word(word) => self.named(word, place),
            _ => Err(self.unexpected("an expression")),
        }
    }

    /// What begins with a word: a number, an aggregation, a call or a series.
    fn named(&mut self, word: &'a str, place: Place) -> Result<Expr, Trouble> {
        let lower = word.to_ascii_lowercase();
        if let Some(number) = match &*lower {
            "inf" => Some(f64::INFINITY),
            "nan" => Some(f64::NAN),
            _ => None,
        } {
            self.at += 1;
            return self.made(Kind::Number(Number(number)), place);
        }
        if let Some((_, op)) = AggregateOp::ALL.iter().find(|(name, _)| *name == lower)
            && self.begins_aggregation()
        {
            self.at += 1;
            return self.aggregate(*op, place);
        }
        if self.is_ahead(1, "(") {
            return self.call(word, &lower, place);
        }
        if matches!(&*lower, "atan2" | "bool" | "group_left" | "group_right" | "ignoring" | "on") {
            let what = format!("`{word}` is a keyword; write `{{\"{word}\"}}` for the metric of this name");
            return Err(self.trouble(what));
        }
        self.at += 1;
        self.selector(Some(word), place)
    }

    fn begins_aggregation(&self) -> bool {
        let is_modifier = matches!(self.ahead(1).token, Token::Word(word)
            if word.eq_ignore_ascii_case("by") || word.eq_ignore_ascii_case("without"));
        self.is_ahead(1, "(") || (is_modifier && self.is_ahead(2, "("))
    }

    fn aggregate(&mut self, op: AggregateOp, place: Place) -> Result<Expr, Trouble> {
        let mut grouping = self.grouping()?;
        let (args, end) = self.args()?;
        let mut end = end;
        if grouping.is_none() {
            grouping = self.grouping()?;
            if grouping.is_some() {
                end = self.tokens.get(self.at - 1).map_or(end, |last| last.place);
            }
        }
        let place = place.through(end);
        let wanted = 1 + usize::from(op.param().is_some());
        let count = args.len();
        let mut args = args.into_iter();
        let param = if op.param().is_some() { args.next() } else { None };
        let (Some(of), None) = (args.next(), args.next()) else {
            let what = format!("`{}` takes {wanted} argument(s), found {count}", op.name());
            return Err(Trouble::new(place, what));
        };
        let (is_without, labels) = grouping.unwrap_or_default();
        self.made(Kind::Aggregate(Box::new(Aggregate { op, is_without, labels, param, of })), place)
    }

    /// `by (a, b)` or `without (a, b)`.
    fn grouping(&mut self) -> Result<Option<(bool, Vec<String>)>, Trouble> {
        let is_without = self.is_word("without");
        if !is_without && !self.is_word("by") {
            return Ok(None);
        }
        self.at += 1;
        Ok(Some((is_without, self.labels()?)))
    }

    fn call(&mut self, word: &str, lower: &str, place: Place) -> Result<Expr, Trouble> {
        // Some are keywords, too, and those are read in any case.
        let is_keyword = matches!(lower, "start" | "end" | "step" | "range" | "max_of" | "min_of");
        let Some(function) = functions::find(if is_keyword { lower } else { word }) else {
            let near = functions::FUNCTIONS.iter().find(|function| function.name == lower);
            let what = match near {
                Some(function) => format!("there is no function `{word}`; write `{}`", function.name),
                None => format!("there is no function `{word:.80}`; see the list of functions of PromQL"),
            };
            return Err(self.trouble(what));
        };
        self.at += 1;
        let (args, end) = self.args()?;
        self.made(Kind::Call { function, args }, place.through(end))
    }

    /// `(a, b)`, and where it is closed.
    fn args(&mut self) -> Result<(Vec<Expr>, Place), Trouble> {
        self.expect("(", "before the arguments")?;
        let mut args = Vec::new();
        if self.is(")") {
            return Ok((args, self.next().place));
        }
        loop {
            args.push(self.expr(0)?);
            if self.take(",") {
                if self.is(")") {
                    return Err(self.trouble("a comma before `)`; remove it, or write one more argument"));
                }
                continue;
            }
            let end = self.expect(")", "or `,` behind the argument")?;
            return Ok((args, end));
        }
    }
}

#[cfg(test)]
mod tests;
