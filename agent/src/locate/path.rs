//! The points in the order in which a client's packets pass them, and what their clocks are off by.

use super::clocks::{self, Clocks};
use crate::connection::{
    Connection,
    join::{self, Joined},
    legs,
};

/// Closer than this two points are told apart by the hops that packets have made, where these differ, nanoseconds.
const CLOSE: i64 = 3_000;

/// How two points stand to each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Relation {
    /// Connections pass both.
    Same(Clocks),
    /// Connections pass both, of none of which both saw SYN and SYN-ACK.
    Unclocked,
    /// A proxy in between: connections at the second are the legs of connections at the first.
    Legs,
    /// The other way round.
    LegsBack,
    /// Nothing connects them.
    None,
}

/// The points' order, and what joins them.
#[derive(Debug)]
pub struct Path {
    /// Points by their place on the way, the one nearest to the clients first.
    pub order: Vec<usize>,
    /// What each point's clock is ahead by of that of the first point given, nanoseconds.
    pub ahead_ns: Vec<i64>,
    /// Of each two points, by their numbers.
    pub relations: Vec<Vec<Relation>>,
    /// The connections on their way.
    pub joined: Vec<Joined>,
}

impl Path {
    /// Finds it.
    pub fn find(points: &[Vec<Connection>]) -> Self {
        let mut joined = join::by_numbers(points);
        let mut relations = relate(points, &joined);
        let ahead_ns = set_right(&relations);
        join::by_the_rest(points, &mut joined, &ahead_ns);
        // Some are joined now that had nothing in common before, or look like a proxy's legs for want of numbers.
        let again = relate(points, &joined);
        for (was, is) in relations.iter_mut().flatten().zip(again.into_iter().flatten()) {
            if !matches!(was, Relation::Same(_)) {
                *was = is;
            }
        }
        let order = order(points, &relations);
        Self { order, ahead_ns, relations, joined }
    }
}

fn relate(points: &[Vec<Connection>], joined: &[Joined]) -> Vec<Vec<Relation>> {
    let numbers = 0..points.len();
    numbers.clone().map(|a| numbers.clone().map(|b| relation(points, joined, a, b)).collect()).collect()
}

fn relation(points: &[Vec<Connection>], joined: &[Joined], a: usize, b: usize) -> Relation {
    if a == b {
        return Relation::None;
    }
    let both: Vec<_> = both(points, joined, a, b).collect();
    if let Some(clocks) = clocks::compare(both.iter().copied()) {
        return Relation::Same(clocks);
    }
    if !both.is_empty() {
        return Relation::Unclocked;
    }
    let legs = |first: usize, second: usize| {
        let list = |point: usize| points[point].iter().collect::<Vec<_>>();
        legs::pair(&list(first), &list(second), 0).iter().flatten().count()
    };
    match (legs(a, b), legs(b, a)) {
        (0, 0) => Relation::None,
        (forth, back) if forth >= back => Relation::Legs,
        _ => Relation::LegsBack,
    }
}

/// The connections that two points both saw.
pub fn both<'a>(
    points: &'a [Vec<Connection>],
    joined: &'a [Joined],
    a: usize,
    b: usize,
) -> impl Iterator<Item = (&'a Connection, &'a Connection)> {
    joined.iter().filter_map(move |one| Some((&points[a][one.at[a]?], &points[b][one.at[b]?])))
}

/// What each clock is ahead by, from point to point as far as they are connected.
fn set_right(relations: &[Vec<Relation>]) -> Vec<i64> {
    let mut ahead: Vec<Option<i64>> = vec![None; relations.len()];
    for start in 0..relations.len() {
        if ahead[start].is_some() {
            continue;
        }
        // Nothing tells it of those before: taken to be right.
        ahead[start] = Some(0);
        let mut next = vec![start];
        while let Some(a) = next.pop() {
            for (b, relation) in relations[a].iter().enumerate() {
                if let (None, Relation::Same(clocks)) = (ahead[b], relation) {
                    ahead[b] = ahead[a].map(|of| of.saturating_add(clocks.ahead_ns));
                    next.push(b);
                }
            }
        }
    }
    ahead.into_iter().map(Option::unwrap_or_default).collect()
}

