//! Tables of text, as runc aligns them: columns at least 12 wide, three spaces between them.

const NARROWEST: usize = 12;
const GAP: usize = 3;

/// `rows` with their columns one below the other; the last column is as it is. No line's end at the end.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count() + GAP).max().unwrap_or(0).max(NARROWEST)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let last = row.len().saturating_sub(1);
        let cells = row.iter().zip(&widths).enumerate();
        let padded =
            cells.map(
                |(place, (cell, width))| {
                    if place == last { cell.clone() } else { format!("{cell:<width$}") }
                },
            );
        padded.collect::<String>()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let text = aligned(&[row(["ID", "B", "C"]), row(["0123456789", "x", "y"])]);
        assert_eq!(text, "ID           B           C\n0123456789   x           y");
    }
}
