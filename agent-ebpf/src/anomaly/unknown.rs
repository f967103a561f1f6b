//! Segments below the highest sequence number of which nothing tells whether they were sent again, overtaken or copied.
//!
//! Below where this point joined the connection, or in a hole that had to be dropped. Better no verdict than a guess.

use super::Hit;
use crate::facts::{Facts, Verdict};

/// Asks whether the segment is one.
#[inline(always)]
pub fn detect(f: &Facts) -> Hit {
    Hit::when(matches!(f.verdict, Verdict::Unknown), f.segments, 0)
}
