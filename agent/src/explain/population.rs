//! Which connections are compared with which.

use super::report::Population;
use crate::connection::Connection;
use agent_ebpf::traffic::Served;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Connections that are looked at together.
pub struct Group<'a> {
    /// The points that saw them.
    pub points: Vec<String>,
    /// The connections.
    pub connections: Vec<&'a Connection>,
}

/// One group for each point. Points that saw the same connection must not be added up: it would count as often as it
/// was seen. Where no connection was seen twice and the points lead to the same servers, they are paths beside each
/// other, and which path a connection took is one of the things to look at: then all are one group.
pub fn groups(connections: &[Connection]) -> Vec<Group<'_>> {
    let mut by_point: BTreeMap<&str, Vec<&Connection>> = BTreeMap::new();
    // In the order in which the points were named.
    let mut points: Vec<&str> = Vec::new();
    for connection in connections {
        let group = by_point.entry(&connection.point).or_insert_with(|| {
            points.push(&connection.point);
            Vec::new()
        });
        group.push(connection);
    }
    if points.len() > 1 && are_beside_each_other(&by_point) {
        return vec![Group {
            points: points.into_iter().map(str::to_owned).collect(),
            connections: connections.iter().collect(),
        }];
    }
    let group = |point: &str| Group {
        points: vec![point.to_owned()],
        connections: by_point.remove(point).unwrap_or_default(),
    };
    points.into_iter().map(group).collect()
}

fn are_beside_each_other(by_point: &BTreeMap<&str, Vec<&Connection>>) -> bool {
    // Numbers of both sides survive a change of addresses.
    let numbers = |c: &Connection| Some((c.from_client.isn?, c.from_server.isn?));
    let (mut seen, mut known) = (HashSet::new(), HashSet::new());
    for connections in by_point.values() {
        let ends: HashSet<_> = connections.iter().map(|c| (c.client, c.server)).collect();
        let here: HashSet<_> = connections.iter().filter_map(|c| numbers(c)).collect();
        if !ends.is_disjoint(&seen) || !here.is_disjoint(&known) {
            return false;
        }
        seen.extend(ends);
        known.extend(here);
    }
    let mut servers = by_point.values().map(|c| c.iter().map(|c| c.server).collect::<BTreeSet<_>>());
    let first = servers.next().unwrap_or_default();
    servers.all(|servers| servers == first)
}

/// Whether a connection failed; none where it is not compared.
pub fn failed(connection: &Connection) -> Option<bool> {
    match connection.result? {
        Served::Unanswered | Served::Reset | Served::Refused | Served::TimedOut => Some(true),
        Served::Answered => Some(false),
        Served::Unused => None,
    }
}

impl Population {
    /// Counts connections.
    pub fn of(connections: &[&Connection]) -> Self {
        let mut population = Self::default();
        let p = &mut population;
        for connection in connections {
            let count = match connection.result {
                Some(Served::Unanswered) => &mut p.unanswered,
                Some(Served::Reset) => &mut p.reset,
                Some(Served::Refused) => &mut p.refused,
                Some(Served::TimedOut) => &mut p.timed_out,
                Some(Served::Answered) => &mut p.good,
                Some(Served::Unused) => &mut p.unused,
                None => &mut p.open,
            };
            *count += 1;
        }
        p.failed = p.unanswered + p.reset + p.refused + p.timed_out;
        let compared = || connections.iter().filter(|c| failed(c).is_some());
        p.from_ns = compared().map(|c| c.times.opened_ns).min();
        p.to_ns = compared().map(|c| c.times.last_seen_ns).max();
        population
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::tests::answered;

    fn seen(point: &str, port: u16, isn: u32) -> Connection {
        let mut c = answered(point, 1_000_000_000 * u64::from(isn));
        (c.client.port, c.from_client.isn) = (port, Some(isn));
        c
    }

    fn shapes(connections: &[Connection]) -> Vec<(String, usize)> {
        groups(connections).iter().map(|g| (g.points.join("+"), g.connections.len())).collect()
    }

    #[test]
    fn points_that_saw_the_same_connection_are_not_added_up() {
        let all = [seen("outside", 1, 1), seen("inside", 1, 1), seen("inside", 2, 2)];
        assert_eq!(shapes(&all), [("outside".to_owned(), 1), ("inside".to_owned(), 2)]);
        let translated = [seen("outside", 1, 1), seen("inside", 9, 1)];
        assert_eq!(shapes(&translated).len(), 2, "other addresses, the same numbers");
    }

    #[test]
    fn paths_beside_each_other_to_the_same_servers_are_one_group() {
        let mut all = [seen("east", 1, 1), seen("west", 2, 2)];
        assert_eq!(shapes(&all), [("east+west".to_owned(), 2)]);
        all[1].server.port = 8443;
        assert_eq!(shapes(&all).len(), 2, "they lead elsewhere");
    }

    #[test]
    fn what_is_not_compared_is_counted() {
        let mut all = [seen("a", 1, 1), seen("a", 2, 2), seen("a", 3, 3), seen("a", 4, 4)];
        all[1].result = Some(Served::Reset);
        all[2].result = Some(Served::Unused);
        (all[3].result, all[3].close) = (None, None);
        let p = Population::of(&all.iter().collect::<Vec<_>>());
        assert_eq!((p.failed, p.reset, p.good, p.unused, p.open), (1, 1, 1, 1, 1));
        assert_eq!((p.from_ns, p.to_ns), (Some(1_000_000_000), Some(2_100_000_000)));
    }
}
