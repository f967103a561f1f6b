//! What happens between two neighbours on the way.

use super::{
    clocks::minus,
    moments,
    path::{Path, Relation},
    way::{Way, injected},
};
use crate::connection::{Connection, legs, legs::Leg};
use agent_ebpf::{label::Side, traffic::Served};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What happens between two points, the first nearer to the clients. Connections are numbered by their place among the
/// path's.
#[derive(Debug, Default)]
pub struct Between {
    /// The points' numbers.
    pub from: usize,
    /// The second one.
    pub to: usize,
    /// A proxy in between ends connections and opens others for them.
    pub proxy: bool,
    /// Connections seen at both; with a proxy, those that have a second leg.
    pub compared: BTreeSet<usize>,
    /// Of what clients sent, and of what servers sent.
    pub sides: [Crossing; 2],
    /// Connections that were reset in between, by the side that the RST names as its sender.
    pub injected: [BTreeSet<usize>; 2],
    /// Connections that came to the first point and never to the second, or whose request ends in between.
    pub vanished: BTreeSet<usize>,
    /// Of those, ones that were acknowledged all the same.
    pub acknowledged: u64,
    /// Connections of which nothing tells whether they have a second leg.
    pub unsure: u64,
    /// What became of addresses and ports, and of how many connections.
    pub rewritten: BTreeMap<String, u64>,
}

/// What one side's segments met.
#[derive(Debug, Default)]
pub struct Crossing {
    /// Segments that were lost, and the connections.
    pub lost: (u64, BTreeSet<usize>),
    /// Segments that were overtaken.
    pub reordered: (u64, BTreeSet<usize>),
    /// Segments that were copied.
    pub duplicated: (u64, BTreeSet<usize>),
    /// How long packets took, nanoseconds, in no order; below 0 only by what the clocks are off, or a microsecond.
    pub delays: Vec<i64>,
}

/// A distribution, nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Delay {
    /// The median.
    pub median_ns: i64,
    /// The 99th percentile.
    pub p99_ns: i64,
    /// How many.
    pub samples: usize,
}

impl Crossing {
    /// The distribution of the delays.
    pub fn delay(&self) -> Option<Delay> {
        let mut all = self.delays.clone();
        all.sort_unstable();
        let at = |share: usize| all.get((all.len() * share / 100).min(all.len().saturating_sub(1))).copied();
        Some(Delay { median_ns: at(50)?, p99_ns: at(99)?, samples: all.len() })
    }

    fn add(&mut self, one: usize, way: Way) {
        for (n, to) in [
            (way.lost, &mut self.lost),
            (way.reordered, &mut self.reordered),
            (way.duplicated, &mut self.duplicated),
        ] {
            if n > 0 {
                to.0 += n;
                to.1.insert(one);
            }
        }
    }
}

impl Between {
    /// Compares two neighbours by the connections that are asked for.
    pub fn of(
        points: &[Vec<Connection>],
        path: &Path,
        from: usize,
        to: usize,
        asked: &BTreeSet<usize>,
    ) -> Self {
        let proxy = matches!(path.relations[from][to], Relation::Legs | Relation::LegsBack);
        let mut between = Self { from, to, proxy, ..Self::default() };
        let ahead = path.ahead_ns[to].wrapping_sub(path.ahead_ns[from]);
        let all = path.joined.iter().enumerate();
        let here: Vec<(usize, &Connection)> =
            all.filter_map(|(i, joined)| Some((i, &points[from][joined.at[from]?]))).collect();
        if proxy {
            between.legs(&here, &points[to], ahead, asked);
            return between;
        }
        let watched = Watched::of(&points[to], path, from, to, points);
        for (one, near) in here.into_iter().filter(|(one, _)| asked.contains(one)) {
            match path.joined[one].at[to] {
                Some(place) => between.compare(one, near, &points[to][place], ahead),
                None if watched.should_have(near, ahead) => between.vanish(one, near),
                None => {}
            }
        }
        between
    }

