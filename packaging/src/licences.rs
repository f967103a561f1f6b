//! The licences of what the program is linked from: their authors want them to travel with it.

use std::{collections::BTreeMap, env, ffi::OsString, fs, path::Path, process::Command};

use anyhow::{Context as _, Result};
use serde_json::Value;
use xtask::{
    bpf::toolchain::{self, Version},
    sh,
};

/// Every crate with its licence, and then every text once, with the crates whose folders have it.
pub fn text() -> Result<String> {
    let used = linked()?;
    // Without this it fetches the crates of every platform.
    let platform = Version::of(&toolchain::in_use()?)?.host;
    let said =
        sh::stdout_of(cargo("metadata").args(["--format-version", "1", "--filter-platform", &platform]))?;
    let metadata: Value = serde_json::from_str(&said)?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let mut list = "What fivetuple is linked from, and under which terms. Their texts follow.\n\n".to_owned();
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in packages {
        let field = |name: &str| package[name].as_str().unwrap_or_default();
        let name = format!("{} v{}", field("name"), field("version"));
        // What has no source is of this workspace.
        if !used.contains(&name) || package["source"].is_null() {
            continue;
        }
        list += &format!("{name}: {}\n", field("license"));
        let folder = Path::new(field("manifest_path")).parent().unwrap_or(Path::new("/"));
        for text in licence_files(folder)? {
            texts.entry(text).or_default().push(name.clone());
        }
    }
    for (text, names) in texts {
        list += &format!("\n{}\n{}\n\n{}\n", "=".repeat(78), names.join(", "), text.trim());
    }
    Ok(list)
}

/// Names and versions of the crates in the agent's program, for the platform it is built on.
fn linked() -> Result<Vec<String>> {
    let flags = ["--package", "agent", "--edges", "normal", "--prefix", "none", "--format", "{p}"];
    let tree = sh::stdout_of(cargo("tree").args(flags))?;
    let name = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    Ok(tree.lines().map(name).collect())
}

fn licence_files(folder: &Path) -> Result<Vec<String>> {
    let mut out = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        if ["LICEN", "COPYING", "NOTICE"].iter().any(|word| name.starts_with(word)) && path.is_file() {
            out.push(String::from_utf8_lossy(&fs::read(&path)?).replace("\r\n", "\n"));
        }
    }
    Ok(out)
}

fn cargo(verb: &str) -> Command {
    let mut cmd = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    cmd.current_dir(sh::root()).args([verb, "--locked"]);
    cmd
}
