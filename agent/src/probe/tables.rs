//! How large each kernel table is: as the configuration says, or as large as the memory allows that it gives.
//!
//! The formula is published in docs/how-it-works.md; the figures in it come from [`bytes`], and from nowhere else.

use crate::{
    config::{Tables, Watch},
    monitor::room,
    source::{services, slots},
    sys::processors::processors,
};
use agent_ebpf::{
    flow::{Closed, Flow, FlowKey4, FlowKey6},
    hops,
    index::Bucket,
    layout::{AT_ONCE, HealthCounts, High, Pastime, Point, Row, ServiceKey, Totals, maps as names},
    pipeline::Scratch,
    quick::Plain,
    scoreboard::Scoreboard,
};
use std::fmt;

/// Entries of the services' table at least, so that a reload finds room.
const SERVICE_ENTRIES: u32 = 4096;
/// Fewest and most entries of a table of connections.
pub const ENTRIES: std::ops::RangeInclusive<u32> = 256..=16_777_216;
/// A ring that nobody gave a size, where memory is given: a sixteenth of it, within these bounds.
const RING_PART: u64 = 16;
const RING_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=16 << 20;
/// What the kernel needs for a map of its own, and what it rounds up to before Linux 6.4: a page.
const PAGE: u64 = 4096;

/// Limits in space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// Open IPv4 connections; IPv6 has a table of its own, a quarter as large, and so have the two below.
    pub flows: u32,
    /// IPv4 connections that were asked for and not accepted yet.
    pub half_open: u32,
    /// Closed IPv4 five-tuples within their TIME-WAIT window.
    pub closed: u32,
    /// Bytes of the ring that carries records to the daemon.
    pub ring_bytes: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { flows: 65_536, half_open: 16_384, closed: 262_144, ring_bytes: 4 << 20 }
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flows, half_open, closed, ring_bytes } = self;
        write!(
            f,
            "flows {flows}, half_open {half_open}, closed {closed}, and a quarter of each again for IPv6; "
        )?;
        write!(f, "ring_bytes {ring_bytes}")
    }
}

impl Sizes {
    /// What is not given follows from these sizes of the other tables, in the proportion of the defaults.
    fn of(tables: &Tables, flows: u32, ring_bytes: u32) -> Self {
        let within = |n: u32| n.clamp(*ENTRIES.start(), *ENTRIES.end());
        Self {
            flows: tables.flows.unwrap_or(flows),
            half_open: tables.half_open.unwrap_or(within(flows / 4)),
            closed: tables.closed.unwrap_or(within(flows.saturating_mul(4))),
            ring_bytes: tables.ring_bytes.unwrap_or(ring_bytes),
        }
    }

    /// The smallest of all that is not given.
    fn least(tables: &Tables) -> Self {
        Self::of(tables, *ENTRIES.start(), *RING_BYTES.start() as u32)
    }
}

/// Sizes of the tables of connections and of the ring.
///
/// # Errors
/// Where the memory that is given is too little: why, and what to write.
pub fn sizes(watch: &Watch) -> Result<Sizes, String> {
    let tables = &watch.tables;
    let Some(budget) = tables.memory else {
        let Sizes { flows, ring_bytes, .. } = Sizes::default();
        return Ok(Sizes::of(tables, flows, ring_bytes));
    };
    let least = Sizes::least(tables);
    let needed = |sizes: &Sizes| memory_of(&entries(watch, sizes, room(watch.services.len())));
    if needed(&least) > budget {
        return Err(format!(
            "is too little: the smallest tables that fit the rest of the configuration (points: {}, services: {}, {least}) take {} bytes; write at least {}MiB",
            watch.places(),
            watch.services.len(),
            needed(&least),
            needed(&least).div_ceil(1 << 20)
        ));
    }
    // The kernel takes only powers of two.
    let mut ring = 1 << (budget / RING_PART).clamp(*RING_BYTES.start(), *RING_BYTES.end()).ilog2();
    while needed(&Sizes::of(tables, *ENTRIES.start(), ring)) > budget {
        ring /= 2;
    }
    // The most that fit: every table grows with this number, or stays.
    let (mut fits, mut most) = (*ENTRIES.start(), *ENTRIES.end());
    while fits < most {
        let middle = most - (most - fits) / 2;
        if needed(&Sizes::of(tables, middle, ring)) <= budget {
            fits = middle;
        } else {
            most = middle - 1;
        }
    }
    Ok(Sizes::of(tables, fits, ring))
}

