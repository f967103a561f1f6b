//! Sequences that no stack would send, but near what stacks send: at the edges of windows, holes, the wrap of the
//! numbers, of timers and of the parser.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use fastrand::Rng;
use harness::impair::flags;
use harness::raw::{Extension, Frame, TcpOption};
use harness::tcp::pattern_bytes;

use harness::parity::packet::{Hook, Packet};
use harness::parity::rig::{Rig, agree};

const SEQUENCES: u64 = 10_000;
const PACKETS: usize = 20;
const FIRST_SEED: u64 = 0x5eed;

/// One connection's two sides as a generator knows them.
struct Pair {
    ends: [SocketAddr; 2],
    vlans: Vec<u16>,
    /// By direction.
    half: [Side; 2],
    ingress: Hook,
}

#[derive(Clone, Copy, Default)]
struct Side {
    isn: u32,
    next: u32,
    /// Somewhere something interesting happened.
    edge: u32,
    id: u16,
    clock: u32,
}

fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}

fn number(rng: &mut Rng) -> u32 {
    match rng.u8(..4) {
        0 => u32::MAX - rng.u32(..3000),
        1 => (1 << 31) - rng.u32(..3000),
        _ => rng.u32(..),
    }
}

impl Pair {
    fn new(rng: &mut Rng, place: u16) -> Self {
        let ports = [pick(rng, &[40_000, 50_000, 443]) + place, pick(rng, &[443, 443, 80])];
        let ends = if rng.u8(..4) == 0 {
            let last = rng.u16(1..4);
            [1, 2].map(|n| Ipv6Addr::new(0xfd77, 0, 0, n, 0, 0, 0, last)).map(SocketAddr::from_ip)
        } else {
            let last = rng.u8(1..4);
            [1, 2].map(|n| Ipv4Addr::new(10, 77, n, last)).map(SocketAddr::from_ip)
        };
        let mut ends = [(ends[0], ports[0]), (ends[1], ports[1])].map(|(mut end, port)| {
            end.set_port(port);
            end
        });
        if rng.bool() {
            ends.swap(0, 1);
        }
        let vlans = match rng.u8(..10) {
            0 => (0..rng.u16(1..=5)).collect(),
            1 => vec![100],
            _ => Vec::new(),
        };
        let mut side = || {
            let isn = number(rng);
            Side { isn, next: isn, edge: isn, id: rng.u16(..), clock: number(rng) }
        };
        let half = [side(), side()];
        Self { ends, vlans, half, ingress: pick(rng, &[Hook::Xdp, Hook::Xdp, Hook::TcIn]) }
    }

    /// A handshake's segment, so that many sequences get beyond it.
    fn greet(&mut self, rng: &mut Rng, step: usize, frame: Frame, dir: usize) -> Frame {
        let frame = self.shape(rng, dir, frame);
        let flags = [flags::SYN, flags::SYN | flags::ACK, flags::ACK][step];
        let mut frame = frame.flags(flags).seq(self.half[dir].next).ack(self.half[1 - dir].next);
        frame.payload.clear();
        if step < 2 {
            self.half[dir].next = self.half[dir].next.wrapping_add(1);
            frame = frame.option(TcpOption::Mss(1460)).option(TcpOption::WindowScale(rng.u8(..20)));
        }
        frame
    }

    fn number_near(&self, rng: &mut Rng, dir: usize) -> u32 {
        let Side { isn, next, edge, .. } = self.half[dir];
        match rng.u8(..20) {
            0..=8 => next,
            9 => next.wrapping_sub(1),
            10 | 11 => next.wrapping_add(rng.u32(..3000)),
            12 | 13 => next.wrapping_sub(rng.u32(..3000)),
            14 | 15 => edge,
            16 => edge.wrapping_add(rng.u32(..200)).wrapping_sub(100),
            17 => isn.wrapping_add(rng.u32(..3)).wrapping_sub(1),
            18 => next.wrapping_add((1 << 31) - 1 + rng.u32(..3)),
            _ => rng.u32(..),
        }
    }

