//! Segments that filled a hole and were sent again.
//!
//! A retransmission whose first copy this point never saw (RFC 9293, 3.8.1).

use super::Hit;
use crate::facts::{Facts, Verdict};

/// Asks whether the segment is one.
#[inline(always)]
pub fn detect(f: &Facts) -> Hit {
    Hit::when(matches!(f.verdict, Verdict::LateFill), f.segments, f.kind as usize)
}
