//! Names and sizes that the kernel object and the daemon share.

use crate::{
    counter::{COUNTERS, HISTOGRAM_BASE, TRAFFIC_BASE},
    flow::{Closed, Flow, FlowKey4, FlowKey6},
    health::Health,
    hops,
    label::Direction,
    record::{AnomalyRecord, EndRecord, TextRecord},
    scoreboard::Scoreboard,
};
use bytemuck::{Pod, Zeroable};
use core::mem::offset_of;

/// XDP program for ingress on hardware drivers.
pub const XDP_INGRESS: &str = "ft_xdp_in";
/// tc program for ingress where XDP cannot be had.
pub const TC_INGRESS: &str = "ft_tc_in";
/// tc program for egress.
pub const TC_EGRESS: &str = "ft_tc_out";

/// tc program that is never attached: the daemon has it run on a [`Take`].
pub const TAKE: &str = "ft_take";
/// The same, on a [`Read`].
pub const READ: &str = "ft_read";

/// Read-only globals of the programs: [`Config`] and [`Index`].
pub const CONFIG: &str = "CONFIG";
/// See [`CONFIG`].
pub const INDEX: &str = "INDEX";

macro_rules! maps {
    ($( $name:ident = $capacity:expr, $doc:literal; )+) => {
        /// Kernel maps and their capacities in entries (the ring's in bytes); the daemon sets those it is told to.
        pub mod maps {
            $( #[doc = $doc] pub const $name: &str = stringify!($name); )+
            /// Capacities compiled into the object.
            pub mod capacity {
                $( #[doc = $doc] pub const $name: usize = $capacity; )+
            }
            /// All of them.
            pub const ALL: &[&str] = &[$(stringify!($name)),+];
        }
    };
}

maps! {
    FLOWS4 = 65_536, "Established IPv4 flows: `FlowKey4` to the number of a slot.";
    FLOWS6 = 16_384, "Established IPv6 flows: `FlowKey6` to the number of a slot.";
    SLOTS4 = 65_536, "What is known of established IPv4 flows: slot to `Flow`.";
    SLOTS6 = 16_384, "What is known of established IPv6 flows.";
    KEYS4 = 65_536, "Whose a slot of `SLOTS4` is, or was last: `FlowKey4`.";
    KEYS6 = 16_384, "Whose a slot of `SLOTS6` is, or was last: `FlowKey6`.";
    FREE4 = 65_536, "Slots of `SLOTS4` that are nobody's.";
    FREE6 = 16_384, "Slots of `SLOTS6` that are nobody's.";
    INDEX4 = 16_384, "Where in `SLOTS4` a flow probably is: `index::Bucket`.";
    INDEX6 = 4_096, "Where in `SLOTS6` a flow probably is.";
    HIGH = 2, "Per-CPU `High`: of the programs, and of the daemon (the same for each processor).";
    HALF_OPEN4 = 16_384, "IPv4 flows that are not seen to be conversations yet.";
    HALF_OPEN6 = 4_096, "IPv6 flows that are not seen to be conversations yet.";
    CLOSED4 = 262_144, "Closed IPv4 five-tuples: `FlowKey4` to `Closed`, until their TIME-WAIT is over.";
    CLOSED6 = 65_536, "Closed IPv6 five-tuples.";
    SCORES4 = 16_384, "Scoreboards of IPv4 flows that have had an anomaly, as long as the flow is there.";
    SCORES6 = 4_096, "Scoreboards of IPv6 flows that have had an anomaly.";
    SERVICES = 4_096, "Servers' prefixes and ports: `ServiceKey` to service number (longest prefix).";
    POINTS = 65_536, "Watched interfaces: the low 16 bits of the interface index to `Point`.";
    HOPS = crate::hops::PLACES as usize, "The TTL of servers' SYN-ACKs: `hops::place` to `Hops`.";
    SETTINGS = 1, "One `Settings`.";
    TOTALS = 64, "Per-CPU `Totals`, at `totals_index`.";
    HEALTH = 32, "Per-CPU `HealthCounts`, at `health_index`.";
    EVENTS = 4_194_304, "Ring buffer of records.";
    MOVING = 1, "Per-CPU room for a flow on its way to another table.";
    PLAIN = 1, "Per-CPU working memory of one packet that goes the short way.";
    SCRATCH = 1, "Per-CPU working memory of one packet.";
    OPTIONS = 1, "Per-CPU room for TCP options.";
    BLANK = 1, "Zeroes to make entries from.";
    PASTIME = 1, "What is copied in place, so that time passes (`probe/lock.rs`).";
    TICK = 1, "Per-CPU `Tick`.";
    ROWS = 1, "What `ft_read` brought last: `AT_ONCE` times a `Row`; mapped by the daemon.";
    CLOCK = 1, "The time of the next packet, for tests that hand it in.";
}

/// Maps that outlive an agent where it was asked for that: what they hold is never made anew.
pub const KEPT: [&str; 19] = [
    maps::FLOWS4,
    maps::FLOWS6,
    maps::SLOTS4,
    maps::SLOTS6,
    maps::KEYS4,
    maps::KEYS6,
    maps::FREE4,
    maps::FREE6,
    maps::HIGH,
    maps::HALF_OPEN4,
    maps::HALF_OPEN6,
    maps::CLOSED4,
    maps::CLOSED6,
    maps::SCORES4,
    maps::SCORES6,
    maps::HOPS,
    maps::TOTALS,
    maps::HEALTH,
    maps::EVENTS,
];

/// To be raised where what is in [`KEPT`] means something else and no size tells.
const REVISION: u64 = 2;

/// Tells apart layouts of what is in [`KEPT`]: an agent goes on with the tables of another one of the same version only.
pub const VERSION: u32 = version();

const fn version() -> u32 {
    let words = [
        REVISION,
        TRAFFIC_BASE as u64,
        HISTOGRAM_BASE as u64,
        COUNTERS as u64,
        Health::COUNT as u64,
        size_of::<FlowKey4>() as u64,
        size_of::<FlowKey6>() as u64,
        size_of::<Flow>() as u64,
        offset_of!(Flow, opened) as u64,
        offset_of!(Flow, svc) as u64,
        offset_of!(Flow, path) as u64,
        offset_of!(Flow, request_at) as u64,
        size_of::<Closed>() as u64,
        size_of::<Scoreboard>() as u64,
        size_of::<AnomalyRecord>() as u64,
        size_of::<EndRecord>() as u64,
        size_of::<TextRecord>() as u64,
        hops::PLACES as u64,
    ];
    // FNV-1a, by words and by the names' bytes.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut i = 0;
    while i < words.len() {
        hash = (hash ^ words[i]).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    i = 0;
    while i < KEPT.len() {
        let name = KEPT[i].as_bytes();
        let mut at = 0;
        while at < name.len() {
            hash = (hash ^ name[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
            at += 1;
        }
        i += 1;
    }
    (hash ^ hash >> 32) as u32
}

/// Most points: the number fits the flow key, and the last one means "none".
pub const MAX_POINTS: u8 = 255;

/// Read-only configuration, fixed when the programs are loaded.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Config {
    /// Points under watch, numbered from 0; one more place stands behind them for interfaces that are none.
    pub points: u32,
    /// Service numbers that `TOTALS` has room for, 0 (other) included.
    pub services: u32,
    /// 1: time comes from `CLOCK` instead of the kernel's clock (tests only).
    pub test_clock: u32,
    /// 1: the XDP program may get frames in pieces (`xdp.frags`, Linux 5.18), and may ask for their whole length.
    pub xdp_frags: u32,
    /// 1: the kernel has a clock that is a few milliseconds late and costs next to nothing (Linux 5.11).
    pub coarse_clock: u32,
    /// 1: the short way takes a flow by [`Flow::busy`] alone, without the kernel's lock.
    pub own_lock: u32,
}

/// How the maps `INDEX4` and `INDEX6` are used, fixed when the programs are loaded.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Index {
    /// For [`crate::index::hash`].
    pub seed: u64,
    /// Entries of either map, powers of two.
    pub buckets: [u32; 2],
}

/// The packet that [`TAKE`] is run on: lets go of a flow, unless something came since it was read. The program returns 1 if it
/// did. One at a time: Linux 5.10 walks a million instructions through a loop of several.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Take {
    /// Either key; that of IPv4 has zeroes behind it.
    pub key: [u32; 10],
    /// [`Take::V6`] and [`Take::HALF_OPEN`].
    pub table: u32,
    /// As in [`Flow`].
    pub tag: u32,
    /// Segments of each half.
    pub segments: [u64; 2],
    /// As in [`Flow`].
    pub bits: u32,
    /// Explicit padding, always 0.
    pub reserved: u32,
}
const _: () = assert!(size_of::<Take>() == 72);

impl Take {
    /// The key is of IPv6.
    pub const V6: u32 = 1;
    /// The flow is in the table of those that are not established.
    pub const HALF_OPEN: u32 = 2;
}

/// The packet that [`READ`] is run on: copies [`STEP`] flows, each under its lock, to the map `ROWS`, and moves the request on
/// for the next run. The program returns how many rows there are by now. It is run several times on one packet, as the
/// kernel's verifier walks through each turn of a loop, and the longer it gets the slower.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Read {
    /// The next slot.
    pub first: u32,
    /// 1: of IPv6.
    pub v6: u32,
    /// The next row.
    pub row: u32,
    /// 1: a run has come to a flow that somebody holds, or to the end of the table; those after it do nothing.
    pub over: u32,
}
const _: () = assert!(size_of::<Read>() == 16);

/// Slots that one run of [`READ`] looks at.
pub const STEP: u32 = 8;
/// Rows that there is room for.
pub const AT_ONCE: u32 = 128;

/// A slot as [`READ`] found it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Row {
    /// The flow; of one that is nobody's only the tag is written, 0.
    pub flow: Flow,
    /// Whose it is, in the key's own words, or just was: the flow's tag tells.
    pub key: [u32; 10],
}
const _: () = assert!(size_of::<Row>() == 296);

