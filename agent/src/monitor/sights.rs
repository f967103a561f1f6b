//! Looking through all connections that are known, open and ended, without taking them all: a table may hold a million.

use super::Monitor;
use crate::{
    aggregate::{Names, rows::Sight},
    alert::evidence::{Evidence, Search},
    connection::{
        Clock, Connection,
        http::{Life, life},
        second_leg,
    },
    sys,
};
use agent_ebpf::{flow::Flow, time::Nanos, wire::Addr};
use anyhow::{Context as _, Result};
use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    time::SystemTime,
};

/// Connections that are looked at closely.
const CANDIDATES: usize = 256;
/// Connections from which the ways through proxies are learnt, of the open and of the ended ones.
const ROUTES: usize = 4_096;
/// Ended connections that are taken at a time: nothing is held in between.
const PAGE: usize = 1_024;

/// The best of what was offered.
pub struct Best<R, T> {
    most: usize,
    all: Vec<(R, T)>,
}

impl<R: Ord + Copy, T> Best<R, T> {
    /// At most so many.
    pub const fn new(most: usize) -> Self {
        Self { most, all: Vec::new() }
    }

    /// Takes one with its rank, unless there are enough of a higher one.
    pub fn offer(&mut self, rank: R, what: T) {
        if self.most == 0 {
            return;
        }
        self.all.push((rank, what));
        if self.all.len() >= self.most.saturating_mul(2) {
            self.all.select_nth_unstable_by_key(self.most - 1, |(rank, _)| Reverse(*rank));
            self.all.truncate(self.most);
        }
    }

    /// The best, the highest rank first.
    pub fn into_sorted(mut self) -> impl Iterator<Item = T> {
        self.all.sort_by_key(|(rank, _)| Reverse(*rank));
        self.all.into_iter().take(self.most).map(|(_, what)| what)
    }
}

/// What is around some connections.
struct Around {
    /// Clients whose connections are all taken.
    clients: HashSet<(Addr, u16)>,
    /// Initial sequence numbers of those that it is around.
    known: HashSet<(u32, u32)>,
    theirs: HashMap<Life, Sight>,
    open: Vec<Sight>,
    ended: Best<Nanos, Sight>,
}

impl Around {
    fn new(of: &[Sight]) -> Self {
        Self {
            clients: of.iter().map(Sight::client).collect(),
            known: of.iter().filter_map(Sight::numbers).collect(),
            theirs: of.iter().map(|sight| (life(sight), *sight)).collect(),
            open: Vec::new(),
            ended: Best::new(ROUTES),
        }
    }

    /// Learns a client's other addresses: behind a translation it has one of its own. To be told of all that have ended before
    /// any is taken.
    fn learn(&mut self, sight: &Sight) {
        if sight.numbers().is_some_and(|numbers| self.known.contains(&numbers)) {
            self.clients.insert(sight.client());
        }
    }

    fn take(&mut self, sight: Sight) {
        if self.clients.contains(&sight.client()) {
            self.theirs.insert(life(&sight), sight);
        } else if sight.flow.close != 0 {
            self.ended.offer(sight.flow.last_seen(), sight);
        } else if self.open.len() < ROUTES {
            self.open.push(sight);
        }
    }

    fn into_all(self) -> impl Iterator<Item = Sight> {
        self.theirs.into_values().chain(self.open).chain(self.ended.into_sorted())
    }
}

impl Monitor {
    /// Visits the open connections and then those that have ended; one that ends meanwhile may come twice.
    fn each_sight(&self, visit: &mut dyn FnMut(Sight)) -> Result<()> {
        let mut open = |sight: Sight| {
            if !sight.flow.has(Flow::ENDED) {
                visit(sight);
            }
        };
        self.maps.each_flow(&mut open).context("cannot read the flow tables")?;
        self.drain(u64::MAX);
        self.each_end(visit);
        Ok(())
    }

    fn each_end(&self, visit: &mut dyn FnMut(Sight)) {
        let mut after = 0;
        loop {
            let page: Vec<_> = self.records().events.ends_after(after).take(PAGE).collect();
            let Some((last, ..)) = page.last() else { return };
            after = *last;
            page.into_iter().for_each(|(.., sight)| visit(sight));
        }
    }

    /// All connections of the clients of these, which have ended, and as many others as it takes to learn the ways through
    /// proxies.
    pub(super) fn around(&self, of: &[Sight]) -> Result<Vec<Sight>> {
        let mut around = Around::new(of);
        self.each_end(&mut |sight| around.learn(&sight));
        self.each_sight(&mut |sight| around.take(sight))?;
        Ok(around.into_all().collect())
    }

