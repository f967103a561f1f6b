//! The kernel's side: the real object, its programs run one packet at a time by `BPF_PROG_TEST_RUN` with a clock of our
//! own, and the comparison with the host's side.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, OnceLock};

use agent::preflight::Kernel;
use agent::probe::object::{OBJECT, with_frags};
use agent::probe::{self, FRAGS, has_own_lock};
use agent::source::host::{Host, Room};
use agent::source::maps::{Key, fd};
use agent::source::services::Entry;
use agent::source::slots::{self, Established};
use agent::sys::map::{self, BPF_F_LOCK};
use agent_ebpf::counter::COUNTERS;
use agent_ebpf::flow::{Closed, Flow, FlowKey, FlowKey4, FlowKey6};
use agent_ebpf::health::Health;
use agent_ebpf::label::{Direction, Side};
use agent_ebpf::layout::{
    CONFIG, Config, HealthCounts, INDEX, Point, SERVICE_PORT_BITS, SERVICE_TEXT, ServiceKey, TC_EGRESS,
    TC_INGRESS, Totals, XDP_INGRESS, health_index, maps as names, totals_index,
};
use agent_ebpf::record::Record;
use agent_ebpf::scoreboard::Scoreboard;
use agent_ebpf::sighting::Settings;
use agent_ebpf::time::Nanos;
use agent_ebpf::traffic::Traffic;
use agent_ebpf::wire::Addr;
use aya::maps::{Map, MapData, PerCpuArray, RingBuf};
use aya::programs::{Program, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use bytemuck::Pod;

use super::packet::{Hook, Packet};

/// The interface that prog-test-run runs programs on: the loopback of the test's own namespace.
pub const LOOPBACK: u32 = 1;
/// Services, "other" included.
const SERVICES: u32 = 3;
/// Entries of each table: few, so that reading all of them is quick.
const ENTRIES: u32 = 4096;
const HALF_OPEN: [&str; 2] = [names::HALF_OPEN4, names::HALF_OPEN6];
const SCORES: [&str; 2] = [names::SCORES4, names::SCORES6];
const CLOSED: [&str; 2] = [names::CLOSED4, names::CLOSED6];

/// Limits of both sides.
pub const SETTINGS: Settings = Settings { idle: 30_000_000_000, time_wait: 60_000_000_000, full: 0 };

fn config(own_lock: bool) -> Config {
    static KERNEL: OnceLock<(u32, u32)> = OnceLock::new();
    let kernel = *KERNEL.get_or_init(|| Kernel::read(&[]).version());
    let usual = probe::config(1, SERVICES, kernel, kernel >= FRAGS);
    Config { test_clock: 1, coarse_clock: 0, own_lock: own_lock.into(), ..usual }
}

/// All that one side knows after a sequence.
#[derive(Default)]
pub struct Knowledge {
    /// Established flows, by key.
    pub flows: BTreeMap<String, Flow>,
    /// Half-open flows, by key.
    pub half_open: BTreeMap<String, Flow>,
    /// Scoreboards, by the key of their flow.
    pub scores: BTreeMap<String, Scoreboard>,
    /// Closed connections, by key.
    pub closed: BTreeMap<String, Closed>,
    /// What stood on the ring, in order.
    pub records: Vec<Vec<u8>>,
    /// By [`totals_index`].
    pub totals: Vec<Totals>,
    /// By [`health_index`].
    pub health: Vec<HealthCounts>,
}

impl Knowledge {
    /// A row of the traffic table, over all services, directions and sides.
    pub fn traffic(&self, row: Traffic, sub: usize) -> u64 {
        self.totals.iter().map(|t| Side::ALL.iter().map(|side| t[row.place(*side, sub)]).sum::<u64>()).sum()
    }

    /// A self-counter, over all points and directions.
    pub fn health(&self, what: Health) -> u64 {
        self.health.iter().map(|h| h[what as usize]).sum()
    }
}

/// The kernel's side.
pub struct Rig {
    /// The programs.
    pub programs: Programs,
    maps: BTreeMap<&'static str, MapData>,
    established: [Established; 2],
    slots: OwnedFd,
    totals: PerCpuArray<MapData, [u64; COUNTERS]>,
    health: PerCpuArray<MapData, HealthCounts>,
    ring: RingBuf<MapData>,
    /// Counts never go back: what they were before a sequence.
    before: (Vec<Totals>, Vec<HealthCounts>),
}

/// The loaded programs.
pub struct Programs(Ebpf);

impl Programs {
    /// Has the kernel verify the programs of the object, whose tables are there.
    ///
    /// # Panics
    /// When it refuses one.
    pub fn load(mut ebpf: Ebpf) -> Self {
        for name in [XDP_INGRESS, TC_INGRESS, TC_EGRESS] {
            match ebpf.program_mut(name).expect("the object has its programs") {
                Program::Xdp(program) => program.load(),
                Program::SchedClassifier(program) => program.load(),
                other => panic!("{name} is a program of another kind: {other:?}"),
            }
            .unwrap_or_else(|error| panic!("the kernel refuses {name}: {error}"));
            let info = match ebpf.program(name).expect("the object has its programs") {
                Program::Xdp(program) => program.info(),
                Program::SchedClassifier(program) => program.info(),
                _ => unreachable!("loaded above"),
            };
            let verified = info.ok().and_then(|info| info.verified_instruction_count());
            println!("{name}: {verified:?} instructions verified, of a million at most");
        }
        Self(ebpf)
    }

    /// Runs the packet through the program of its hook so many times, without setting the clock.
    pub fn run(&self, packet: &Packet, repeat: u32) {
        let mut context = [0u8; 192];
        let Packet { bytes, gso: (segments, size), hook, .. } = packet;
        let mut put = |at: usize, n: u32| context[at..at + 4].copy_from_slice(&n.to_ne_bytes());
        put(160, bytes.len() as u32);
        put(164, *segments);
        put(176, *size);
        let mut options = TestRunOptions::new();
        options.data_in = Some(bytes);
        options.repeat = repeat;
        if *hook != Hook::Xdp && *size != 0 {
            options.ctx_in = Some(&context);
        }
        let done = match self.0.program(hook.program()) {
            Some(Program::Xdp(program)) => program.test_run(options),
            Some(Program::SchedClassifier(program)) => program.test_run(options),
            _ => unreachable!("loaded above"),
        };
        let pass = if *hook == Hook::Xdp { 2 } else { u32::MAX };
        match done {
            Ok(result) => assert_eq!(result.return_value, pass, "the packet goes on, unchanged"),
            Err(error) => panic!("the kernel refuses to run {packet:?}: {error:?}"),
        }
    }
}

/// Services by number: one by prefix and port, whose texts are asked for, and one by address on any port.
pub fn services() -> Vec<Entry> {
    let entry = |port: u16, addr: [u8; 4], bits: u32, svc| Entry {
        key: ServiceKey { port: port.to_be_bytes(), reserved: [0; 2], addr: Addr::v4(addr).octets() },
        prefix_len: SERVICE_PORT_BITS + 96 + bits,
        svc,
    };
    vec![entry(443, [10, 77, 2, 0], 24, 1 | SERVICE_TEXT), entry(0, [10, 77, 2, 3], 32, 2)]
}

/// The host's side.
pub fn host() -> Host {
    let mut host = Host::new(config(false), SETTINGS, Room::default());
    host.watch(LOOPBACK, 0);
    host.serve(services());
    host
}

impl Rig {
    /// The one rig of this process; loading the programs takes the kernel seconds.
    pub fn get() -> MutexGuard<'static, Self> {
        Self::with(has_own_lock())
    }

    /// The same, whose short way holds a flow by a word of it, or as kernels need it where that is not enough.
    pub fn with(own_lock: bool) -> MutexGuard<'static, Self> {
        static RIGS: [OnceLock<Mutex<Rig>>; 2] = [OnceLock::new(), OnceLock::new()];
        let rig = RIGS[usize::from(own_lock)].get_or_init(|| Mutex::new(Self::load(own_lock)));
        rig.lock().unwrap_or_else(|poisoned| {
            // A test that failed halfway left its flows in the tables.
            rig.clear_poison();
            let mut rig = poisoned.into_inner();
            rig.end();
            rig
        })
    }

    fn load(own_lock: bool) -> Self {
        let mut loader = EbpfLoader::new();
        let config = config(own_lock);
        loader.override_global(CONFIG, bytemuck::bytes_of(&config), true);
        for name in [HALF_OPEN, SCORES, CLOSED].as_flattened() {
            loader.map_max_entries(name, ENTRIES);
        }
        for (name, entries) in slots::capacities([ENTRIES; 2]) {
            loader.map_max_entries(name, entries);
        }
        let index = slots::index([ENTRIES; 2]);
        loader.override_global(INDEX, bytemuck::bytes_of(&index), true);
        loader.map_max_entries(names::TOTALS, 2 * SERVICES);
        loader.map_max_entries(names::HEALTH, 4);
        let object = with_frags(OBJECT, config.xdp_frags != 0);
        let mut ebpf = loader.load(&object).expect("the kernel takes the object's tables; are you root?");
        slots::free_all(&ebpf, [ENTRIES; 2]).expect("a stack takes what it has room for");
        let Some(Map::Array(slots)) = ebpf.map(names::SLOTS4) else { panic!("there are slots") };
        let slots = fd(slots).try_clone_to_owned().expect("a file can be opened");
        let mut open = |name: &str| match ebpf.take_map(name) {
            Some(Map::Array(m) | Map::HashMap(m) | Map::Stack(m)) => Ok(m),
            other => panic!("{name} is {other:?}"),
        };
        let established = [slots::V4, slots::V6]
            .map(|names| Established::open(names, &mut open).expect("its maps are there"));
        let mut maps = BTreeMap::new();
        let plain = [names::SERVICES, names::POINTS, names::SETTINGS, names::CLOCK, names::HOPS];
        for name in [HALF_OPEN, SCORES, CLOSED].as_flattened().iter().chain(&plain) {
            match ebpf.take_map(name) {
                Some(Map::Array(m) | Map::HashMap(m) | Map::LpmTrie(m)) => {
                    maps.insert(*name, m);
                }
                other => panic!("{name} is {other:?}"),
            }
        }
        let take = |ebpf: &mut Ebpf, name| ebpf.take_map(name).expect("the object has its maps");
        let totals = PerCpuArray::try_from(take(&mut ebpf, names::TOTALS)).expect("totals are per CPU");
        let health =
            PerCpuArray::try_from(take(&mut ebpf, names::HEALTH)).expect("self-counters are per CPU");
        let ring = RingBuf::try_from(take(&mut ebpf, names::EVENTS)).expect("events come on a ring");
        let rig = Self {
            programs: Programs::load(ebpf),
            maps,
            established,
            slots,
            totals,
            health,
            ring,
            before: Default::default(),
        };
        rig.set(names::POINTS, &LOOPBACK, &Point { ifindex: LOOPBACK, point: 0 });
        rig.set(names::SETTINGS, &0u32, &SETTINGS);
        for Entry { key, prefix_len, svc } in services() {
            let key = [prefix_len.to_ne_bytes().as_slice(), bytemuck::bytes_of(&key)].concat();
            let key: [u8; 24] = key.try_into().expect("a prefix length and a key are 24 bytes");
            rig.set(names::SERVICES, &key, &u32::from(svc));
        }
        rig
    }

    fn map(&self, name: &str) -> &MapData {
        &self.maps[name]
    }

    fn set<K: Pod, V: Pod>(&self, map: &str, key: &K, value: &V) {
        map::update(fd(self.map(map)), key, value, 0).unwrap_or_else(|error| panic!("{map}: {error}"));
    }

    /// The time of the packets to come.
    pub fn set_clock(&self, at: u64) {
        self.set(names::CLOCK, &0u32, &at);
    }

    /// The slot of the one established IPv4 flow.
    pub fn only_slot(&self) -> u32 {
        let mut flows = vec![Flow::default(); ENTRIES as usize];
        map::range(self.slots.as_fd(), 0, &mut flows, BPF_F_LOCK).expect("slots can be read");
        let mut used = (0..).zip(flows).filter(|(_, flow)| flow.tag != 0);
        used.next().expect("there is a flow").0
    }

    fn flow(&self, slot: u32) -> Flow {
        map::read(self.slots.as_fd(), &slot).expect("slots can be read").expect("there is one")
    }

    /// Who is at work on the flow in this slot ([`Flow::busy`]).
    pub fn holders(&self, slot: u32) -> u32 {
        self.flow(slot).busy
    }

    /// Says who is at work there; for a flow that does not change meanwhile.
    pub fn hold(&self, slot: u32, busy: u32) {
        let flow = Flow { busy, ..self.flow(slot) };
        map::update(self.slots.as_fd(), &slot, &flow, BPF_F_LOCK).expect("slots can be written");
    }

    /// Keeps what the counts are now, and drops what is on the ring.
    pub fn begin(&mut self) {
        while self.ring.next().is_some() {}
        self.before = (self.all_totals(), self.all_health());
    }

    /// What the kernel knows since [`Rig::begin`]; its tables are empty afterwards.
    pub fn end(&mut self) -> Knowledge {
        let mut records = Vec::new();
        while let Some(bytes) = self.ring.next() {
            records.push(bytes.to_vec());
        }
        let (mut totals, mut health) = (self.all_totals(), self.all_health());
        for (now, before) in totals.iter_mut().zip(&self.before.0) {
            now.iter_mut().zip(before).for_each(|(n, b)| *n -= b);
        }
        for (now, before) in health.iter_mut().zip(&self.before.1) {
            now.iter_mut().zip(before).for_each(|(n, b)| *n -= b);
        }
        self.forget_hops();
        Knowledge {
            flows: self.drain_established(),
            half_open: self.drain(HALF_OPEN, BPF_F_LOCK),
            scores: self.drain(SCORES, 0),
            closed: self.drain(CLOSED, 0),
            records,
            totals,
            health,
        }
    }

    fn forget_hops(&self) {
        let mut used = Vec::new();
        let visit = |place: &u32, word: &u64| used.extend((*word != 0).then_some(*place));
        map::for_each(fd(self.map(names::HOPS)), 0, visit).expect("a table can be read");
        used.iter().for_each(|place| self.set(names::HOPS, place, &0u64));
    }

    fn all_totals(&self) -> Vec<Totals> {
        let indices = 0..2 * SERVICES;
        indices.map(|i| sum(self.totals.get(&i, 0).expect("totals").iter())).collect()
    }

    fn all_health(&self) -> Vec<HealthCounts> {
        (0..4).map(|i| sum(self.health.get(&i, 0).expect("self-counters").iter())).collect()
    }

    fn drain_established(&self) -> BTreeMap<String, Flow> {
        fn one<K: Key>(table: &Established, out: &mut BTreeMap<String, Flow>) {
            let visit = |key: &K, flow: &Flow| {
                assert!(out.insert(name(key.any()), *flow).is_none(), "a flow was met twice");
            };
            table.for_each(u32::MAX, visit).expect("slots can be read");
            table.clear::<K>().expect("slots can be freed");
        }
        let mut out = BTreeMap::new();
        one::<FlowKey4>(&self.established[0], &mut out);
        one::<FlowKey6>(&self.established[1], &mut out);
        out
    }

    fn drain<V: Pod>(&self, tables: [&str; 2], flags: u64) -> BTreeMap<String, V> {
        let mut out = BTreeMap::new();
        drain_one::<FlowKey4, V>(self.map(tables[0]), flags, &mut out);
        drain_one::<FlowKey6, V>(self.map(tables[1]), flags, &mut out);
        out
    }
}

