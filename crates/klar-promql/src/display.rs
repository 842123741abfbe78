//! Expressions as they are written. What is written is read as the same expression.

use std::fmt;

use klar_tsdb::{Matcher, Op, labels::NAME};

use crate::ast::{
    At, BinaryOp, Bounds, Expr, Kind, Length, LengthOp, Matching, Number, Selector, Shift, Side,
};
use crate::lex::{quoted, written};

impl fmt::Display for Expr {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Number(number) => write!(to, "{number}"),
            Kind::Text(text) => to.write_str(&quoted(text)),
            Kind::Selector(selector) => write!(to, "{}{}", Series(selector), After(selector)),
            Kind::Range { selector, range } => write!(to, "{}[{range}]{}", Series(selector), After(selector)),
            Kind::Subquery(subquery) => {
                write!(to, "{}[{}:", subquery.of, subquery.range)?;
                if let Some(step) = &subquery.step {
                    write!(to, "{step}")?;
                }
                write!(to, "]{}", subquery.shift)
            }
            Kind::Sign { is_minus, of } => write!(to, "{}{of}", if *is_minus { "-" } else { "+" }),
            Kind::Binary(binary) => {
                let bool = if binary.is_bool { " bool" } else { "" };
                let symbol = binary.op.symbol();
                // A sign would be read as one before all of it: it binds less than a power.
                if let (BinaryOp::Pow, Kind::Number(Number(f64::INFINITY))) = (binary.op, &binary.left.kind) {
                    return write!(to, "Inf {symbol}{bool}{} {}", binary.matching, binary.right);
                }
                write!(to, "{} {symbol}{bool}{} {}", binary.left, binary.matching, binary.right)
            }
            Kind::Aggregate(aggregate) => {
                to.write_str(aggregate.op.name())?;
                if aggregate.is_without || !aggregate.labels.is_empty() {
                    let how = if aggregate.is_without { "without" } else { "by" };
                    write!(to, " {how} ({}) ", Names(&aggregate.labels))?;
                }
                match &aggregate.param {
                    Some(param) => write!(to, "({param}, {})", aggregate.of),
                    None => write!(to, "({})", aggregate.of),
                }
            }
            Kind::Call { function, args } => {
                write!(to, "{}(", function.name)?;
                for (place, arg) in args.iter().enumerate() {
                    write!(to, "{}{arg}", if place == 0 { "" } else { ", " })?;
                }
                to.write_str(")")
            }
            Kind::Parens(inner) => write!(to, "({inner})"),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            value if value.is_nan() => to.write_str("NaN"),
            value if value.is_infinite() => to.write_str(if value > 0.0 { "+Inf" } else { "-Inf" }),
            value if value != 0.0 && !(1e-6..1e15).contains(&value.abs()) => write!(to, "{value:e}"),
            value => write!(to, "{value}"),
        }
    }
}

/// The name, if it can stand before the braces, and all other conditions in them.
struct Series<'a>(&'a Selector);

impl fmt::Display for Series<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.matchers.as_slice();
        if let Some((first, others)) = rest.split_first()
            && first.name() == NAME
            && first.op() == Op::Equal
            && is_plain(first.value(), true)
            && !others.iter().any(|other| other.name() == NAME)
        {
            to.write_str(first.value())?;
            rest = others;
            if rest.is_empty() {
                return Ok(());
            }
        }
        to.write_str("{")?;
        for (place, matcher) in rest.iter().enumerate() {
            write!(to, "{}{}", if place == 0 { "" } else { "," }, Condition(matcher))?;
        }
        to.write_str("}")
    }
}

struct Condition<'a>(&'a Matcher);

impl fmt::Display for Condition<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = match self.0.op() {
            Op::Equal => "=",
            Op::NotEqual => "!=",
            Op::Matches => "=~",
            Op::NotMatches => "!~",
        };
        write!(to, "{}{op}{}", name(self.0.name()), quoted(self.0.value()))
    }
}

/// A name as it stands between others: in quotes, if it has to.
fn name(text: &str) -> String {
    if is_plain(text, false) { text.to_owned() } else { quoted(text) }
}

