//! Columns that line up.

use anstyle::Style;

use super::{PLAIN, paint};

/// One field, with the style it is shown in.
#[derive(Debug, Clone)]
pub struct Cell(Style, String);

/// A field in a style.
pub fn cell(style: Style, text: impl Into<String>) -> Cell {
    Cell(style, text.into())
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self(PLAIN, text.into())
    }
}

/// Lines `rows` up, two spaces between columns and nothing behind the last one. Columns named in `right` end where
/// the others begin.
pub fn align(rows: &[Vec<Cell>], right: &[usize], indent: &str) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let widths = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.1.chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        let mut owed = 0;
        for (column, Cell(style, field)) in row.iter().enumerate() {
            let free = widths[column] - field.chars().count();
            let (before, after) = if right.contains(&column) { (free, 0) } else { (0, free) };
            if !field.is_empty() {
                line.push_str(&" ".repeat(owed + before));
                line.push_str(&paint(*style, field));
                owed = 0;
            } else {
                owed += before;
            }
            owed += after + 2;
        }
        text.push_str(&format!("{indent}{line}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_without_trailing_blanks() {
        let rows: Vec<Vec<Cell>> = [["id", "port", "note"], ["api.17", "", ""], ["ø.1", "8080", "æ"]]
            .map(|row| row.map(Cell::from).to_vec())
            .to_vec();
        assert_eq!(align(&rows, &[1], ""), "id      port  note\napi.17\nø.1     8080  æ\n");
    }
}
