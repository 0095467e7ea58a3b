//! Aligned columns of text.

use std::io::{self, Write};

/// A table whose columns are as wide as they must be.
#[derive(Debug)]
pub(crate) struct Table {
    /// Whether the first column is set left, as names are.
    named: bool,
    columns: usize,
    cells: Vec<String>,
}

impl Table {
    /// A table whose columns are all set right.
    pub(crate) fn numbers(headings: &[&str]) -> Self {
        let cells = headings.iter().map(|text| (*text).to_owned()).collect();
        Self { named: false, columns: headings.len(), cells }
    }

    /// A table whose first column is set left.
    pub(crate) fn named(headings: &[&str]) -> Self {
        Self { named: true, ..Self::numbers(headings) }
    }

    /// Appends a row of as many cells as there are headings.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.cells.extend(cells);
        debug_assert_eq!(self.cells.len() % self.columns, 0, "a row has a cell for each heading");
    }

    /// Prints the table and an empty line.
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let width = |column| {
            let cells = self.cells.iter().skip(column).step_by(self.columns);
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns).map(width).collect();
        for row in self.cells.chunks(self.columns) {
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                let gap = if column == 0 { "" } else { "  " };
                if column == 0 && self.named {
                    write!(out, "{cell:<width$}")?;
                } else {
                    write!(out, "{gap}{cell:>width$}")?;
                }
            }
            writeln!(out)?;
        }
        writeln!(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::named(&["a", "long"]);
        table.row([String::from("xyz"), String::from("1 %")]);
        let mut out = Vec::new();
        table.print(&mut out).expect("a vector takes everything");
        assert_eq!(String::from_utf8(out).expect("text"), "a    long\nxyz   1 %\n\n");
    }
}
