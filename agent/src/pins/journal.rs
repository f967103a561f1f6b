//! Ends that a sweep is about to count. It takes each flow out of its table, and its counts are kept when it is through:
//! who is killed in between has noted here what he was about, and the next agent counts it.

use super::{description::Description, own::Own};
use crate::{
    source::{
        maps::{Key, fd},
        slots::{self, Established},
        sweep::count_end,
    },
    sys::{
        map,
        pin::{self, Facts},
    },
};
use agent_ebpf::{
    close::{end, how_ended},
    flow::{Closed, Flow, FlowKey4, FlowKey6},
    layout::maps as names,
};
use anyhow::{Context as _, Result, bail};
use aya::maps::MapData;
use bytemuck::{Pod, Zeroable};
use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

const NAME: &str = "JOURNAL";
/// Ends of one sweep that are noted. More than those are counted all the same, unless the agent is killed just then.
const ENTRIES: u32 = 65_536;

/// An end that is about to be counted.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Note {
    /// Number of the sweep.
    sweep: u64,
    /// 1: the flow is half-open.
    half_open: u64,
    flow: Flow,
}

/// The ends that the sweep of this moment is about to count.
#[derive(Debug)]
pub struct Journal {
    map: OwnedFd,
    /// Number of the sweep.
    sweep: AtomicU64,
    /// How many it has noted.
    noted: AtomicU64,
}

impl Journal {
    /// Make one, and pin it in a directory of tables.
    pub fn make(generation: &Path) -> Result<Self> {
        let made = map::create_hash::<[u8; 48], Note>(ENTRIES);
        let map = made.context("the kernel has no room for the journal of ends")?;
        pin::put(map.as_fd(), &generation.join(NAME)).context("cannot pin the journal of ends")?;
        Ok(Self::of(map))
    }

    /// The one that is pinned in a directory of tables.
    pub fn pinned(generation: &Path) -> Result<Self> {
        let path = generation.join(NAME);
        let Some(map) = pin::get(&path).with_context(|| format!("cannot open {}", path.display()))? else {
            bail!("{} is missing: somebody removed it; `fivetuple detach` removes the rest", path.display());
        };
        let facts = Facts::of(map.as_fd())?;
        let shape = ["map_type", "key_size", "value_size"].map(|name| facts.number(name));
        if shape != [Some(1), Some(48), Some(size_of::<Note>() as u32)] {
            bail!("{} is not ours: it is no map of ends; remove it with `fivetuple detach`", path.display());
        }
        Ok(Self::of(map))
    }

    fn of(map: OwnedFd) -> Self {
        Self { map, sweep: AtomicU64::new(0), noted: AtomicU64::new(0) }
    }

    /// Begin the sweep after `swept`; whatever was noted is counted and kept.
    pub fn begin(&self, swept: u64) -> Result<()> {
        self.sweep.store(swept + 1, Ordering::Relaxed);
        self.noted.store(0, Ordering::Relaxed);
        let mut keys = Vec::new();
        map::for_each(self.map.as_fd(), 0, |key: &[u8; 48], _: &Note| keys.push(*key))?;
        map::delete_all(self.map.as_fd(), &keys).context("cannot clear the journal of ends")
    }

    /// Whether nothing was noted.
    pub fn is_empty(&self) -> bool {
        self.noted.load(Ordering::Relaxed) == 0
    }

    /// Note that a flow is about to be taken out of its table, and its end counted.
    pub fn note<K: Key>(&self, key: &K, flow: &Flow, half_open: bool) -> io::Result<()> {
        let note =
            Note { sweep: self.sweep.load(Ordering::Relaxed), half_open: half_open.into(), flow: *flow };
        match map::update(self.map.as_fd(), &key.bytes(), &note, 0) {
            Err(e) if e.raw_os_error() == Some(libc::E2BIG) => Ok(()),
            done => {
                self.noted.fetch_add(1, Ordering::Relaxed);
                done
            }
        }
    }

    /// Count the ends that an agent noted and whose counts it did not keep any more, unless the flow is still there.
    pub fn recover(&self, generation: &Path, about: &Description, own: &mut Own) -> Result<()> {
        let mut notes = Vec::new();
        map::for_each(self.map.as_fd(), 0, |key: &[u8; 48], note: &Note| notes.push((*key, *note)))?;
        notes.retain(|(_, note)| note.sweep > own.swept);
        for (key, note) in &notes {
            if let Some(key) = FlowKey4::of_bytes(key) {
                let tables = [names::HALF_OPEN4, names::CLOSED4, names::SCORES4];
                count(key, note, generation, slots::V4, tables, about, own)?;
            } else if let Some(key) = FlowKey6::of_bytes(key) {
                let tables = [names::HALF_OPEN6, names::CLOSED6, names::SCORES6];
                count(key, note, generation, slots::V6, tables, about, own)?;
            }
        }
        if let Some(last) = notes.iter().map(|(_, note)| note.sweep).max() {
            own.swept = last;
        }
        Ok(())
    }
}

fn count<K: Key>(
    key: K,
    note: &Note,
    generation: &Path,
    flows: slots::Names,
    [half_open, closed, scores]: [&str; 3],
    about: &Description,
    own: &mut Own,
) -> Result<()> {
    let mut open =
        |name: &str| MapData::from_pin(generation.join(name)).with_context(|| format!("cannot open {name}"));
    let there = if note.half_open == 1 {
        map::read::<K, Flow>(fd(&open(half_open)?), &key)?
    } else {
        Established::open(flows, &mut open)?.get(&key)?
    };
    if there.is_some_and(|flow| flow.opened == note.flow.opened) {
        return Ok(());
    }
    let mut flow = note.flow;
    let close = how_ended(&flow);
    let end = end(&mut flow, close);
    let (point, svc) = (usize::from(key.any().point()), usize::from(flow.svc));
    if let Some(totals) = own.totals.get_mut(point * about.room as usize + svc) {
        count_end(&mut totals.0, &flow, end);
    }
    if flow.closed() {
        match map::update(fd(&open(closed)?), &key, &Closed::of(&flow), map::BPF_NOEXIST) {
            Err(e) if !matches!(e.raw_os_error(), Some(libc::E2BIG | libc::EEXIST)) => return Err(e.into()),
            _ => {}
        }
    }
    map::delete(fd(&open(scores)?), &key).context("cannot let go of a scoreboard")
}
