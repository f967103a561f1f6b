//! The core at the point: each packet as a frame through the pipeline on the host, and the verdict it got.

use std::net::SocketAddr;

use agent::source::host::{Host, Room};
use agent_ebpf::counter::{Series, place, width};
use agent_ebpf::facts::{Evidence, Verdict};
use agent_ebpf::label::{Direction, Side};
use agent_ebpf::layout::Config;
use agent_ebpf::record::Record;
use agent_ebpf::sighting::Settings;
use agent_ebpf::time::Nanos;
use agent_ebpf::wire;
use harness::impair::flags;
use harness::raw::{Frame, TcpOption};
use harness::topology::{CLIENT, SERVER};

use crate::end::MSS;
use crate::world::{Case, Packet};

const IFINDEX: u32 = 7;
const CONFIG: Config =
    Config { points: 1, services: 1, test_clock: 1, xdp_frags: 0, coarse_clock: 0, own_lock: 0 };

/// What was said of one packet; `InOrder` where there was nothing to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    pub verdict: Verdict,
    pub evidence: Evidence,
    /// Of how many segments; fewer than the packet has when only a part of it repeats.
    pub segments: u64,
}

/// An observer.
pub struct Point {
    /// What it knows.
    pub host: Host,
}

impl Point {
    pub fn new() -> Self {
        let mut host = Host::new(CONFIG, Settings::default(), Room::default());
        host.watch(IFINDEX, 0);
        Self { host }
    }

    /// Sees a packet at this time, microseconds.
    pub fn see(&mut self, case: &Case, packet: &Packet, at: u64) -> Said {
        let side = if packet.from == 0 { Direction::Ingress } else { Direction::Egress };
        let whole = if packet.out.segments > 1 { MSS as u32 } else { 0 };
        let carried =
            Carried { bytes: frame(case, packet).build(), size: whole, count: packet.out.segments as u32 };
        self.host.feed(&carried, IFINDEX, side, Nanos((1_000_000 + at) * 1_000));
        let mut said = Said { verdict: Verdict::InOrder, evidence: Evidence::None, segments: 0 };
        for bytes in self.host.take_records() {
            if let Record::Anomaly(r) = Record::decode(&bytes).expect("a record that was just made") {
                said.verdict = match Verdict::from_code(r.verdict).expect("decoded") {
                    Verdict::None => Verdict::InOrder,
                    verdict => verdict,
                };
                said.segments = r.segments.into();
                said.evidence = Evidence::from_code(r.evidence).expect("decoded");
            }
        }
        said
    }

    /// One side's total of a row, all its labels together.
    pub fn total(&mut self, row: impl Series, side: Side) -> u64 {
        let width = width(row.labels());
        let first = place(row.base(), width, side, 0);
        let of = |d: &Direction| {
            let totals = self.host.totals(0, 0, *d).expect("there is one point and one service");
            totals[first..first + width / 2].iter().sum::<u64>()
        };
        Direction::ALL.iter().map(of).sum()
    }
}

/// The packet as it stands on the wire.
pub fn frame(case: &Case, packet: &Packet) -> Frame {
    let ends: [SocketAddr; 2] = if case.v6 {
        [(CLIENT.v6, 40_000).into(), (SERVER.v6, 443).into()]
    } else {
        [(CLIENT.v4, 40_000).into(), (SERVER.v4, 443).into()]
    };
    let (me, out) = (packet.from, &packet.out);
    let number = |side: usize, offset: u64| case.isn[side].wrapping_add(offset as u32);
    let flag = |on: bool, bit: u8| if on { bit } else { 0 };
    let mut frame = Frame::new(ends[me], ends[1 - me])
        .flags(flag(out.syn, flags::SYN) | flag(out.fin, flags::FIN) | flag(out.ack, flags::ACK))
        .seq(number(me, out.start))
        .ack(if out.ack { number(1 - me, out.acked) } else { 0 })
        .window(out.window)
        .ip_id(packet.id)
        .payload(vec![0; out.len as usize]);
    if let Some((value, echo)) = packet.ts {
        frame =
            frame.option(TcpOption::Nop).option(TcpOption::Nop).option(TcpOption::Timestamps(value, echo));
    }
    if !out.sack.is_empty() {
        let edges = out.sack.iter().map(|(left, right)| (number(1 - me, *left), number(1 - me, *right)));
        frame = frame.option(TcpOption::Sack(edges.collect()));
    }
    frame
}

struct Carried {
    bytes: Vec<u8>,
    size: u32,
    count: u32,
}

impl wire::Frame for Carried {
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.bytes.as_slice().load(offset)
    }

    fn wire_len(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn gso_segments(&self) -> u32 {
        self.count
    }

    fn gso_size(&self) -> u32 {
        self.size
    }
}
