//! The parts of README.md that follow from tables in the code.
//!
//! Such a part stands between `<!-- generated:NAME -->` and `<!-- end:NAME -->`; [`SECTIONS`] has a generator for
//! each name. `cargo xtask tidy` fails when the text there is not what its generator says; `--fix` rewrites it.

use std::{fs, io, path::Path};

use anyhow::{Context as _, Result, bail};

use crate::tables;

/// One generated part of the README.
pub struct Section {
    /// The name in its markers.
    pub name: &'static str,
    /// What stands between them, as whole lines.
    pub text: fn() -> String,
}

/// Every generated section. Each must have its place in the README.
pub const SECTIONS: &[Section] = &[
    Section { name: "anomalies", text: tables::anomalies },
    Section { name: "traffic", text: tables::traffic },
    Section { name: "labels", text: tables::labels },
    Section { name: "health", text: tables::health },
];

/// Is every section what its generator says? With `fix`, makes it so.
pub fn check(root: &Path, fix: bool) -> Result<()> {
    let path = root.join("README.md");
    let old = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(err) if err.kind() == io::ErrorKind::NotFound && SECTIONS.is_empty() => return Ok(()),
        Err(err) => return Err(err).context("README.md"),
    };
    let new = regenerate(&old, SECTIONS)?;
    if new == old {
        return Ok(());
    }
    if fix {
        return fs::write(&path, new).context("README.md");
    }
    let line = old.lines().zip(new.lines()).take_while(|(a, b)| a == b).count() + 1;
    bail!("README.md:{line}: not what the code says: run `cargo xtask tidy --fix`")
}

/// The README with every generated section replaced.
fn regenerate(readme: &str, sections: &[Section]) -> Result<String> {
    let mut out = String::new();
    let mut seen = Vec::new();
    let mut lines = readme.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        out += line;
        out.push('\n');
        let Some(name) = marker(line, "generated:") else { continue };
        let at = at + 1;
        let Some(section) = sections.iter().find(|s| s.name == name) else {
            bail!("README.md:{at}: nothing generates the section {name:?}");
        };
        if seen.contains(&name) {
            bail!("README.md:{at}: the section {name:?} is there twice");
        }
        let Some((_, end)) = lines.by_ref().find(|(_, l)| marker(l, "end:") == Some(name)) else {
            bail!("README.md:{at}: the section {name:?} has no end marker");
        };
        seen.push(name);
        out += &format!("{}\n{end}\n", (section.text)().trim_end());
    }
    if let Some(lost) = sections.iter().find(|s| !seen.contains(&s.name)) {
        bail!("README.md: no place for the generated section {:?}", lost.name);
    }
    Ok(out)
}

fn marker<'a>(line: &'a str, kind: &str) -> Option<&'a str> {
    line.trim().strip_prefix("<!--")?.strip_suffix("-->")?.trim().strip_prefix(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &[Section] = &[Section { name: "list", text: || "- one\n- two\n".to_owned() }];
    const FRESH: &str = "# Title\n<!-- generated:list -->\n- one\n- two\n<!-- end:list -->\nbye\n";

    #[test]
    fn stale_text_is_replaced_and_fresh_text_is_left() {
        assert_eq!(regenerate(&FRESH.replace("- one\n", "- zero\n- old\n"), LIST).unwrap(), FRESH);
        assert_eq!(regenerate(FRESH, LIST).unwrap(), FRESH);
    }

    #[test]
    fn broken_markers_are_named_with_their_line() {
        let err = |readme: &str| regenerate(readme, LIST).unwrap_err().to_string();
        assert!(err(&FRESH.replace("generated:list", "generated:lost")).contains("README.md:2: nothing"));
        assert!(
            err(&FRESH.replace("end:list", "end:other"))
                .contains("README.md:2: the section \"list\" has no end")
        );
        assert!(err("# Title\n").contains("no place for the generated section \"list\""));
        assert!(err(&format!("{FRESH}{FRESH}")).contains("twice"));
    }
}