/// By how many others a point comes before; those that nothing tells apart stay as they were given.
fn order(points: &[Vec<Connection>], relations: &[Vec<Relation>]) -> Vec<usize> {
    let before = |a: usize, b: usize| match relations[a][b] {
        Relation::Same(clocks) if clocks.apart_ns.abs() > CLOSE => clocks.apart_ns > 0,
        Relation::Same(_) | Relation::Unclocked => match (hops(&points[a]), hops(&points[b])) {
            (x, y) if x == y => a < b,
            (x, y) => x > y,
        },
        Relation::Legs => true,
        Relation::LegsBack => false,
        Relation::None => a < b,
    };
    let mut order: Vec<usize> = (0..points.len()).collect();
    let others = |a: usize| (0..points.len()).filter(|b| *b != a && before(a, *b)).count();
    order.sort_by_key(|a| std::cmp::Reverse(others(*a)));
    order
}

/// The usual TTL of what clients send, less that of what servers send: the larger, the nearer to the clients.
fn hops(list: &[Connection]) -> i32 {
    let usual = |ttl: fn(&Connection) -> Option<u8>| {
        let mut all: Vec<u8> = list.iter().filter_map(ttl).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().map_or(0, i32::from)
    };
    usual(|c| c.from_client.ttl) - usual(|c| c.from_server.ttl)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::EndPoint,
        connection::tests::{answered, later},
    };

    const MS: u64 = 1_000_000;

    /// `n` connections a second apart, seen so long after the clients' end, by a clock that is ahead.
    fn seen(n: u64, delay: u64, ahead: u64) -> Vec<Connection> {
        let one = |i: u64| {
            let mut c = later(&answered("p", 10_000 * MS), i * 1_000 * MS + delay + ahead);
            c.client.port += i as u16;
            (c.from_client.isn, c.from_server.isn) = (Some(i as u32), Some(1_000 + i as u32));
            // The SYN-ACK passes points that are farther away earlier.
            c.times.syn_ack_ns = Some(10_000 * MS + i * 1_000 * MS + 10 * MS - delay + ahead);
            c
        };
        (0..n).map(one).collect()
    }

    #[test]
    fn the_order_is_found_whatever_clocks_and_arguments_say() {
        let points = [seen(5, 2 * MS, 0), seen(5, 0, 7_000 * MS), seen(5, MS, 86_400_000 * MS)];
        let path = Path::find(&points);
        assert_eq!(path.order, [1, 2, 0]);
        assert!(path.ahead_ns[1].abs_diff(7_000 * MS as i64) <= 2 * MS, "{:?}", path.ahead_ns);
        assert!(path.ahead_ns[2].abs_diff(86_400_000 * MS as i64) <= MS, "{:?}", path.ahead_ns);
        assert_eq!(path.joined.len(), 5);
    }

    #[test]
    fn what_is_behind_a_proxy_comes_last_also_when_it_is_named_first() {
        let front = seen(5, 0, 0);
        let legs: Vec<Connection> = front
            .iter()
            .map(|c| {
                let mut leg = later(c, 3 * MS);
                leg.client = EndPoint { address: c.server.address, port: c.client.port };
                leg.from_client.isn = c.from_client.isn.map(|isn| isn + 500);
                leg
            })
            .collect();
        let path = Path::find(&[legs, front]);
        assert_eq!((path.order, path.relations[1][0]), (vec![1, 0], Relation::Legs));
    }

    #[test]
    fn points_too_close_for_clocks_are_ordered_by_hops() {
        let near = seen(3, 0, 0);
        let mut far = near.clone();
        for c in &mut far {
            (c.from_client.ttl, c.from_server.ttl) = (Some(63), Some(64));
        }
        let mut near = near;
        for c in &mut near {
            (c.from_client.ttl, c.from_server.ttl) = (Some(64), Some(63));
        }
        assert_eq!(Path::find(&[far, near]).order, [1, 0]);
    }
}
