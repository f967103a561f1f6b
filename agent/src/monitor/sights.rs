//! Looking through all connections that are known, open and ended, without taking them all: a table may hold a million.

use super::Monitor;
use crate::{
    aggregate::{Names, rows::Sight},
    alert::evidence::{Evidence, Search},
    connection::{Clock, Connection, http::life, second_leg},
    sys,
};
use agent_ebpf::flow::Flow;
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
        let mut clients: HashSet<_> = of.iter().map(Sight::client).collect();
        // Behind a translation the client has another address.
        let known: HashSet<_> = of.iter().filter_map(Sight::numbers).collect();
        self.each_end(&mut |sight| {
            clients.extend(sight.numbers().filter(|n| known.contains(n)).map(|_| sight.client()));
        });
        let mut theirs: HashMap<_, _> = of.iter().map(|sight| (life(sight), *sight)).collect();
        let (mut open, mut ended) = (Vec::new(), Best::new(ROUTES));
        self.each_sight(&mut |sight| {
            if clients.contains(&sight.client()) {
                theirs.insert(life(&sight), sight);
            } else if sight.flow.close != 0 {
                ended.offer(sight.flow.last_seen(), sight);
            } else if open.len() < ROUTES {
                open.push(sight);
            }
        })?;
        Ok(theirs.into_values().chain(open).chain(ended.into_sorted()).collect())
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
