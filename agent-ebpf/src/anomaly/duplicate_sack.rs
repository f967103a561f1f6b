//! D-SACK reports.
//!
//! RFC 2883. The report comes about one round trip after the repeat it speaks of.

use super::Hit;
use crate::facts::Facts;

/// Asks whether the segment is one.
#[inline(always)]
pub fn detect(f: &Facts) -> Hit {
    Hit::when(f.dsack, 1, 0)
}
