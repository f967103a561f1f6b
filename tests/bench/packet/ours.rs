//! The object that the agent carries, and what its tables say afterwards.

use std::borrow::Cow;

use agent::preflight::Kernel;
use agent::probe::{self, FRAGS, object::with_frags};
use agent::source::maps::fd;
use agent::source::slots::{self, Established};
use agent::sys::map;
use agent_ebpf::anomaly::Anomaly;
use agent_ebpf::counter::{COUNTERS, Series as _, width};
use agent_ebpf::flow::{Closed, Flow, FlowKey4, FlowKey6};
use agent_ebpf::health::Health;
use agent_ebpf::layout::{
    CONFIG, HealthCounts, INDEX, Point, SERVICE_PORT_BITS, TC_EGRESS, Totals, XDP_INGRESS, maps as names,
};
use agent_ebpf::sighting::Settings;
use agent_ebpf::traffic::Traffic;
use anyhow::{Context as _, Result, bail};
use aya::maps::{Map, MapData, PerCpuArray, RingBuf};
use aya::programs::Program;
use aya::{Ebpf, EbpfLoader};
use bytemuck::Pod;

/// The interface that test runs are on: the loopback of the namespace.
const LOOPBACK: u32 = 1;
const SERVICES: u32 = 3;
/// Nothing is idle and every five-tuple in TIME-WAIT, however long a bench takes.
const SETTINGS: Settings = Settings { idle: u64::MAX, time_wait: 86_400_000_000_000, full: 0 };

/// Room in the tables.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Flows of each family.
    pub flows: u32,
    /// Half-open flows.
    pub half_open: u32,
}

/// Counts, over all services, directions and processors.
#[derive(Clone)]
pub struct Counts {
    totals: Totals,
    health: HealthCounts,
}

impl Counts {
    /// What came since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let mut now = self.clone();
        now.totals.iter_mut().zip(before.totals).for_each(|(n, b)| *n -= b);
        now.health.iter_mut().zip(before.health).for_each(|(n, b)| *n -= b);
        now
    }

    /// A self-counter.
    pub fn health(&self, what: Health) -> u64 {
        self.health[what as usize]
    }

    /// A kind of anomaly, whatever its labels.
    pub fn anomaly(&self, what: Anomaly) -> u64 {
        self.row(what.base(), width(what.labels()))
    }

    /// A row of ordinary traffic, whatever its labels.
    pub fn traffic(&self, what: Traffic) -> u64 {
        self.row(what.base(), width(what.labels()))
    }

    fn row(&self, base: usize, width: usize) -> u64 {
        self.totals[base..base + width].iter().sum()
    }
}

/// The loaded object.
pub struct Ours {
    /// Its programs.
    pub ebpf: Ebpf,
    flows: [Established; 2],
    half_open: [MapData; 2],
    closed: MapData,
    settings: MapData,
    totals: PerCpuArray<MapData, Totals>,
    health: PerCpuArray<MapData, HealthCounts>,
    ring: RingBuf<MapData>,
}

