//! What happens to connections between two points of this host: the same comparison as `locate` makes, kept as metrics.
//!
//! A connection's state at its end comes from each point that saw it, and a little later its last state, with what came
//! after the end; not where its five-tuple has been taken again meanwhile. Once nothing more can come the points are put in
//! the order of its first packet, by the one clock they share, and neighbours compared.

use super::{
    Names,
    rows::{Sight, seconds},
    seen::Seen,
    series::{Labels, counters},
    waiting::Waiting,
};
use crate::{
    connection::{Clock, Connection},
    locate::way::{Way, injected},
};
use agent_ebpf::{
    flow::{Flow, FlowKey},
    label::Side,
    time::Nanos,
};
use prometheus_client::{encoding::DescriptorEncoder, metrics::MetricType};
use std::{collections::BTreeMap, fmt::Result};

/// Upper bounds of all buckets but the last, nanoseconds: a host forwards in microseconds, and its queues hold milliseconds.
pub const BOUNDS: [u64; 14] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    1_000_000_000,
];

/// From a point to the next, seen from the clients, and the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// Number of the point nearer to the clients.
    pub from: u8,
    /// Number of the other one.
    pub to: u8,
    /// Number of the service.
    pub svc: u16,
}

/// What happened between two points.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Connections that were seen at both.
    pub connections: u64,
    /// Of the client's segments, and of the server's.
    pub sides: [SideFigures; 2],
}

/// What happened to one side's segments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SideFigures {
    /// Segments that came in and did not go out.
    pub lost: u64,
    /// Segments that were overtaken.
    pub reordered: u64,
    /// Segments that went out more often than they came in.
    pub added: u64,
    /// Resets made in between, in the name of this side.
    pub resets: u64,
    /// Times of the handshake's packet, by bucket, those above all bounds last.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// Their sum, nanoseconds.
    pub sum: u64,
}

/// The comparison under way.
#[derive(Debug, Default)]
pub struct Inside {
    waiting: Waiting,
    figures: BTreeMap<Pair, Figures>,
    left_out: u64,
}

impl Inside {
    /// Takes the state of a connection that has ended at a point; the `last` one, or that of its end.
    pub fn take(&mut self, sight: &Sight, now: Nanos, last: bool) {
        let Some(numbers) = sight.numbers().filter(|_| !sight.flow.has(Flow::JOINED_LATE)) else { return };
        if !self.waiting.take(numbers, Seen::of(sight, last), now) {
            self.left_out += 1;
        }
    }

    /// Compares those whose first point told so many nanoseconds ago: of those no more is to come, unless `stays` says that
    /// a connection's last state is still to be told, by its key and its first packet at a point.
    pub fn settle<E>(
        &mut self,
        now: Nanos,
        patience: u64,
        mut stays: impl FnMut(FlowKey, Nanos) -> std::result::Result<bool, E>,
    ) -> std::result::Result<(), E> {
        let mut group = Vec::new();
        while let Some((since, numbers)) = self.waiting.oldest() {
            if now.since(since) < patience {
                break;
            }
            let mut more = false;
            for seen in self.waiting.of(numbers).filter(|seen| !seen.last) {
                more |= stays(seen.key, seen.opened)?;
            }
            if more {
                self.waiting.postpone(now);
                continue;
            }
            self.waiting.pop(&mut group);
            group.sort_by_key(|seen| seen.opened);
            for pair in group.windows(2) {
                self.compare(&pair[0], &pair[1]);
            }
        }
        self.waiting.give_back();
        Ok(())
    }

    /// Forgets all of some points.
    pub fn forget_points(&mut self, is_one: impl Fn(u8) -> bool) {
        self.waiting.retain(|seen| !is_one(seen.key.point()));
        self.figures.retain(|pair, _| !is_one(pair.from) && !is_one(pair.to));
    }

    /// What was found so far.
    pub fn figures(&self) -> &BTreeMap<Pair, Figures> {
        &self.figures
    }

