//! `tidy`: the house rules that a machine can check.
//!
//! [`rules::RULES`] is the list; each rule reads one source file and says what is wrong in which line. Pages are held to
//! what they link to ([`links`]).

mod links;
mod rules;
mod source;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use xtask::sh;

use self::source::Source;
use crate::{readme, unknown_argument};

/// Checks, or rewrites what can be rewritten.
pub fn verb(args: &[String]) -> Result<()> {
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => check(),
        ["--fix"] => {
            readme::check(sh::root(), true)?;
            check()
        }
        ["--fix", arg, ..] | [arg, ..] => Err(unknown_argument("tidy", arg)),
    }
}

/// Applies every rule to every source file, and prints all findings before it fails.
pub fn check() -> Result<()> {
    let root = sh::root();
    let (mut files, mut code, mut findings) = (0, 0, 0);
    for path in sources(root)? {
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).with_context(|| name.clone())?;
        let source = Source::new(name, &text);
        files += 1;
        code += source.code_lines();
        if let Some(note) = rules::note(&source) {
            println!("{}: note: {note}", source.name);
        }
        for (line, reason) in rules::RULES.iter().flat_map(|rule| rule(&source)) {
            println!("{}:{line}: {reason}", source.name);
            findings += 1;
        }
    }
    for finding in links::check(root)? {
        println!("{finding}");
        findings += 1;
    }
    if let Err(err) = readme::check(root, false) {
        println!("{err:#}");
        findings += 1;
    }
    if findings > 0 {
        bail!("tidy: {findings} broken house rules");
    }
    println!("tidy: {files} files, {} lines of code each on average", code / files.max(1));
    Ok(())
}

/// Every Rust file of the workspace, in order.
fn sources(root: &Path) -> Result<Vec<PathBuf>> {
    let (mut out, mut dirs) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    dirs.push(entry.path());
                }
            } else if name.ends_with(".rs") {
                out.push(entry.path());
            }
        }
    }
    out.sort();
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_file_is_seen_and_nothing_that_was_built() {
        let root = sh::root();
        let found = sources(root).unwrap();
        assert!(found.contains(&root.join("xtask/src/tidy/mod.rs")));
        assert!(found.iter().all(|p| !p.starts_with(root.join("target"))));
    }
}
