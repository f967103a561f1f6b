//! Probes of a closed window.
//!
//! RFC 9293, 3.8.6.1. Linux probes with no byte at `snd_una - 1` (`tcp_write_wakeup`), others with one at the end.

use super::Hit;
use crate::facts::{Facts, Verdict};

/// Asks whether the segment is one.
#[inline(always)]
pub fn detect(f: &Facts) -> Hit {
    Hit::when(matches!(f.verdict, Verdict::ZeroWindowProbe), 1, 0)
}
