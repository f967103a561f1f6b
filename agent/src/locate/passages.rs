//! When each packet passed a point, where captures tell: what two points both saw gives the time in between packet by
//! packet, and not only for the handshake.
//!
//! A packet is known by what a box leaves alone: sequence and acknowledgement number, flags, payload, TSval. One that looks
//! like another one of its point tells nothing.

use crate::{aggregate::filter::ip, api::EndPoint, connection::Connection, replay::file::Packet};
use agent_ebpf::{label::Side, wire::Segment};
use foldhash::fast::{FixedState, RandomState};
use std::{
    collections::{HashMap, hash_map::Entry},
    hash::BuildHasher as _,
};

/// Packets of a point that are remembered, 64 MiB; of later ones only the handshakes tell the time.
const ROOM: usize = 2_000_000;

/// When packets passed a point.
#[derive(Debug, Default)]
pub struct Passages {
    seen: HashMap<u64, Passage, RandomState>,
    flows: Vec<(EndPoint, EndPoint)>,
    numbers: HashMap<(EndPoint, EndPoint), u32, RandomState>,
    left_out: u64,
}

/// What a packet is known by; the same at all points.
fn fingerprint(s: &Segment) -> u64 {
    FixedState::with_seed(0).hash_one((s.seq.0, s.ack.0, s.payload, s.flags.0, s.options.ts_val))
}

#[derive(Debug, Clone, Copy)]
struct Passage {
    ns: u64,
    flow: u32,
    alone: bool,
}

impl Passages {
    /// Takes a packet; what is no TCP segment passes by.
    pub fn take(&mut self, packet: &Packet<'_>) {
        let mut segment = Segment::blank();
        if segment.read(packet).is_err() {
            return;
        }
        if self.seen.len() == ROOM {
            self.left_out += 1;
            return;
        }
        let ends = (
            EndPoint { address: ip(segment.src), port: segment.sport },
            EndPoint { address: ip(segment.dst), port: segment.dport },
        );
        let next = self.flows.len() as u32;
        let flow = *self.numbers.entry(ends).or_insert(next);
        if flow == next {
            self.flows.push(ends);
        }
        match self.seen.entry(fingerprint(&segment)) {
            Entry::Vacant(place) => _ = place.insert(Passage { ns: packet.at.0, flow, alone: true }),
            Entry::Occupied(mut other) => other.get_mut().alone = false,
        }
    }

    /// Packets that found no room.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// How long what the two sides of these connections sent took from this point to `far`, nanoseconds, by clocks of which
    /// that of `far` is `ahead`: what clients sent, and what servers sent and came the other way.
    pub fn delays<'a>(
        &self,
        far: &Self,
        ahead: i64,
        asked: impl Iterator<Item = &'a Connection>,
    ) -> [Vec<i64>; 2] {
        let mut sides = vec![None; self.flows.len()];
        for c in asked {
            for (ends, side) in [((c.client, c.server), Side::Client), ((c.server, c.client), Side::Server)] {
                if let Some(flow) = self.numbers.get(&ends) {
                    sides[*flow as usize] = Some(side);
                }
            }
        }
        let mut delays = [Vec::new(), Vec::new()];
        for (packet, near) in self.seen.iter().filter(|(_, passage)| passage.alone) {
            let (Some(side), Some(there)) = (sides[near.flow as usize], far.seen.get(packet)) else {
                continue;
            };
            if there.alone {
                let forth = (there.ns.wrapping_sub(near.ns) as i64).wrapping_sub(ahead);
                delays[side as usize].push(if side == Side::Client { forth } else { forth.wrapping_neg() });
            }
        }
        delays
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::tests::answered;
    use agent_ebpf::{time::Nanos, wire::Link};

    /// Ethernet, IPv4, TCP from 192.0.2.1:40000 to 198.51.100.7:443, or back.
    fn frame(back: bool, seq: u32, ack: u32) -> Vec<u8> {
        let mut frame = vec![0; 54];
        frame[12] = 8;
        frame[14] = 0x45;
        frame[17] = 40;
        frame[22..24].copy_from_slice(&[64, 6]);
        let ends = [([192, 0, 2, 1], 40_000u16), ([198, 51, 100, 7], 443)];
        let [src, dst] = if back { [ends[1], ends[0]] } else { ends };
        frame[26..30].copy_from_slice(&src.0);
        frame[30..34].copy_from_slice(&dst.0);
        frame[34..36].copy_from_slice(&src.1.to_be_bytes());
        frame[36..38].copy_from_slice(&dst.1.to_be_bytes());
        frame[38..42].copy_from_slice(&seq.to_be_bytes());
        frame[42..46].copy_from_slice(&ack.to_be_bytes());
        frame[46..48].copy_from_slice(&[0x50, 0x10]);
        frame
    }

    fn seen(packets: &[(u64, Vec<u8>)]) -> Passages {
        let mut passages = Passages::default();
        for (number, (at, bytes)) in packets.iter().enumerate() {
            let packet = Packet {
                number: number as u64,
                at: Nanos(*at),
                wire_len: bytes.len() as u32,
                bytes,
                link: Link::Ethernet,
                interface: 0,
            };
            passages.take(&packet);
        }
        passages
    }

    #[test]
    fn each_way_is_timed_by_itself_and_what_has_a_double_tells_nothing() {
        let near = seen(&[
            (100, frame(false, 1, 1)),
            (190, frame(true, 7, 7)),
            (300, frame(false, 2, 1)),
            (301, frame(false, 2, 1)),
            (400, frame(false, 9, 9)),
        ]);
        // Its clock is 1,000 ahead.
        let far =
            seen(&[(1_130, frame(false, 1, 1)), (1_150, frame(true, 7, 7)), (1_330, frame(false, 2, 1))]);
        let connection = answered("near", 0);
        let [forth, back] = near.delays(&far, 1_000, [&connection].into_iter());
        assert_eq!((forth, back), (vec![30], vec![40]));
        let [forth, back] = near.delays(&far, 1_000, std::iter::empty());
        assert_eq!((forth, back), (vec![], vec![]));
    }
}
