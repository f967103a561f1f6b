//! Parts of the Rust toolchain that rustup adds.

use std::process::Command;

use anyhow::{Context as _, Result};
use xtask::sh;

use crate::cargo;

/// cargo subcommands that the checks call, with the component that has each.
const COMPONENTS: &[(&str, &str)] = &[("clippy", "clippy"), ("fmt", "rustfmt")];

/// Components of the toolchain in use that the checks need and that are not there.
pub fn missing_components() -> Vec<&'static str> {
    let works = |verb| sh::stdout_of(cargo::command(verb).arg("--version")).is_ok();
    COMPONENTS.iter().filter(|(verb, _)| !works(verb)).map(|(_, component)| *component).collect()
}

/// Adds components to the toolchain in use.
pub fn add(components: &[&str]) -> Result<()> {
    if components.is_empty() {
        return Ok(());
    }
    sh::run(Command::new("rustup").args(["component", "add"]).args(components)).with_context(|| {
        format!(
            "rustup could not add {}; another toolchain has them in packages of its own",
            components.join(", ")
        )
    })
}
