//! Segments of four connections through the pipeline on the host: whatever comes, the books balance.
//!
//! An input is a list of segments, as [`Op::read`] says. Numbers are relative to where a connection begins, so that
//! segments meet each other; of 2^32 only a little is reached, but across the wrap and the middle.

use std::collections::{HashMap, HashSet};

use agent::source::host::{Host, Room};
use agent_ebpf::{
    flow::{Flow, FlowKey},
    half::Half,
    health::{Health, Kind},
    label::{Direction, Side},
    layout::Config,
    record::Record,
    scoreboard::{HalfScore, Hole},
    sighting::Settings,
    time::Nanos,
    traffic::{Close, Opened, Traffic},
};

use super::op::Op;

/// Segments of an input that are looked at.
const MOST: usize = 400;
const IFINDEX: u32 = 1;
const CONFIG: Config =
    Config { points: 1, services: 1, test_clock: 1, xdp_frags: 0, coarse_clock: 0, own_lock: 0 };

/// What came, counted from the input alone.
#[derive(Default)]
struct Truth {
    packets: u64,
    segments: u64,
    bytes: u64,
    payload: u64,
}

/// Shows what an input stands for when it fails.
struct Shown<'a>(&'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (place, op) in Op::read(self.0).take(MOST).enumerate() {
                eprintln!("{place}: {op:?}");
            }
        }
    }
}

/// Takes all segments of an input through, and adds up.
///
/// # Panics
/// When something does not add up.
pub fn check(data: &[u8]) {
    let _shown = Shown(data);
    let mut host = Host::new(
        CONFIG,
        Settings::default(),
        Room { flows: [2, 2], half_open: [2, 2], scores: [usize::MAX; 2], closed: usize::MAX },
    );
    host.watch(IFINDEX, 0);
    let mut truth = Truth::default();
    let mut at: u64 = 1_000_000_000;
    for op in Op::read(data).take(MOST) {
        at = at.saturating_add_signed(op.pause());
        host.feed(&op.carried(), IFINDEX, op.direction(), Nanos(at));
        truth.packets += 1;
        truth.segments += u64::from(op.segments());
        truth.payload += u64::from(op.payload());
        truth.bytes += u64::from(op.segments() * op.headers() + u32::from(op.payload()));
    }
    let records = host.take_records();
    for bytes in &records {
        Record::decode(bytes).expect("a record that was just made");
    }
    count(&mut host, &truth, records.len() as u64);
    scoreboards(&mut host);
    flows(&mut host);
}

fn health(host: &mut Host, what: Health) -> u64 {
    let of = |d: &Direction| host.health(0, *d).expect("there is one point")[what as usize];
    Direction::ALL.iter().map(of).sum()
}

/// Of both sides and directions.
fn total(host: &mut Host, row: impl Fn(Side) -> usize) -> u64 {
    let mut all = 0;
    for direction in Direction::ALL {
        let totals = host.totals(0, 0, *direction).expect("there is one point and one service");
        all += Side::ALL.iter().map(|side| totals[row(*side)]).sum::<u64>();
    }
    all
}

/// Every packet is seen, counted and added up as it was sent.
fn count(host: &mut Host, truth: &Truth, records: u64) {
    let skipped = |h: &&Health| h.kind() == Kind::Skipped;
    let skipped: u64 = Health::ALL.iter().filter(skipped).map(|h| health(host, *h)).sum();
    assert_eq!((health(host, Health::Seen), skipped), (truth.packets, 0), "seen, skipped");
    assert_eq!(health(host, Health::Counted), truth.packets, "counted");
    assert_eq!(health(host, Health::RingSubmitted), records, "records");
    for never in [Health::LostRace, Health::MapError, Health::RingLost, Health::ScoreboardFull] {
        assert_eq!(health(host, never), 0, "{never:?}");
    }
    for (row, expected) in [
        (Traffic::Segments, truth.segments),
        (Traffic::Bytes, truth.bytes),
        (Traffic::PayloadBytes, truth.payload),
    ] {
        assert_eq!(total(host, |side| row.place(side, 0)), expected, "{row:?}");
    }
}

/// What a scoreboard holds is possible.
fn scoreboards(host: &mut Host) {
    let known: HashMap<FlowKey, Flow> = host.flows().map(|(key, flow)| (key, *flow)).collect();
    for (key, score) in host.scores() {
        // The scoreboard may be an earlier connection's, or one's that is still half open.
        let Some(flow) = known.get(&key).filter(|flow| flow.has(Flow::SCORED)) else { continue };
        for (score, half) in score.half.iter().zip(&flow.half) {
            half_adds_up(score, half);
        }
    }
}

fn half_adds_up(score: &HalfScore, half: &Half) {
    let c = &score.counts;
    let repeats = c.retransmissions + c.late_fills + c.spurious;
    let judged = repeats + c.out_of_order + c.duplicates + c.unknown + c.gaps + c.keepalives;
    assert!(u64::from(judged) <= half.segments, "{judged} verdicts: {c:?} of {half:?}");
    assert!(c.syn_retransmissions <= repeats, "{c:?}");
    let held: Vec<_> = score.holes.iter().filter(|hole| hole.start != hole.end).collect();
    for (place, hole) in held.iter().enumerate() {
        assert!(hole.end.after(hole.start), "{hole:?}");
        assert!(half.next.after(hole.end) || half.next == hole.end, "{hole:?} beyond the end of {half:?}");
        let apart = |other: &&Hole| !other.end.after(hole.start) || !hole.end.after(other.start);
        assert!(held[..place].iter().all(apart), "holes overlap: {held:?}");
    }
}

/// Connections: all that were opened are closed or still there, and their segments are among those counted.
fn flows(host: &mut Host) {
    let mut flows: Vec<Flow> = host.flows().map(|(_, flow)| *flow).collect();
    let confirmed: HashSet<FlowKey> = host.flows().map(|(key, _)| key).collect();
    flows.extend(host.half_open().filter(|(key, _)| !confirmed.contains(key)).map(|(_, flow)| *flow));
    let sum = |of: fn(&Half) -> u64| flows.iter().flat_map(|flow| &flow.half).map(of).sum::<u64>();
    let (segments, bytes) = (sum(|half| half.segments), sum(|half| half.bytes));
    assert!(segments <= total(host, |side| Traffic::Segments.place(side, 0)), "{segments} segments of flows");
    assert!(bytes <= total(host, |side| Traffic::PayloadBytes.place(side, 0)), "{bytes} bytes of flows");
    let open = flows.iter().filter(|flow| !flow.has(Flow::ENDED)).count() as u64;
    let mut opened = 0;
    for by in Opened::ALL {
        opened += total(host, |side| Traffic::Opened.place(side, *by as usize));
    }
    let mut closed = 0;
    for close in Close::ALL {
        closed += total(host, |side| Traffic::Closed.place(side, *close as usize));
    }
    assert_eq!(opened, closed + open, "opened = closed {closed} + open {open}");
    for flow in &flows {
        assert!(flow.client < 2 && flow.first_fin <= 2, "{flow:?}");
        assert_eq!(flow.has(Flow::ENDED), flow.close != 0, "{flow:?}");
    }
}
