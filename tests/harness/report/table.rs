//! Columns of text.

/// Rows with their columns lined up: the first two to the left, numbers to the right.
pub fn lines(head: &[&str], rows: &[Vec<String>]) -> String {
    let cells = |at: usize| rows.iter().filter_map(move |row| row.get(at));
    let width = |at: usize| cells(at).map(|c| c.chars().count()).chain([head[at].len()]).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut out = String::new();
    let head: Vec<String> = head.iter().map(|word| (*word).to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = if at == 0 { "" } else { "  " };
            line += &if at < 2 { format!("{gap}{cell:width$}") } else { format!("{gap}{cell:>width$}") };
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![
            vec!["a".into(), "xdp".into(), "7.5".into()],
            vec!["long".into(), "tc".into(), "120.0".into()],
        ];
        let want = "case  at      ns\na     xdp    7.5\nlong  tc   120.0\n";
        assert_eq!(lines(&["case", "at", "ns"], &rows), want);
    }
}
