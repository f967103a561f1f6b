//! The benchmark's folder: which captures there are, and the reference for each.
//!
//! | below | reference | says |
//! |---|---|---|
//! | `generated/*/` | `?.truth.jsonl.gz` | what the kernels did; the letter is the place: client, middle, server |
//! | `oracle/` | `**.oracle.jsonl.gz` | what tshark says of the capture of the same path |
//! | `deepflow/` | `*.deepflow.jsonl` | what DeepFlow's own tests expect |
//! | `formats/` | `v4` and `v6.truth.jsonl.gz` | the same packets in many link types and file formats |

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// Whose word is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// DeepFlow's tests.
    Deepflow,
    /// The same packets in other wrappings.
    Formats,
    /// tshark.
    Public,
    /// The kernels.
    Truth,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deepflow => "deepflow",
            Self::Formats => "formats",
            Self::Public => "public",
            Self::Truth => "truth",
        })
    }
}

/// A capture and its reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Whose word the reference is.
    pub kind: Kind,
    /// The capture's path below the folder.
    pub name: String,
    /// The capture.
    pub capture: PathBuf,
    /// What is true of it.
    pub reference: PathBuf,
}

/// Every capture of the folder that has a reference.
pub fn cases(root: &Path) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for reference in files(&root.join("generated"))? {
        if let Some(place) = named(&reference).strip_suffix(".truth.jsonl.gz").filter(|p| p.len() == 1) {
            let capture = reference.with_file_name(format!("{place}.pcap.gz"));
            cases.push(case(root, Kind::Truth, capture, reference));
        }
    }
    let oracle = root.join("oracle");
    for reference in files(&oracle)? {
        let below = reference.strip_prefix(&oracle).unwrap_or(&reference).to_string_lossy().into_owned();
        if let Some(path) = below.strip_suffix(".oracle.jsonl.gz") {
            cases.push(case(root, Kind::Public, root.join(path), reference));
        }
    }
    let theirs = files(&root.join("public/deepflowio+deepflow"))?;
    for reference in files(&root.join("deepflow"))? {
        let Some(name) = named(&reference).strip_suffix(".deepflow.jsonl").map(str::to_owned) else {
            continue;
        };
        if let Some(capture) = theirs.iter().find(|path| named(path) == name) {
            cases.push(case(root, Kind::Deepflow, capture.clone(), reference));
        }
    }
    for capture in files(&root.join("formats"))? {
        let name = named(&capture).to_owned();
        // Tunnelled packets are not judged.
        if name.starts_with('v') && name.contains(".pcap") && !name.contains("_tunnel_") {
            let reference = capture.with_file_name(format!("{}.truth.jsonl.gz", &name[..2]));
            cases.push(case(root, Kind::Formats, capture, reference));
        }
    }
    if cases.is_empty() {
        bail!(
            "no capture with a reference below {}: it has to have generated/, oracle/, deepflow/ or formats/ in it",
            root.display()
        );
    }
    for Case { name, capture, reference, .. } in &cases {
        if !capture.is_file() {
            bail!("{}: its capture {name} is not there", reference.display());
        }
    }
    Ok(cases)
}

fn case(root: &Path, kind: Kind, capture: PathBuf, reference: PathBuf) -> Case {
    let name = capture.strip_prefix(root).unwrap_or(&capture).to_string_lossy().into_owned();
    Case { kind, name, capture, reference }
}

fn named(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// All files below a directory, sorted; none if it is not there.
pub fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !directory.is_dir() {
        return Ok(found);
    }
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
