//! Whether everything is of the type that it has to be.

use super::Trouble;
use crate::ast::{Aggregate, Binary, Expr, Kind, Matching, Selector, Type};
use crate::functions::Function;

/// Checks an expression and all in it.
pub(super) fn check(expr: &Expr) -> Result<(), Trouble> {
    match &expr.kind {
        Kind::Number(_) | Kind::Text(_) => Ok(()),
        Kind::Selector(selector) | Kind::Range { selector, .. } => selects_something(selector, expr),
        Kind::Subquery(subquery) => {
            expect(&subquery.of, Type::Vector, "a subquery asks")?;
            check(&subquery.of)
        }
        Kind::Sign { of, .. } => {
            if !matches!(of.value_type(), Type::Scalar | Type::Vector) {
                let what = format!("a sign stands before a scalar or an instant vector, not {}", named(of));
                return Err(Trouble::new(of.place, what));
            }
            check(of)
        }
        Kind::Binary(binary) => operands(binary),
        Kind::Aggregate(aggregate) => aggregated(aggregate),
        Kind::Call { function, args } => arguments(function, args, expr),
        Kind::Parens(inner) => check(inner),
    }
}

fn named(expr: &Expr) -> &'static str {
    expr.value_type().name()
}

fn expect(expr: &Expr, wanted: Type, who: &str) -> Result<(), Trouble> {
    if expr.value_type() == wanted {
        return Ok(());
    }
    let what = format!("{who} for {}, found {}{}", wanted.name(), named(expr), way_out(expr, wanted));
    Err(Trouble::new(expr.place, what))
}

/// What to write to get from one type to another.
fn way_out(expr: &Expr, wanted: Type) -> &'static str {
    match (expr.value_type(), wanted) {
        (Type::Vector, Type::Range) if matches!(expr.kind, Kind::Selector(_)) => {
            "; write a range behind it: `[5m]`"
        }
        (Type::Vector, Type::Range) => "; write `[5m:]` behind it for a subquery",
        (Type::Range, Type::Vector) => {
            "; put it in a function of ranges such as `rate(…)`, or remove the range"
        }
        (Type::Scalar, Type::Vector) => "; write `vector(…)` around it",
        (Type::Vector, Type::Scalar) => "; write `scalar(…)` around it",
        (_, Type::Text) => "; write it in quotes",
        _ => "",
    }
}

fn selects_something(selector: &Selector, expr: &Expr) -> Result<(), Trouble> {
    if selector.matchers.iter().all(klar_tsdb::Matcher::takes_none) {
        let what =
            "this would take every series; add a name or a condition that an empty value does not meet";
        return Err(Trouble::new(expr.place, what));
    }
    Ok(())
}

fn operands(binary: &Binary) -> Result<(), Trouble> {
    let symbol = binary.op.symbol();
    for side in [&binary.left, &binary.right] {
        if !matches!(side.value_type(), Type::Scalar | Type::Vector) {
            let what = format!("`{symbol}` takes scalars and instant vectors, found {}{}", named(side), {
                way_out(side, Type::Vector)
            });
            return Err(Trouble::new(side.place, what));
        }
    }
    let both = [binary.left.value_type(), binary.right.value_type()];
    let place = binary.left.place.through(binary.right.place);
    if both == [Type::Scalar; 2] && binary.op.compares() && !binary.is_bool {
        let what = format!("two scalars are compared with `{symbol} bool`; add it");
        return Err(Trouble::new(place, what));
    }
    if both.contains(&Type::Scalar) {
        if binary.op.is_set() {
            let scalar = if both[0] == Type::Scalar { &binary.left } else { &binary.right };
            return expect(scalar, Type::Vector, &format!("`{symbol}` asks"));
        }
        if binary.matching != Matching::default() {
            let what =
                "series are matched only between instant vectors; remove what stands behind the operator";
            return Err(Trouble::new(place, what));
        }
    }
    check(&binary.left)?;
    check(&binary.right)
}

fn aggregated(aggregate: &Aggregate) -> Result<(), Trouble> {
    let who = format!("`{}` asks", aggregate.op.name());
    expect(&aggregate.of, Type::Vector, &who)?;
    if let (Some(param), Some(wanted)) = (&aggregate.param, aggregate.op.param()) {
        expect(param, wanted, &who)?;
        if let Kind::Text(label) = &param.bare().kind
            && label.is_empty()
        {
            return Err(Trouble::new(param.place, "the name of the label is empty"));
        }
        check(param)?;
    }
    check(&aggregate.of)
}

fn arguments(function: &Function, args: &[Expr], expr: &Expr) -> Result<(), Trouble> {
    let Function { name, min, max, .. } = function;
    if args.len() < *min || args.len() > *max {
        let wanted = match (min, max) {
            (min, max) if min == max => min.to_string(),
            (min, &usize::MAX) => format!("at least {min}"),
            (min, max) => format!("{min} to {max}"),
        };
        let what = format!("`{name}` takes {wanted} argument(s), found {}", args.len());
        return Err(Trouble::new(expr.place, what));
    }
    for (place, arg) in args.iter().enumerate() {
        if let Some(wanted) = function.takes_at(place) {
            expect(arg, wanted, &format!("argument {} of `{name}` asks", place + 1))?;
        }
        if *name == "info" && place == 1 {
            let Kind::Selector(_) = &arg.bare().kind else {
                let what = "argument 2 of `info` asks for conditions on labels; write `{label=~\".+\"}`";
                return Err(Trouble::new(arg.place, what));
            };
        } else {
            check(arg)?;
        }
    }
    Ok(())
}
