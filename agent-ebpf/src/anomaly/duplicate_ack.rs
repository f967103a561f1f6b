//! Acknowledgements repeated while data was outstanding.
//!
//! RFC 5681, 2; with SACK, an ACK that repeats the number and brings blocks counts whatever its window (RFC 6675, 2).

use super::Hit;
use crate::facts::Facts;

/// Asks whether the segment is one.
#[inline(always)]
pub fn detect(f: &Facts) -> Hit {
    Hit::when(f.dup_ack, 1, 0)
}