/// Entries of every table that depends on the configuration (bytes, for the ring), with room for so many services.
pub fn capacities(watch: &Watch, room: u32) -> Vec<(&'static str, u32)> {
    // What is too little was refused when the configuration was read.
    entries(watch, &sizes(watch).unwrap_or_else(|_| Sizes::least(&watch.tables)), room)
}

/// Bytes of kernel memory that all tables of a configuration take at most, with room for so many services.
pub fn memory(watch: &Watch, room: u32) -> u64 {
    memory_of(&capacities(watch, room))
}

fn memory_of(capacities: &[(&'static str, u32)]) -> u64 {
    // Without a number nothing can be counted later, either, and the start says so.
    let processors = processors().unwrap_or(1) as u64;
    capacities.iter().map(|(name, entries)| bytes(name, u64::from(*entries), processors)).sum::<u64>()
        + fixed(processors)
}

fn entries(watch: &Watch, sizes: &Sizes, room: u32) -> Vec<(&'static str, u32)> {
    let points = watch.places() as u32;
    let services = services::entries(watch.services.iter().map(|service| (0, service))).len() as u32;
    let rest = [
        (names::HALF_OPEN4, sizes.half_open),
        (names::HALF_OPEN6, sizes.half_open / 4),
        (names::CLOSED4, sizes.closed),
        (names::CLOSED6, sizes.closed / 4),
        (names::SCORES4, sizes.flows / 4),
        (names::SCORES6, sizes.flows / 16),
        (names::SERVICES, SERVICE_ENTRIES.max(2 * services)),
        (names::TOTALS, 2 * points * room),
        (names::HEALTH, 2 * (points + 1)),
        (names::EVENTS, sizes.ring_bytes),
    ];
    slots::capacities([sizes.flows, sizes.flows / 4]).chain(rest).collect()
}

/// Bytes of kernel memory of a table with so many entries: an upper bound for every kernel since 5.10.
fn bytes(name: &str, entries: u64, processors: u64) -> u64 {
    match name {
        names::FLOWS4 => hash::<FlowKey4, u32>(entries, processors),
        names::FLOWS6 => hash::<FlowKey6, u32>(entries, processors),
        names::SLOTS4 | names::SLOTS6 => entries * words::<Flow>(),
        names::KEYS4 => entries * words::<FlowKey4>(),
        names::KEYS6 => entries * words::<FlowKey6>(),
        // A stack has room for one more than it takes.
        names::FREE4 | names::FREE6 => (entries + 1) * size_of::<u32>() as u64,
        names::INDEX4 | names::INDEX6 => entries * words::<Bucket>(),
        names::HALF_OPEN4 => hash::<FlowKey4, Flow>(entries, processors),
        names::HALF_OPEN6 => hash::<FlowKey6, Flow>(entries, processors),
        names::CLOSED4 => hash::<FlowKey4, Closed>(entries, processors),
        names::CLOSED6 => hash::<FlowKey6, Closed>(entries, processors),
        names::SCORES4 => hash::<FlowKey4, Scoreboard>(entries, processors),
        names::SCORES6 => hash::<FlowKey6, Scoreboard>(entries, processors),
        // A node, its data (prefix length, key, value), and for each entry at most one node in between.
        names::SERVICES => entries * 2 * (40 + words::<ServiceKey>() + 8),
        names::TOTALS => per_cpu::<Totals>(entries, processors),
        names::HEALTH => per_cpu::<HealthCounts>(entries, processors),
        // Each page is mapped twice, by eight bytes.
        names::EVENTS => entries + 2 * 8 * entries.div_ceil(PAGE) + 4 * PAGE,
        _ => 0,
    }
}

/// What does not depend on the configuration.
fn fixed(processors: u64) -> u64 {
    names::capacity::POINTS as u64 * words::<Point>()
        + u64::from(hops::PLACES) * 8
        + per_cpu::<(Flow, Plain, Scratch, [High; 2])>(1, processors)
        + words::<Pastime>()
        + (u64::from(AT_ONCE) * words::<Row>()).next_multiple_of(PAGE)
        + names::ALL.len() as u64 * PAGE
}

/// A hash map takes all memory at once: its elements, with one to spare for each processor, and its buckets, as many as
/// the next power of two.
fn hash<K, V>(entries: u64, processors: u64) -> u64 {
    const ELEMENT: u64 = 48;
    const BUCKET: u64 = 16;
    (entries + processors) * (ELEMENT + words::<K>() + words::<V>()) + entries.next_power_of_two() * BUCKET
}

fn per_cpu<V>(entries: u64, processors: u64) -> u64 {
    entries * (8 + processors * words::<V>())
}

/// Bytes in whole words.
const fn words<T>() -> u64 {
    (size_of::<T>() as u64).next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file;
    use std::path::Path;

    fn watch(tables: &str) -> Watch {
        let text = format!("interfaces: [{{name: eth0}}, {{name: eth1}}]\ntables: {{{tables}}}\n");
        let file = file::parse(&text, Path::new("")).unwrap();
        Watch { interfaces: file.interfaces, tables: file.tables, ..Watch::default() }
    }

    fn sized(tables: &str) -> Sizes {
        sizes(&watch(tables)).unwrap()
    }

    #[test]
    fn without_a_word_of_memory_the_defaults_hold() {
        assert_eq!(sized(""), Sizes::default());
        assert_eq!(sized("closed: 1000"), Sizes { closed: 1000, ..Sizes::default() });
    }

    #[test]
    fn the_memory_is_used_and_never_exceeded() {
        for mib in [16, 64, 100, 256, 1024, 4096] {
            let watch = watch(&format!("memory: {mib}MiB"));
            let used = memory(&watch, room(0));
            let given = mib << 20;
            // One bucket more doubles the buckets of the largest table.
            assert!(used <= given && used > given - given / 8, "{mib} MiB: {used}");
            let sizes = sizes(&watch).unwrap();
            assert_eq!((sizes.half_open, sizes.closed), (sizes.flows / 4, 4 * sizes.flows));
        }
        assert!(sized("memory: 256MiB").flows > 100_000);
    }

    #[test]
    fn a_size_that_is_given_holds_and_the_others_share_the_rest() {
        let (all, some) = (sized("memory: 256MiB"), sized("memory: 256MiB, closed: 10_000"));
        assert_eq!(some.closed, 10_000);
        assert!(some.flows > all.flows && some.half_open > all.half_open, "{some:?} {all:?}");
        let all = sized("memory: 64MiB, flows: 1000, half_open: 2000, closed: 3000, ring_bytes: 64KiB");
        assert_eq!(all, Sizes { flows: 1000, half_open: 2000, closed: 3000, ring_bytes: 65_536 });
        assert_eq!(sized("memory: 64MiB").ring_bytes, 4 << 20);
        assert_eq!(sized("memory: 8MiB").ring_bytes, 512 << 10);
    }

    #[test]
    fn what_cannot_fit_is_refused_with_what_would() {
        for tables in ["memory: 1MiB", "memory: 64MiB, flows: 1_000_000", "memory: 16MiB, ring_bytes: 16MiB"]
        {
            let text = sizes(&watch(tables)).unwrap_err();
            let least = text.split("at least ").nth(1).unwrap().to_owned();
            let given = tables.split_once("MiB").unwrap().1;
            sized(&format!("memory: {least}{given}"));
        }
    }
}
