//! Links of the pages, README.md and docs/: what they lead to must be there.
//!
//! A link to a Rust file names the file, or something in it: a function or a case of a table of tests. So no page can speak
//! of a test that is gone. Where a table has a last column `tests`, each of its rows names one.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// What is wrong in any page.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut out = Vec::new();
    for page in pages(root)? {
        let text = fs::read_to_string(root.join(&page)).with_context(|| page.display().to_string())?;
        let base = root.join(page.parent().unwrap_or(Path::new("")));
        let found = findings(&text, |target| fs::read_to_string(base.join(target)).ok());
        out.extend(found.into_iter().map(|(line, what)| format!("{}:{line}: {what}", page.display())));
    }
    Ok(out)
}

/// Below the root.
fn pages(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut out = BTreeSet::from([PathBuf::from("README.md")]);
    for entry in fs::read_dir(root.join("docs")).context("docs")? {
        let name = entry?.file_name();
        if Path::new(&name).extension().is_some_and(|ext| ext == "md") {
            out.insert(Path::new("docs").join(name));
        }
    }
    Ok(out)
}

/// What is wrong with the links of a page, by line; `read` gives the file that a link leads to.
fn findings(page: &str, read: impl Fn(&str) -> Option<String>) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    let (mut fenced, mut names_tests) = (false, false);
    for (at, line) in (1..).zip(page.lines()) {
        fenced ^= line.starts_with("```");
        if fenced {
            continue;
        }
        let links = links(line);
        for (text, target) in &links {
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let target = target.split('#').next().unwrap_or_default();
            match read(target) {
                None => out.push((at, format!("there is no {target}"))),
                Some(source) if target.ends_with(".rs") && !is_in(text, target, &source) => {
                    out.push((at, format!("{target} has neither a function nor a case {text:?}")));
                }
                Some(_) => {}
            }
        }
        let cells: Vec<&str> = line.trim().split('|').map(str::trim).collect();
        let last = if cells.len() > 2 { cells[cells.len() - 2] } else { "" };
        if cells.len() <= 2 {
            names_tests = false;
        } else if last == "tests" {
            names_tests = true;
        } else if names_tests && !last.starts_with("---") && !last.contains(".rs)") {
            out.push((at, "no test in the column of tests".to_owned()));
        }
    }
    out
}

/// Text and target of each `[text](target)`.
fn links(line: &str) -> Vec<(&str, &str)> {
    let link = |(at, _): (usize, &str)| {
        let text = line[..at].rsplit_once('[')?.1;
        let target = line[at + 2..].split_once(')')?.0;
        Some((text, target))
    };
    line.match_indices("](").filter_map(link).collect()
}

fn is_in(text: &str, target: &str, source: &str) -> bool {
    let text = text.trim_matches('`');
    target.ends_with(text)
        || source.contains(&format!("fn {text}("))
        || source.contains(&format!("name: \"{text}\","))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of the lines with findings; there is one file to lead to.
    fn lines(page: &str) -> Vec<usize> {
        let source = "fn told() {}\nCase { name: \"a case\", },\n";
        let read = |target: &str| (target == "../t/a.rs").then(|| source.to_owned());
        findings(page, read).into_iter().map(|(at, _)| at).collect()
    }

    #[test]
    fn a_link_to_a_source_names_something_in_it() {
        assert_eq!(lines("[told](../t/a.rs), [a case](../t/a.rs), [`a.rs`](../t/a.rs#L1)"), [0; 0]);
        assert_eq!(lines("\n[tol](../t/a.rs)\n[a cas](../t/a.rs)"), [2, 3]);
    }

    #[test]
    fn what_a_link_leads_to_is_there() {
        assert_eq!(
            lines("[gone](gone.md) [a](https://example.net/b) [c](#d)\n```\n[gone](gone.md)\n```"),
            [1]
        );
    }

    #[test]
    fn each_row_of_a_table_with_tests_names_one() {
        let table = "| what | tests |\n|---|---|\n| one | [told](../t/a.rs) |\n| two | |\n\n| a | b |\n|---|---|\n| c | |";
        assert_eq!(lines(table), [4]);
    }
}
