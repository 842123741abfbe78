//! Which functions there are, what they take and what they give.

use crate::ast::Type;
use Type::{Range, Scalar, Text, Vector};

/// A function of the language.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// What it takes; the last one again and again, if it takes more.
    pub takes: &'static [Type],
    /// With how many it is content.
    pub min: usize,
    /// With how many it is full.
    pub max: usize,
    /// What it gives.
    pub gives: Type,
}

const fn function(name: &'static str, takes: &'static [Type], gives: Type) -> Function {
    Function { name, takes, min: takes.len(), max: takes.len(), gives }
}

const fn from_to(name: &'static str, takes: &'static [Type], min: usize, max: usize) -> Function {
    Function { name, takes, min, max, gives: Vector }
}

/// No end to the arguments but that of the query.
const ENDLESS: usize = usize::MAX;

/// All functions, sorted by name.
pub static FUNCTIONS: &[Function] = &[
    function("abs", &[Vector], Vector),
    function("absent", &[Vector], Vector),
    function("absent_over_time", &[Range], Vector),
    function("acos", &[Vector], Vector),
    function("acosh", &[Vector], Vector),
    function("asin", &[Vector], Vector),
    function("asinh", &[Vector], Vector),
    function("atan", &[Vector], Vector),
    function("atanh", &[Vector], Vector),
    function("avg_over_time", &[Range], Vector),
    function("ceil", &[Vector], Vector),
    function("changes", &[Range], Vector),
    function("clamp", &[Vector, Scalar, Scalar], Vector),
    function("clamp_max", &[Vector, Scalar], Vector),
    function("clamp_min", &[Vector, Scalar], Vector),
    function("cos", &[Vector], Vector),
    function("cosh", &[Vector], Vector),
    function("count_over_time", &[Range], Vector),
    from_to("day_of_month", &[Vector], 0, 1),
    from_to("day_of_week", &[Vector], 0, 1),
    from_to("day_of_year", &[Vector], 0, 1),
    from_to("days_in_month", &[Vector], 0, 1),
    function("deg", &[Vector], Vector),
    function("delta", &[Range], Vector),
    function("deriv", &[Range], Vector),
    function("double_exponential_smoothing", &[Range, Scalar, Scalar], Vector),
    function("end", &[], Scalar),
    function("exp", &[Vector], Vector),
    function("first_over_time", &[Range], Vector),
    function("floor", &[Vector], Vector),
    function("histogram_avg", &[Vector], Vector),
    function("histogram_count", &[Vector], Vector),
    function("histogram_fraction", &[Scalar, Scalar, Vector], Vector),
    function("histogram_quantile", &[Scalar, Vector], Vector),
    from_to("histogram_quantiles", &[Vector, Text, Scalar], 3, 12),
    function("histogram_stddev", &[Vector], Vector),
    function("histogram_stdvar", &[Vector], Vector),
    function("histogram_sum", &[Vector], Vector),
    from_to("hour", &[Vector], 0, 1),
    function("idelta", &[Range], Vector),
    function("increase", &[Range], Vector),
    from_to("info", &[Vector, Vector], 1, 2),
    function("irate", &[Range], Vector),
    from_to("label_join", &[Vector, Text, Text, Text], 3, ENDLESS),
    function("label_replace", &[Vector, Text, Text, Text, Text], Vector),
    function("last_over_time", &[Range], Vector),
    function("ln", &[Vector], Vector),
    function("log10", &[Vector], Vector),
    function("log2", &[Vector], Vector),
    function("mad_over_time", &[Range], Vector),
    function("max_of", &[Scalar, Scalar], Scalar),
    function("max_over_time", &[Range], Vector),
    function("min_of", &[Scalar, Scalar], Scalar),
    function("min_over_time", &[Range], Vector),
    from_to("minute", &[Vector], 0, 1),
    from_to("month", &[Vector], 0, 1),
    function("pi", &[], Scalar),
    function("predict_linear", &[Range, Scalar], Vector),
    function("present_over_time", &[Range], Vector),
    function("quantile_over_time", &[Scalar, Range], Vector),
    function("rad", &[Vector], Vector),
    function("range", &[], Scalar),
    function("rate", &[Range], Vector),
    function("resets", &[Range], Vector),
    from_to("round", &[Vector, Scalar], 1, 2),
    function("scalar", &[Vector], Scalar),
    function("sgn", &[Vector], Vector),
    function("sin", &[Vector], Vector),
    function("sinh", &[Vector], Vector),
    function("sort", &[Vector], Vector),
    from_to("sort_by_label", &[Vector, Text], 1, ENDLESS),
    from_to("sort_by_label_desc", &[Vector, Text], 1, ENDLESS),
    function("sort_desc", &[Vector], Vector),
    function("sqrt", &[Vector], Vector),
    function("start", &[], Scalar),
    function("stddev_over_time", &[Range], Vector),
    function("stdvar_over_time", &[Range], Vector),
    function("step", &[], Scalar),
    function("sum_over_time", &[Range], Vector),
    function("tan", &[Vector], Vector),
    function("tanh", &[Vector], Vector),
    function("time", &[], Scalar),
    function("timestamp", &[Vector], Vector),
    function("ts_of_first_over_time", &[Range], Vector),
    function("ts_of_last_over_time", &[Range], Vector),
    function("ts_of_max_over_time", &[Range], Vector),
    function("ts_of_min_over_time", &[Range], Vector),
    function("vector", &[Scalar], Vector),
    from_to("year", &[Vector], 0, 1),
];

/// The function of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Function> {
    let place = FUNCTIONS.binary_search_by(|function| function.name.cmp(name)).ok()?;
    FUNCTIONS.get(place)
}

impl Function {
    /// Of what type an argument has to be.
    pub(crate) fn takes_at(&self, place: usize) -> Option<Type> {
        self.takes.get(place).or(self.takes.last()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_sorted_and_each_is_found() {
        assert!(FUNCTIONS.windows(2).all(|pair| pair[0].name < pair[1].name));
        for function in FUNCTIONS {
            assert_eq!(find(function.name), Some(function));
        }
        assert_eq!(find("Rate"), None);
    }
}
