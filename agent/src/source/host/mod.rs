//! The pipeline's tables on the host: the kernel programs' code over ordinary memory, for what has frames and times but
//! no kernel to give them to.
//!
//! The tables are as large as they are told to be, as a full one shows. Records are never lost. One thread at a time, so that no lock is taken.

mod forget;
mod table;

use super::services;
use crate::aggregate::rows::Sight;
use agent_ebpf::{
    facts::Facts,
    flow::{Closed, Flow, FlowKey},
    health::Health,
    hops,
    label::Direction,
    layout::{Config, HealthCounts, ServiceKey, Totals, health_index, maps::capacity, totals_index},
    pipeline::{self, Scratch, World},
    quick::Plain,
    scoreboard::{Counts, Scoreboard},
    sighting::Settings,
    time::Nanos,
    wire::{Addr, Frame, Segment},
};
use bytemuck::Pod;
use foldhash::fast::RandomState;
use std::{
    cell::{Cell, RefCell, UnsafeCell},
    collections::{BTreeMap, HashMap},
    mem::MaybeUninit,
};
use table::Table;

/// How much fits, where the kernel's tables can be full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Established flows: IPv4, IPv6.
    pub flows: [usize; 2],
    /// Flows that are not seen to be conversations yet: IPv4, IPv6.
    pub half_open: [usize; 2],
    /// Scoreboards: IPv4, IPv6.
    pub scores: [usize; 2],
    /// Closed connections.
    pub closed: usize,
}

impl Default for Room {
    /// As compiled into the kernel object.
    fn default() -> Self {
        Self {
            flows: [capacity::FLOWS4, capacity::FLOWS6],
            half_open: [capacity::HALF_OPEN4, capacity::HALF_OPEN6],
            scores: [usize::MAX; 2],
            closed: usize::MAX,
        }
    }
}

/// What one frame said, and what came of it.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// What it said.
    pub segment: &'a Segment,
    /// What it did.
    pub facts: &'a Facts,
    /// Its connection.
    pub key: &'a FlowKey,
    /// Which half of that it belongs to, 0 or 1.
    pub half: usize,
}

/// A host-side observer: feed it frames, then ask what it knows.
pub struct Host {
    tables: Tables,
}

impl Host {
    /// Empty tables. Of `config`, points and services count.
    pub fn new(config: Config, settings: Settings, room: Room) -> Self {
        let places = 2 * (config.points * config.services) as usize;
        let tables = Tables {
            config,
            settings,
            room,
            now: Cell::new(Nanos(0)),
            points: Vec::new(),
            hops: (0..hops::PLACES).map(|_| UnsafeCell::new(0)).collect(),
            services: BTreeMap::new(),
            flows: Table::default(),
            half_open: Table::default(),
            scores: Table::default(),
            closed: RefCell::default(),
            totals: zeroed(places),
            health: zeroed(2 * (config.points as usize + 1)),
            records: RefCell::default(),
            moving: Box::default(),
            hurried: Cell::new(false),
            plain: Box::new(UnsafeCell::new(Plain::blank())),
            scratch: Box::new(UnsafeCell::new(MaybeUninit::uninit())),
        };
        Self { tables }
    }

    /// Watches an interface as this point.
    pub fn watch(&mut self, ifindex: u32, point: u8) {
        self.tables.points.retain(|(known, _)| *known != ifindex);
        self.tables.points.push((ifindex, point));
    }

    /// Knows these services from now on.
    pub fn serve(&mut self, entries: impl IntoIterator<Item = services::Entry>) {
        for services::Entry { key, prefix_len, svc } in entries {
            let same_length = self.tables.services.entry(prefix_len).or_default();
            same_length.insert(masked(&key, prefix_len), svc);
        }
    }

