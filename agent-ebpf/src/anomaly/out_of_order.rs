//! Segments that filled a hole and were sent before the segment that opened it.
//!
//! Reordering in the sense of RFC 4737, 3: a first transmission that was overtaken on its way to this point.

use super::Hit;
use crate::facts::{Facts, Verdict};

/// Asks whether the segment is one.
#[inline(always)]
pub fn detect(f: &Facts) -> Hit {
    Hit::when(matches!(f.verdict, Verdict::OutOfOrder), f.segments, 0)
}
