//! SYNs sent again with the same initial sequence number.
//!
//! RFC 9293, 3.8.1 for the SYN. Also counted among the retransmissions, kind `syn`.

use super::Hit;
use crate::facts::{Facts, Verdict};

/// Asks whether the segment is one.
#[inline(always)]
pub fn detect(f: &Facts) -> Hit {
    Hit::when(f.syn && !f.syn_ack && repeated(f), 1, 0)
}

/// Whether the segment repeats what its half has sent, as another sending of it.
#[inline(always)]
pub(super) fn repeated(f: &Facts) -> bool {
    matches!(f.verdict, Verdict::Retransmission | Verdict::Spurious)
}
