//! Which connection a proxy opened for which.
//!
//! A proxy that keeps its client's address and port gives itself away by them. Another one is known by the time, the number
//! of bytes it was asked for and asks for itself, and by its address, where it is reached under the one it speaks from.

use super::Connection;
use std::collections::HashMap;

/// How sure it is that a connection was opened for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leg {
    /// It has the same client address and port.
    SameClient,
    /// It was opened by the host that the other was opened to, while that one was open; no other fits better.
    SameHost,
    /// It was opened while the other was open, and asked for as many bytes; no other did.
    SameRequest,
}

/// For each of `first` its second leg: a place in `second`, and how sure that is. `ahead_ns` is what the clock of the point
/// of `second` is ahead by.
pub fn pair(first: &[&Connection], second: &[&Connection], ahead_ns: i64) -> Vec<Option<(usize, Leg)>> {
    let mut legs = vec![None; first.len()];
    let mut taken = vec![false; second.len()];
    let mut by_client: HashMap<_, Vec<usize>> = HashMap::new();
    let mut by_time: Vec<usize> = (0..second.len()).collect();
    for (place, leg) in second.iter().enumerate() {
        by_client.entry(leg.client).or_default().push(place);
    }
    let opened = |place: usize| second[place].times.opened_ns.wrapping_add_signed(ahead_ns.wrapping_neg());
    by_time.sort_by_key(|place| opened(*place));
    let mut order: Vec<usize> = (0..first.len()).collect();
    order.sort_by_key(|i| first[*i].times.opened_ns);
    for i in &order {
        let fits = by_client.get(&first[*i].client).into_iter().flatten().copied();
        let fits = fits.filter(|place| within(first[*i], opened(*place)) && other(first[*i], second[*place]));
        if let Some(place) = fits.filter(|place| !taken[*place]).min_by_key(|place| opened(*place)) {
            (legs[*i], taken[place]) = (Some((place, Leg::SameClient)), true);
        }
    }
    // Then by host and bytes, by bytes alone, and at last by host alone, where nothing else could be meant.
    for (kind, exact) in [(Leg::SameHost, true), (Leg::SameRequest, true), (Leg::SameHost, false)] {
        let mut claims: Vec<(usize, usize)> = Vec::new();
        for i in order.iter().copied().filter(|i| legs[*i].is_none()) {
            let from = by_time.partition_point(|place| opened(*place) < first[i].times.opened_ns);
            let open = by_time[from..].iter().copied().take_while(|place| within(first[i], opened(*place)));
            let fits = open.filter(|place| !taken[*place] && other(first[i], second[*place]));
            claims.extend(
                fits.filter(|place| fit(first[i], second[*place], kind, exact)).map(|place| (i, place)),
            );
        }
        for (i, place) in mutual(&claims) {
            (legs[i], taken[place]) = (Some((place, kind)), true);
        }
    }
    legs
}

/// The pairs of which neither has another.
fn mutual(claims: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let (mut firsts, mut seconds) = (HashMap::new(), HashMap::new());
    for (i, place) in claims {
        *firsts.entry(*i).or_insert(0) += 1;
        *seconds.entry(*place).or_insert(0) += 1;
    }
    claims.iter().copied().filter(|(i, place)| firsts[i] == 1 && seconds[place] == 1).collect()
}

/// Whether something at a time lies within the connection's life.
fn within(first: &Connection, at: u64) -> bool {
    first.times.opened_ns <= at && at <= first.times.last_seen_ns
}

/// The same connection seen again is no leg.
fn other(first: &Connection, second: &Connection) -> bool {
    first.from_client.isn.is_none() || first.from_client.isn != second.from_client.isn
}

fn fit(first: &Connection, second: &Connection, kind: Leg, exact: bool) -> bool {
    // A leg that asked belongs to a connection that asked.
    let may = first.request.is_some() || second.request.is_none();
    let host = kind != Leg::SameHost || second.client.address == first.server.address;
    may && host && (!exact || same_request(first, second))
}

fn same_request(first: &Connection, second: &Connection) -> bool {
    matches!((first.request, second.request), (Some(a), Some(b)) if a.bytes == b.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::EndPoint,
        connection::tests::{answered, later},
    };

    const MS: u64 = 1_000_000;

    fn leg_of(first: &Connection, after: u64) -> Connection {
        let mut leg = later(first, after);
        leg.client = EndPoint { address: first.server.address, port: 50_000 };
        leg.server = EndPoint { address: [10, 0, 0, 9].into(), port: 8_080 };
        leg.from_client.isn = Some(77_000 + first.times.opened_ns as u32);
        leg
    }

    #[test]
    fn a_proxy_that_keeps_the_client_is_known_by_it() {
        let first = answered("leg1", 1_000 * MS);
        let mut leg = leg_of(&first, 3 * MS);
        leg.client = first.client;
        let early = later(&leg, 0);
        let early =
            Connection { times: crate::connection::Times { opened_ns: 900 * MS, ..early.times }, ..early };
        assert_eq!(pair(&[&first], &[&early, &leg], 0), [Some((1, Leg::SameClient))]);
        assert_eq!(pair(&[&first], &[&first], 0), [None], "itself");
        let behind = later(&leg, 500 * MS);
        assert_eq!(
            pair(&[&first], &[&behind], 500 * MS as i64),
            [Some((0, Leg::SameClient))],
            "its clock is ahead"
        );
    }

    #[test]
    fn others_are_known_by_host_time_and_bytes() {
        let small = answered("leg1", 1_000 * MS);
        let mut large = later(&small, 5 * MS);
        large.client.port += 1;
        large.request = large.request.map(|r| crate::connection::Request { bytes: 10_180, ..r });
        let (leg_small, leg_large) = (leg_of(&small, 9 * MS), leg_of(&large, 2 * MS));
        let pairs = pair(&[&small, &large], &[&leg_large, &leg_small], 0);
        assert_eq!(pairs, [Some((1, Leg::SameHost)), Some((0, Leg::SameHost))]);
        // The one that vanished has no leg, however many others are open.
        let pairs = pair(&[&small, &large], &[&leg_small], 0);
        assert_eq!(pairs, [Some((0, Leg::SameHost)), None]);
        let twins = [&leg_small, &leg_small];
        assert_eq!(pair(&[&small], &twins, 0), [None], "nothing tells the two apart");
        // A proxy that adds to what it passes on: by the host alone, where no other can be meant.
        let mut longer = leg_small.clone();
        longer.request = longer.request.map(|r| crate::connection::Request { bytes: r.bytes + 40, ..r });
        assert_eq!(pair(&[&small], &[&longer], 0), [Some((0, Leg::SameHost))]);
        assert_eq!(pair(&[&small, &large], &[&longer], 0), [None, None]);
    }

    #[test]
    fn a_proxy_that_speaks_from_another_address_is_known_by_the_bytes_alone() {
        let first = answered("leg1", 1_000 * MS);
        let mut leg = leg_of(&first, 3 * MS);
        leg.client.address = [10, 0, 0, 8].into();
        assert_eq!(pair(&[&first], &[&leg], 0), [Some((0, Leg::SameRequest))]);
        leg.request = None;
        assert_eq!(pair(&[&first], &[&leg], 0), [None]);
    }
}
