//! A five-tuple taken again before its TIME-WAIT is over.
//!
//! A SYN with a new initial sequence number on a five-tuple whose previous connection closed less than the TIME-WAIT
//! window ago, or was not known to be closed. RFC 9293, 3.6.1 lets the receiver accept it when the new number or
//! timestamp lies above the old one's; otherwise it answers with an ACK of the old connection (RFC 5961, 4).
//! A SYN with the *same* number is a SYN retransmission and never a reuse.

use super::Hit;
use crate::{
    facts::Facts,
    label::{Side, labels},
};

labels! {
    /// Who held the previous connection's TIME-WAIT, seen from the SYN.
    Holder("holder") {
        Sender = "syn_sender": "the side that sends the SYN closed first and waits",
        Receiver = "syn_receiver": "the side the SYN goes to closed first and waits",
        Both = "both": "both closed at the same time and wait",
        Nobody = "nobody": "the previous connection was reset: nobody waits",
        Open = "open": "the previous connection was not known to be closed",
    }
}

labels! {
    /// How the reusing SYN was answered.
    Outcome("outcome") {
        Accepted = "accepted": "with a SYN-ACK",
        Challenged = "challenged": "with a bare ACK of the old connection (RFC 5961, 4)",
        Refused = "refused": "with an RST",
        Ignored = "ignored": "not at all before it was repeated, or ever",
    }
}

/// Place of a holder and outcome among the family's label combinations.
#[inline(always)]
pub const fn sub(holder: Holder, outcome: Outcome) -> usize {
    holder as usize * Outcome::ALL.len() + outcome as usize
}

/// Asks whether the segment decided how a reuse went; it is counted then, for the side that sent the SYN.
#[inline(always)]
pub fn detect(f: &Facts) -> Hit {
    match (f.decided, f.holder, f.outcome) {
        (true, Some(holder), Some(outcome)) => {
            Hit { side: Some(Side::Client), ..Hit::when(true, 1, sub(holder, outcome)) }
        }
        _ => Hit::NONE,
    }
}
