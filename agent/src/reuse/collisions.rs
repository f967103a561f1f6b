//! Connections on a five-tuple that was in use shortly before: which of them failed by it, and which TIME-WAIT that
//! speaks for.

use super::round;
use crate::connection::Connection;
use agent_ebpf::{
    anomaly::{Cause, Holder, Outcome},
    traffic::{Close, Served},
};
use serde::{Deserialize, Serialize};

/// What came of a connection whose five-tuple was taken again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It failed by that: refused, or reset for the TIME-WAIT of the connection before.
    Collided,
    /// It was answered.
    Harmless,
    /// It is open, or it failed or ended for another reason.
    Undecided,
}

/// A connection whose five-tuple was taken again.
#[derive(Debug, Clone, Copy)]
pub struct Again<'a> {
    /// The connection.
    pub connection: &'a Connection,
    /// Seconds since the close of the one before, or as [`super::chain`] counts; none where that was not seen.
    pub gap: Option<f64>,
    /// What came of it.
    pub fate: Fate,
}

impl<'a> Again<'a> {
    /// Of a connection, if it is one.
    pub fn of(connection: &'a Connection) -> Option<Self> {
        let reuse = connection.reuse.as_ref()?;
        let by_reuse =
            connection.reset.is_some_and(|r| matches!(r.cause, Cause::TimeWait | Cause::AfterReuse));
        // A SYN on an open connection is noted on that one first, and on the new one when it is accepted.
        let open = reuse.holder == Holder::Open.name();
        if open && connection.close == Some(Close::Replaced) {
            return None;
        }
        let was = |outcome: Outcome| reuse.outcome.as_deref() == Some(outcome.name());
        let of_old = open && !was(Outcome::Accepted);
        let fate = match connection.result {
            _ if of_old && (by_reuse || was(Outcome::Refused)) => Fate::Collided,
            _ if of_old => Fate::Undecided,
            // Also after an RST: a client may end what was answered as it likes.
            Some(Served::Answered) => Fate::Harmless,
            // Nobody waited, and yet it was refused: for another reason.
            Some(Served::Refused) if reuse.holder == Holder::Nobody.name() => Fate::Undecided,
            Some(Served::Refused) => Fate::Collided,
            _ if by_reuse => Fate::Collided,
            _ => Fate::Undecided,
        };
        Some(Self { connection, gap: reuse.gap_seconds, fate })
    }
}

/// The TIME-WAIT that seems to be in force at the far end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct InForce {
    /// The value that fits best, in seconds: a round one where there is one.
    pub seems_seconds: f64,
    /// The best cut lies above this gap, in seconds: what collided did so below it.
    pub above_seconds: f64,
    /// And up to this gap, in seconds: what was answered came after it. None where nothing was.
    pub up_to_seconds: Option<f64>,
    /// Collisions and answered reuses that do not fit to one value.
    pub overlap: Option<Overlap>,
}

/// How far gaps that collided and gaps that did not lie among each other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Overlap {
    /// From the smallest gap that was answered to the largest that collided, in seconds.
    pub seconds: f64,
    /// The smallest gap that was answered, in seconds.
    pub smallest_answered_seconds: f64,
    /// The largest gap that collided, in seconds.
    pub largest_colliding_seconds: f64,
    /// Reuses answered although their gap is below the best cut.
    pub answered_below: u64,
    /// Collisions although their gap is not below it.
    pub collided_above: u64,
}

