//! What a run found, for people and for programs: tables, figures one by one, pictures.

pub mod figure;
pub mod plot;
pub mod sample;
pub mod svg;
pub mod table;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Keeps a file beside the output, and tells where: not among the figures, which go to standard output.
pub fn save(directory: &Path, name: &str, content: &str) -> Result<()> {
    let path = directory.join(name);
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(&path, content))
        .with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("{}", path.display());
    Ok(())
}