impl Ours {
    /// Loads it with tables of this room, as the daemon would.
    pub fn load(object: &[u8], room: Room) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        let kernel = Kernel::read(&[]).version();
        let config = probe::config(1, SERVICES, kernel, kernel >= FRAGS);
        loader.override_global(CONFIG, bytemuck::bytes_of(&config), true);
        let flows = [room.flows, room.flows / 4];
        let index = slots::index(flows);
        loader.override_global(INDEX, bytemuck::bytes_of(&index), true);
        for (name, entries) in slots::capacities(flows) {
            loader.map_max_entries(name, entries);
        }
        for (name, entries) in [
            (names::HALF_OPEN4, room.half_open),
            (names::HALF_OPEN6, room.half_open / 4),
            (names::CLOSED4, room.flows),
            (names::SCORES4, room.flows / 8),
            (names::TOTALS, 2 * SERVICES),
            (names::HEALTH, 4),
        ] {
            loader.map_max_entries(name, entries);
        }
        let mut ebpf =
            loader.load(&for_this_kernel(object)).context("the kernel refuses the agent's tables")?;
        slots::free_all(&ebpf, flows)?;
        for name in [XDP_INGRESS, TC_EGRESS] {
            load(&mut ebpf, name)?;
        }
        let mut take = |name: &str| ebpf.take_map(name).with_context(|| format!("the object has no {name}"));
        let point = take(names::POINTS)?;
        let settings = take(names::SETTINGS)?;
        let services = take(names::SERVICES)?;
        map::update(fd(data(&point)?), &LOOPBACK, &Point { ifindex: LOOPBACK, point: 0 }, 0)?;
        map::update(fd(data(&settings)?), &0u32, &SETTINGS, 0)?;
        // One service that the clients talk to (any address, port 443), and one that they do not.
        for (bits, port, service) in [(SERVICE_PORT_BITS, 443u16, 1u32), (SERVICE_PORT_BITS, 5432, 2)] {
            let mut key = [0u8; 24];
            key[..4].copy_from_slice(&u32::to_ne_bytes(bits));
            key[4..6].copy_from_slice(&port.to_be_bytes());
            map::update(fd(data(&services)?), &key, &service, 0)?;
        }
        let mut owned = |name: &str| take(name).and_then(into_data);
        Ok(Self {
            flows: [Established::open(slots::V4, &mut owned)?, Established::open(slots::V6, &mut owned)?],
            half_open: [owned(names::HALF_OPEN4)?, owned(names::HALF_OPEN6)?],
            closed: owned(names::CLOSED4)?,
            settings: into_data(settings)?,
            totals: PerCpuArray::try_from(take(names::TOTALS)?)?,
            health: PerCpuArray::try_from(take(names::HEALTH)?)?,
            ring: RingBuf::try_from(take(names::EVENTS)?)?,
            ebpf,
        })
    }

    /// What was counted so far.
    pub fn counts(&self) -> Result<Counts> {
        let mut counts = Counts { totals: [0; COUNTERS], health: HealthCounts::default() };
        for index in 0..2 * SERVICES {
            for values in self.totals.get(&index, 0)?.iter() {
                counts.totals.iter_mut().zip(values).for_each(|(sum, n)| *sum += n);
            }
        }
        for index in 0..4 {
            for values in self.health.get(&index, 0)?.iter() {
                counts.health.iter_mut().zip(values).for_each(|(sum, n)| *sum += n);
            }
        }
        Ok(counts)
    }

    /// Entries of the flow table and of the half-open one.
    pub fn entries(&self) -> Result<(usize, usize)> {
        let [v4, v6] = &self.flows;
        let flows = keys::<FlowKey4, u32>(v4.map())?.len() + keys::<FlowKey6, u32>(v6.map())?.len();
        let [v4, v6] = &self.half_open;
        Ok((flows, keys::<FlowKey4, Flow>(v4)?.len() + keys::<FlowKey6, Flow>(v6)?.len()))
    }

    /// Forgets all IPv4 flows.
    pub fn clear(&self) -> Result<()> {
        self.flows[0].clear::<FlowKey4>()?;
        map::delete_all(fd(&self.half_open[0]), &keys::<FlowKey4, Flow>(&self.half_open[0])?)?;
        Ok(map::delete_all(fd(&self.closed), &keys::<FlowKey4, Closed>(&self.closed)?)?)
    }

    /// Tells the programs that there is no room, as the daemon does within a quarter of a second.
    pub fn say_full(&self) -> Result<()> {
        Ok(map::update(fd(&self.settings), &0u32, &Settings { full: 1, ..SETTINGS }, 0)?)
    }

    /// Takes the records off the ring and says how many there were.
    pub fn drain(&mut self) -> usize {
        std::iter::from_fn(|| self.ring.next().map(drop)).count()
    }
}

/// An object as this kernel can load it.
pub fn for_this_kernel(object: &[u8]) -> Cow<'_, [u8]> {
    with_frags(object, Kernel::read(&[]).version() >= FRAGS)
}

/// Loads one program.
pub fn load(ebpf: &mut Ebpf, name: &str) -> Result<()> {
    match ebpf.program_mut(name) {
        Some(Program::Xdp(program)) => program.load(),
        Some(Program::SchedClassifier(program)) => program.load(),
        _ => bail!("the object has no program {name}"),
    }
    .with_context(|| format!("the kernel refuses {name}"))
}

/// Every key of a map.
pub fn keys<K: Pod, V: Pod>(table: &MapData) -> Result<Vec<K>> {
    let mut keys = Vec::new();
    map::for_each(fd(table), 0, |key: &K, _: &V| keys.push(*key))?;
    Ok(keys)
}

/// What is behind a map of any kind that entries are set in one by one.
pub fn data(map: &Map) -> Result<&MapData> {
    match map {
        Map::Array(m) | Map::HashMap(m) | Map::LruHashMap(m) | Map::LpmTrie(m) | Map::Stack(m) => Ok(m),
        other => bail!("a map of another kind: {other:?}"),
    }
}

/// The same, owned.
pub fn into_data(map: Map) -> Result<MapData> {
    match map {
        Map::Array(m) | Map::HashMap(m) | Map::LruHashMap(m) | Map::LpmTrie(m) | Map::Stack(m) => Ok(m),
        other => bail!("a map of another kind: {other:?}"),
    }
}
