//! Two processors in the kernel's tables at once, with packets of one flow: nothing is lost, counted twice or torn.

use std::sync::{Barrier, MutexGuard};
use std::thread;

use agent_ebpf::flow::Flow;
use agent_ebpf::health::Health;
use agent_ebpf::traffic::{Opened, Traffic};
use harness::impair::flags;
use harness::raw::Frame;
use harness::topology::{CLIENT, SERVER};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use harness::parity::packet::{Hook, Packet};
use harness::parity::rig::{Knowledge, Rig};

pub const AT: u64 = 1_000_000_000;
const ISN: [u32; 2] = [1_000, 9_000];
const HOOKS: [Hook; 2] = [Hook::Xdp, Hook::TcOut];

/// A segment of the client's (0) or the server's (1), beyond the handshake.
pub fn packet(port: u16, from: usize, flags: u8, seq: u32, payload: usize) -> Packet {
    let ends = [(CLIENT.v4, port), (SERVER.v4, 443)];
    let frame = Frame::new(ends[from], ends[1 - from])
        .flags(flags)
        .seq(ISN[from].wrapping_add(seq))
        .ack(if flags & flags::ACK == 0 { 0 } else { ISN[1 - from] + 1 })
        .payload(vec![7; payload]);
    Packet { at: AT, hook: HOOKS[from], gso: (0, 0), bytes: frame.build() }
}

pub fn shake_hands(rig: &Rig, port: u16) {
    for (from, flags, seq) in [(0, flags::SYN, 0), (1, flags::SYN | flags::ACK, 0), (0, flags::ACK, 1)] {
        rig.programs.run(&packet(port, from, flags, seq, 0), 1);
    }
}

/// Runs this on processors 0 and 1 at once; each is told which it is.
pub fn on_two_processors(work: impl Fn(usize) + Sync) {
    let start = Barrier::new(2);
    thread::scope(|scope| {
        for cpu in 0..2 {
            let (start, work) = (&start, &work);
            scope.spawn(move || {
                let mut set = CpuSet::new();
                set.set(cpu).expect("there are two processors");
                sched_setaffinity(Pid::from_raw(0), &set)
                    .expect("the thread may run on either of two processors");
                start.wait();
                work(cpu);
            });
        }
    });
}

/// Nothing was lost on the way.
#[track_caller]
fn assert_whole(known: &Knowledge, packets: u64) {
    assert_eq!(known.health(Health::Counted), packets);
    assert_eq!(known.traffic(Traffic::Segments, 0), packets);
    for what in [Health::LostRace, Health::MapError, Health::FlowTableFull, Health::HalfOpenFull] {
        assert_eq!(known.health(what), 0, "{what:?}");
    }
}

/// Both processors send one packet each many times; the flow and the counts afterwards.
fn contended(packets: [Packet; 2], repeat: u32) -> (Flow, Knowledge) {
    contended_in(Rig::get(), packets, repeat)
}

fn contended_in(mut rig: MutexGuard<'_, Rig>, packets: [Packet; 2], repeat: u32) -> (Flow, Knowledge) {
    rig.begin();
    rig.set_clock(AT);
    shake_hands(&rig, 50_000);
    let programs = &rig.programs;
    on_two_processors(|cpu| programs.run(&packets[cpu], repeat));
    let known = rig.end();
    assert_whole(&known, 3 + 2 * u64::from(repeat));
    assert_eq!((known.flows.len(), known.half_open.len()), (1, 0));
    let flow = *known.flows.values().next().expect("one flow");
    assert_eq!(flow.busy, 0, "whoever came has gone");
    let payload: u64 = flow.half.iter().map(|half| half.bytes).sum();
    assert_eq!(known.traffic(Traffic::PayloadBytes, 0), payload);
    (flow, known)
}

const REPEAT: u32 = 200_000;

fn client(flow: &Flow) -> usize {
    usize::from(flow.client)
}

#[test]
fn two_processors_with_the_same_data_lose_no_segment() {
    let data = packet(50_000, 0, flags::ACK | flags::PSH, 1, 100);
    let (flow, known) = contended([data.clone(), data], REPEAT);
    let half = flow.half[client(&flow)];
    assert_eq!(half.segments, 2 + 2 * u64::from(REPEAT));
    assert_eq!(half.bytes, 100 * 2 * u64::from(REPEAT));
    assert_eq!(half.next.0, ISN[0] + 101);
    // All but the first are judged, and each is one thing.
    let counts = known.scores.values().next().expect("a scoreboard").half[client(&flow)].counts;
    let judged = counts.duplicates + counts.retransmissions + counts.spurious + counts.unknown;
    assert_eq!(u64::from(judged), 2 * u64::from(REPEAT) - 1);
}

#[test]
fn two_processors_with_acknowledgements_of_one_side_lose_none() {
    let ack = packet(50_000, 0, flags::ACK, 1, 0);
    let (flow, known) = contended([ack.clone(), ack], REPEAT);
    assert_eq!(flow.half[client(&flow)].segments, 2 + 2 * u64::from(REPEAT));
    assert_eq!(known.records.len(), 0);
}

