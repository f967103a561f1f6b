//! Which connections to look at first.

use crate::aggregate::rows::{Sight, stored};
use agent_ebpf::{
    anomaly::{Cause, Outcome},
    flow::Flow,
    time::Nanos,
    traffic::Close,
};
use std::{cmp::Reverse, collections::BinaryHeap};

/// Connections that are listed.
const LISTED: usize = 10;

/// A connection, and when it was last heard of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bad {
    /// Number of the point.
    pub(super) point: usize,
    /// When it ended, or the capture did.
    pub(super) at: Nanos,
    /// The connection.
    pub(super) sight: Sight,
    rank: (u64, Reverse<Nanos>),
}

impl PartialEq for Bad {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Bad {}

impl PartialOrd for Bad {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bad {
    /// The worse one is the greater; of two alike the earlier.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank.cmp(&other.rank)
    }
}

/// The worst connections so far.
#[derive(Debug, Default)]
pub(super) struct Worst {
    /// The least bad one on top.
    heap: BinaryHeap<Reverse<Bad>>,
}

impl Worst {
    /// Takes the connection if it is bad enough.
    pub(super) fn offer(&mut self, point: usize, at: Nanos, sight: Sight) {
        let bad = badness(&sight);
        if bad == 0 {
            return;
        }
        self.heap.push(Reverse(Bad { point, at, sight, rank: (bad, Reverse(sight.flow.opened)) }));
        if self.heap.len() > LISTED {
            self.heap.pop();
        }
    }

    /// The worst of all these, the worst first.
    pub(super) fn merge<'a>(all: impl Iterator<Item = &'a Self>) -> Vec<&'a Bad> {
        let mut worst: Vec<&Bad> = all.flat_map(|w| w.heap.iter().map(|Reverse(bad)| bad)).collect();
        worst.sort_by(|a, b| b.cmp(a));
        worst.truncate(LISTED);
        worst
    }
}

/// How bad: a payment that may be lost before one that was slow.
fn badness(sight: &Sight) -> u64 {
    let flow = &sight.flow;
    let cause = match stored(flow.cause, Cause::from_code) {
        Some(Cause::TimeWait | Cause::AfterReuse | Cause::Timeout | Cause::Idle | Cause::Abort) => 2_000_000,
        Some(Cause::Refused) => 1_000_000,
        _ => 0,
    };
    let unanswered = if flow.has(Flow::PENDING) && flow.close != 0 { 2_000_000 } else { 0 };
    let reuse = match stored(flow.outcome, Outcome::from_code) {
        Some(Outcome::Challenged | Outcome::Refused | Outcome::Ignored) => 1_000_000,
        _ => 0,
    };
    let silence = match stored(flow.close, Close::from_code) {
        Some(Close::HandshakeSilence) => 500_000,
        _ => 0,
    };
    let trouble: u64 = sight
        .counts
        .iter()
        .map(|c| {
            let slow = [c.retransmissions, c.late_fills, c.spurious, c.syn_retransmissions, c.zero_windows];
            let odd = [c.out_of_order, c.unknown, c.duplicates];
            let sum = |counts: &[u32]| counts.iter().map(|n| u64::from(*n)).sum::<u64>();
            10 * sum(&slow) + sum(&odd)
        })
        .sum();
    cause + unanswered + reuse + silence + trouble.min(499_999)
}
