//! The kernel's tables, as the daemon reads and sets them.

use super::{
    services,
    slots::{self, Established, Reader},
};
use crate::{
    aggregate::{rows::Sight, rows::nanos, snapshot::Totals},
    config::{Limits, Service},
    sys::map::{self, BPF_F_LOCK},
};
use agent_ebpf::{
    counter::COUNTERS,
    flow::{Flow, FlowKey, FlowKey4, FlowKey6},
    health::Health,
    hops::PLACES,
    label::Direction,
    layout::{
        HealthCounts, High, KEPT, Point, READ, ServiceKey, TAKE, health_index, maps as names, totals_index,
    },
    scoreboard::{Counts, Scoreboard},
    sighting::Settings,
    time::Nanos,
};
use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf,
    maps::{Map, MapData, RingBuf},
    programs::{Program, ProgramFd, SchedClassifier},
};
use bytemuck::{Pod, Zeroable};
use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
};

/// A family's key of a flow.
pub trait Key: Pod + Eq + std::hash::Hash {
    /// The key of either family.
    fn any(self) -> FlowKey;
    /// The same connection, seen at another point.
    #[must_use]
    fn at_point(self, point: u8) -> Self;
    /// Of all keys: which family, and the key's bytes.
    fn bytes(&self) -> [u8; 48] {
        let mut out = [0; 48];
        out[0] = size_of::<Self>() as u8;
        out[8..8 + size_of::<Self>()].copy_from_slice(bytemuck::bytes_of(self));
        out
    }
    /// The key of these bytes, if they are of this family.
    fn of_bytes(bytes: &[u8; 48]) -> Option<Self> {
        (usize::from(bytes[0]) == size_of::<Self>())
            .then(|| bytemuck::pod_read_unaligned(&bytes[8..8 + size_of::<Self>()]))
    }
}

impl Key for FlowKey4 {
    fn any(self) -> FlowKey {
        FlowKey::V4(self)
    }

    fn at_point(self, point: u8) -> Self {
        self.at_point(point)
    }
}

impl Key for FlowKey6 {
    fn any(self) -> FlowKey {
        FlowKey::V6(self)
    }

    fn at_point(self, point: u8) -> Self {
        self.at_point(point)
    }
}

/// The tables of one family.
#[derive(Debug)]
pub struct Family {
    /// Established flows.
    pub flows: Established,
    /// Flows that are not seen to be conversations yet.
    pub half_open: MapData,
    /// Closed five-tuples.
    pub closed: MapData,
    /// Scoreboards.
    pub scores: MapData,
}

/// All tables.
pub struct Maps {
    /// IPv4.
    pub v4: Family,
    /// IPv6.
    pub v6: Family,
    services: MapData,
    points: MapData,
    settings: MapData,
    totals: MapData,
    health: MapData,
    hops: MapData,
    /// How far the slots of either family were ever used.
    pub marks: MapData,
    /// The program that lets go of flows.
    take: ProgramFd,
    /// Reads them.
    pub reader: Reader,
    /// Services that the totals have room for.
    room: u32,
}

/// An entry of the services' table, as the kernel keys it.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Prefixed {
    prefix_len: u32,
    key: ServiceKey,
}

impl Maps {
    /// Take the maps out of a loaded object, and load the programs that the daemon runs itself.
    pub fn take(ebpf: &mut Ebpf, room: u32) -> Result<(Self, RingBuf<MapData>)> {
        let programs = load_own(ebpf)?;
        let mut take = |name: &str| -> Result<MapData> {
            match ebpf.take_map(name) {
                Some(
                    Map::Array(data)
                    | Map::HashMap(data)
                    | Map::LpmTrie(data)
                    | Map::PerCpuArray(data)
                    | Map::RingBuf(data)
                    | Map::Stack(data),
                ) => Ok(data),
                other => bail!("the kernel object has no fit map {name} ({other:?}); rebuild the agent"),
            }
        };
        Self::of(&mut take, programs, room)
    }

