//! What a query says.

use klar_tsdb::Matcher;

use crate::functions::Function;

/// Where in the query something stands, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// Where it begins.
    pub from: usize,
    /// Where it ends.
    pub to: usize,
}

impl Place {
    /// From the beginning of this to the end of the other.
    #[must_use]
    pub(crate) const fn through(self, other: Self) -> Self {
        Self { from: self.from, to: other.to }
    }
}

/// An expression. Two are equal if they say the same, wherever they stand.
#[derive(Debug, Clone)]
pub struct Expr {
    /// What it is.
    pub kind: Kind,
    /// Where it stands.
    pub place: Place,
    /// How many expressions lie in one another, itself included.
    pub(crate) depth: usize,
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

/// What an expression is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// `1.5`
    Number(Number),
    /// `"text"`
    Text(String),
    /// `up{job="api"}`
    Selector(Selector),
    /// `up{job="api"}[5m]`
    Range {
        /// Of which series.
        selector: Selector,
        /// How far back.
        range: Length,
    },
    /// `rate(up[5m])[1h:5m]`
    Subquery(Box<Subquery>),
    /// `-up`, `+up`
    Sign {
        /// Whether it is a minus.
        is_minus: bool,
        /// Of what.
        of: Box<Expr>,
    },
    /// `a + b`
    Binary(Box<Binary>),
    /// `sum by (job) (up)`
    Aggregate(Box<Aggregate>),
    /// `rate(up[5m])`
    Call {
        /// Which function.
        function: &'static Function,
        /// With what.
        args: Vec<Expr>,
    },
    /// `(up)`
    Parens(Box<Expr>),
}

/// A number; one that is none equals itself.
#[derive(Debug, Clone, Copy)]
pub struct Number(pub f64);

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits() || (self.0.is_nan() && other.0.is_nan())
    }
}

/// Of what type the value of an expression is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A number for each time.
    Scalar,
    /// Series with a value for each time.
    Vector,
    /// Series with samples of a range for each time.
    Range,
    /// A text.
    Text,
}

impl Type {
    /// As Prometheus calls it, with an article.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "a scalar",
            Self::Vector => "an instant vector",
            Self::Range => "a range vector",
            Self::Text => "a string",
        }
    }
}

/// Which series, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Selector {
    /// Conditions that a series has to meet, that on its name among them.
    pub matchers: Vec<Matcher>,
    /// At what other time.
    pub shift: Shift,
    /// What is taken of samples outside the range.
    pub bounds: Bounds,
}

/// What is taken of samples outside a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bounds {
    /// Nothing.
    #[default]
    Strict,
    /// `anchored`: the last sample before the range.
    Anchored,
    /// `smoothed`: values between the samples on both sides of each end.
    Smoothed,
}

/// Another time than that of the query.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Shift {
    /// `offset 5m`
    pub offset: Option<Length>,
    /// `@ 1600000000`
    pub at: Option<At>,
}

/// A fixed time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// In milliseconds since 1970.
    Time(i64),
    /// `start()`: the first time of the query.
    Start,
    /// `end()`: its last one.
    End,
}

/// A length of time, which may depend on the step and the range of the query.
#[derive(Debug, Clone, PartialEq)]
pub enum Length {
    /// In seconds.
    Seconds(Number),
    /// `step()`
    Step,
    /// `range()`
    Range,
    /// `-(…)`
    Minus(Box<Length>),
    /// `a + b`
    Of(LengthOp, Box<Length>, Box<Length>),
}

/// How lengths are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LengthOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `^`
    Pow,
    /// `min_of(a, b)`
    Min,
    /// `max_of(a, b)`
    Max,
}

/// `of[range:step]`
#[derive(Debug, Clone, PartialEq)]
pub struct Subquery {
    /// What is asked again and again.
    pub of: Expr,
    /// How far back.
    pub range: Length,
    /// How often; `None`: as often as rules are evaluated by default.
    pub step: Option<Length>,
    /// At what other time.
    pub shift: Shift,
}

/// `left OP right`
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// `bool`: whether a comparison is answered with 0 and 1.
    pub is_bool: bool,
    /// Which series belong together.
    pub matching: Matching,
    /// Left of it.
    pub left: Expr,
    /// Right of it.
    pub right: Expr,
}

/// An operator with two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `^`
    Pow,
    /// `atan2`
    Atan2,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
    /// `</`, for native histograms
    TrimUpper,
    /// `>/`, for native histograms
    TrimLower,
    /// `and`
    And,
    /// `or`
    Or,
    /// `unless`
    Unless,
}

impl BinaryOp {
    /// As it is written.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
        }
    }

    /// Whether it compares.
    #[must_use]
    pub const fn compares(self) -> bool {
        use BinaryOp::{Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual};
        matches!(self, Equal | NotEqual | Less | LessEqual | Greater | GreaterEqual)
    }

    /// Whether it works on sets of series.
    #[must_use]
    pub const fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }

    /// Whether the result is no longer what the name of the metric says.
    #[must_use]
    pub(crate) const fn changes_meaning(self) -> bool {
        use BinaryOp::{Add, Atan2, Div, Mod, Mul, Pow, Sub};
        matches!(self, Add | Sub | Mul | Div | Mod | Pow | Atan2)
    }

    /// How strongly it binds; `^` most.
    #[must_use]
    pub(crate) const fn strength(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            Self::Add | Self::Sub => 4,
            Self::Mul | Self::Div | Self::Mod | Self::Atan2 => 5,
            Self::Pow => 6,
            _ => 3,
        }
    }
}

