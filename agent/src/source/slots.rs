//! The table of established flows, as the daemon reads it: a map from keys to slots, the slots, whose they are, and which
//! are nobody's.
//!
//! A slot's key stands beside it and is not under its lock: where the flow's tag is not the key's, the slot is being given
//! to another flow in this instant.

use super::maps::{Key, fd};
use crate::sys::{
    map::{self, BPF_F_LOCK, BPF_NOEXIST},
    program,
    shared::Shared,
};
use agent_ebpf::{
    flow::{Flow, FlowKey},
    index::MAX_SLOTS,
    layout::{AT_ONCE, High, Index, Read, Row, STEP, Take, maps as names},
};
use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{Map, MapData},
    programs::ProgramFd,
};
use std::{
    hash::{BuildHasher as _, RandomState},
    io,
    os::fd::{AsFd as _, BorrowedFd},
    sync::{Mutex, PoisonError},
};

/// Flows to a bucket of hints, at most, where there are as many as there is room for.
const TO_A_BUCKET: u32 = 4;
/// Slots that are read at once.
const BATCH: usize = 4096;

/// The maps of one family, in the order of [`Established`]'s fields.
pub type Names = [&'static str; 4];
/// Of IPv4.
pub const V4: Names = [names::FLOWS4, names::SLOTS4, names::KEYS4, names::FREE4];
/// Of IPv6.
pub const V6: Names = [names::FLOWS6, names::SLOTS6, names::KEYS6, names::FREE6];

/// Entries of every map that holds established flows; `flows` are those of IPv4 and of IPv6, [`MAX_SLOTS`] at most.
pub fn capacities(flows: [u32; 2]) -> impl Iterator<Item = (&'static str, u32)> {
    let [v4, v6] = flows;
    let [index4, index6] = buckets(flows);
    let all = V4.map(|name| (name, v4)).into_iter().chain(V6.map(|name| (name, v6)));
    all.chain([(names::INDEX4, index4), (names::INDEX6, index6)])
}

fn buckets(flows: [u32; 2]) -> [u32; 2] {
    flows.map(|n| n.min(MAX_SLOTS).div_ceil(TO_A_BUCKET).next_power_of_two())
}

/// What the programs are told of the index of these flows, with a secret of its own.
pub fn index(flows: [u32; 2]) -> Index {
    Index { seed: RandomState::new().hash_one(flows), buckets: buckets(flows) }
}

/// Give the kernel's programs all slots of tables that are new.
pub fn free_all(ebpf: &Ebpf, flows: [u32; 2]) -> io::Result<()> {
    for ([.., name], slots) in [V4, V6].into_iter().zip(flows) {
        if let Some(Map::Stack(free)) = ebpf.map(name) {
            // The lowest is the first to be taken, so that what is in use stands together.
            (0..slots).rev().try_for_each(|slot| map::push(fd(free), &slot))?;
        }
    }
    Ok(())
}

/// The established flows of one family.
#[derive(Debug)]
pub struct Established {
    flows: MapData,
    slots: MapData,
    keys: MapData,
    free: MapData,
    room: u32,
}

impl Established {
    /// Of its maps, as `take` gives them by name.
    pub fn open(names: Names, take: &mut dyn FnMut(&str) -> Result<MapData>) -> Result<Self> {
        let [flows, slots, keys, free] = names;
        let slots = take(slots)?;
        let room = slots.info().context("cannot ask how many flows there is room for")?.max_entries();
        Ok(Self { flows: take(flows)?, slots, keys: take(keys)?, free: take(free)?, room })
    }

    /// The map from keys to slots.
    pub const fn map(&self) -> &MapData {
        &self.flows
    }

    /// How many slots there are.
    pub const fn room(&self) -> u32 {
        self.room
    }

    /// The flow of a key.
    pub fn get<K: Key>(&self, key: &K) -> io::Result<Option<Flow>> {
        let Some(slot) = map::read_unlocked::<K, u32>(fd(&self.flows), key)? else { return Ok(None) };
        let flow = map::read::<u32, Flow>(fd(&self.slots), &slot)?;
        Ok(flow.filter(|flow| flow.tag == key.any().tag()))
    }

    /// Visits the flows in slots below `limit`, of tables that no program here can read ([`Reader`]).
    pub fn for_each<K: Key>(&self, limit: u32, mut visit: impl FnMut(&K, &Flow)) -> io::Result<()> {
        let limit = limit.min(self.room());
        let room = BATCH.min(limit as usize);
        let (mut flows, mut keys) = (vec![Flow::default(); room], vec![K::zeroed(); room]);
        let mut first = 0;
        while first < limit {
            let wanted = room.min((limit - first) as usize);
            let n = map::range(fd(&self.slots), first, &mut flows[..wanted], BPF_F_LOCK)?;
            let n = map::range(fd(&self.keys), first, &mut keys[..n], 0)?;
            if n == 0 {
                break;
            }
            for (flow, key) in flows[..n].iter().zip(&keys) {
                if flow.tag != 0 && flow.tag == key.any().tag() {
                    visit(key, flow);
                }
            }
            first += n as u32;
        }
        Ok(())
    }

    /// Puts a flow where none of its key is; whether there was none, `None` where there is no room. Says that nobody is at work
    /// there ([`Flow::busy`]): a slot that programs may still know, by a hint, is none to be given away here.
    pub fn insert<K: Key>(&self, key: &K, flow: &Flow, high: &mut u32) -> io::Result<Option<bool>> {
        let Some(slot) = map::pop::<u32>(fd(&self.free))? else { return Ok(None) };
        map::update(fd(&self.keys), &slot, key, 0)?;
        map::update(fd(&self.slots), &slot, flow, BPF_F_LOCK)?;
        match map::update(fd(&self.flows), key, &slot, BPF_NOEXIST) {
            Ok(()) => {
                *high = slot.saturating_add(1).max(*high);
                Ok(Some(true))
            }
            Err(e) => {
                self.free_slot(slot)?;
                if e.raw_os_error() == Some(libc::EEXIST) { Ok(Some(false)) } else { Err(e) }
            }
        }
    }

    fn free_slot(&self, slot: u32) -> io::Result<()> {
        map::update(fd(&self.slots), &slot, &Flow::default(), BPF_F_LOCK)?;
        map::push(fd(&self.free), &slot)
    }

    /// Drops all flows, where no program is at work on them.
    pub fn clear<K: Key>(&self) -> io::Result<()> {
        let mut taken = Vec::new();
        map::for_each(fd(&self.flows), 0, |key: &K, slot: &u32| taken.push((*key, *slot)))?;
        for (key, slot) in taken {
            map::delete(fd(&self.flows), &key)?;
            self.free_slot(slot)?;
        }
        Ok(())
    }
}

/// Reads the established flows that this daemon's programs are at work on: a program does it, which takes a third of the time
/// that bpf(2) takes for entries of a map.
#[derive(Debug)]
pub struct Reader {
    program: ProgramFd,
    rows: Mutex<Shared<[Row; AT_ONCE as usize]>>,
}

impl Reader {
    /// Of the program, and the map that it fills.
    pub fn new(program: ProgramFd, rows: &MapData) -> io::Result<Self> {
        Ok(Self { program, rows: Mutex::new(Shared::new(fd(rows))?) })
    }

    /// Visits the flows in slots below `limit`, of which there are so many. Those that come or go meanwhile may be visited or
    /// not, and one is left out that a packet holds for longer than the program waits.
    pub fn for_each<K: Key>(&self, limit: u32, mut visit: impl FnMut(&K, &Flow)) -> io::Result<()> {
        let v6 = matches!(K::zeroed().any(), FlowKey::V6(_)).into();
        let mut first = 0;
        while first < limit {
            let request = Read { first, v6, row: 0, over: 0 };
            let runs = (limit - first).min(AT_ONCE).div_ceil(STEP);
            let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
            let (n, rows) = rows.after(|| self.run(request, runs))?;
            for Row { flow, key } in rows.iter().take(n as usize) {
                let key: K = bytemuck::pod_read_unaligned(&bytemuck::bytes_of(key)[..size_of::<K>()]);
                if flow.tag != 0 && flow.tag == key.any().tag() {
                    visit(&key, flow);
                }
            }
            // None at all: the first of them is held.
            first += n.max(1);
        }
        Ok(())
    }

    /// Reading may begin anew where a signal came in between; letting go may not.
    fn run(&self, request: Read, runs: u32) -> io::Result<u32> {
        loop {
            match program::run(self.program.as_fd(), &[request], runs) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

/// The request to let go of a flow as it was read.
fn unchanged(key: FlowKey, flow: &Flow, half_open: bool) -> Take {
    let (family, bytes) = match &key {
        FlowKey::V4(k) => (0, bytemuck::bytes_of(k)),
        FlowKey::V6(k) => (Take::V6, bytemuck::bytes_of(k)),
    };
    let table = family | if half_open { Take::HALF_OPEN } else { 0 };
    let mut words = [0; 10];
    bytemuck::bytes_of_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    let segments = [flow.half[0].segments, flow.half[1].segments];
    Take { key: words, table, tag: flow.tag, segments, bits: flow.bits.into(), reserved: 0 }
}

/// Has the program `take` let go of a flow, unless something came since it was read; whether it did.
pub fn take(program: BorrowedFd<'_>, key: FlowKey, flow: &Flow, half_open: bool) -> io::Result<bool> {
    program::run(program, &[unchanged(key, flow, half_open)], 1).map(|done| done == 1)
}

/// How far the slots of either family were ever used.
pub fn high(marks: &MapData) -> io::Result<High> {
    let mut out = High::default();
    for entry in 0..2 {
        for [v4, v6] in map::read_per_cpu::<High>(fd(marks), entry)? {
            out = [out[0].max(v4), out[1].max(v6)];
        }
    }
    Ok(out)
}

/// Say that slots were used so far, beside those that the programs took.
pub fn raise(marks: &MapData, to: High) -> io::Result<()> {
    let before = map::read_per_cpu::<High>(fd(marks), 1)?.first().copied().unwrap_or_default();
    map::fill_per_cpu(fd(marks), 1, &[to[0].max(before[0]), to[1].max(before[1])])
}
