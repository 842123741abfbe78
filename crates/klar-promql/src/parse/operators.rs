//! Operators, and what may stand behind them: `* on (a) group_left (b)`.

use super::Parser;
use crate::ast::{BinaryOp, Matching, Number, Side};
use crate::lex::{Token, Trouble};

impl Parser<'_> {
    /// The operator that is next.
    pub(super) fn operator(&self) -> Option<BinaryOp> {
        Some(match self.token() {
            Token::Symbol(symbol) => match *symbol {
                "+" => BinaryOp::Add,
                "-" => BinaryOp::Sub,
                "*" => BinaryOp::Mul,
                "/" => BinaryOp::Div,
                "%" => BinaryOp::Mod,
                "^" => BinaryOp::Pow,
                "==" => BinaryOp::Equal,
                "!=" => BinaryOp::NotEqual,
                "<" => BinaryOp::Less,
                "<=" => BinaryOp::LessEqual,
                ">" => BinaryOp::Greater,
                ">=" => BinaryOp::GreaterEqual,
                "</" => BinaryOp::TrimUpper,
                ">/" => BinaryOp::TrimLower,
                _ => return None,
            },
            Token::Word(word) => match &*word.to_ascii_lowercase() {
                "and" => BinaryOp::And,
                "or" => BinaryOp::Or,
                "unless" => BinaryOp::Unless,
                "atan2" => BinaryOp::Atan2,
                _ => return None,
            },
            _ => return None,
        })
    }

    /// Whether `bool` stands behind an operator, and which series belong together.
    pub(super) fn matching(&mut self, op: BinaryOp) -> Result<(bool, Matching), Trouble> {
        let mut matching = Matching::default();
        let place = self.place();
        let is_bool = self.take_word("bool");
        if is_bool && !op.compares() {
            let what = format!("`bool` stands behind comparisons only; remove it behind `{}`", op.symbol());
            return Err(Trouble::new(place, what));
        }
        if self.is_word("on") || self.is_word("ignoring") {
            matching.is_on = self.is_word("on");
            self.at += 1;
            matching.labels = self.labels()?;
            let place = self.place();
            matching.side = if self.take_word("group_left") {
                Side::ManyLeft
            } else if self.take_word("group_right") {
                Side::ManyRight
            } else {
                Side::One
            };
            if matching.side != Side::One {
                if op.is_set() {
                    let what =
                        format!("`{}` knows no groups; remove `group_left` or `group_right`", op.symbol());
                    return Err(Trouble::new(place, what));
                }
                if self.is("(") {
                    matching.include = self.labels()?;
                }
                if let Some(both) =
                    matching.include.iter().find(|label| matching.is_on && matching.labels.contains(label))
                {
                    let what =
                        format!("the label `{both}` stands in `on` and in the group; remove it from one");
                    return Err(Trouble::new(place, what));
                }
            }
        }
        self.fill(op, &mut matching)?;
        Ok((is_bool, matching))
    }

    /// `fill(0)`, `fill_left(0)`, `fill_right(0)`; without a parenthesis, they are names.
    fn fill(&mut self, op: BinaryOp, matching: &mut Matching) -> Result<(), Trouble> {
        while self.is_ahead(1, "(") {
            let (is_left, is_right) = match self.word().map(str::to_ascii_lowercase).as_deref() {
                Some("fill") => (true, true),
                Some("fill_left") => (true, false),
                Some("fill_right") => (false, true),
                _ => return Ok(()),
            };
            let is_twice =
                (is_left && matching.fill_left.is_some()) || (is_right && matching.fill_right.is_some());
            if is_twice {
                return Err(self.trouble("this side is filled twice; remove one of the two"));
            }
            if op.is_set() {
                return Err(self.trouble(format!("`{}` has no values to fill; remove this", op.symbol())));
            }
            self.at += 2;
            let value = self.signed_number("a number to fill with")?;
            self.expect(")", "behind the number")?;
            if is_left {
                matching.fill_left = Some(Number(value));
            }
            if is_right {
                matching.fill_right = Some(Number(value));
            }
        }
        Ok(())
    }

    /// A number or a duration in seconds, with a sign or without.
    pub(super) fn signed_number(&mut self, what: &str) -> Result<f64, Trouble> {
        let is_minus = self.is("-");
        if is_minus || self.is("+") {
            self.at += 1;
        }
        let value = match self.token() {
            Token::Number(value) | Token::Duration(value) => *value,
            Token::Word(word) if word.eq_ignore_ascii_case("inf") => f64::INFINITY,
            Token::Word(word) if word.eq_ignore_ascii_case("nan") => f64::NAN,
            _ => return Err(self.unexpected(what)),
        };
        self.at += 1;
        Ok(if is_minus { -value } else { value })
    }
}