    /// The same of what is pinned: tables that outlive an agent, and those of the programs in the programs' `home`.
    pub fn pinned(tables: &Path, home: &Path, room: u32) -> Result<(Self, RingBuf<MapData>)> {
        let program = |name| -> Result<ProgramFd> {
            Ok(SchedClassifier::from_pin(home.join(name))?.fd()?.try_clone()?)
        };
        let mut take = |name: &str| -> Result<MapData> {
            let directory = if KEPT.contains(&name) { tables } else { home };
            MapData::from_pin(directory.join(name)).with_context(|| format!("cannot open the table {name}"))
        };
        Self::of(&mut take, [program(TAKE)?, program(READ)?], room)
    }

    fn of(
        take: &mut dyn FnMut(&str) -> Result<MapData>,
        [take_one, read]: [ProgramFd; 2],
        room: u32,
    ) -> Result<(Self, RingBuf<MapData>)> {
        let v4 = Family {
            flows: Established::open(slots::V4, &mut *take)?,
            half_open: take(names::HALF_OPEN4)?,
            closed: take(names::CLOSED4)?,
            scores: take(names::SCORES4)?,
        };
        let v6 = Family {
            flows: Established::open(slots::V6, &mut *take)?,
            half_open: take(names::HALF_OPEN6)?,
            closed: take(names::CLOSED6)?,
            scores: take(names::SCORES6)?,
        };
        let maps = Self {
            v4,
            v6,
            services: take(names::SERVICES)?,
            points: take(names::POINTS)?,
            settings: take(names::SETTINGS)?,
            totals: take(names::TOTALS)?,
            health: take(names::HEALTH)?,
            hops: take(names::HOPS)?,
            marks: take(names::HIGH)?,
            take: take_one,
            reader: Reader::new(read, &take(names::ROWS)?)
                .context("cannot map what the kernel's programs read")?,
            room,
        };
        let ring = RingBuf::try_from(Map::RingBuf(take(names::EVENTS)?))?;
        Ok((maps, ring))
    }

    /// Tell the programs the limits.
    pub fn set_limits(&self, limits: &Limits, full: bool) -> Result<()> {
        let (idle, time_wait) = (nanos(limits.idle), nanos(limits.time_wait));
        let settings = Settings { idle, time_wait, full: full.into() };
        map::update(fd(&self.settings), &0u32, &settings, 0).context("cannot set the limits")
    }

    /// Tell the programs which interface is point `number`; `None` where the point has none now.
    pub fn set_point(&self, number: u8, old: Option<u32>, new: Option<u32>) -> Result<()> {
        let set = |index: u32, point: Point| map::update(fd(&self.points), &(index & 0xffff), &point, 0);
        if let Some(index) = old {
            set(index, Point::default()).context("cannot forget an interface")?;
        }
        if let Some(index) = new {
            set(index, Point { ifindex: index, point: number.into() }).context("cannot set an interface")?;
        }
        Ok(())
    }