fn drain_one<K: Key, V: Pod>(map: &MapData, flags: u64, out: &mut BTreeMap<String, V>) {
    let mut keys = Vec::new();
    let visit = |key: &K, value: &V| {
        keys.push(*key);
        assert!(out.insert(name(key.any()), *value).is_none(), "an entry was met twice");
    };
    map::for_each(map.fd().as_fd(), flags, visit).expect("a table can be read");
    map::delete_all(map.fd().as_fd(), &keys).expect("entries can be deleted");
}

fn sum<const N: usize>(each: impl Iterator<Item = impl std::borrow::Borrow<[u64; N]>>) -> [u64; N] {
    let mut out = [0; N];
    for values in each {
        out.iter_mut().zip(values.borrow()).for_each(|(n, v)| *n += v);
    }
    out
}

fn name(key: FlowKey) -> String {
    format!("{key:?}")
}

/// What the host knows.
pub fn knowledge(host: &mut Host) -> Knowledge {
    let directions = [Direction::Ingress, Direction::Egress];
    let mut known = Knowledge {
        flows: host.flows().map(|(k, v)| (name(k), *v)).collect(),
        half_open: host.half_open().map(|(k, v)| (name(k), *v)).collect(),
        scores: host.scores().map(|(k, v)| (name(k), *v)).collect(),
        closed: host.closed().map(|(k, v)| (name(k), *v)).collect(),
        records: host.take_records(),
        totals: vec![[0; COUNTERS]; 2 * SERVICES as usize],
        health: vec![HealthCounts::default(); 4],
    };
    for direction in directions {
        for svc in 0..SERVICES as u16 {
            let to = &mut known.totals[totals_index(SERVICES, 0, svc, direction) as usize];
            *to = *host.totals(0, svc, direction).expect("there is room for it");
        }
        for point in 0..=1 {
            let to = &mut known.health[health_index(point, direction) as usize];
            *to = *host.health(point, direction).expect("there is room for it");
        }
    }
    known
}

