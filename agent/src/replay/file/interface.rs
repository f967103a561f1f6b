//! pcapng's description of an interface (section 4.2 of the format): link type, snap length, and what its times mean.

use super::bytes::Order;
use agent_ebpf::{time::Nanos, wire::Link};

const NANOS: u64 = 1_000_000_000;

/// An option's code.
const IF_TSRESOL: u16 = 9;
const IF_TSOFFSET: u16 = 14;

/// An interface of a section.
pub struct Interface {
    /// Its link layer, or the number of one that is not read.
    pub link: Result<Link, u32>,
    /// Bytes of a packet that are captured at most; 0 for no limit.
    pub snap_len: u32,
    /// How to read its times.
    pub resolution: Resolution,
}

/// What a packet's 64 bits of time mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolution {
    unit: Unit,
    /// Nanoseconds to add.
    offset: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// So many nanoseconds.
    Nanos(u64),
    /// So many of them are a nanosecond.
    PerNano(u64),
    /// 2 to this power of them are a second.
    Halvings(u32),
}

impl Resolution {
    /// From the value of `if_tsresol`: a power of ten, or of two where the highest bit is set.
    fn new(value: u8, offset: i64) -> Self {
        let power = u32::from(value & 0x7f);
        let unit = match value {
            0x80.. => Unit::Halvings(power),
            0..=9 => Unit::Nanos(10u64.pow(9 - power)),
            // Beyond 10^19 nothing of a 64-bit time is left.
            _ => Unit::PerNano(10u64.checked_pow(power - 9).unwrap_or(u64::MAX)),
        };
        Self { unit, offset: offset.saturating_mul(NANOS as i64) }
    }

    /// The moment, since the Unix epoch.
    #[inline(always)]
    pub fn at(self, time: u64) -> Nanos {
        let nanos = match self.unit {
            Unit::Nanos(n) => time.saturating_mul(n),
            Unit::PerNano(n) => time / n,
            Unit::Halvings(power) => {
                let nanos = (u128::from(time) * u128::from(NANOS)) >> power;
                u64::try_from(nanos).unwrap_or(u64::MAX)
            }
        };
        Nanos(nanos.saturating_add_signed(self.offset))
    }
}

impl Interface {
    /// Reads the contents of an interface block; none if it is too short for its fixed part.
    pub fn read(order: Order, b: &[u8]) -> Option<Self> {
        if b.len() < 8 {
            return None;
        }
        let number = u32::from(order.u16(b, 0));
        let (mut resolution, mut offset) = (6, 0);
        let mut options = &b[8..];
        // A list that does not end where it should still says what it says up to there.
        while options.len() >= 4 {
            let (code, len) = (order.u16(options, 0), usize::from(order.u16(options, 2)));
            let Some(value) = options[4..].get(..len) else { break };
            match (code, value) {
                (IF_TSRESOL, [n]) => resolution = *n,
                (IF_TSOFFSET, &[a, b, c, d, e, f, g, h]) => offset = order.i64([a, b, c, d, e, f, g, h]),
                _ => {}
            }
            options = options.get(4 + len.next_multiple_of(4)..).unwrap_or_default();
        }
        Some(Self {
            link: Link::of(number).ok_or(number),
            snap_len: order.u32(b, 4),
            resolution: Resolution::new(resolution, offset),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_every_resolution() {
        let at = |resolution, offset, time| Resolution::new(resolution, offset).at(time).0;
        assert_eq!(at(0, 0, 3), 3 * NANOS);
        assert_eq!(at(6, 0, 1_700_000_000_123_456), 1_700_000_000_123_456_000);
        assert_eq!(at(9, 0, 1_700_000_000_123_456_789), 1_700_000_000_123_456_789);
        assert_eq!(at(12, 0, 5_999), 5);
        assert_eq!(at(0x80 | 10, 0, 1_024 + 512), 1_500_000_000);
        assert_eq!(at(6, 100, 7), 100 * NANOS + 7_000);
        assert_eq!(at(6, -1, 2_000_000), NANOS);
        // Nonsense has a value, too.
        for resolution in 0..=255 {
            for time in [0, 1, u64::MAX] {
                for offset in [i64::MIN, 0, i64::MAX] {
                    at(resolution, offset, time);
                }
            }
        }
        assert_eq!(at(0, 0, u64::MAX), u64::MAX);
        assert_eq!(at(6, -5, 0), 0);
    }
}