/// One more than the highest slot that this processor ever took, of IPv4 and IPv6; 0 for none.
pub type High = [u32; 2];

/// What a processor last had of the coarse clock, which stands still between two ticks.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Tick {
    /// The kernel's count of ticks then (`jiffies64`).
    pub jiffies: u64,
    /// The clock then, nanoseconds.
    pub at: u64,
}

/// Four mebibytes, the most that an entry may have: to copy them takes some hundred microseconds.
pub type Pastime = [u64; 1 << 19];

/// An interface under watch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Point {
    /// The whole interface index; 0 for an unused entry.
    pub ifindex: u32,
    /// Its number.
    pub point: u32,
}

/// Key of [`maps::SERVICES`] behind the kernel's prefix length in bits: port first (0 for any), then the address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ServiceKey {
    /// Port, network byte order.
    pub port: [u8; 2],
    /// Explicit padding, always 0 and always matched.
    pub reserved: [u8; 2],
    /// Address; IPv4 mapped.
    pub addr: [u8; 16],
}
/// Set in a service's number where it speaks HTTP in the clear, and the operator asked for that.
pub const SERVICE_TEXT: u16 = 1 << 15;
/// Bits of [`ServiceKey`] before the address.
pub const SERVICE_PORT_BITS: u32 = 32;

/// Totals of one point, service and direction.
pub type Totals = [u64; COUNTERS];
/// Self-counters of one point and direction.
pub type HealthCounts = [u64; Health::COUNT];

/// Where the totals of a point, service and direction stand.
#[inline(always)]
pub const fn totals_index(services: u32, point: u8, svc: u16, direction: Direction) -> u32 {
    (point as u32 * services + svc as u32) * 2 + direction as u32
}

/// Where the self-counters of a point and direction stand; one place beyond the last point is for packets of
/// interfaces that are none.
#[inline(always)]
pub const fn health_index(point: u32, direction: Direction) -> u32 {
    point * 2 + direction as u32
}
