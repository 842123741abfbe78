//! Series, and what may stand behind them: `up{job="api"}[5m] offset 1h @ 1600000000`.

use klar_tsdb::{Matcher, Op, labels::NAME};

use super::Parser;
use crate::ast::{At, Bounds, Expr, Kind, Length, Number, Place, Selector, Shift, Subquery};
use crate::lex::{Lexed, Token, Trouble};

impl<'a> Parser<'a> {
    /// `name{…}`, `name` or `{…}`; the name is read already.
    pub(super) fn selector(&mut self, name: Option<&str>, place: Place) -> Result<Expr, Trouble> {
        let mut matchers = Vec::new();
        if let Some(name) = name {
            matchers.push(self.matcher(place, NAME, Op::Equal, name)?);
        }
        let mut end = place;
        if self.take("{") {
            while !self.is("}") {
                let at = self.place();
                let matcher = self.condition()?;
                let is_second =
                    matcher.name() == NAME && matchers.first().is_some_and(|one| one.name() == NAME);
                if is_second && name.is_some() {
                    let what = "the name of the metric is given twice; remove it before or in the braces";
                    return Err(Trouble::new(at, what));
                }
                matchers.push(matcher);
                if !self.take(",") && !self.is("}") {
                    return Err(self.unexpected("`,` or `}` behind the condition"));
                }
            }
            end = self.next().place;
        }
        let selector = Selector { matchers, shift: Shift::default(), bounds: Bounds::Strict };
        self.made(Kind::Selector(selector), place.through(end))
    }

    /// `label="value"`, `"label"="value"` or `"name"`.
    fn condition(&mut self) -> Result<Matcher, Trouble> {
        let Lexed { token, place } = self.next();
        let name = match token {
            Token::Word(word)
                if !word.contains(':') && !word.starts_with(|one: char| one.is_ascii_digit()) =>
            {
                word.to_owned()
            }
            Token::Text(name) => {
                if matches!(self.token(), Token::Symbol("," | "}")) {
                    return self.matcher(place, NAME, Op::Equal, &name);
                }
                name
            }
            _ => {
                let what = format!(
                    "expected a label or `}}`, found {token}; names with other letters stand in quotes"
                );
                return Err(Trouble::new(place, what));
            }
        };
        if name.is_empty() {
            return Err(Trouble::new(place, "the name of the label is empty"));
        }
        let op = match self.token() {
            Token::Symbol("=") => Op::Equal,
            Token::Symbol("!=") => Op::NotEqual,
            Token::Symbol("=~") => Op::Matches,
            Token::Symbol("!~") => Op::NotMatches,
            _ => return Err(self.unexpected("`=`, `!=`, `=~` or `!~` behind the label")),
        };
        self.at += 1;
        let place = self.place();
        let Token::Text(value) = self.token().clone() else {
            return Err(self.unexpected("a value in quotes"));
        };
        self.at += 1;
        self.matcher(place, &name, op, &value)
    }

    #[allow(clippy::unused_self)] // reads well beside the others
    fn matcher(&self, place: Place, name: &str, op: Op, value: &str) -> Result<Matcher, Trouble> {
        Matcher::new(name, op, value).map_err(|bad| Trouble::new(place, bad.to_string()))
    }

    /// `(a, "b", …)`
    pub(super) fn labels(&mut self) -> Result<Vec<String>, Trouble> {
        self.expect("(", "before the labels")?;
        let mut labels = Vec::new();
        while !self.take(")") {
            let Lexed { token, place } = self.next();
            labels.push(match token {
                Token::Word(word) if !word.contains(':') => word.to_owned(),
                Token::Text(text) if !text.is_empty() => text,
                _ => return Err(Trouble::new(place, format!("expected a label or `)`, found {token}"))),
            });
            if !self.take(",") && !self.is(")") {
                return Err(self.unexpected("`,` or `)` behind the label"));
            }
        }
        Ok(labels)
    }

