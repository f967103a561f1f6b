//! The maps. Names and capacities are those of [`agent_ebpf::layout`].

use agent_ebpf::{
    flow::{Closed, Flow, FlowKey4, FlowKey6},
    index::Bucket,
    layout::{
        AT_ONCE, Config, HealthCounts, High, Index, Pastime, Point, Row, ServiceKey, Tick, Totals,
        maps::capacity,
    },
    pipeline::Scratch,
    quick::Plain,
    record::AnomalyRecord,
    scoreboard::Scoreboard,
    sighting::Settings,
    wire::options::BUFFER,
};
use aya_ebpf::{
    Global,
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, HashMap, LpmTrie, PerCpuArray, RingBuf, Stack},
    macros::btf_map,
};

const PLAIN_WORDS: usize = size_of::<Plain>().div_ceil(8);
const ROWS_WORDS: usize = AT_ONCE as usize * size_of::<Row>() / 8;
const MAPPABLE: usize = BPF_F_MMAPABLE as usize;
const SCRATCH_WORDS: usize = size_of::<Scratch>().div_ceil(8);
const _: () = assert!(size_of::<Flow>() <= 75 * 8 && size_of::<Scoreboard>() <= 75 * 8);

macro_rules! maps {
    ($( $name:ident: $ty:ty; )+) => {
        $( #[btf_map] pub static $name: $ty = <$ty>::new(); )+
    };
}

maps! {
    FLOWS4: HashMap<FlowKey4, u32, { capacity::FLOWS4 }>;
    FLOWS6: HashMap<FlowKey6, u32, { capacity::FLOWS6 }>;
    SLOTS4: Array<Flow, { capacity::SLOTS4 }>;
    SLOTS6: Array<Flow, { capacity::SLOTS6 }>;
    KEYS4: Array<FlowKey4, { capacity::KEYS4 }>;
    KEYS6: Array<FlowKey6, { capacity::KEYS6 }>;
    FREE4: Stack<u32, { capacity::FREE4 }>;
    FREE6: Stack<u32, { capacity::FREE6 }>;
    INDEX4: Array<Bucket, { capacity::INDEX4 }>;
    INDEX6: Array<Bucket, { capacity::INDEX6 }>;
    HIGH: PerCpuArray<High, { capacity::HIGH }>;
    HALF_OPEN4: HashMap<FlowKey4, Flow, { capacity::HALF_OPEN4 }>;
    HALF_OPEN6: HashMap<FlowKey6, Flow, { capacity::HALF_OPEN6 }>;
    CLOSED4: HashMap<FlowKey4, Closed, { capacity::CLOSED4 }>;
    CLOSED6: HashMap<FlowKey6, Closed, { capacity::CLOSED6 }>;
    SCORES4: HashMap<FlowKey4, Scoreboard, { capacity::SCORES4 }>;
    SCORES6: HashMap<FlowKey6, Scoreboard, { capacity::SCORES6 }>;
    SERVICES: LpmTrie<ServiceKey, u32, { capacity::SERVICES }>;
    POINTS: Array<Point, { capacity::POINTS }>;
    HOPS: Array<u64, { capacity::HOPS }>;
    SETTINGS: Array<Settings, { capacity::SETTINGS }>;
    TOTALS: PerCpuArray<Totals, { capacity::TOTALS }>;
    HEALTH: PerCpuArray<HealthCounts, { capacity::HEALTH }>;
    EVENTS: RingBuf<AnomalyRecord, { capacity::EVENTS }>;
    MOVING: PerCpuArray<[u64; 32], { capacity::MOVING }>;
    PLAIN: PerCpuArray<[u64; PLAIN_WORDS], { capacity::PLAIN }>;
    SCRATCH: PerCpuArray<[u64; SCRATCH_WORDS], { capacity::SCRATCH }>;
    OPTIONS: PerCpuArray<[u8; BUFFER], { capacity::OPTIONS }>;
    // Long enough for a flow and for a scoreboard.
    BLANK: Array<[u64; 75], { capacity::BLANK }>;
    PASTIME: Array<Pastime, { capacity::PASTIME }>;
    TICK: PerCpuArray<Tick, { capacity::TICK }>;
    // In words, so that the kernel looks for no lock in it: a map with locks cannot be mapped.
    ROWS: Array<[u64; ROWS_WORDS], { capacity::ROWS }, MAPPABLE>;
    CLOCK: Array<u64, { capacity::CLOCK }>;
}

/// Set by the daemon before the programs are loaded, then read-only: the verifier knows the values.
#[unsafe(no_mangle)]
pub static CONFIG: Global<Config> =
    Global::new(Config { points: 1, services: 1, test_clock: 0, xdp_frags: 0, coarse_clock: 0, own_lock: 0 });

/// As `CONFIG`; what it is for tells [`agent_ebpf::index`].
#[unsafe(no_mangle)]
pub static INDEX: Global<Index> =
    Global::new(Index { seed: 0, buckets: [capacity::INDEX4 as u32, capacity::INDEX6 as u32] });