    /// Connections at a point that were not compared, for want of room.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    fn compare(&mut self, near: &Seen, far: &Seen) {
        let whole = near.last && far.last;
        let (near, far) = (near.sight(), far.sight());
        let (from, to) = (near.key.point(), far.key.point());
        if from == to {
            return;
        }
        // Neither names nor the wall clock play a part.
        let of = |sight: &Sight| Connection::of(sight, &Names::default(), Clock::of_capture());
        let (near, far, svc) = (of(&near), of(&far), near.flow.svc);
        let figures = self.figures.entry(Pair { from, to, svc }).or_default();
        figures.connections += 1;
        let ways = [Way::of(Side::Client, &near, &far, whole), Way::of(Side::Server, &far, &near, whole)];
        for (side, way) in figures.sides.iter_mut().zip(ways) {
            side.lost += way.lost;
            side.reordered += way.reordered;
            side.added += way.duplicated;
        }
        if let Some(side) = injected(&near, &far) {
            figures.sides[side as usize].resets += 1;
        }
        if near.from_client.anomalies.contains_key("syn_retransmission") {
            // The two may have seen different ones.
            return;
        }
        let (a, b) = (&near.times, &far.times);
        for (side, from, to) in [(0, a.syn_ns, b.syn_ns), (1, b.syn_ack_ns, a.syn_ack_ns)] {
            if let (Some(from), Some(to)) = (from, to) {
                figures.sides[side].measure(to.saturating_sub(from));
            }
        }
    }
}

impl SideFigures {
    fn measure(&mut self, nanos: u64) {
        self.buckets[BOUNDS.partition_point(|bound| nanos > *bound)] += 1;
        self.sum += nanos;
    }
}

/// One family of counters: name, help, and what it shows of a side.
type Family = (&'static str, &'static str, fn(&SideFigures) -> u64);

/// The families by side.
const FAMILIES: [Family; 4] = [
    ("lost_segments", "Segments that passed one point and not the next one on this host.", |s| s.lost),
    ("reordered_segments", "Segments that were overtaken between two points of this host.", |s| s.reordered),
    ("added_segments", "Segments that were copied between two points of this host.", |s| s.added),
    (
        "added_resets",
        "Connections reset between two points of this host, by whose name the RST bears.",
        |s| s.resets,
    ),
];

