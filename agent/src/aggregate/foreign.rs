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
#[derive(Debug, Clone, Default)]
pub struct Allowed(pub Vec<Vec<IpNet>>);

/// What no two connections at a point have in common: the key, and the first packet.
type Life = (FlowKey, u64);

/// A connection that is not allowed: its life, and its service.
#[derive(Debug, Clone, Copy)]
pub struct Met(Life, u16);

/// The count.
#[derive(Debug, Default)]
pub struct Foreign {
    open: HashSet<Life>,
    /// Those that ended since the last look at the open ones: they may still be among what was looked at.
    ended: HashSet<Life>,
    counts: HashMap<(u8, u16), u64>,
}

impl Foreign {
    /// Takes those of a look at the tables that are open.
    pub fn open(&mut self, met: impl IntoIterator<Item = Met>) {
        for Met(life, svc) in met {
            if self.open.len() < ROOM && !self.ended.contains(&life) && self.open.insert(life) {
                self.count(life, svc);
            }
        }
        self.ended.clear();
    }

    /// Takes one that has ended.
    pub fn ended(&mut self, allowed: &Allowed, end: &Sight) {
        let Some(Met(life, svc)) = allowed.refuses(end.key, &end.flow) else { return };
        if !self.open.remove(&life) {
            self.count(life, svc);
        }
        if self.ended.len() < ROOM {
            self.ended.insert(life);
        }
    }

    /// Forgets one that is no more, if its end was not told.
    pub fn forget(&mut self, last: &Sight) {
        self.open.remove(&(last.key, last.flow.opened.0));
    }

    /// Forgets all of some points.
    pub fn forget_points(&mut self, is_one: impl Fn(u8) -> bool) {
        for lives in [&mut self.open, &mut self.ended] {
            lives.retain(|(key, _)| !is_one(key.point()));
        }
        self.counts.retain(|(point, _), _| !is_one(*point));
    }

    /// Connections of a point and service so far.
    pub fn counted(&self, point: usize, svc: usize) -> u64 {
        let key = u8::try_from(point).ok().zip(u16::try_from(svc).ok());
        key.and_then(|key| self.counts.get(&key)).copied().unwrap_or_default()
    }

    fn count(&mut self, (key, _): Life, svc: u16) {
        *self.counts.entry((key.point(), svc)).or_default() += 1;
    }
}

impl Allowed {
    /// The connection, where it is open and its service does not allow its client.
    pub fn refuses_open(&self, key: FlowKey, flow: &Flow) -> Option<Met> {
        if is_open(flow) { self.refuses(key, flow) } else { None }
    }

    fn refuses(&self, key: FlowKey, flow: &Flow) -> Option<Met> {
        let networks = self.0.get(usize::from(flow.svc)).filter(|networks| !networks.is_empty())?;
        let (client, _) = key.end_points()[usize::from(flow.client & 1)];
        // Which side of one that was met mid-way is the client is a guess.
        let guessed = flow.has(Flow::JOINED_LATE);
        let foreign = !guessed && !networks.iter().any(|network| network.contains(&ip(client)));
        foreign.then_some(Met((key, flow.opened.0), flow.svc))
    }
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

    fn allowed(networks: &[&str]) -> Allowed {
        Allowed(vec![vec![], networks.iter().map(|net| net.parse().unwrap()).collect()])
    }

    fn met(allowed: &Allowed, sight: &Sight) -> Option<Met> {
        allowed.refuses_open(sight.key, &sight.flow)
    }

    fn over(sight: &Sight) -> Sight {
        Sight { flow: Flow { close: Close::FinClient as u8 + 1, ..sight.flow }, ..*sight }
    }

    #[test]
    fn each_is_counted_once_whether_it_was_met_open_or_not() {
        let allowed = allowed(&["192.0.2.0/24"]);
        let mut foreign = Foreign::default();
        let (good, bad, brief) =
            (sight([192, 0, 2, 1], 1), sight([203, 0, 113, 1], 2), sight([203, 0, 113, 1], 3));
        for _ in 0..3 {
            foreign.open([good, bad].iter().filter_map(|sight| met(&allowed, sight)));
        }
        assert_eq!((foreign.counted(1, 1), foreign.counted(1, 0), foreign.counted(0, 1)), (1, 0, 0));
        // What was looked at before they ended comes after.
        let looked = [bad, brief].map(|sight| met(&allowed, &sight));
        for sight in [good, bad, brief] {
            foreign.ended(&allowed, &over(&sight));
            assert!(met(&allowed, &over(&sight)).is_none());
        }
        foreign.open(looked.into_iter().flatten());
        assert_eq!(foreign.counted(1, 1), 2);
        assert!(foreign.open.is_empty() && foreign.ended.is_empty());
    }

    #[test]
    fn nobody_is_foreign_to_a_service_that_lists_none_and_a_guess_does_not_count() {
        let mut bad = sight([203, 0, 113, 1], 2);
        assert!(met(&allowed(&[]), &bad).is_none() && met(&Allowed::default(), &bad).is_none());
        bad.flow.bits |= Flow::JOINED_LATE;
        assert!(met(&allowed(&["192.0.2.0/24"]), &bad).is_none());
    }

    #[test]
    fn memory_has_an_end_and_the_count_goes_on() {
        let allowed = allowed(&["192.0.2.0/24"]);
        let mut foreign = Foreign::default();
        let all = |opened| met(&allowed, &sight([203, 0, 113, 1], opened));
        foreign.open((0..=ROOM as u64).filter_map(all));
        assert_eq!((foreign.open.len(), foreign.counted(1, 1)), (ROOM, ROOM as u64));
        foreign.ended(&allowed, &over(&sight([203, 0, 113, 1], ROOM as u64)));
        assert_eq!(foreign.counted(1, 1), ROOM as u64 + 1);
    }
}
