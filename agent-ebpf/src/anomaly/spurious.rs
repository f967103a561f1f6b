//! Segments that repeated bytes the other side had acknowledged.
//!
//! A needless retransmission (RFC 3522; RFC 2883, 4): ACK or SACK of all its bytes had passed this point.

use super::Hit;
use crate::facts::{Facts, Verdict};

/// Asks whether the segment is one.
#[inline(always)]
pub fn detect(f: &Facts) -> Hit {
    Hit::when(matches!(f.verdict, Verdict::Spurious), f.segments, f.kind as usize)
}