    /// Tell the programs the services, given with their numbers: what is new first, then what is no more.
    pub fn set_services<'a>(&self, wanted: impl IntoIterator<Item = (u16, &'a Service)>) -> Result<()> {
        let wanted: HashMap<_, _> = services::entries(wanted)
            .into_iter()
            .map(|e| (bytes(&Prefixed { prefix_len: e.prefix_len, key: e.key }), e))
            .collect();
        let full = "cannot set the services: the kernel's table is full; list fewer ports and prefixes, or restart the agent, which makes a table that is large enough";
        if wanted.len() > self.services.info()?.max_entries() as usize {
            bail!(full);
        }
        let add = || {
            wanted.values().try_for_each(|entry| {
                let key = Prefixed { prefix_len: entry.prefix_len, key: entry.key };
                map::update(fd(&self.services), &key, &u32::from(entry.svc), 0)
            })
        };
        // Both at once may be too many, and a reload that failed may have left some.
        if add().is_err() {
            self.forget_services(&wanted)?;
            add().context(full)?;
        }
        self.forget_services(&wanted)
    }

    /// Forget the entries of the services' table that are not these.
    fn forget_services<T>(&self, wanted: &HashMap<[u8; 24], T>) -> Result<()> {
        let mut stale = self.service_keys()?;
        stale.retain(|key| !wanted.contains_key(&bytes(key)));
        stale
            .iter()
            .try_for_each(|key| map::delete(fd(&self.services), key))
            .context("cannot forget a service")
    }

    fn service_keys(&self) -> io::Result<Vec<Prefixed>> {
        let mut keys = Vec::new();
        map::walk_keys(fd(&self.services), |key: &Prefixed| keys.push(*key))?;
        Ok(keys)
    }

    /// Entries that make the services.
    pub fn service_entries(&self) -> io::Result<u64> {
        self.service_keys().map(|keys| keys.len() as u64)
    }

    /// Counters of every point that has a name and of the first `services` services, all processors and both directions
    /// together; zeroes for the others.
    pub fn totals(&self, points: &[String], services: usize) -> Result<Vec<Totals>> {
        let sum = |(i, point): (usize, &String)| match point.as_str() {
            "" => Ok(vec![Totals::default(); services]),
            _ => sum_of_point(&self.totals, self.room, i as u8, services),
        };
        points.iter().enumerate().map(sum).collect::<Result<Vec<_>>>().map(|each| each.concat())
    }

    /// Set the counters of these points to 0, where no program counts for them. Of what servers are known by nobody can tell
    /// at which point it was learnt: all of it is learnt anew.
    pub fn forget(&self, points: &[usize]) -> Result<()> {
        for point in points.iter().map(|point| *point as u8) {
            for direction in Direction::ALL.iter().copied() {
                for svc in 0..self.room as u16 {
                    let index = totals_index(self.room, point, svc, direction);
                    map::fill_per_cpu(fd(&self.totals), index, &[0u64; COUNTERS])?;
                }
                let index = health_index(point.into(), direction);
                map::fill_per_cpu::<HealthCounts>(fd(&self.health), index, &[0; Health::COUNT])?;
            }
        }
        (0..PLACES).try_for_each(|place| map::update(fd(&self.hops), &place, &0u64, 0))?;
        Ok(())
    }

    /// Self-counters of every point, and of the place behind them; all processors together.
    pub fn health(&self, points: usize) -> Result<Vec<[HealthCounts; 2]>> {
        sum_health(&self.health, points)
    }

    /// Whether the flow of this key that began then is still there.
    pub fn has(&self, key: FlowKey, opened: Nanos) -> io::Result<bool> {
        match key {
            FlowKey::V4(key) => self.v4.has(&key, opened),
            FlowKey::V6(key) => self.v6.has(&key, opened),
        }
    }

    /// Every flow that has begun.
    pub fn flows(&self) -> io::Result<Vec<Sight>> {
        let mut out = Vec::new();
        self.each_flow(&mut |sight| out.push(sight))?;
        Ok(out)
    }

    /// Visits every flow that has begun. A million of them are more than fits the agent's memory.
    pub fn each_flow(&self, visit: &mut dyn FnMut(Sight)) -> io::Result<()> {
        let [v4, v6] = self.high()?;
        self.v4.each_flow::<FlowKey4>(&self.reader, v4, visit)?;
        self.v6.each_flow::<FlowKey6>(&self.reader, v6, visit)
    }

    /// How far the slots of either family were ever used. The marks may be of larger tables that were there before.
    pub fn high(&self) -> io::Result<High> {
        let [v4, v6] = slots::high(&self.marks)?;
        Ok([v4.min(self.v4.flows.room()), v6.min(self.v6.flows.room())])
    }

    /// Let go of a flow of either table, unless something came since it was read; whether it is gone.
    pub fn let_go(&self, key: FlowKey, flow: &Flow, half_open: bool) -> io::Result<bool> {
        slots::take(self.take.as_fd(), key, flow, half_open)
    }
}

