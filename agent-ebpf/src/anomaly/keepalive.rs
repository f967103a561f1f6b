//! Keepalives.
//!
//! RFC 9293, 3.8.4; Linux `tcp_xmit_probe_skb`. Sent only when nothing is outstanding.

use super::Hit;
use crate::facts::{Facts, Verdict};

/// Asks whether the segment is one.
#[inline(always)]
pub fn detect(f: &Facts) -> Hit {
    Hit::when(matches!(f.verdict, Verdict::Keepalive), 1, 0)
}
