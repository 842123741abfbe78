//! Lengths of time, with which one may reckon: `[5m + step()]`, `offset -(2 * 1h)`.

use super::Parser;
use crate::ast::{Length, LengthOp, Number};
use crate::lex::{Token, Trouble};

/// The longest, in seconds: 292 years, as many nanoseconds as Go counts.
const SECONDS_MAX: f64 = 9_223_372_036.854_776;

impl Parser<'_> {
    /// Behind `offset`: one operand, with a sign or without.
    pub(super) fn offset(&mut self) -> Result<Length, Trouble> {
        let is_minus = self.is("-");
        if is_minus || self.is("+") {
            self.at += 1;
        }
        let operand = self.length_operand()?;
        Ok(if is_minus { minus(operand) } else { operand })
    }

    /// In brackets or parentheses.
    pub(super) fn length(&mut self) -> Result<Length, Trouble> {
        self.length_of(0)
    }

    fn length_of(&mut self, strength: u8) -> Result<Length, Trouble> {
        self.deeper(|parser| {
            let is_minus = parser.is("-");
            let mut left = if is_minus || parser.is("+") {
                parser.at += 1;
                let of = parser.length_of(3)?;
                if is_minus { minus(of) } else { of }
            } else {
                parser.length_operand()?
            };
            // Each operator makes it one deeper.
            let mut depth = parser.depth;
            while let Some((op, its)) = parser.length_operator() {
                if its < strength {
                    break;
                }
                depth += 1;
                if depth > super::DEPTH_MAX {
                    return Err(parser.too_deep());
                }
                let place = parser.next().place;
                let right = parser.length_of(if its == 3 { its } else { its + 1 })?;
                let divides = matches!(op, LengthOp::Div | LengthOp::Mod);
                if divides && right == Length::Seconds(Number(0.0)) {
                    return Err(Trouble::new(place, "nothing can be divided by 0"));
                }
                left = of(op, left, right);
            }
            Ok(left)
        })
    }

    fn length_operator(&self) -> Option<(LengthOp, u8)> {
        let Token::Symbol(symbol) = self.token() else { return None };
        Some(match *symbol {
            "+" => (LengthOp::Add, 1),
            "-" => (LengthOp::Sub, 1),
            "*" => (LengthOp::Mul, 2),
            "/" => (LengthOp::Div, 2),
            "%" => (LengthOp::Mod, 2),
            "^" => (LengthOp::Pow, 3),
            _ => return None,
        })
    }

    fn length_operand(&mut self) -> Result<Length, Trouble> {
        const EXPECTED: &str = "a duration such as `5m`, seconds, `step()` or `range()`";
        let place = self.place();
        match self.token().clone() {
            Token::Number(seconds) | Token::Duration(seconds) => {
                if seconds.is_nan() || seconds > SECONDS_MAX {
                    return Err(Trouble::new(place, "a duration is at most 292 years"));
                }
                self.at += 1;
                Ok(Length::Seconds(Number(seconds)))
            }
            Token::Symbol("(") => {
                self.at += 1;
                let inner = self.length()?;
                self.expect(")", "behind the duration in parentheses")?;
                Ok(inner)
            }
            Token::Word(word) => {
                let op = match &*word.to_ascii_lowercase() {
                    "step" | "range" => None,
                    "min_of" => Some(LengthOp::Min),
                    "max_of" => Some(LengthOp::Max),
                    _ => return Err(self.unexpected(EXPECTED)),
                };
                self.at += 1;
                self.expect("(", "behind the function")?;
                let Some(op) = op else {
                    self.expect(")", "behind `(`")?;
                    return Ok(if word.eq_ignore_ascii_case("step") { Length::Step } else { Length::Range });
                };
                let left = self.length()?;
                self.expect(",", "between the durations")?;
                let right = self.length()?;
                self.expect(")", "behind the durations")?;
                Ok(of(op, left, right))
            }
            _ => Err(self.unexpected(EXPECTED)),
        }
    }
}

/// What is known is reckoned at once.
fn of(op: LengthOp, left: Length, right: Length) -> Length {
    match (&left, &right) {
        (Length::Seconds(Number(left)), Length::Seconds(Number(right))) => {
            Length::Seconds(Number(op.of(*left, *right)))
        }
        _ => Length::Of(op, Box::new(left), Box::new(right)),
    }
}

fn minus(length: Length) -> Length {
    match length {
        Length::Seconds(Number(seconds)) => Length::Seconds(Number(-seconds)),
        other => Length::Minus(Box::new(other)),
    }
}

impl LengthOp {
    /// Of two numbers of seconds.
    pub(crate) fn of(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Add => left + right,
            Self::Sub => left - right,
            Self::Mul => left * right,
            Self::Div => left / right,
            Self::Mod => left % right,
            Self::Pow => left.powf(right),
            Self::Min => left.min(right),
            Self::Max => left.max(right),
        }
    }
}