    /// Takes one frame of an interface all the way, as the kernel's program at that hook would at this time; what came
    /// of it, unless it was skipped.
    pub fn feed(
        &mut self,
        frame: &impl Frame,
        ifindex: u32,
        direction: Direction,
        now: Nanos,
    ) -> Option<Judged<'_>> {
        self.tables.now.set(now);
        let before = self.counted(ifindex, direction);
        pipeline::run(&self.tables, frame, ifindex, direction);
        (self.counted(ifindex, direction) != before).then(|| {
            // SAFETY: a counted frame has written it whole, and the next one needs `self` unshared.
            let (segment, facts, key, half) =
                unsafe { (*self.tables.scratch.get()).assume_init_ref() }.judged();
            Judged { segment, facts, key, half }
        })
    }

    /// The same where nobody asks what came of it: what is in order where all is well goes the short way, as in the kernel.
    pub fn pass(&mut self, frame: &impl Frame, ifindex: u32, direction: Direction, now: Nanos) {
        self.tables.now.set(now);
        self.tables.hurried.set(true);
        pipeline::run(&self.tables, frame, ifindex, direction);
        self.tables.hurried.set(false);
    }

    /// How many records were made since they were last handed out.
    pub fn pending_records(&mut self) -> usize {
        self.tables.records.get_mut().ends.len()
    }

    /// Hands out the records made since the last time, as they would stand on the ring.
    pub fn drain_records(&mut self, mut each: impl FnMut(&[u8])) {
        let Records { bytes, ends } = self.tables.records.get_mut();
        let mut start = 0;
        for end in ends.drain(..) {
            each(&bytes[start..end]);
            start = end;
        }
        bytes.clear();
    }

    /// The records made since the last time.
    pub fn take_records(&mut self) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        self.drain_records(|record| out.push(record.to_vec()));
        out
    }

    /// Segments of an interface's point that were counted.
    fn counted(&mut self, ifindex: u32, direction: Direction) -> Option<u64> {
        let point = self.tables.point(ifindex)?;
        self.health(point.into(), direction).map(|counts| counts[Health::Counted as usize])
    }

    /// The established flows.
    pub fn flows(&mut self) -> impl Iterator<Item = (FlowKey, &Flow)> {
        self.tables.flows.iter()
    }

    /// The flows that are not seen to be conversations yet.
    pub fn half_open(&mut self) -> impl Iterator<Item = (FlowKey, &Flow)> {
        self.tables.half_open.iter()
    }

    /// The scoreboards of flows that have had an anomaly.
    pub fn scores(&mut self) -> impl Iterator<Item = (FlowKey, &Scoreboard)> {
        self.tables.scores.iter()
    }

    /// Shows the flows that have not ended, each with the counts of its halves.
    pub fn each_open(&mut self, mut show: impl FnMut(FlowKey, &Flow, [Counts; 2])) {
        self.each(|sight| {
            if !sight.flow.has(Flow::ENDED) {
                show(sight.key, &sight.flow, sight.counts);
            }
        });
    }

    /// Shows all flows, those that have ended and are not forgotten yet among them.
    pub fn each(&mut self, mut show: impl FnMut(Sight)) {
        let Tables { flows, half_open, scores, .. } = &mut self.tables;
        for (key, flow) in flows.iter().chain(half_open.iter()) {
            if flow.has(Flow::USED) && !flow.has(Flow::MOVED) {
                show(Sight { key, flow: *flow, counts: counts(scores, &key, flow) });
            }
        }
    }

    /// What is remembered of closed connections.
    pub fn closed(&mut self) -> impl Iterator<Item = (FlowKey, &Closed)> {
        self.tables.closed.get_mut().iter().map(|(key, closed)| (*key, closed))
    }

    /// Totals of a point, service and direction; `None` for one that there is no room for.
    pub fn totals(&mut self, point: u8, svc: u16, direction: Direction) -> Option<&Totals> {
        let index = totals_index(self.tables.config.services, point, svc, direction);
        self.tables.totals.get_mut(index as usize).map(|cell| &*cell.get_mut())
    }

    /// Self-counters of a point (or of the place behind the last one) and direction.
    pub fn health(&mut self, point: u32, direction: Direction) -> Option<&HealthCounts> {
        self.tables.health.get_mut(health_index(point, direction) as usize).map(|cell| &*cell.get_mut())
    }
}

fn zeroed<T: Pod>(n: usize) -> Box<[UnsafeCell<T>]> {
    (0..n).map(|_| UnsafeCell::new(T::zeroed())).collect()
}

/// The counts of a flow's halves, in the key's order; zero where nothing was wrong.
fn counts(scores: &mut Table<Scoreboard>, key: &FlowKey, flow: &Flow) -> [Counts; 2] {
    let score = scores.get(key).filter(|_| flow.has(Flow::SCORED));
    // SAFETY: through `&mut` nothing else points to the entry.
    score.map_or_else(Default::default, |s| unsafe { [(*s).half[0].counts, (*s).half[1].counts] })
}

/// A service's key as its bytes, those beyond the prefix zeroed.
fn masked(key: &ServiceKey, bits: u32) -> [u8; size_of::<ServiceKey>()] {
    let mut bytes: [u8; size_of::<ServiceKey>()] = bytemuck::cast(*key);
    for (i, byte) in bytes.iter_mut().enumerate() {
        let left = bits.saturating_sub(8 * i as u32).min(8);
        *byte &= !(0xff_u32 >> left) as u8;
    }
    bytes
}

/// Records one behind the other: neither they nor what is handed out costs an allocation each.
#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

