//! Columns as docker sets them: each as wide as its widest cell and three spaces, and at least ten.

use crate::failure::Failure;

/// Spaces behind the widest cell.
const GAP: usize = 3;

/// No column is narrower, its spaces counted.
const NARROWEST: usize = 10;

/// Rows of cells under headings.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    /// A table with these headings.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self(vec![headings.iter().map(ToString::to_string).collect()])
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.0.push(cells);
    }

    /// Prints it.
    pub(crate) fn print(&self) -> Result<(), Failure> {
        self.lines().iter().try_for_each(|line| super::line(line))
    }

    fn lines(&self) -> Vec<String> {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.0.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count() + GAP).max().unwrap_or(0).max(NARROWEST)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let mut text = String::new();
            for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
                text.push_str(cell);
                // docker fills every column but the last.
                if index + 1 < columns {
                    let fill = width - cell.chars().count();
                    text.extend(std::iter::repeat_n(' ', fill));
                }
            }
            text
        };
        self.0.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_are_filled() {
        let mut table = Table::new(&["ID", "NAME"]);
        table.row(vec!["abc".to_owned(), "é".to_owned()]);
        assert_eq!(table.lines(), ["ID        NAME", "abc       é"]);
    }
}