/// Runs the packets through both sides and says what both know, or the first thing they differ in.
pub fn compare(rig: &mut Rig, packets: &[Packet]) -> Result<Knowledge, String> {
    let [mut asked, mut hurried] = [host(), host()];
    rig.begin();
    for packet in packets {
        rig.set_clock(packet.at);
        rig.programs.run(packet, 1);
        asked.feed(packet, LOOPBACK, packet.hook.direction(), Nanos(packet.at));
        hurried.pass(packet, LOOPBACK, packet.hook.direction(), Nanos(packet.at));
    }
    let host = knowledge(&mut asked);
    alike(&knowledge(&mut hurried), &host).map_err(|why| format!("on the host, the short way: {why}"))?;
    let kernel = rig.end();
    let full = [Health::FlowTableFull, Health::HalfOpenFull, Health::ClosedFull, Health::ScoreboardFull];
    if let Some(what) = full.into_iter().find(|what| kernel.health(*what) > host.health(*what)) {
        return Err(format!(
            "{what:?}: the rig's tables, {ENTRIES} entries each, have no room for all of this, and what they hold is no \
             fault of the programs'; an agent that sees so many connections is started `alone`"
        ));
    }
    alike(&kernel, &host)?;
    Ok(kernel)
}

/// The first thing that the kernel (or who stands for it) and the host, all segments the long way, differ in.
fn alike(kernel: &Knowledge, host: &Knowledge) -> Result<(), String> {
    same("flows", &kernel.flows, &host.flows)?;
    same("half-open flows", &kernel.half_open, &host.half_open)?;
    same("scoreboards", &kernel.scores, &host.scores)?;
    same("closed connections", &kernel.closed, &host.closed)?;
    for (place, (k, h)) in kernel.records.iter().zip(&host.records).enumerate() {
        if k != h {
            return Err(format!(
                "record {place}: {:#?}\non the host {:#?}",
                Record::decode(k),
                Record::decode(h)
            ));
        }
        Record::decode(k).map_err(|why| format!("record {place} cannot be decoded: {why:?}"))?;
    }
    if kernel.records.len() != host.records.len() {
        return Err(format!("{} records, on the host {}", kernel.records.len(), host.records.len()));
    }
    counts("totals", &kernel.totals, &host.totals)?;
    counts("health", &kernel.health, &host.health)
}