struct Tables {
    config: Config,
    settings: Settings,
    room: Room,
    now: Cell<Nanos>,
    /// Interface and point; so few that a search is quicker than a hash.
    points: Vec<(u32, u8)>,
    /// By prefix length.
    services: BTreeMap<u32, HashMap<[u8; size_of::<ServiceKey>()], u16>>,
    /// As in the kernel.
    hops: Box<[UnsafeCell<u64>]>,
    flows: Table<Flow>,
    half_open: Table<Flow>,
    scores: Table<Scoreboard>,
    closed: RefCell<HashMap<FlowKey, Closed, RandomState>>,
    totals: Box<[UnsafeCell<Totals>]>,
    health: Box<[UnsafeCell<HealthCounts>]>,
    records: RefCell<Records>,
    moving: Box<UnsafeCell<Flow>>,
    /// Nobody asks what came of the frame.
    hurried: Cell<bool>,
    plain: Box<UnsafeCell<Plain>>,
    scratch: Box<UnsafeCell<MaybeUninit<Scratch>>>,
}

impl World for Tables {
    fn coarse_now(&self) -> Nanos {
        self.now.get()
    }

    fn now(&self) -> Nanos {
        self.now.get()
    }

    fn config(&self) -> Config {
        self.config
    }

    fn settings(&self) -> Settings {
        self.settings
    }

    fn point(&self, ifindex: u32) -> Option<u8> {
        self.points.iter().find(|(known, _)| *known == ifindex).map(|(_, point)| *point)
    }

    fn likely(&self, key: &FlowKey) -> Option<*mut Flow> {
        self.flows.get(key)
    }

    fn flow(&self, key: &FlowKey) -> Option<*mut Flow> {
        self.flows.get(key)
    }

    fn half_open(&self, key: &FlowKey) -> Option<*mut Flow> {
        self.half_open.get(key)
    }

    fn create(&self, key: &FlowKey) -> Option<*mut Flow> {
        let blank = || Flow { tag: key.tag(), ..Flow::default() };
        self.half_open.make(key, blank, self.room.half_open)
    }

    fn reserve(&self, key: &FlowKey) -> Option<*mut Flow> {
        let blank = || Flow { tag: key.tag(), bits: Flow::MOVED, ..Flow::default() };
        self.flows.make(key, blank, self.room.flows)
    }

    fn moving(&self) -> Option<*mut Flow> {
        Some(self.moving.get())
    }

    fn abandon(&self, key: &FlowKey) {
        self.half_open.remove(key);
    }

    fn score(&self, key: &FlowKey, make: bool) -> Option<*mut Scoreboard> {
        if make { self.scores.make(key, Scoreboard::default, self.room.scores) } else { self.scores.get(key) }
    }

    fn closed(&self, key: &FlowKey) -> Option<Closed> {
        self.closed.borrow().get(key).copied()
    }

    fn remember(&self, key: &FlowKey, closed: &Closed) -> bool {
        let mut known = self.closed.borrow_mut();
        let room = known.len() < self.room.closed || known.contains_key(key);
        if room {
            known.insert(*key, *closed);
        }
        room
    }

    fn service(&self, addr: &Addr, port: u16) -> u16 {
        let ask = |port: u16| {
            let key = ServiceKey { port: port.to_be_bytes(), reserved: [0; 2], addr: addr.octets() };
            let longest_first = self.services.iter().rev();
            longest_first.filter_map(|(bits, known)| known.get(&masked(&key, *bits)).copied()).next()
        };
        ask(port).or_else(|| ask(0)).unwrap_or(0)
    }

    fn hops(&self, place: u32) -> Option<*mut u64> {
        self.hops.get(place as usize).map(UnsafeCell::get)
    }

    fn enter(&self, _: *mut Flow) -> bool {
        true
    }

    fn leave(&self, _: *mut Flow) {}

    fn lock(&self, _: *mut Flow) {}

    fn unlock(&self, _: *mut Flow) {}

    fn try_lock(&self, _: *mut Flow) -> bool {
        true
    }

    fn release(&self, _: *mut Flow) {}

    fn totals(&self, index: u32) -> Option<*mut Totals> {
        self.totals.get(index as usize).map(UnsafeCell::get)
    }

    fn health(&self, index: u32) -> Option<*mut HealthCounts> {
        self.health.get(index as usize).map(UnsafeCell::get)
    }

    fn scratch(&self) -> Option<*mut Scratch> {
        Some(self.scratch.get().cast())
    }

    fn plain(&self) -> Option<*mut Plain> {
        self.hurried.get().then(|| self.plain.get())
    }

    fn submit<T: Pod>(&self, fill: impl FnOnce(*mut T)) -> bool {
        let mut record = T::zeroed();
        fill(&raw mut record);
        let mut records = self.records.borrow_mut();
        records.bytes.extend_from_slice(bytemuck::bytes_of(&record));
        let end = records.bytes.len();
        records.ends.push(end);
        true
    }
}

#[cfg(test)]
mod tests;