/// Whether a name needs no quotes; that of a metric may have colons, but must be no keyword.
fn is_plain(text: &str, is_metric: bool) -> bool {
    let is_letter = |one: char| one.is_ascii_alphabetic() || one == '_' || (is_metric && one == ':');
    let is_keyword = |word: &str| {
        const KEYWORDS: [&str; 8] =
            ["inf", "nan", "atan2", "bool", "group_left", "group_right", "ignoring", "on"];
        KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(word))
    };
    text.starts_with(is_letter)
        && text.chars().all(|one| is_letter(one) || one.is_ascii_digit())
        && !(is_metric && is_keyword(text))
}

struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, label) in self.0.iter().enumerate() {
            write!(to, "{}{}", if place == 0 { "" } else { ", " }, name(label))?;
        }
        Ok(())
    }
}

/// What stands behind a series or its range.
struct After<'a>(&'a Selector);

impl fmt::Display for After<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self.0.bounds {
            Bounds::Strict => "",
            Bounds::Anchored => " anchored",
            Bounds::Smoothed => " smoothed",
        })?;
        write!(to, "{}", self.0.shift)
    }
}

impl fmt::Display for Shift {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            None => {}
            Some(At::Start) => to.write_str(" @ start()")?,
            Some(At::End) => to.write_str(" @ end()")?,
            Some(At::Time(time)) => {
                let sign = if time < 0 { "-" } else { "" };
                write!(to, " @ {sign}{}.{:03}", time.unsigned_abs() / 1000, time.unsigned_abs() % 1000)?;
            }
        }
        match &self.offset {
            None => Ok(()),
            // More than one operand stands in parentheses.
            Some(offset @ Length::Of(op, ..)) if !matches!(op, LengthOp::Min | LengthOp::Max) => {
                write!(to, " offset ({offset})")
            }
            Some(offset) => write!(to, " offset {offset}"),
        }
    }
}

impl fmt::Display for Length {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds(Number(seconds)) => {
                let milliseconds = seconds.abs() * 1000.0;
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    clippy::cast_precision_loss
                )]
                let whole = milliseconds.round() as u64;
                #[allow(clippy::cast_precision_loss)]
                let is_exact =
                    whole < 1 << 50 && (whole as f64 / 1000.0).to_bits() == seconds.abs().to_bits();
                let sign = if seconds.is_sign_negative() { "-" } else { "" };
                if is_exact {
                    write!(to, "{sign}{}", written(whole))
                } else {
                    write!(to, "{}", Number(*seconds))
                }
            }
            Self::Step => to.write_str("step()"),
            Self::Range => to.write_str("range()"),
            Self::Minus(of) => write!(to, "-({of})"),
            Self::Of(op, left, right) => {
                let symbol = match op {
                    LengthOp::Add => "+",
                    LengthOp::Sub => "-",
                    LengthOp::Mul => "*",
                    LengthOp::Div => "/",
                    LengthOp::Mod => "%",
                    LengthOp::Pow => "^",
                    LengthOp::Min => return write!(to, "min_of({left}, {right})"),
                    LengthOp::Max => return write!(to, "max_of({left}, {right})"),
                };
                write!(to, "({left}) {symbol} ({right})")
            }
        }
    }
}

impl fmt::Display for Matching {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_on || !self.labels.is_empty() || self.side != Side::One {
            write!(to, " {} ({})", if self.is_on { "on" } else { "ignoring" }, Names(&self.labels))?;
        }
        match self.side {
            Side::One => {}
            Side::ManyLeft => write!(to, " group_left ({})", Names(&self.include))?,
            Side::ManyRight => write!(to, " group_right ({})", Names(&self.include))?,
        }
        match (self.fill_left, self.fill_right) {
            (Some(left), Some(right)) if left == right => return write!(to, " fill ({left})"),
            (left, right) => {
                if let Some(left) = left {
                    write!(to, " fill_left ({left})")?;
                }
                if let Some(right) = right {
                    write!(to, " fill_right ({right})")?;
                }
            }
        }
        Ok(())
    }
}
