//! The uses of one five-tuple after each other.
//!
//! A connection that collided never became one at the far end: the TIME-WAIT it met is still the one before's, and goes
//! on from that one's close. So the gap of the next use counts from the last use that lived, which under another
//! TIME-WAIT may be another one.

use super::collisions::{Again, Fate};
use crate::{api::EndPoint, connection::Connection};
use std::collections::BTreeMap;

/// The uses of one five-tuple at one point, in order.
pub struct Chain<'a>(Vec<&'a Connection>);

/// Sorts the connections of a point by their five-tuples.
pub fn chains<'a>(connections: &[&'a Connection]) -> Vec<Chain<'a>> {
    let mut by_tuple: BTreeMap<(EndPoint, EndPoint, &[u16]), Vec<&Connection>> = BTreeMap::new();
    for connection in connections {
        by_tuple
            .entry((connection.client, connection.server, &connection.vlans))
            .or_default()
            .push(connection);
    }
    let mut chains: Vec<_> = by_tuple.into_values().map(Chain).collect();
    chains.iter_mut().for_each(|chain| chain.0.sort_by_key(|c| c.times.opened_ns));
    chains
}

/// The connections on five-tuples taken again, each with its gap since the last use that lived.
pub fn reuses<'a>(chains: &[Chain<'a>]) -> Vec<Again<'a>> {
    let mut out = Vec::new();
    for chain in chains {
        chain.walk(|again| {
            out.push(again);
            again.fate == Fate::Collided
        });
    }
    out
}

/// The connections that would collide with another TIME-WAIT, in seconds.
pub fn colliding<'a>(chains: &[Chain<'a>], time_wait: f64) -> Vec<Again<'a>> {
    let mut out = Vec::new();
    for chain in chains {
        chain.walk(|again| {
            let collides = again.gap.is_some_and(|gap| gap < time_wait);
            out.extend(collides.then_some(again));
            collides
        });
    }
    out
}

impl<'a> Chain<'a> {
    /// Shows each reuse, with its gap since the last use for which `collides` was false.
    fn walk(&self, mut collides: impl FnMut(Again<'a>) -> bool) {
        let (mut lived, mut collided) = (None, false);
        for connection in &self.0 {
            let mut again = Again::of(connection);
            if let Some(again) = again.as_mut().filter(|again| collided && again.gap.is_some())
                && let Some(gap) = lived.and_then(|at| connection.times.opened_ns.checked_sub(at))
            {
                again.gap = Some(gap as f64 / 1e9);
            }
            collided = again.is_some_and(&mut collides);
            if !collided {
                lived = connection.times.closed_ns;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    /// Uses of a five-tuple that each last 100 ms, with these gaps.
    fn uses(gaps: &[(f64, bool)]) -> Vec<Connection> {
        let mut at = 1_700_000_000_000_000_000;
        let mut out = vec![fresh(at)];
        for (gap, collided) in gaps {
            at += 100_000_000 + (gap * 1e9) as u64;
            let mut connection = reused(*gap, *collided);
            connection.times = fresh(at).times;
            out.push(connection);
        }
        out
    }

    #[test]
    fn a_gap_counts_from_the_last_use_that_lived() {
        // TIME-WAIT of 1 s: the second use after 500 ms collides, the third comes 1.1 s after the first and lives.
        let connections = uses(&[(0.5, true), (0.5, false), (0.7, true), (0.1, true)]);
        let refs: Vec<_> = connections.iter().collect();
        let chains = chains(&refs);
        let gaps: Vec<_> = reuses(&chains).iter().map(|a| (a.gap.unwrap() * 1e3).round()).collect();
        assert_eq!(gaps, [500.0, 1_100.0, 700.0, 900.0]);
        let count = |time_wait| colliding(&chains, time_wait).len();
        assert_eq!((count(1.0), count(0.6), count(0.2), count(0.05)), (3, 2, 1, 0));
    }

    #[test]
    fn another_time_wait_makes_another_use_live() {
        let connections = uses(&[(0.5, true), (0.3, false)]);
        let refs: Vec<_> = connections.iter().collect();
        let chains = chains(&refs);
        let fates = |time_wait| -> Vec<Fate> {
            colliding(&chains, time_wait).iter().map(|again| again.fate).collect()
        };
        assert_eq!(fates(0.6), [Fate::Collided]);
        assert_eq!(fates(0.4), [Fate::Harmless], "the use before it lives then, and holds TIME-WAIT");
        assert_eq!(fates(0.3), []);
    }
}
