//! What a record costs of memory while the daemon runs: nothing, once its stores are full. A program of its own, as it counts
//! every allocation of its thread.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::{Duration, SystemTime},
};

use agent::aggregate::{events::Events, rows::Sight};
use agent_ebpf::{
    flow::Flow,
    label::Side,
    record::{AnomalyRecord, EndRecord, Head, Record, Tag},
    scoreboard::Counts,
    time::Nanos,
    traffic::Close,
    wire::Addr,
};

thread_local! {
    static ALLOCATED: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counted.
struct Counted;

// SAFETY: all is handed on to the system's; counting allocates nothing, as the cell is made at compile time.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.with(|n| n.set(n.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATED.with(|n| n.set(n.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static COUNTED: Counted = Counted;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATED.get();
    work();
    ALLOCATED.get() - before
}

/// The records of a connection as they come off the ring: an anomaly, and its end; every other one has counts.
fn records(n: u32) -> [Vec<u8>; 2] {
    let head = |tag: Tag| Head {
        tag: tag as u32,
        client: Addr::v4([10, 1, (n >> 16) as u8, (n >> 8) as u8]),
        client_port: 1_024 + (n & 0xff) as u16,
        server: Addr::v4([10, 9, 9, 9]),
        server_port: 443,
        ..Head::default()
    };
    let flow = Flow { close: Close::FinClient as u8 + 1, ..Flow::default() };
    let counts = [Counts { retransmissions: n & 1, ..Counts::default() }; 2];
    let end = EndRecord { head: head(Tag::End), counts, flow };
    let anomaly =
        AnomalyRecord { head: head(Tag::Anomaly), from: Side::Client as u8, ..AnomalyRecord::default() };
    [bytemuck::bytes_of(&anomaly).to_vec(), bytemuck::bytes_of(&end).to_vec()]
}

/// The last state of the same connection, as the sweep that lets go of it has it.
fn last(n: u32) -> Sight {
    let Ok(Record::End(end)) = Record::decode(&records(n)[1]) else { panic!("it is a sound end") };
    agent::aggregate::events::sight(&end)
}

#[test]
fn a_record_takes_no_memory_once_the_store_is_full() {
    const FILL: u32 = 100_000;
    const MORE: u32 = 40_000;
    let mut events = Events::default();
    let mut go = |of: std::ops::Range<u32>| {
        let (now, clock) = (SystemTime::UNIX_EPOCH + Duration::from_secs(1_000), Nanos(1_000));
        let given: Vec<_> = of.map(|n| (records(n), last(n))).collect();
        allocations(|| {
            for (records, last) in &given {
                for bytes in records {
                    events.push(&Record::decode(bytes).expect("it is sound"), now, clock);
                }
                events.settle(last);
            }
        })
    };
    assert!(go(0..FILL) > 0, "the allocator is counted");
    assert_eq!(go(FILL..FILL + MORE), 0);
    assert_eq!(
        events.ended().filter(|end| end.counts[0].retransmissions > 0).count() * 2,
        events.ended().count()
    );
}
