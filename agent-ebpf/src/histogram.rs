//! Histograms kept in the kernel: bucket bounds, and where their slots stand in the totals.

use crate::counter::HISTOGRAM_BASE;

/// Upper bounds of all buckets but the last, in nanoseconds: 100 µs to 60 s in steps of 1, 2.5, 5,
/// with 30 s and 60 s at the end, where operators' TIME-WAIT settings stand.
pub const BOUNDS: [u64; 19] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    20_000_000_000,
    30_000_000_000,
    60_000_000_000,
];

/// A distribution of durations.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Histogram {
    /// From the close of a connection to the SYN that took its five-tuple again.
    ReuseGap,
    /// From the last SYN to the ACK that ends the handshake.
    HandshakeRtt,
    /// From the last segment of a request to the first byte of its response.
    FirstByte,
}

impl Histogram {
    /// All of them, in the order of their codes.
    pub const ALL: &'static [Self] = &[Self::ReuseGap, Self::HandshakeRtt, Self::FirstByte];
    /// Slots of one histogram: each bucket (not cumulated), the one above all bounds, and the sum in nanoseconds.
    pub const SLOTS: usize = BOUNDS.len() + 2;
    /// Slots of all histograms.
    pub const COUNTERS: usize = Self::ALL.len() * Self::SLOTS;

    /// First slot.
    #[inline(always)]
    pub const fn base(self) -> usize {
        HISTOGRAM_BASE + self as usize * Self::SLOTS
    }

    /// The slot that holds the sum, in nanoseconds.
    #[inline(always)]
    pub const fn sum(self) -> usize {
        self.base() + Self::SLOTS - 1
    }

    /// The slot of the bucket that `nanos` falls into (upper bounds are inclusive, as in Prometheus).
    #[inline(always)]
    pub fn bucket(self, nanos: u64) -> usize {
        let mut n = 0;
        for bound in BOUNDS {
            n += (nanos > bound) as usize;
        }
        self.base() + n
    }

    /// Metric name without the `fivetuple_tcp_` prefix.
    pub const fn series(self) -> &'static str {
        match self {
            Self::ReuseGap => "reuse_gap_seconds",
            Self::HandshakeRtt => "handshake_rtt_seconds",
            Self::FirstByte => "first_response_byte_seconds",
        }
    }

    /// One line for `# HELP`.
    pub const fn help(self) -> &'static str {
        match self {
            Self::ReuseGap => {
                "Time from the close of a connection to the SYN that took its five-tuple again, within the TIME-WAIT window."
            }
            Self::HandshakeRtt => "Time from the last SYN to the ACK that ends the handshake.",
            Self::FirstByte => {
                "Time from the last segment of a request (client payload) to the first byte of the server's payload after it."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_inclusive() {
        let h = Histogram::ReuseGap;
        assert_eq!(h.bucket(0), h.base());
        assert_eq!(h.bucket(100_000), h.base());
        assert_eq!(h.bucket(100_001), h.base() + 1);
        assert_eq!(h.bucket(u64::MAX), h.sum() - 1);
    }
}
