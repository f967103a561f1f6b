//! SYN-ACKs sent again.
//!
//! Linux `tcp_rtx_synack`. Also counted among the retransmissions, kind `syn`.

use super::Hit;
use crate::facts::Facts;

/// Asks whether the segment is one.
#[inline(always)]
pub fn detect(f: &Facts) -> Hit {
    Hit::when(f.syn_ack && super::syn_retransmission::repeated(f), 1, 0)
}
