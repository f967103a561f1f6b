//! The nearest known word to one that is not known, for "did you mean".

/// The candidate fewest edits away from `word`, where that is few enough to be a slip.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|c| (distance(word, c), c))
        .min_by_key(|(d, _)| *d)
        .filter(|(d, c)| *d <= 1 + word.len().max(c.len()) / 3)
        .map(|(_, c)| c)
}

/// Levenshtein distance in bytes, swaps of neighbours counted as two edits.
fn distance(a: &str, b: &str) -> usize {
    let b = b.as_bytes();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replace = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_nonsense_finds_none() {
        let keys = ["interfaces", "services", "limits", "tables"];
        assert_eq!(nearest("interface", keys), Some("interfaces"));
        assert_eq!(nearest("serivces", keys), Some("services"));
        assert_eq!(nearest("table", keys), Some("tables"));
        assert_eq!(nearest("webserver", keys), None);
        assert_eq!(nearest("x", []), None);
    }
}