/// Which series of the two sides belong together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Matching {
    /// `on (…)` rather than `ignoring (…)`.
    pub is_on: bool,
    /// The labels of `on` or `ignoring`.
    pub labels: Vec<String>,
    /// How many series of a side may belong to one of the other.
    pub side: Side,
    /// The labels of `group_left` or `group_right`.
    pub include: Vec<String>,
    /// `fill_left(0)`: the value of a series that the left side does not have.
    pub fill_left: Option<Number>,
    /// `fill_right(0)`: the value of a series that the right side does not have.
    pub fill_right: Option<Number>,
}

/// How many series of a side may belong to one of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Side {
    /// One to one.
    #[default]
    One,
    /// `group_left`: many on the left.
    ManyLeft,
    /// `group_right`: many on the right.
    ManyRight,
}

/// `op by (labels) (param, of)`
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// How.
    pub op: AggregateOp,
    /// `without` rather than `by`.
    pub is_without: bool,
    /// By which labels.
    pub labels: Vec<String>,
    /// For those that take one: how many, which quantile, which label.
    pub param: Option<Expr>,
    /// Of what.
    pub of: Expr,
}

/// How series become fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregateOp {
    /// `sum`
    Sum,
    /// `avg`
    Avg,
    /// `count`
    Count,
    /// `min`
    Min,
    /// `max`
    Max,
    /// `group`
    Group,
    /// `stddev`
    Stddev,
    /// `stdvar`
    Stdvar,
    /// `topk`
    Topk,
    /// `bottomk`
    Bottomk,
    /// `count_values`
    CountValues,
    /// `quantile`
    Quantile,
    /// `limitk`
    Limitk,
    /// `limit_ratio`
    LimitRatio,
}

impl AggregateOp {
    /// All of them with their names.
    pub(crate) const ALL: [(&'static str, Self); 14] = [
        ("sum", Self::Sum),
        ("avg", Self::Avg),
        ("count", Self::Count),
        ("min", Self::Min),
        ("max", Self::Max),
        ("group", Self::Group),
        ("stddev", Self::Stddev),
        ("stdvar", Self::Stdvar),
        ("topk", Self::Topk),
        ("bottomk", Self::Bottomk),
        ("count_values", Self::CountValues),
        ("quantile", Self::Quantile),
        ("limitk", Self::Limitk),
        ("limit_ratio", Self::LimitRatio),
    ];

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, op)| *op == self).map_or("", |(name, _)| name)
    }

    /// Of what type its parameter is; `None`: it takes none.
    #[must_use]
    pub const fn param(self) -> Option<Type> {
        match self {
            Self::Topk | Self::Bottomk | Self::Quantile | Self::Limitk | Self::LimitRatio => {
                Some(Type::Scalar)
            }
            Self::CountValues => Some(Type::Text),
            _ => None,
        }
    }
}

impl Expr {
    /// With its depth counted.
    pub(crate) fn new(kind: Kind, place: Place) -> Self {
        let below = match &kind {
            Kind::Number(_) | Kind::Text(_) | Kind::Selector(_) | Kind::Range { .. } => 0,
            Kind::Subquery(subquery) => subquery.of.depth,
            Kind::Sign { of, .. } | Kind::Parens(of) => of.depth,
            Kind::Binary(binary) => binary.left.depth.max(binary.right.depth),
            Kind::Aggregate(aggregate) => {
                aggregate.of.depth.max(aggregate.param.as_ref().map_or(0, |param| param.depth))
            }
            Kind::Call { args, .. } => args.iter().map(|arg| arg.depth).max().unwrap_or(0),
        };
        Self { kind, place, depth: below + 1 }
    }

    /// Of what type its value is.
    #[must_use]
    pub fn value_type(&self) -> Type {
        match &self.kind {
            Kind::Number(_) => Type::Scalar,
            Kind::Text(_) => Type::Text,
            Kind::Selector(_) | Kind::Aggregate(_) => Type::Vector,
            Kind::Range { .. } | Kind::Subquery(_) => Type::Range,
            Kind::Sign { of, .. } | Kind::Parens(of) => of.value_type(),
            Kind::Binary(binary) => {
                let both = [&binary.left, &binary.right].map(Self::value_type);
                if both == [Type::Scalar; 2] { Type::Scalar } else { Type::Vector }
            }
            Kind::Call { function, .. } => function.gives,
        }
    }

    /// Without parentheses around it.
    #[must_use]
    pub fn bare(&self) -> &Self {
        let mut expr = self;
        while let Kind::Parens(inner) = &expr.kind {
            expr = inner;
        }
        expr
    }
}
