//! What another TIME-WAIT would have made of the collisions that were seen.

use super::{
    chain::{self, Chain},
    collisions::{Again, Fate, InForce},
    round,
};
use crate::connection::Connection;
use serde::{Deserialize, Serialize};

/// TIME-WAITs that are always told, in seconds.
const ALWAYS: [f64; 6] = [60.0, 30.0, 1.0, 0.5, 0.1, 0.01];

/// What a TIME-WAIT would leave.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Remaining {
    /// The TIME-WAIT, in seconds.
    pub time_wait_seconds: f64,
    /// Of the collisions, those that would have come within it.
    pub collisions: u64,
    /// Of the reuses that were answered, those that would have come within it: with a TIME-WAIT longer than the one in
    /// force they would be at risk, too.
    pub answered_within: u64,
}

/// Round trips, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RoundTrips {
    /// 95 of 100 connections have their smallest round trip from this point to the server and back below it. A gap may
    /// be off by so much: it is measured here, and counts at the far end.
    pub error_seconds: f64,
    /// The largest of the connections' smallest round trips from end to end.
    pub largest_seconds: f64,
}

impl RoundTrips {
    /// Of connections; none where none was measured.
    pub fn of(connections: &[&Connection]) -> Option<Self> {
        let mut far: Vec<f64> = connections.iter().filter_map(|c| c.from_client.rtt_min_seconds).collect();
        far.sort_by(f64::total_cmp);
        let whole = connections.iter().filter_map(|c| {
            let sides = c.from_client.rtt_min_seconds.zip(c.from_server.rtt_min_seconds).map(|(a, b)| a + b);
            match (sides, c.handshake_rtt_seconds) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b).or(c.from_client.rtt_min_seconds),
            }
        });
        let largest_seconds = whole.max_by(f64::total_cmp)?;
        let place = (far.len() * 95 / 100).min(far.len().saturating_sub(1));
        Some(Self { error_seconds: far.get(place).copied().unwrap_or(largest_seconds), largest_seconds })
    }

    /// TIME-WAIT keeps segments of an old connection out of the next one on its five-tuple (RFC 9293, 3.6.1; RFC 6191
    /// and RFC 7323 with timestamps): they must have left the network. Below this, in seconds, they may not have.
    pub fn floor_seconds(&self) -> f64 {
        2.0 * self.largest_seconds
    }
}

/// The smallest change that takes the collisions to zero.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The TIME-WAIT to set, in seconds: a round value.
    pub time_wait_seconds: f64,
    /// The smallest gap that collided, in seconds.
    pub smallest_gap_seconds: f64,
    /// From the value to that gap, in seconds; the gap's error fits into it.
    pub margin_seconds: f64,
    /// It is below twice the largest round trip: old segments could reach the next connection.
    pub too_short: bool,
}

impl Change {
    /// For these uses of five-tuples, and the reuses among them; none where nothing collided, or so soon that no value is
    /// safely below.
    pub fn of(chains: &[Chain<'_>], reuses: &[Again<'_>], trips: Option<&RoundTrips>) -> Option<Self> {
        let collided = reuses.iter().filter(|again| again.fate == Fate::Collided);
        let smallest = collided.filter_map(|again| again.gap).min_by(f64::total_cmp)?;
        let error = trips.map_or(0.0, |trips| trips.error_seconds);
        // What collided now lives then, and must not make the next use collide.
        let at_rest = |value: &f64| chain::colliding(chains, value + error).is_empty();
        let value = round::series().skip_while(|value| *value > smallest - error).find(at_rest)?;
        Some(Self {
            time_wait_seconds: value,
            smallest_gap_seconds: smallest,
            margin_seconds: smallest - value,
            too_short: trips.is_some_and(|trips| value < trips.floor_seconds()),
        })
    }
}

