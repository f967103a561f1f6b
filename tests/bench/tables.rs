//! The agent's own tables, opened as the daemon opens them, or those of a daemon that runs.

use std::fs;
use std::path::Path;

use agent::config::{Watch, file};
use agent::preflight::Kernel;
use agent::probe;
use agent::source::slots::{self, Established};
use agent_ebpf::flow::{Flow, FlowKey4};
use agent_ebpf::layout::{High, maps as names, maps::capacity};
use anyhow::{Context as _, Result, anyhow, bail};
use aya::Ebpf;
use aya::maps::MapData;
use nix::unistd::Pid;

/// Services that there is room for.
pub const ROOM: u32 = 16;

/// The object with its tables, for one point and this section of the configuration; no program is loaded yet.
pub fn open(section: &str) -> Result<Ebpf> {
    let file = file::parse(&format!("interfaces: [{{name: a}}]\n{section}"), Path::new(""))
        .map_err(|wrong| anyhow!("{wrong:?}"))?;
    let watch = Watch { interfaces: file.interfaces, tables: file.tables, ..Watch::default() };
    // No XDP program is loaded of it, so that frames in pieces do not matter.
    probe::open(&watch, ROOM, Kernel::read(&[]).version(), true)
}

/// The process's table of these keys and values with so many entries: the sizes are what tells it from the others.
pub fn of_process<K, V>(pid: Pid, entries: u32) -> Result<MapData> {
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let info = fs::read_to_string(entry?.path()).unwrap_or_default();
        let field = |name: &str| -> Option<u32> {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
        };
        let sizes = [size_of::<K>() as u32, size_of::<V>() as u32, entries].map(Some);
        if ["key_size", "value_size", "max_entries"].map(field) == sizes {
            return Ok(MapData::from_id(field("map_id").context("a table without a number")?)?);
        }
    }
    bail!("the agent has no such table of {entries} entries")
}

/// A process's tables of established IPv4 flows with room for so many, and how far they are used.
pub fn established(pid: Pid, room: u32) -> Result<(Established, MapData)> {
    let mut open = |name: &str| match name {
        names::FLOWS4 => of_process::<FlowKey4, u32>(pid, room),
        names::SLOTS4 => of_process::<u32, Flow>(pid, room),
        names::KEYS4 => of_process::<u32, FlowKey4>(pid, room),
        _ => of_process::<(), u32>(pid, room),
    };
    let flows = Established::open(slots::V4, &mut open)?;
    Ok((flows, of_process::<u32, High>(pid, capacity::HIGH as u32)?))
}
