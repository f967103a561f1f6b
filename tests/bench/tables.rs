//! The agent's own tables, opened as the daemon opens them.

use agent::config::{Watch, file};
use agent::probe;
use anyhow::{Result, anyhow};
use aya::Ebpf;

/// Services that there is room for.
pub const ROOM: u32 = 16;

/// The object with its tables, for one point and this section of the configuration; no program is loaded yet.
pub fn open(section: &str) -> Result<Ebpf> {
    let file = file::parse(&format!("interfaces: [{{name: a}}]\n{section}"))
        .map_err(|wrong| anyhow!("{wrong:?}"))?;
    let watch = Watch { interfaces: file.interfaces, tables: file.tables, ..Watch::default() };
    probe::open(&watch, ROOM, (6, 0), true)
}
