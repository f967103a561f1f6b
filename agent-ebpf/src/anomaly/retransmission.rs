//! Segments that repeated bytes seen here and not acknowledged.
//!
//! A retransmission (RFC 9293, 3.8.1) of bytes this point saw and whose acknowledgement it did not see.

use super::Hit;
use crate::facts::{Facts, Verdict};

/// Asks whether the segment is one.
#[inline(always)]
pub fn detect(f: &Facts) -> Hit {
    Hit::when(matches!(f.verdict, Verdict::Retransmission), f.segments, f.kind as usize)
}
