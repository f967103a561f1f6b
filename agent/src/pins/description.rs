//! What the tables of a generation are about: numbers in them belong to names, and the names are here.

use crate::{config::Interface, sys::cell::Cell};
use agent_ebpf::layout;
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};

/// Name of its pin. A generation without it was never finished.
const NAME: &str = "DESCRIPTION";

/// A point, and the interface that it was last; both empty where a number is none's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Its name.
    pub name: String,
    /// The interface's.
    pub interface: String,
}

impl Point {
    /// Of an interface that is watched.
    pub fn of(interface: &Interface) -> Self {
        Self { name: interface.point.clone(), interface: interface.name.clone() }
    }
}

/// What the tables of a generation are about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// [`layout::VERSION`] of the agent that made them.
    pub layout: u32,
    /// That agent's version.
    pub agent: String,
    /// Cookie of its network namespace; 0 where the kernel has none.
    pub namespace: u64,
    /// The points, by their numbers.
    pub points: Vec<Point>,
    /// The services, by their numbers.
    pub services: Vec<String>,
    /// Services that the totals have room for.
    pub room: u32,
    /// Entries that each table has room for.
    pub tables: BTreeMap<String, u32>,
}

impl Description {
    /// That of the generation in a directory; `None` where it was never finished.
    pub fn read(generation: &Path) -> Result<Option<Self>> {
        let path = generation.join(NAME);
        let failed = || {
            format!(
                "{} is no description of fivetuple's tables; `fivetuple detach` removes it, and the tables",
                path.display()
            )
        };
        let Some(cell) = Cell::pinned(&path).with_context(failed)? else { return Ok(None) };
        let text = cell.get().with_context(failed)?;
        // Another layout may describe itself by other fields: its version is read first, and alone.
        let described: Versions = serde_json::from_slice(&text).with_context(failed)?;
        described.check(generation)?;
        serde_json::from_slice(&text).map(Some).with_context(failed)
    }

    /// Pin it in a directory of tables, in the place of the one before.
    pub fn write(&self, generation: &Path) -> Result<()> {
        let text = serde_json::to_vec(self)?;
        let written = Cell::holding(&text).and_then(|cell| cell.pin(&generation.join(NAME)));
        written.with_context(|| format!("cannot pin the tables' description in {}", generation.display()))
    }

    /// Number of the point of this name.
    pub fn point(&self, name: &str) -> Option<usize> {
        self.points.iter().position(|point| !name.is_empty() && point.name == name)
    }
}

#[derive(Deserialize)]
struct Versions {
    layout: u32,
    agent: String,
}

impl Versions {
    fn check(&self, generation: &Path) -> Result<()> {
        if self.layout == layout::VERSION {
            return Ok(());
        }
        anyhow::bail!(
            "the tables in {} are of fivetuple {} (layout {:08x}), and this one, {} (layout {:08x}), cannot go on with them: run that version, or let go of its programs and counts with `fivetuple detach`",
            generation.display(),
            self.agent,
            self.layout,
            env!("CARGO_PKG_VERSION"),
            layout::VERSION
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_layout_is_refused_with_both_versions() {
        let here = Path::new("/sys/fs/bpf/fivetuple/net-1/generation-1");
        let same = Versions { layout: layout::VERSION, agent: "0.9.0".to_owned() };
        assert!(same.check(here).is_ok());
        let other = Versions { layout: layout::VERSION ^ 1, agent: "0.9.0".to_owned() };
        let text = other.check(here).unwrap_err().to_string();
        for part in
            ["0.9.0", env!("CARGO_PKG_VERSION"), &format!("{:08x}", layout::VERSION), "fivetuple detach"]
        {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