    /// The connections that show best what an alert is about.
    pub(super) fn witnesses(&self, search: &Search<'_>, names: &Names) -> Result<Vec<Evidence>> {
        let now = sys::monotonic();
        let clock = Clock::new(SystemTime::now(), now);
        let (mut worst, mut asked) = (Best::new(CANDIDATES), Best::new(CANDIDATES));
        self.each_sight(&mut |sight| {
            if !search.is_about(&sight, now) {
                return;
            }
            let c = Connection::of(&sight, names, clock);
            if let Some(rank) = search.may_weigh(&c) {
                asked.offer(rank, sight);
            }
            if let Some(weight) = search.weight(&c) {
                worst.offer(weight, sight);
            }
        })?;
        let asked: Vec<_> = asked.into_sorted().collect();
        let around = if asked.is_empty() { Vec::new() } else { self.around(&asked)? };
        let found = worst.into_sorted().chain(asked).chain(around);
        // One that is both a witness and around one is one.
        let found: HashMap<_, _> = found.map(|sight| (life(&sight), sight)).collect();
        let mut all = Vec::with_capacity(found.len());
        {
            let records = self.records();
            for sight in found.values() {
                let http = records.events.http(sight).cloned();
                all.push(Connection { http, ..Connection::of(sight, names, clock) });
            }
        }
        let time_wait = self.in_force().watch.limits.time_wait;
        second_leg::prove(&mut all, time_wait);
        Ok(search.worst(&all, names.shown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::second_leg::LegState;
    use agent_ebpf::{
        anomaly::Cause,
        flow::{FlowKey, FlowKey4},
        half::Half,
        scoreboard::Counts,
        seq::SeqNum,
        traffic::Close,
    };
    use std::time::Duration;

    const MS: u64 = 1_000_000;
    /// The client, and what a translation makes of it.
    const CLIENT: [[u8; 4]; 2] = [[192, 0, 2, 1], [10, 0, 0, 1]];

    /// A connection from port 40000, closed by its client 100 ms after it was opened. Numbers of points, and the last bytes of
    /// the servers' addresses: 0 before a translation, 1 behind it, 2 behind a proxy.
    fn closed(at: u8, client: [u8; 4], isn: u32, opened_ms: u64) -> Sight {
        let ends = [client, [10, 0, 0, 100 + at]].map(|address| Addr::v4(address).0[3]);
        let key =
            FlowKey4 { low: ends[0], high: ends[1], ports: 40_000 << 16 | 443, scope: u32::from(at) << 24 };
        let closed = Nanos((opened_ms + 100) * MS);
        let half = |isn: u32| Half {
            isn: SeqNum(isn),
            bits: Half::SEEN | Half::SYN | Half::FIN,
            last_seen: closed,
            ..Half::default()
        };
        let flow = Flow {
            bits: Flow::USED | Flow::ENDED,
            close: Close::FinClient as u8 + 1,
            opened: Nanos(opened_ms * MS),
            closed_at: closed,
            half: [half(isn), half(isn + 7)],
            ..Flow::default()
        };
        Sight { key: FlowKey::V4(key), flow, counts: [Counts::default(); 2] }
    }

    /// The same, reset after a reuse.
    fn reset(at: u8, client: [u8; 4], isn: u32, opened_ms: u64) -> Sight {
        let mut sight = closed(at, client, isn, opened_ms);
        sight.flow.close = Close::ResetServer as u8 + 1;
        sight.flow.cause = Cause::AfterReuse as u8 + 1;
        sight
    }

    #[test]
    fn what_waits_behind_a_translation_is_found_however_many_others_have_ended_since() {
        let mut all = vec![
            closed(0, CLIENT[0], 1, 1_000),
            closed(1, CLIENT[1], 1, 1_000),
            closed(2, CLIENT[1], 501, 1_003),
        ];
        all.extend((0..2 * ROUTES as u32).map(|n| {
            let [_, b, c, d] = n.to_be_bytes();
            closed(2, [172, b, c, d], 1_000 + 10 * n, 1_200)
        }));
        let asked = reset(0, CLIENT[0], 77, 1_400);
        all.extend([asked, reset(1, CLIENT[1], 77, 1_400)]);

        let mut around = Around::new(&[asked]);
        all.iter().for_each(|sight| around.learn(sight));
        all.iter().for_each(|sight| around.take(*sight));
        let points = ["outside", "inside", "behind"].map(str::to_owned).to_vec();
        let names = Names { points, services: vec!["other".to_owned()], ..Names::default() };
        let mut found: Vec<_> =
            around.into_all().map(|sight| Connection::of(&sight, &names, Clock::of_capture())).collect();
        assert_eq!(found.len(), 5 + ROUTES, "no more than it takes");
        second_leg::prove(&mut found, Duration::from_secs(60));
        let outside = found.iter().find(|c| c.point == "outside" && c.reset.is_some()).unwrap();
        assert_eq!(outside.second_leg.as_ref().map(|leg| leg.state), Some(LegState::TimeWait));
        assert_eq!(outside.reset.map(|reset| reset.cause), Some(Cause::TimeWait));
    }

    #[test]
    fn the_best_stay_in_order_and_no_more_than_asked_for() {
        let best = |most: usize, n: u64| {
            let mut best = Best::new(most);
            // Each number below the prime 101 once.
            (1..=n).map(|i| i * 37 % 101).for_each(|rank| best.offer(rank, rank));
            best.into_sorted().collect::<Vec<_>>()
        };
        assert_eq!(best(3, 100), [100, 99, 98]);
        assert_eq!(best(3, 2), [74, 37]);
        assert_eq!(best(0, 5), [0; 0]);
    }
}
