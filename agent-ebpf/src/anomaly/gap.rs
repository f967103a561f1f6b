//! Segments that began beyond the highest sequence number seen.
//!
//! Verdict `gap`: `seq > next`. One per hole opened, however many bytes it spans.

use super::Hit;
use crate::facts::{Facts, Verdict};

/// Asks whether the segment is one.
#[inline(always)]
pub fn detect(f: &Facts) -> Hit {
    Hit::when(matches!(f.verdict, Verdict::Gap), 1, 0)
}
