//! Texts that stand in the rules.

use super::{Compiler, place};
use crate::bytes::Presence;
use crate::program::{Cell, NONE};

impl Compiler<'_> {
    /// The cell of a text; it is the same in the memory of each request.
    pub(super) fn constant(&mut self, text: &[u8]) -> u32 {
        if let Some(known) = self.constants.get(text) {
            return *known;
        }
        let cell = Cell {
            start: place(self.program.constants.len()),
            len: place(text.len()),
            row: NONE,
            presence: Some(Presence::of(text)),
        };
        self.program.constants.extend_from_slice(text);
        self.program.constant_cells.push(cell);
        let at = place(self.program.constant_cells.len() - 1);
        self.constants.insert(text.into(), at);
        at
    }
}