/// What each TIME-WAIT would leave, the longest first: those of [`ALWAYS`], the suggested one, the one in force, and of
/// the round values between them those at which the count changes.
pub fn remaining(
    chains: &[Chain<'_>],
    in_force: Option<&InForce>,
    change: Option<&Change>,
) -> Vec<Remaining> {
    let told = |time_wait: f64| {
        let colliding = chain::colliding(chains, time_wait);
        let count = |fate: Fate| colliding.iter().filter(|again| again.fate == fate).count() as u64;
        Remaining {
            time_wait_seconds: time_wait,
            collisions: count(Fate::Collided),
            answered_within: count(Fate::Harmless),
        }
    };
    let asked = ALWAYS.into_iter();
    let asked = asked.chain(change.map(|c| c.time_wait_seconds)).chain(in_force.map(|i| i.seems_seconds));
    let mut asked: Vec<f64> = asked.collect();
    asked.sort_by(|a, b| b.total_cmp(a));
    asked.dedup();
    let mut out: Vec<Remaining> = Vec::new();
    for (i, value) in asked.iter().enumerate() {
        let here = told(*value);
        if let Some(longer) = i.checked_sub(1).map(|i| asked[i]) {
            for between in round::series().filter(|v| *v < longer && v > value).map(told) {
                let before = out.last().map_or(0, |last| last.collisions);
                if between.collisions != before && between.collisions != here.collisions {
                    out.push(between);
                }
            }
        }
        out.push(here);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    /// Reuses of five-tuples of their own.
    fn apart(gaps: impl IntoIterator<Item = (f64, bool)>) -> Vec<Connection> {
        let with_port = |(port, (gap, collided)): (u16, (f64, bool))| {
            let mut connection = reused(gap, collided);
            connection.client.port = port;
            connection
        };
        (1..).zip(gaps).map(with_port).collect()
    }

    /// Gaps of 50, 150, … 950 ms collided with a TIME-WAIT of 1 s; those of 1.05 to 1.95 s did not.
    #[test]
    fn what_remains_is_counted_exactly() {
        let gap = |i: u32| 0.05 + 0.1 * f64::from(i);
        let connections = apart((0..20).map(|i| (gap(i), gap(i) < 1.0)));
        let chains = chain::chains(&connections.iter().collect::<Vec<_>>());
        let reuses = chain::reuses(&chains);
        let trips = RoundTrips { error_seconds: 0.002, largest_seconds: 0.004 };
        let (in_force, change) =
            (InForce::of(&reuses, 0.002).map(Result::unwrap), Change::of(&chains, &reuses, Some(&trips)));
        let rows = remaining(&chains, in_force.as_ref(), change.as_ref());
        let rows: Vec<_> =
            rows.iter().map(|r| (r.time_wait_seconds, r.collisions, r.answered_within)).collect();
        let want = [
            (60.0, 10, 10),
            (30.0, 10, 10),
            (1.0, 10, 0),
            (0.5, 5, 0),
            (0.2, 2, 0),
            (0.1, 1, 0),
            (0.02, 0, 0),
            (0.01, 0, 0),
        ];
        assert_eq!(rows, want);
        let change = change.unwrap();
        assert_eq!((change.time_wait_seconds, change.too_short), (0.02, false));
        assert!((change.smallest_gap_seconds - 0.05).abs() < 1e-9);
    }

    #[test]
    fn a_change_leaves_room_for_the_error_and_for_old_segments() {
        let connections = apart([(0.131, true), (0.9, true)]);
        let chains = chain::chains(&connections.iter().collect::<Vec<_>>());
        let reuses = chain::reuses(&chains);
        let change = |error, largest| {
            let trips = RoundTrips { error_seconds: error, largest_seconds: largest };
            Change::of(&chains, &reuses, Some(&trips)).map(|c| (c.time_wait_seconds, c.too_short))
        };
        assert_eq!(change(0.002, 0.01), Some((0.1, false)));
        assert_eq!(change(0.04, 0.03), Some((0.05, true)));
        assert_eq!(change(0.2, 0.03), None, "the gap is smaller than its error");
        assert_eq!(Change::of(&chains, &reuses, None).map(|c| c.time_wait_seconds), Some(0.1));
        assert_eq!(Change::of(&[], &[], None), None);
    }

    #[test]
    fn round_trips_are_those_of_the_connections() {
        let with = |far: Option<f64>, near: Option<f64>, handshake: Option<f64>| {
            let mut c = reused(0.5, true);
            (c.from_client.rtt_min_seconds, c.from_server.rtt_min_seconds) = (far, near);
            c.handshake_rtt_seconds = handshake;
            c
        };
        let connections = [
            with(Some(0.002), Some(0.001), Some(0.9)),
            with(Some(0.004), None, Some(0.005)),
            with(None, None, None),
        ];
        let trips = RoundTrips::of(&connections.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!((trips.error_seconds, trips.largest_seconds), (0.004, 0.005));
        assert_eq!(RoundTrips::of(&[&connections[2]]), None);
    }
}