    /// What has no part in the sequence space.
    fn shape(&mut self, rng: &mut Rng, dir: usize, mut frame: Frame) -> Frame {
        frame.source = self.ends[dir];
        frame.destination = self.ends[1 - dir];
        for tag in &self.vlans {
            frame = frame.vlan(pick(rng, &[0x8100, 0x88a8, 0x9100]), *tag);
        }
        let side = &mut self.half[dir];
        side.id = match rng.u8(..16) {
            0 => side.id,
            1 => side.id.wrapping_sub(rng.u16(..40)),
            2 => rng.u16(..),
            3 => 0,
            _ => side.id.wrapping_add(1),
        };
        side.clock = side.clock.wrapping_add(pick(rng, &[0, 0, 1, 40, u32::MAX, 1 << 31]));
        let window = pick(rng, &[1000, 1000, 1000, 64_000, 0, 1]);
        frame.ip_id(side.id).ttl(pick(rng, &[64, 64, 64, 64, 64, 63, 1])).window(window)
    }

    fn options(&self, rng: &mut Rng, dir: usize, mut frame: Frame) -> Frame {
        let (me, peer) = (self.half[dir], self.half[1 - dir]);
        if rng.bool() {
            if rng.bool() {
                frame = frame.option(TcpOption::Nop).option(TcpOption::Nop);
            }
            frame = frame.option(TcpOption::Timestamps(me.clock, peer.clock));
        }
        if rng.u8(..5) == 0 {
            let blocks = (0..rng.usize(1..=3)).map(|_| {
                let left = self.number_near(rng, 1 - dir);
                (left, left.wrapping_add(pick(rng, &[1, 100, 1448, 5000])))
            });
            frame = frame.option(TcpOption::Sack(blocks.collect()));
        }
        if rng.u8(..30) == 0 {
            let mut bytes = vec![0; rng.usize(1..12)];
            bytes.fill_with(|| pick(rng, &[0, 1, 2, 3, 4, 5, 8, 10, 18, 255]));
            frame.options = vec![TcpOption::Bytes(bytes)];
        }
        frame
    }

    fn segment(&mut self, rng: &mut Rng, dir: usize, frame: Frame) -> Frame {
        let mut frame = self.shape(rng, dir, frame);
        let none = 0;
        frame.flags = match rng.u8(..100) {
            0..=59 => flags::ACK,
            60..=71 => flags::ACK | flags::PSH,
            72..=77 => flags::SYN,
            78..=82 => flags::SYN | flags::ACK,
            83..=90 => flags::FIN | flags::ACK,
            91..=93 => flags::RST,
            94..=96 => flags::RST | flags::ACK,
            97 => none,
            _ => rng.u8(..),
        };
        frame.seq = self.number_near(rng, dir);
        if frame.flags & flags::SYN != 0 {
            frame.seq = match rng.u8(..3) {
                0 => number(rng),
                _ => self.half[dir].isn,
            };
        }
        frame.ack = match rng.u8(..4) {
            0 => self.number_near(rng, 1 - dir),
            1 => self.half[1 - dir].isn.wrapping_add(1),
            _ => self.half[1 - dir].next,
        };
        let length = match rng.u8(..20) {
            0..=8 => 0,
            9 => 1,
            10 => 7,
            11 => 24,
            12 => rng.usize(..100),
            13 => 2900,
            _ => pick(rng, &[100, 1448]),
        };
        frame.payload = pattern_bytes(0, length);
        if length == 24 || length == 7 {
            frame.payload[..5].copy_from_slice(&[
                if length == 24 { 23 } else { 21 },
                3,
                3,
                0,
                length as u8 - 5,
            ]);
        }
        let taken = length as u32 + u32::from(frame.flags & flags::FIN != 0);
        let end = frame.seq.wrapping_add(taken);
        let side = &mut self.half[dir];
        if frame.flags & flags::SYN != 0 {
            if rng.bool() {
                (side.isn, side.next) = (frame.seq, frame.seq.wrapping_add(1));
            }
        } else if end.wrapping_sub(side.next).cast_signed() > 0 || rng.u8(..20) == 0 {
            side.edge = if rng.bool() { side.next } else { frame.seq };
            side.next = end;
        }
        self.options(rng, dir, frame)
    }
}

/// An address without a port yet.
trait FromIp {
    fn from_ip(ip: impl Into<std::net::IpAddr>) -> Self;
}

impl FromIp for SocketAddr {
    fn from_ip(ip: impl Into<std::net::IpAddr>) -> Self {
        Self::new(ip.into(), 0)
    }
}