/// Shows the figures: `point` is the one nearer to the clients, `to` the next.
pub fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    figures: &BTreeMap<Pair, Figures>,
    left_out: u64,
    points: &[String],
    services: &[String],
) -> Result {
    let labels = |pair: &Pair| -> Option<Labels<'_>> {
        Some(vec![
            ("point", points.get(usize::from(pair.from))?.as_str()),
            ("to", points.get(usize::from(pair.to))?.as_str()),
            ("svc", services.get(usize::from(pair.svc))?.as_str()),
        ])
    };
    let rows = || figures.iter().filter_map(|(pair, figures)| Some((labels(pair)?, figures)));
    counters(
        encoder,
        "fivetuple_inside_connections",
        "Ended connections that were compared between two points of this host.",
        rows().map(|(labels, figures)| (labels, figures.connections)),
    )?;
    let by_side = || {
        rows().flat_map(|(labels, figures)| {
            Side::ALL.iter().zip(&figures.sides).map(move |(side, figures)| {
                let mut labels = labels.clone();
                labels.push((Side::TABLE.key, side.name()));
                (labels, figures)
            })
        })
    };
    for (name, help, value) in FAMILIES {
        let name = format!("fivetuple_inside_{name}");
        counters(encoder, &name, help, by_side().map(|(labels, side)| (labels, value(side))))?;
    }
    let mut family = encoder.encode_descriptor(
        "fivetuple_inside_seconds",
        "How long a connection's SYN (client) and SYN-ACK (server) took from one point of this host to the next.",
        None,
        MetricType::Histogram,
    )?;
    for (labels, side) in by_side() {
        let bounds = BOUNDS.iter().map(|nanos| seconds(*nanos)).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(side.buckets).collect();
        let count = side.buckets.iter().sum();
        family.encode_family(&labels)?.encode_histogram::<Labels<'_>>(
            seconds(side.sum),
            count,
            &buckets,
            None,
        )?;
    }
    counters(
        encoder,
        "fivetuple_inside_left_out",
        "Connections at a point that were not compared, because too many ended at once.",
        [(Vec::new(), left_out)],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::waiting::ROOM;
    use agent_ebpf::{
        flow::FlowKey4, half::Half, phase::Phase, scoreboard::Counts, seq::SeqNum, traffic::Close,
    };

    /// A connection at a point, opened there at a time.
    fn at(point: u8, isn: u32, opened_us: u64) -> Sight {
        let key = FlowKey4 { scope: u32::from(point) << 24, ..FlowKey4::default() };
        let half = |isn: u32| Half {
            isn: SeqNum(isn),
            next: SeqNum(isn + 102),
            segments: 5,
            bits: Half::SEEN | Half::SYN | Half::FIN,
            ..Half::default()
        };
        let opened = Nanos(1_000_000_000 + opened_us * 1_000);
        let flow = Flow {
            phase: Phase::Closed as u8,
            bits: Flow::USED | Flow::ENDED,
            close: Close::FinClient as u8 + 1,
            opened,
            syn_at: opened,
            synack_us: 1_000 - 2 * opened_us as u32,
            half: [half(isn), half(isn + 7)],
            ..Flow::default()
        };
        Sight { key: FlowKey::V4(key), flow, counts: [Counts::default(); 2] }
    }

    /// At this time, after 100 ns; at these points connections stay in the table.
    fn settle(inside: &mut Inside, now: u64, stays: &[u8]) {
        let stays = |key: FlowKey, _| Ok::<_, std::convert::Infallible>(stays.contains(&key.point()));
        inside.settle(Nanos(now), 100, stays).unwrap();
    }

    #[test]
    fn neighbours_are_compared_once_all_have_told_in_whatever_order() {
        let mut inside = Inside::default();
        let mut last = at(2, 1, 90);
        last.flow.half[0].segments = 4;
        last.counts[0].out_of_order = 2;
        for (sight, now) in [(at(1, 1, 40), 0), (last, 5), (at(0, 1, 0), 9), (at(0, 500, 0), 20)] {
            inside.take(&sight, Nanos(now), true);
        }
        settle(&mut inside, 99, &[]);
        assert!(inside.figures().is_empty());
        settle(&mut inside, 100, &[]);
        let pairs: Vec<_> = inside.figures().keys().map(|p| (p.from, p.to)).collect();
        assert_eq!(pairs, [(0, 1), (1, 2)]);
        let [first, second] = [0, 1].map(|i| *inside.figures().values().nth(i).unwrap());
        assert_eq!((first.connections, first.sides[0].lost, first.sides[0].reordered), (1, 0, 0));
        assert_eq!((second.connections, second.sides[0].lost, second.sides[0].reordered), (1, 1, 2));
        assert_eq!((first.sides[0].sum, first.sides[1].sum), (40_000, 40_000));
        assert_eq!((first.sides[0].buckets[2], second.sides[0].buckets[2]), (1, 1));
        settle(&mut inside, 120, &[]);
        assert_eq!((inside.figures().len(), inside.waiting.len()), (2, 0), "one point alone");
    }

    #[test]
    fn the_last_state_counts_and_that_of_the_end_where_none_comes() {
        let figures = |inside: &Inside| {
            let one = inside.figures().values().next().copied().unwrap_or_default();
            (one.connections, one.sides[0].lost, one.sides[0].reordered)
        };
        // An acknowledgement came after the end at both points, and a copy of it as well.
        let more = |point| {
            let mut last = at(point, 1, 40 * u64::from(point));
            last.flow.half[0].segments += 1 + u64::from(point);
            last.counts[0].out_of_order = u32::from(point);
            last
        };
        let mut inside = Inside::default();
        inside.take(&at(0, 1, 0), Nanos(0), false);
        inside.take(&at(1, 1, 40), Nanos(3), false);
        settle(&mut inside, 150, &[1]);
        assert_eq!(figures(&inside), (0, 0, 0), "the second point will tell more");
        inside.take(&more(1), Nanos(190), true);
        inside.take(&at(1, 1, 40), Nanos(191), false);
        inside.take(&more(0), Nanos(192), true);
        settle(&mut inside, 249, &[0, 1]);
        assert_eq!(figures(&inside), (0, 0, 0));
        settle(&mut inside, 250, &[0, 1]);
        assert_eq!(figures(&inside), (1, 0, 1));
        // The next two connections on the five-tuple: at the first point one took the entry of the other.
        for isn in [7, 8] {
            inside.take(&at(0, isn, 0), Nanos(300), false);
            let mut last = at(1, isn, 40);
            last.flow.half[0].segments -= 1;
            inside.take(&last, Nanos(301), true);
        }
        settle(&mut inside, 400, &[]);
        assert_eq!(figures(&inside), (3, 0, 1), "what came after the end at one point was not lost");
        assert_eq!(inside.waiting.len(), 0);
    }

    #[test]
    fn what_was_met_mid_way_is_not_compared_and_memory_has_an_end() {
        let mut inside = Inside::default();
        let mut late = at(0, 1, 0);
        late.flow.half[1].bits = Half::SEEN;
        inside.take(&late, Nanos(0), true);
        assert_eq!((inside.waiting.len(), inside.left_out()), (0, 0));
        for isn in 0..=ROOM as u32 {
            inside.take(&at(0, isn, 0), Nanos(0), true);
        }
        assert_eq!((inside.waiting.len(), inside.left_out()), (ROOM, 1));
    }
}
