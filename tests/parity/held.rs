//! A flow that somebody is at work on: a healthy segment goes the long way, whoever comes waits, and has an end of waiting.
//!
//! Where programs may be preempted there is only the kernel's lock, and nothing of this.

use std::sync::MutexGuard;
use std::thread;
use std::time::{Duration, Instant};

use agent::probe::has_own_lock;
use agent_ebpf::flow::Flow;
use agent_ebpf::health::Health;
use agent_ebpf::traffic::Traffic;
use harness::impair::flags;

use crate::race::{AT, packet, shake_hands};
use harness::parity::packet::Packet;
use harness::parity::rig::Rig;

const PORT: u16 = 50_000;

/// A rig with one established flow, and its slot; or none where flows are not held so.
fn one_flow() -> Option<(MutexGuard<'static, Rig>, u32)> {
    if !has_own_lock() {
        println!("here the short way takes the kernel's lock: nobody holds a flow by a word of it");
        return None;
    }
    let mut rig = Rig::get();
    rig.begin();
    rig.set_clock(AT);
    shake_hands(&rig, PORT);
    let slot = rig.only_slot();
    assert_eq!(rig.holders(slot), 0);
    Some((rig, slot))
}

/// The next of the client's data, which would go the short way.
fn healthy() -> Packet {
    packet(PORT, 0, flags::ACK, 1, 100)
}

#[test]
fn who_is_on_the_long_way_keeps_a_healthy_segment_from_the_short_one() {
    let Some((mut rig, slot)) = one_flow() else { return };
    rig.hold(slot, Flow::LONG);
    rig.programs.run(&healthy(), 1);
    assert_eq!(rig.holders(slot), Flow::LONG);
    rig.hold(slot, 0);
    let known = rig.end();
    let flow = known.flows.values().next().expect("one flow");
    assert_eq!(flow.half.iter().map(|half| half.bytes).sum::<u64>(), 100);
    assert_eq!((known.health(Health::Counted), known.health(Health::LostRace)), (4, 0));
}

#[test]
fn a_segment_is_judged_as_soon_as_who_was_on_the_short_way_has_gone() {
    let Some((mut rig, slot)) = one_flow() else { return };
    let until = Instant::now() + Duration::from_secs(60);
    let (mut turns, mut in_time) = (0, 0);
    // This thread, too, may have to wait for a processor, longer than the packet waits for this thread.
    while in_time < 3 {
        assert!(Instant::now() < until, "of {turns} packets that waited {in_time} were let go in time");
        rig.hold(slot, Flow::SHORT);
        let waited = thread::scope(|scope| {
            let waits = scope.spawn(|| rig.programs.run(&packet(PORT, 0, flags::ACK, 1, 0), 1));
            while rig.holders(slot) < Flow::LONG && !waits.is_finished() {}
            let holders = rig.holders(slot);
            rig.hold(slot, holders & !Flow::SHORT);
            holders > Flow::LONG
        });
        turns += 1;
        in_time += u64::from(waited && rig.holders(slot) == 0);
        // Where it had given up in this very moment, what was said of it is not true any more.
        rig.hold(slot, 0);
    }
    let known = rig.end();
    let flow = known.flows.values().next().expect("one flow");
    assert_eq!(known.health(Health::Counted), 3 + turns);
    let judged = flow.half.iter().map(|half| half.segments).sum::<u64>() - 3;
    assert!(judged >= in_time, "of {turns} packets {judged} were judged");
    assert_eq!(judged, turns - known.health(Health::LostRace));
}

#[test]
fn waiting_has_an_end_and_what_was_not_judged_is_counted() {
    let Some((mut rig, slot)) = one_flow() else { return };
    rig.hold(slot, Flow::SHORT);
    rig.programs.run(&healthy(), 1);
    rig.programs.run(&packet(PORT, 1, flags::ACK | flags::FIN, 1, 0), 1);
    assert_eq!(rig.holders(slot), Flow::SHORT, "whoever waited has gone");
    rig.hold(slot, 0);
    rig.programs.run(&healthy(), 1);
    let known = rig.end();
    let flow = known.flows.values().next().expect("one flow");
    assert_eq!(
        flow.half.iter().map(|half| half.bytes).sum::<u64>(),
        100,
        "of three segments the last was judged"
    );
    assert_eq!((known.health(Health::Counted), known.health(Health::LostRace)), (6, 2));
    assert_eq!(known.traffic(Traffic::Segments, 0), 6, "all of them are in the totals");
}
