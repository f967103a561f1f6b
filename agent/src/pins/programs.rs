//! The programs of a build, pinned beside the tables that they count in, with the tables that no other build can use: the next
//! agent of the same build goes on with them and need not have them verified, which takes most of a start.

use super::{
    directory::remove_tree,
    foreign::{Shapes, check_program},
};
use agent_ebpf::layout::{KEPT, READ, TAKE, TC_EGRESS, TC_INGRESS, XDP_INGRESS, maps};
use anyhow::{Context as _, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};

const PROGRAMS: &str = "programs-";

/// The programs that every agent needs.
pub const NEEDED: [&str; 4] = [TC_INGRESS, TC_EGRESS, TAKE, READ];

/// Where the programs of a build are pinned.
#[derive(Debug)]
pub struct Home {
    /// The directory.
    pub path: PathBuf,
    /// All of them are there.
    pub is_complete: bool,
}

impl Home {
    /// That of a build in a directory of tables; an unfinished one is made anew, but for what has a name of its own there.
    ///
    /// # Errors
    /// Where something there is not ours.
    pub fn open(tables: &Path, build: u64, xdp: bool) -> Result<Self> {
        let path = tables.join(format!("{PROGRAMS}{build:016x}"));
        let wanted = NEEDED.into_iter().chain(xdp.then_some(XDP_INGRESS));
        let is_complete = wanted.chain(own_tables()).all(|name| path.join(name).exists());
        if path.exists() {
            check(&path, tables)?;
        } else {
            fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        if !is_complete {
            for pin in ours().map(|name| path.join(name)).filter(|pin| pin.exists()) {
                fs::remove_file(&pin).with_context(|| format!("cannot remove {}", pin.display()))?;
            }
        }
        Ok(Self { path, is_complete })
    }

    /// Removes those of other builds: nothing of theirs is attached any more.
    pub fn collect(path: &Path) -> Result<()> {
        let Some(tables) = path.parent() else { return Ok(()) };
        for entry in fs::read_dir(tables)? {
            let there = entry?.path();
            let name = there.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if there != path && name.starts_with(PROGRAMS) {
                remove_tree(&there)?;
            }
        }
        Ok(())
    }
}

/// Refuses what has one of our names there and is not ours.
fn check(path: &Path, tables: &Path) -> Result<()> {
    let (shapes, there) = (Shapes::read()?, |name: &&str| path.join(name).exists());
    own_tables().filter(there).try_for_each(|name| shapes.check(&path.join(name), name, None))?;
    let mut programs = programs().filter(there);
    programs.try_for_each(|name| check_program(&path.join(name), name, &tables.join(maps::SLOTS4)))
}

/// What may be pinned there.
fn ours() -> impl Iterator<Item = &'static str> {
    programs().chain(own_tables())
}

fn programs() -> impl Iterator<Item = &'static str> {
    NEEDED.into_iter().chain([XDP_INGRESS])
}

/// The tables that belong to the programs alone.
pub fn own_tables() -> impl Iterator<Item = &'static str> {
    maps::ALL.iter().copied().filter(|name| !KEPT.contains(name))
}
