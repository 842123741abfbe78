//! `info`: labels of series about other series, such as `target_info`.

use super::rows::{Grid, Row};
use super::Evaluator;
use crate::ast::Expr;
use crate::error::EvalError;

impl Evaluator<'_> {
    #[allow(clippy::unused_self)] // it will select
    pub(super) fn info(&mut self, _args: &[Expr], _grid: Grid) -> Result<Vec<Row>, EvalError> {
        Err(EvalError::meaningless("`info` is not answered yet; join with `* on (job, instance) group_left (…)`"))
    }
}
