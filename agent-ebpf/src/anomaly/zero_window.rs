//! Segments with window 0, one count for each while the window stays closed.
//!
//! Window field 0 on a segment without SYN, FIN or RST (RFC 9293, 3.8.6).

use super::Hit;
use crate::facts::Facts;

/// Asks whether the segment is one.
#[inline(always)]
pub fn detect(f: &Facts) -> Hit {
    Hit::when(f.zero_window, 1, 0)
}