/// What networks and attackers do to frames.
fn spoil(rng: &mut Rng, frame: &mut Frame) -> Option<Vec<u8>> {
    match rng.u8(..60) {
        0 => frame.ip_options = vec![1; 4 * rng.usize(1..=10)],
        1 => {
            let kinds = [Extension::HopByHop(0), Extension::Routing, Extension::Destination(3)];
            let count = rng.usize(1..=7);
            frame.extensions = (0..count).map(|_| kinds[rng.usize(..kinds.len())].clone()).collect();
        }
        2 => frame.extensions = vec![Extension::Authentication, Extension::Fragment(0, false, 7)],
        3 => return frame.fragments(16).into_iter().nth(rng.usize(..2)),
        4 => {
            let mut bytes = frame.build();
            bytes.truncate(rng.usize(60..=bytes.len().max(61)).min(bytes.len()));
            return Some(bytes);
        }
        5 | 6 => {
            let mut bytes = frame.build();
            let place = rng.usize(12..bytes.len().min(90));
            bytes[place] = rng.u8(..);
            return Some(bytes);
        }
        7 => {
            let mut bytes = frame.build();
            bytes.extend([0; 6]);
            return Some(bytes);
        }
        _ => {}
    }
    None
}

/// One sequence.
pub fn sequence(seed: u64) -> Vec<Packet> {
    let mut rng = Rng::with_seed(seed);
    let rng = &mut rng;
    let mut pairs: Vec<Pair> = (0..rng.u16(1..=3)).map(|place| Pair::new(rng, place)).collect();
    let greeted: Vec<bool> = pairs.iter().map(|_| rng.u8(..3) > 0).collect();
    let mut steps = vec![0; pairs.len()];
    let mut at = 1_000_000_000 + rng.u64(..1_000_000_000);
    let mut packets = Vec::new();
    while packets.len() < PACKETS {
        let place = rng.usize(..pairs.len());
        let pair = &mut pairs[place];
        let blank = Frame::new(pair.ends[0], pair.ends[1]);
        let (mut frame, dir) = if greeted[place] && steps[place] < 3 && rng.u8(..30) > 0 {
            let dir = steps[place] % 2;
            steps[place] += 1;
            (pair.greet(rng, steps[place] - 1, blank, dir), dir)
        } else {
            let dir = rng.usize(..2);
            (pair.segment(rng, dir, blank), dir)
        };
        let out = (dir == 1) != (rng.u8(..40) == 0);
        let hook = if out { Hook::TcOut } else { pair.ingress };
        let gso = match frame.payload.len() {
            // No wire carries them whole; sometimes the count is left to us (a guest's packet).
            2900 if hook != Hook::Xdp => {
                let size = pick(rng, &[1448, 1000, 724]);
                (if rng.u8(..4) == 0 { 0 } else { 2900_u32.div_ceil(size) }, size)
            }
            _ => (0, 0),
        };
        let bytes = spoil(rng, &mut frame).unwrap_or_else(|| frame.build());
        // Now and then a little before the one before, as another processor or a coarser clock would have it.
        let late = if rng.u8(..20) == 0 { pick(rng, &[1, 700, 4_000_000]) } else { 0 };
        packets.push(Packet { at: at.saturating_sub(late), hook, gso, bytes });
        at += pick(
            rng,
            &[
                0,
                100,
                1_000,
                10_000,
                40_000,
                999_999,
                1_000_000,
                5_000_000,
                250_000_000,
                1_200_000_000,
                31_000_000_000,
                61_000_000_000,
            ],
        );
        if rng.u8(..12) == 0 && packets.len() < PACKETS {
            // The same packet again: copied on the way, or on its way back out of the same interface.
            let mut again = packets[rng.usize(..packets.len())].clone();
            again.at = at;
            if rng.u8(..4) == 0 && again.hook == Hook::TcIn {
                again.hook = Hook::TcOut;
            }
            packets.push(again);
        }
    }
    packets
}

#[test]
fn kernel_and_host_agree_on_ten_thousand_random_sequences() {
    let mut rig = Rig::get();
    let (mut records, mut scored, mut closed) = (0, 0, 0);
    for seed in FIRST_SEED..FIRST_SEED + SEQUENCES {
        let packets = sequence(seed);
        let known = agree(&mut rig, &packets, || format!("seed {seed:#x}"));
        records += known.records.len();
        scored += known.scores.len();
        closed += known.closed.len();
    }
    // The sequences must reach what they are for.
    assert!(records > 50_000 && scored > 5_000 && closed > 2_000, "{records} {scored} {closed}");
}