impl Family {
    fn has<K: Key>(&self, key: &K, opened: Nanos) -> io::Result<bool> {
        let is = |flow: &Flow| flow.opened == opened && !flow.has(Flow::MOVED);
        let there = self.flows.get(key)?.is_some_and(|flow| is(&flow));
        Ok(there || map::read::<K, Flow>(fd(&self.half_open), key)?.is_some_and(|flow| is(&flow)))
    }

    fn each_flow<K: Key>(&self, reader: &Reader, high: u32, told: &mut dyn FnMut(Sight)) -> io::Result<()> {
        let mut counts: HashMap<K, [Counts; 2]> = HashMap::new();
        map::for_each(fd(&self.scores), 0, |key: &K, score: &Scoreboard| {
            counts.insert(*key, [score.half[0].counts, score.half[1].counts]);
        })?;
        let mut visit = |key: &K, flow: &Flow| {
            if flow.has(Flow::USED) && !flow.has(Flow::MOVED) {
                let counts = if flow.has(Flow::SCORED) { counts.get(key).copied() } else { None };
                told(Sight { key: key.any(), flow: *flow, counts: counts.unwrap_or_default() });
            }
        };
        reader.for_each(high, &mut visit)?;
        map::for_each(fd(&self.half_open), BPF_F_LOCK, visit)
    }
}

/// Load the programs that the daemon runs itself: [`TAKE`] and [`READ`].
pub fn load_own(ebpf: &mut Ebpf) -> Result<[ProgramFd; 2]> {
    Ok([own_program(ebpf, TAKE)?, own_program(ebpf, READ)?])
}

/// A program that is never attached, loaded.
fn own_program(ebpf: &mut Ebpf, name: &str) -> Result<ProgramFd> {
    let Some(Program::SchedClassifier(program)) = ebpf.program_mut(name) else {
        bail!("the kernel object has no program {name}; rebuild the agent");
    };
    program.load().with_context(|| format!("the kernel refuses the program {name}"))?;
    Ok(program.fd()?.try_clone()?)
}

/// As [`Maps::totals`], of a table with room for so many services.
pub fn sum_totals(table: &MapData, room: u32, points: usize, services: usize) -> Result<Vec<Totals>> {
    let each = (0..points).map(|point| sum_of_point(table, room, point as u8, services));
    each.collect::<Result<Vec<_>>>().map(|each| each.concat())
}

fn sum_of_point(table: &MapData, room: u32, point: u8, services: usize) -> Result<Vec<Totals>> {
    let sum = |svc| {
        let mut sum = Totals::default();
        for direction in Direction::ALL {
            let each =
                map::read_per_cpu::<[u64; COUNTERS]>(fd(table), totals_index(room, point, svc, *direction));
            each.context("cannot read the totals")?.iter().for_each(|values| add(&mut sum.0, values));
        }
        Ok(sum)
    };
    (0..services as u16).map(sum).collect()
}

/// As [`Maps::health`], of a table.
pub fn sum_health(table: &MapData, points: usize) -> Result<Vec<[HealthCounts; 2]>> {
    let read = |point: usize, direction| -> Result<HealthCounts> {
        let each = map::read_per_cpu::<HealthCounts>(fd(table), health_index(point as u32, direction));
        let mut sum = [0; Health::COUNT];
        each.context("cannot read the self-counters")?.iter().for_each(|values| add(&mut sum, values));
        Ok(sum)
    };
    (0..=points).map(|p| Ok([read(p, Direction::Ingress)?, read(p, Direction::Egress)?])).collect()
}

/// Add counters to counters.
pub fn add(to: &mut [u64], from: &[u64]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}

/// The descriptor of a map.
pub fn fd(map: &MapData) -> BorrowedFd<'_> {
    map.fd().as_fd()
}

fn bytes(key: &Prefixed) -> [u8; 24] {
    bytemuck::cast(*key)
}
