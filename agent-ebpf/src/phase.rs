//! How far a connection has come, as an observer on the way can know it.

use crate::label::labels;

labels! {
    /// Phase of a connection (compare RFC 9293, 3.3.2; an observer sees one point of the path, not an end).
    Phase("phase") {
        New = "new": "nothing observed yet",
        SynSent = "syn_sent": "a SYN passed",
        SynReceived = "syn_received": "a SYN-ACK passed",
        Established = "established": "the handshake is complete, or the connection was met mid-way",
        Closing = "closing": "a FIN passed",
        Closed = "closed": "both FINs passed and the second was acknowledged",
        Reset = "reset": "an RST passed",
    }
}

impl Phase {
    /// The phase of a stored code; an unknown one reads as [`Phase::New`].
    #[inline(always)]
    pub const fn of(code: u8) -> Self {
        match code {
            1 => Self::SynSent,
            2 => Self::SynReceived,
            3 => Self::Established,
            4 => Self::Closing,
            5 => Self::Closed,
            6 => Self::Reset,
            _ => Self::New,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip() {
        for p in Phase::ALL {
            assert_eq!(Phase::of(*p as u8), *p);
        }
    }
}