fn same<V: Pod + Debug>(
    what: &str,
    kernel: &BTreeMap<String, V>,
    host: &BTreeMap<String, V>,
) -> Result<(), String> {
    for key in kernel.keys().chain(host.keys()) {
        let (k, h) = (kernel.get(key), host.get(key));
        if k.map(bytemuck::bytes_of) != h.map(bytemuck::bytes_of) {
            return Err(format!("{what}, {key}: {k:#?}\non the host {h:#?}"));
        }
    }
    Ok(())
}

fn counts<const N: usize>(what: &str, kernel: &[[u64; N]], host: &[[u64; N]]) -> Result<(), String> {
    for (index, (k, h)) in kernel.iter().zip(host).enumerate() {
        if let Some(place) = (0..N).find(|i| k[*i] != h[*i]) {
            return Err(format!("{what} {index}, place {place}: {}, on the host {}", k[place], h[place]));
        }
    }
    Ok(())
}

/// [`compare`], of which nothing but equality is expected; what fails is cut down to as few packets as still fail.
#[track_caller]
pub fn agree(rig: &mut Rig, packets: &[Packet], origin: impl FnOnce() -> String) -> Knowledge {
    let first = match compare(rig, packets) {
        Ok(known) => return known,
        Err(why) => why,
    };
    let (mut least, mut why) = (packets.to_vec(), first);
    let mut place = least.len();
    while place > 0 && least.len() < 400 {
        place -= 1;
        let mut fewer = least.clone();
        fewer.remove(place);
        if let Err(still) = compare(rig, &fewer) {
            (least, why) = (fewer, still);
        }
    }
    let shown: Vec<String> = least.iter().map(|packet| format!("{packet:?}")).collect();
    panic!("kernel and host differ ({}) in {why}\nafter\n{}", origin(), shown.join("\n"));
}