#[test]
fn data_and_its_acknowledgements_at_once_are_both_counted() {
    let data = packet(50_000, 0, flags::ACK, 1, 100);
    let ack = packet(50_000, 1, flags::ACK, 1, 0);
    let (flow, _) = contended([data, ack], REPEAT);
    let (c, s) = (client(&flow), 1 - client(&flow));
    assert_eq!(flow.half[c].segments, 2 + u64::from(REPEAT));
    assert_eq!(flow.half[s].segments, 1 + u64::from(REPEAT));
    assert_eq!((flow.half[s].bytes, flow.half[c].bytes), (0, 100 * u64::from(REPEAT)));
}

#[test]
fn the_kernels_lock_alone_loses_none_either() {
    let data = packet(50_000, 0, flags::ACK, 1, 100);
    let ack = packet(50_000, 1, flags::ACK, 1, 0);
    let (flow, _) = contended_in(Rig::with(false), [data, ack], REPEAT);
    let (c, s) = (client(&flow), 1 - client(&flow));
    assert_eq!([c, s].map(|half| flow.half[half].segments), [2, 1].map(|n| n + u64::from(REPEAT)));
    assert_eq!(flow.busy, 0);
}

#[test]
fn two_processors_on_two_flows_do_not_touch_each_other() {
    let mut rig = Rig::get();
    rig.begin();
    rig.set_clock(AT);
    for port in [50_000, 50_001] {
        shake_hands(&rig, port);
    }
    let programs = &rig.programs;
    on_two_processors(|cpu| programs.run(&packet(50_000 + cpu as u16, 0, flags::ACK, 1, 10), REPEAT));
    let known = rig.end();
    assert_whole(&known, 6 + 2 * u64::from(REPEAT));
    assert_eq!(known.flows.len(), 2);
    for flow in known.flows.values() {
        assert_eq!(flow.half[client(flow)].segments, 2 + u64::from(REPEAT));
        assert_eq!(flow.half[1 - client(flow)].segments, 1);
    }
}

const NEW_FLOWS: u16 = 2_000;
const ROUNDS: usize = 5;

/// Each call for XDP waits until the kernel has put the program into its dispatcher, those for tc are quick.
fn at_tc(packet: Packet) -> Packet {
    let hook = if packet.hook == Hook::Xdp { Hook::TcIn } else { packet.hook };
    Packet { hook, ..packet }
}

/// Both processors meet the same new flows, in the same order and at the same time.
fn created(packets: impl Fn(u16, usize) -> Packet + Sync, repeat: u32) -> Vec<Knowledge> {
    let mut rig = Rig::get();
    let mut all = Vec::new();
    for _ in 0..ROUNDS {
        rig.begin();
        rig.set_clock(AT);
        let together = Barrier::new(2);
        let programs = &rig.programs;
        on_two_processors(|cpu| {
            let mut batch = Vec::new();
            for flow in 0..NEW_FLOWS {
                // Made before, so that both run at the same moment; together again only now and then, as waiting for a
                // processor that somebody else has takes longer than all the rest.
                if flow % 100 == 0 {
                    batch = (flow..flow + 100).map(|flow| at_tc(packets(10_000 + flow, cpu))).collect();
                    together.wait();
                }
                programs.run(&batch[usize::from(flow % 100)], repeat);
            }
        });
        let known = rig.end();
        assert_whole(&known, 2 * u64::from(repeat) * u64::from(NEW_FLOWS));
        all.push(known);
    }
    all
}

/// Each flow was opened once and is in one table, once.
fn assert_once(known: &Knowledge, by: Opened) {
    assert_eq!(known.traffic(Traffic::Opened, by as usize), u64::from(NEW_FLOWS));
    assert_eq!(known.flows.len() + known.half_open.len(), usize::from(NEW_FLOWS));
    for flow in known.flows.values().chain(known.half_open.values()) {
        assert!(flow.has(Flow::USED) && !flow.has(Flow::MOVED), "{flow:?}");
    }
}

#[test]
fn flows_that_both_processors_meet_at_once_are_one_and_are_promoted_once() {
    let data = |port, from| packet(port, from, flags::ACK, 1, 50);
    for known in created(data, 3) {
        assert_once(&known, Opened::JoinedLate);
        assert_eq!(known.half_open.len(), 0);
        for flow in known.flows.values() {
            assert_eq!(flow.half.map(|half| (half.segments, half.bytes)), [(3, 150); 2]);
        }
    }
}

#[test]
fn a_first_packet_on_both_processors_opens_one_flow() {
    let data = |port, _| packet(port, 0, flags::ACK, 1, 50);
    for known in created(data, 2) {
        assert_once(&known, Opened::JoinedLate);
        for flow in known.flows.values() {
            assert_eq!(flow.half.iter().map(|half| half.segments).sum::<u64>(), 4);
        }
    }
    let syn = |port, _| packet(port, 0, flags::SYN, 0, 0);
    for known in created(syn, 1) {
        assert_once(&known, Opened::Syn);
        assert_eq!(known.flows.len(), 0);
        for flow in known.half_open.values() {
            assert_eq!(flow.half[client(flow)].segments, 2);
        }
    }
}
