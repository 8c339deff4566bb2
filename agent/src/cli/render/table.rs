//! Columns: as wide as their widest cell, two blanks apart, nothing cut.

use super::{Paint, Tone};
use crate::telemetry::plain;

/// One cell.
pub(super) struct Cell {
    text: String,
    tone: Tone,
    right: bool,
}

impl Cell {
    pub(super) fn new(text: &str) -> Self {
        Self::toned(text, Tone::Plain)
    }
    pub(super) fn right(text: &str) -> Self {
        Self { right: true, ..Self::new(text) }
    }
    pub(super) fn toned(text: &str, tone: Tone) -> Self {
        Self { text: plain(text), tone, right: false }
    }
    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// A table with its header; only the header if there are no rows.
pub(super) fn table(header: &[&str], rows: impl Iterator<Item = Vec<Cell>>, paint: Paint) -> String {
    let rows: Vec<Vec<Cell>> = rows.collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(Cell::width);
        cells.chain(header.get(column).map(|title| title.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let titles = header.iter().enumerate().map(|(column, title)| {
        let right = rows.first().and_then(|row| row.get(column)).is_some_and(|cell| cell.right);
        Cell { text: (*title).to_owned(), tone: Tone::Strong, right }
    });
    let mut text = line(&titles.collect::<Vec<_>>(), &widths, paint);
    for row in &rows {
        text.push_str(&line(row, &widths, paint));
    }
    text
}

fn line(cells: &[Cell], widths: &[usize], paint: Paint) -> String {
    let mut text = String::new();
    let mut pending = 0;
    for (cell, width) in cells.iter().zip(widths) {
        let blank = width.saturating_sub(cell.width());
        let (before, after) = if cell.right { (blank, 0) } else { (0, blank) };
        if !cell.text.is_empty() {
            text.push_str(&" ".repeat(pending + before));
            text.push_str(&paint.paint(cell.tone, &cell.text));
            pending = 0;
        } else {
            pending += before;
        }
        // Blanks at a line's end are never written.
        pending += after + 2;
    }
    text.push('\n');
    text
}