    /// What stands behind an expression: ranges, and other times.
    pub(super) fn postfix(&mut self, mut expr: Expr) -> Result<Expr, Trouble> {
        loop {
            let place = self.place();
            if self.is("[") {
                expr = self.brackets(expr)?;
            } else if self.take_word("offset") {
                let offset = self.offset()?;
                let shift = shift(&mut expr, place, "offset")?;
                if shift.offset.replace(offset).is_some() {
                    return Err(Trouble::new(place, "`offset` is there twice; remove one of them"));
                }
            } else if self.take("@") {
                let at = self.at_time()?;
                let shift = shift(&mut expr, place, "@")?;
                if shift.at.replace(at).is_some() {
                    return Err(Trouble::new(place, "`@` is there twice; remove one of them"));
                }
            } else if self.is_word("anchored") || self.is_word("smoothed") {
                let wanted = if self.is_word("anchored") { Bounds::Anchored } else { Bounds::Smoothed };
                self.at += 1;
                set_bounds(&mut expr, wanted, place)?;
            } else {
                return Ok(expr);
            }
            expr.place.to = self.tokens.get(self.at - 1).map_or(expr.place.to, |last| last.place.to);
        }
    }

    fn at_time(&mut self) -> Result<At, Trouble> {
        let named = match self.word().map(str::to_ascii_lowercase).as_deref() {
            Some("start") => Some(At::Start),
            Some("end") => Some(At::End),
            _ => None,
        };
        if let Some(at) = named {
            self.at += 1;
            self.expect("(", "behind it")?;
            self.expect(")", "behind `(`")?;
            return Ok(at);
        }
        let place = self.place();
        let seconds = self.signed_number("a time in seconds since 1970, `start()` or `end()`")?;
        let milliseconds = seconds * 1000.0;
        // What is left of it fits twice into what is counted.
        if !(-4.6e18..4.6e18).contains(&milliseconds) {
            return Err(Trouble::new(place, "there is no such time; write seconds since 1970"));
        }
        #[allow(clippy::cast_possible_truncation)]
        Ok(At::Time(milliseconds.round() as i64))
    }

    /// `[5m]` or `[1h:5m]`.
    fn brackets(&mut self, expr: Expr) -> Result<Expr, Trouble> {
        let open = self.next().place;
        let range = self.positive_length()?;
        if !self.take(":") {
            let end = self.expect("]", "or `:` behind the range")?;
            let place = expr.place.through(end);
            let Kind::Selector(selector) = expr.kind else {
                let what =
                    "only series have a range of samples; write `[5m:]` for that of another expression";
                return Err(Trouble::new(open.through(end), what));
            };
            if selector.shift != Shift::default() {
                let what = "`offset` and `@` stand behind the range; move them there";
                return Err(Trouble::new(open.through(end), what));
            }
            return self.made(Kind::Range { selector, range }, place);
        }
        let step = if self.is("]") { None } else { Some(self.positive_length()?) };
        let end = self.expect("]", "behind the step")?;
        let place = expr.place.through(end);
        let subquery = Subquery { of: expr, range, step, shift: Shift::default() };
        self.made(Kind::Subquery(Box::new(subquery)), place)
    }

    fn positive_length(&mut self) -> Result<Length, Trouble> {
        let place = self.place();
        let length = self.length()?;
        match length {
            Length::Seconds(Number(seconds)) if seconds <= 0.0 || seconds.is_nan() => {
                Err(Trouble::new(place, "the duration has to be more than 0"))
            }
            _ => Ok(length),
        }
    }
}

/// Where the other time of an expression is kept.
fn shift<'e>(expr: &'e mut Expr, place: Place, what: &str) -> Result<&'e mut Shift, Trouble> {
    match &mut expr.kind {
        Kind::Selector(selector) | Kind::Range { selector, .. } => Ok(&mut selector.shift),
        Kind::Subquery(subquery) => Ok(&mut subquery.shift),
        _ => {
            let what = format!(
                "`{what}` stands right behind a series, a range or a subquery; move it to each series"
            );
            Err(Trouble::new(place, what))
        }
    }
}

fn set_bounds(expr: &mut Expr, wanted: Bounds, place: Place) -> Result<(), Trouble> {
    let bounds = match &mut expr.kind {
        Kind::Range { selector, .. } => &mut selector.bounds,
        Kind::Selector(selector) if wanted == Bounds::Smoothed => &mut selector.bounds,
        _ => {
            let what =
                "`anchored` stands behind a range of a series, `smoothed` also behind a series; remove it";
            return Err(Trouble::new(place, what));
        }
    };
    if *bounds != Bounds::Strict {
        return Err(Trouble::new(place, "a range is either `anchored` or `smoothed`, once; remove this"));
    }
    *bounds = wanted;
    Ok(())
}