impl InForce {
    /// From the gaps of reuses and what came of them; none without a collision of a known gap. `error` is how far a gap
    /// may be off, in seconds. An error where no TIME-WAIT explains it: most collisions lie above the best cut.
    pub fn of(reuses: &[Again<'_>], error: f64) -> Option<Result<Self, Overlap>> {
        let mut gaps: Vec<(f64, bool)> = reuses
            .iter()
            .filter(|again| again.fate != Fate::Undecided)
            .filter_map(|again| Some((again.gap?, again.fate == Fate::Collided)))
            .collect();
        gaps.sort_by(|a, b| a.0.total_cmp(&b.0));
        let largest = gaps.iter().rfind(|(_, collided)| *collided)?.0;
        let collisions = gaps.iter().filter(|(_, collided)| *collided).count();
        // The cut behind the first `n` gaps has on the wrong side: those answered before it, those collided after it.
        let (mut answered, mut collided) = (0, 0);
        let (mut cut, mut wrong) = (0, (0, collisions));
        for (n, (_, is_collision)) in gaps.iter().enumerate() {
            if *is_collision {
                collided += 1
            } else {
                answered += 1
            }
            if answered + (collisions - collided) <= wrong.0 + wrong.1 {
                (cut, wrong) = (n + 1, (answered, collisions - collided));
            }
        }
        let above = cut.checked_sub(1).map_or(0.0, |last| gaps[last].0);
        let up_to = gaps.get(cut).map(|next| next.0);
        let smallest = gaps.iter().find(|(_, collided)| !collided).map(|first| first.0);
        let overlap = smallest.filter(|smallest| *smallest < largest).map(|smallest| Overlap {
            seconds: largest - smallest,
            smallest_answered_seconds: smallest,
            largest_colliding_seconds: largest,
            answered_below: wrong.0 as u64,
            collided_above: wrong.1 as u64,
        });
        if let Some(mixed) = overlap.filter(|_| 2 * wrong.1 > collisions) {
            return Some(Err(mixed));
        }
        let seems = up_to.map_or(above, |up_to| round::between((above - error).max(0.0), up_to + error));
        Some(Ok(Self { seems_seconds: seems, above_seconds: above, up_to_seconds: up_to, overlap }))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};
    use crate::{api::Reuse, connection::Reset};
    use agent_ebpf::anomaly::Origin;

    #[test]
    fn what_failed_by_the_reuse_collided() {
        let mut connection = reused(0.5, true);
        let fate = |c: &Connection| Again::of(c).map(|again| again.fate);
        assert_eq!(fate(&connection), Some(Fate::Collided));
        for (cause, result, want) in [
            (Cause::TimeWait, Served::Refused, Fate::Collided),
            (Cause::AfterReuse, Served::Reset, Fate::Collided),
            (Cause::AfterReuse, Served::Answered, Fate::Harmless),
            (Cause::Abort, Served::Reset, Fate::Undecided),
        ] {
            connection.result = Some(result);
            connection.reset = Some(Reset { cause, origin: Origin::Endpoint, from: None });
            assert_eq!(fate(&connection), Some(want), "{cause:?} {result:?}");
        }
        connection.result = None;
        assert_eq!(fate(&connection), Some(Fate::Undecided));
        // Noted on the connection that was open: what became of that one says nothing of the SYN.
        let mut old = reused(0.0, false);
        old.reuse =
            Some(Reuse { gap_seconds: None, holder: "open".to_owned(), outcome: Some("ignored".to_owned()) });
        assert_eq!(fate(&old), Some(Fate::Undecided));
        old.reset = Some(Reset { cause: Cause::TimeWait, origin: Origin::Endpoint, from: None });
        assert_eq!(fate(&old), Some(Fate::Collided));
        old.close = Some(Close::Replaced);
        assert_eq!(fate(&old), None);
        connection.reuse = None;
        assert_eq!(fate(&connection), None);
    }

    fn told(collided: &[f64], answered: &[f64], error: f64) -> Option<Result<InForce, Overlap>> {
        let reused: Vec<_> = collided
            .iter()
            .map(|gap| reused(*gap, true))
            .chain(answered.iter().map(|gap| reused(*gap, false)))
            .collect();
        InForce::of(&reused.iter().filter_map(Again::of).collect::<Vec<_>>(), error)
    }

    fn in_force(collided: &[f64], answered: &[f64], error: f64) -> Option<InForce> {
        told(collided, answered, error).map(Result::unwrap)
    }

    #[test]
    fn where_most_collide_above_any_cut_there_is_no_time_wait() {
        let mixed = told(&[0.6, 1.5, 2.5], &[0.5, 0.7, 0.8, 1.6, 1.7, 2.6, 2.7], 0.0).unwrap().unwrap_err();
        assert_eq!((mixed.smallest_answered_seconds, mixed.largest_colliding_seconds), (0.5, 2.5));
        assert_eq!((mixed.answered_below, mixed.collided_above), (1, 2));
    }

    #[test]
    fn the_value_lies_between_what_collided_and_what_did_not() {
        let found = in_force(&[0.1, 0.5, 0.93], &[1.2, 3.0], 0.0).unwrap();
        assert_eq!((found.seems_seconds, found.above_seconds, found.up_to_seconds), (1.0, 0.93, Some(1.2)));
        assert_eq!(found.overlap, None);
        assert_eq!(in_force(&[1.003], &[1.02], 0.005).unwrap().seems_seconds, 1.0, "within the error");
        let open = in_force(&[0.1, 0.5], &[], 0.0).unwrap();
        assert_eq!((open.seems_seconds, open.up_to_seconds), (0.5, None));
        assert_eq!(in_force(&[], &[0.3], 0.0), None);
        assert_eq!(in_force(&[], &[], 0.0), None);
    }

    #[test]
    fn an_overlap_is_told_and_the_best_cut_taken() {
        let found = in_force(&[0.1, 0.2, 0.9, 40.0], &[0.15, 1.1, 2.0, 50.0], 0.0).unwrap();
        assert_eq!((found.seems_seconds, found.above_seconds, found.up_to_seconds), (1.0, 0.9, Some(1.1)));
        let overlap = found.overlap.unwrap();
        assert_eq!((overlap.answered_below, overlap.collided_above), (1, 1));
        assert_eq!((overlap.smallest_answered_seconds, overlap.largest_colliding_seconds), (0.15, 40.0));
        assert!((overlap.seconds - 39.85).abs() < 1e-9);
    }
}
