//! Connections of clients that their service does not allow: counted once each, when they are met open or have ended.

use super::{
    filter::ip,
    rows::{Sight, is_open},
};
use agent_ebpf::flow::{Flow, FlowKey};
use ipnet::IpNet;
use std::collections::{HashMap, HashSet};

/// Open ones that are remembered; those beyond are counted at their end.
const ROOM: usize = 65_536;

/// Networks whose clients a service allows, by its number; empty where it allows all.
pub type Allowed = Vec<Vec<IpNet>>;

/// What no two connections at a point have in common: the key, and the first packet.
type Life = (FlowKey, u64);

/// The count.
#[derive(Debug, Default)]
pub struct Foreign {
    open: HashSet<Life>,
    counts: HashMap<(u8, u16), u64>,
}

impl Foreign {
    /// Takes a connection that is open.
    pub fn open(&mut self, allowed: &Allowed, key: FlowKey, flow: &Flow) {
        let life = (key, flow.opened.0);
        if is_open(flow) && is_foreign(allowed, key, flow) && self.open.len() < ROOM && self.open.insert(life)
        {
            self.count(key, flow);
        }
    }

    /// Takes one that has ended.
    pub fn ended(&mut self, allowed: &Allowed, end: &Sight) {
        let known = self.open.remove(&(end.key, end.flow.opened.0));
        if !known && is_foreign(allowed, end.key, &end.flow) {
            self.count(end.key, &end.flow);
        }
    }

    /// Forgets one that is no more, if its end was not told.
    pub fn forget(&mut self, last: &Sight) {
        self.open.remove(&(last.key, last.flow.opened.0));
    }

    /// Connections of a point and service so far.
    pub fn counted(&self, point: usize, svc: usize) -> u64 {
        let key = u8::try_from(point).ok().zip(u16::try_from(svc).ok());
        key.and_then(|key| self.counts.get(&key)).copied().unwrap_or_default()
    }

    fn count(&mut self, key: FlowKey, flow: &Flow) {
        *self.counts.entry((key.point(), flow.svc)).or_default() += 1;
    }
}

fn is_foreign(allowed: &Allowed, key: FlowKey, flow: &Flow) -> bool {
    let Some(networks) = allowed.get(usize::from(flow.svc)).filter(|networks| !networks.is_empty()) else {
        return false;
    };
    let (client, _) = key.end_points()[usize::from(flow.client & 1)];
    // Which side of one that was met mid-way is the client is a guess.
    !flow.has(Flow::JOINED_LATE) && !networks.iter().any(|network| network.contains(&ip(client)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_ebpf::{
        flow::FlowKey4, phase::Phase, scoreboard::Counts, time::Nanos, traffic::Close, wire::Addr,
    };

    fn sight(client: [u8; 4], opened: u64) -> Sight {
        let key = FlowKey4 {
            low: Addr::v4(client).0[3],
            high: Addr::v4([198, 51, 100, 7]).0[3],
            ports: 40_000 << 16 | 443,
            scope: 1 << 24,
        };
        let flow = Flow {
            phase: Phase::Established as u8,
            svc: 1,
            opened: Nanos(opened),
            bits: Flow::USED,
            ..Flow::default()
        };
        Sight { key: FlowKey::V4(key), flow, counts: [Counts::default(); 2] }
    }

    #[test]
    fn each_is_counted_once_whether_it_was_met_open_or_not() {
        let allowed: Allowed = vec![vec![], vec!["192.0.2.0/24".parse().unwrap()]];
        let mut foreign = Foreign::default();
        let (good, bad, brief) =
            (sight([192, 0, 2, 1], 1), sight([203, 0, 113, 1], 2), sight([203, 0, 113, 1], 3));
        for _ in 0..3 {
            foreign.open(&allowed, good.key, &good.flow);
            foreign.open(&allowed, bad.key, &bad.flow);
        }
        assert_eq!((foreign.counted(1, 1), foreign.counted(1, 0), foreign.counted(0, 1)), (1, 0, 0));
        for sight in [good, bad, brief] {
            let flow = Flow { close: Close::FinClient as u8 + 1, ..sight.flow };
            foreign.ended(&allowed, &Sight { flow, ..sight });
            foreign.open(&allowed, sight.key, &flow);
        }
        assert_eq!(foreign.counted(1, 1), 2);
        assert!(foreign.open.is_empty());
    }

    #[test]
    fn nobody_is_foreign_to_a_service_that_lists_none_and_a_guess_does_not_count() {
        let mut foreign = Foreign::default();
        let mut bad = sight([203, 0, 113, 1], 2);
        foreign.open(&vec![vec![], vec![]], bad.key, &bad.flow);
        foreign.open(&vec![], bad.key, &bad.flow);
        bad.flow.bits |= Flow::JOINED_LATE;
        foreign.open(&vec![vec![], vec!["192.0.2.0/24".parse().unwrap()]], bad.key, &bad.flow);
        assert_eq!(foreign.counted(1, 1), 0);
    }

    #[test]
    fn memory_has_an_end_and_the_count_goes_on() {
        let allowed: Allowed = vec![vec![], vec!["192.0.2.0/24".parse().unwrap()]];
        let mut foreign = Foreign::default();
        for opened in 0..=ROOM as u64 {
            let bad = sight([203, 0, 113, 1], opened);
            foreign.open(&allowed, bad.key, &bad.flow);
        }
        assert_eq!((foreign.open.len(), foreign.counted(1, 1)), (ROOM, ROOM as u64));
        foreign.ended(&allowed, &sight([203, 0, 113, 1], ROOM as u64));
        assert_eq!(foreign.counted(1, 1), ROOM as u64 + 1);
    }
}
