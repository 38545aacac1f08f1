//! Columns of text. Cells are made harmless here, so that no label or message from elsewhere can steer a terminal.

use crate::terminal::{Palette, harmless};
use console::measure_text_width;

/// A cell is cut at this width.
const MAX_CELL_WIDTH: usize = 120;

/// How a column's cells are painted.
#[derive(Clone, Copy)]
pub enum Kind {
    Text,
    State,
}

/// Rows under a heading.
pub fn table(columns: &[(&str, Kind)], rows: &[Vec<String>], palette: Palette) -> String {
    let cells: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| fit(cell)).collect()).collect();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(index, (heading, _))| {
            let widest = cells.iter().filter_map(|row| row.get(index)).map(|cell| measure_text_width(cell)).max();
            widest.unwrap_or(0).max(heading.len())
        })
        .collect();
    let last = columns.len().saturating_sub(1);
    let pad = |text: &str, width: usize, index: usize| {
        let gap = if index == last { 0 } else { width.saturating_sub(measure_text_width(text)) + 2 };
        " ".repeat(gap)
    };
    let mut text = String::new();
    for (index, (heading, _)) in columns.iter().enumerate() {
        text.push_str(&palette.dim(heading));
        text.push_str(&pad(heading, widths[index], index));
    }
    for row in &cells {
        text.push('\n');
        for (index, cell) in row.iter().enumerate().take(columns.len()) {
            match columns[index].1 {
                Kind::Text => text.push_str(cell),
                Kind::State => text.push_str(&palette.state(cell)),
            }
            text.push_str(&pad(cell, widths[index], index));
        }
    }
    text.split('\n').map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Names and values, one a line; an empty value leaves its line out.
pub fn facts(facts: &[(&str, String)], palette: Palette) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = facts
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| {
            let shown = harmless(value);
            let shown = if *name == "state" { palette.state(&shown) } else { shown };
            format!("{}{}  {shown}", palette.dim(name), " ".repeat(width - name.len()))
        })
        .collect();
    lines.join("\n")
}

fn fit(cell: &str) -> String {
    let cell = harmless(cell);
    if measure_text_width(&cell) <= MAX_CELL_WIDTH {
        return cell;
    }
    console::truncate_str(&cell, MAX_CELL_WIDTH, "…").into_owned()
}

/// A number of bytes as people read it.
pub fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_cells_harmless() {
        let rows = vec![
            vec!["a".to_owned(), "failed".to_owned(), "x\x1b[2J".to_owned()],
            vec!["日本".to_owned(), "ok".to_owned(), String::new()],
        ];
        let shown = table(&[("ID", Kind::Text), ("STATE", Kind::State), ("NOTE", Kind::Text)], &rows, Palette::none());
        assert_eq!(shown, "ID    STATE   NOTE\na     failed  x\n日本  ok");
    }

    #[test]
    fn a_wide_cell_is_cut() {
        let shown = table(&[("A", Kind::Text)], &[vec!["x".repeat(500)]], Palette::none());
        assert_eq!(shown.lines().nth(1).unwrap().chars().count(), MAX_CELL_WIDTH);
    }

    #[test]
    fn facts_without_a_value_are_left_out() {
        let shown =
            facts(&[("id", "7".into()), ("reason", String::new()), ("state", "queued".into())], Palette::none());
        assert_eq!(shown, "id      7\nstate   queued");
    }
}
