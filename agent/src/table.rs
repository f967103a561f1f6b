//! Tables of reports: aligned, without colours or lines.

use comfy_table::{CellAlignment, Table, presets};

/// A table below its title, none where it has no rows; columns that `numbers` picks stand to the right.
pub fn table(
    title: &str,
    header: &[String],
    rows: Vec<Vec<String>>,
    numbers: impl Fn(usize) -> bool,
) -> Option<String> {
    if rows.is_empty() {
        return None;
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    for index in (0..header.len()).filter(|i| numbers(*i)) {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.add_rows(rows);
    let lines = table.to_string();
    let lines: Vec<&str> = lines.lines().map(str::trim_end).collect();
    Some(format!("{title}\n{}\n", lines.join("\n")))
}

/// A header of fixed words.
pub fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}
