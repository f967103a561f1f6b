//! The very same packet seen again.
//!
//! A copy made on the way: the same IPv4 identification from a sender whose identifications grow, or an older TSval
//! than the sender's latest, on bytes already seen. A retransmission has a new one of each.

use super::Hit;
use crate::facts::{Facts, Verdict};

/// Asks whether the segment is one.
#[inline(always)]
pub fn detect(f: &Facts) -> Hit {
    Hit::when(matches!(f.verdict, Verdict::Duplicate), f.segments, 0)
}