    fn compare(&mut self, one: usize, near: &Connection, far: &Connection, ahead: i64) {
        self.compared.insert(one);
        let ways = [Way::of(Side::Client, near, far, true), Way::of(Side::Server, far, near, true)];
        for (crossing, way) in self.sides.iter_mut().zip(ways) {
            crossing.add(one, way);
        }
        if let Some(side) = injected(near, far) {
            self.injected[side as usize].insert(one);
        } else if ways[0].missing_bytes > 0 && near.request.is_some_and(|request| request.pending) {
            self.vanish(one, near);
        }
        // A client's packet passes the near point first, a server's the far one.
        let [forth, back] = moments::shared(near, far);
        let apart = |(a, b): (u64, u64)| minus(b, a).wrapping_sub(ahead);
        self.sides[0].delays.extend(forth.into_iter().map(apart));
        self.sides[1].delays.extend(back.into_iter().map(|moment| apart(moment).wrapping_neg()));
        for (what, x, y) in [("client", near.client, far.client), ("server", near.server, far.server)] {
            if x.address != y.address {
                *self.rewritten.entry(format!("{what} {} -> {}", x.address, y.address)).or_default() += 1;
            } else if x.port != y.port {
                *self.rewritten.entry(format!("{what} port of {}", x.address)).or_default() += 1;
            }
        }
    }

    fn vanish(&mut self, one: usize, near: &Connection) {
        self.vanished.insert(one);
        // All that the client sent has been acknowledged by whoever took it.
        let acknowledged = near.from_server.acked.is_some_and(|acked| {
            near.request.is_some() && (near.from_client.next.wrapping_sub(acked) as i32) <= 1
        });
        self.acknowledged += u64::from(acknowledged);
    }

    /// Of those asked for; but all take part in finding out whose a second leg is.
    fn legs(
        &mut self,
        here: &[(usize, &Connection)],
        there: &[Connection],
        ahead: i64,
        asked: &BTreeSet<usize>,
    ) {
        let first: Vec<&Connection> = here.iter().map(|(_, c)| *c).collect();
        let second: Vec<&Connection> = there.iter().collect();
        let legs = legs::pair(&first, &second, ahead);
        let taken: BTreeSet<usize> = legs.iter().flatten().map(|(place, _)| *place).collect();
        for ((one, near), leg) in here.iter().zip(&legs).filter(|((one, _), _)| asked.contains(one)) {
            let Some((place, _)) = leg else {
                // One that nobody claims may be its own: then nothing can be said.
                let free = |(place, c): (usize, &Connection)| {
                    let at = c.times.opened_ns.wrapping_add_signed(ahead.wrapping_neg());
                    !taken.contains(&place) && near.times.opened_ns <= at && at <= near.times.last_seen_ns
                };
                if there.iter().enumerate().any(free) {
                    self.unsure += 1;
                } else if near.request.is_some()
                    && near.result != Some(Served::Answered)
                    && near.result.is_some()
                {
                    self.vanish(*one, near);
                }
                continue;
            };
            self.compared.insert(*one);
            let far = second[*place];
            let opened = far.times.opened_ns.wrapping_sub(near.times.opened_ns) as i64;
            self.sides[0].delays.push(opened.wrapping_sub(ahead));
            let kept = matches!(leg, Some((_, Leg::SameClient)));
            if kept && near.server == far.server {
                continue;
            }
            let client = if kept { "kept" } else { "its own" };
            let text = format!("client {client}, server {} -> {}", near.server, far.server);
            *self.rewritten.entry(text).or_default() += 1;
        }
    }
}

/// What a point was in a position to see.
struct Watched {
    since: u64,
    until: u64,
    /// Servers that connections pass it to, as the point before knows them.
    servers: BTreeSet<crate::api::EndPoint>,
}

impl Watched {
    fn of(list: &[Connection], path: &Path, from: usize, to: usize, points: &[Vec<Connection>]) -> Self {
        let both = super::path::both(points, &path.joined, from, to);
        Self {
            since: list.iter().map(|c| c.times.opened_ns).min().unwrap_or(u64::MAX),
            until: list.iter().map(|c| c.times.last_seen_ns).max().unwrap_or(0),
            servers: both.map(|(near, _)| near.server).collect(),
        }
    }

    /// Whether a connection would have passed the point if nothing had happened to it before.
    fn should_have(&self, near: &Connection, ahead: i64) -> bool {
        let at = near.times.opened_ns.wrapping_add_signed(ahead);
        (self.since..=self.until).contains(&at) && self.servers.contains(&near.server)
    }
}
