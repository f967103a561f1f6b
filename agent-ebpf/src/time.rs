//! Time as the caller hands it in: this crate never reads a clock.

use bytemuck::{Pod, Zeroable};

/// Nanoseconds of a clock that only moves forward (in the kernel `CLOCK_MONOTONIC`, in replay the capture's time).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct Nanos(pub u64);

impl Nanos {
    /// Nanoseconds since `earlier`; 0 when `earlier` is not earlier (two processors' packets may swap).
    #[inline(always)]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Microseconds since `earlier`, at most `u32::MAX` (71 minutes).
    #[inline(always)]
    pub const fn micros_since(self, earlier: Self) -> u32 {
        let us = self.since(earlier) / 1_000;
        if us > u32::MAX as u64 { u32::MAX } else { us as u32 }
    }

    /// The moment in microseconds modulo 2^32, for short intervals in small fields.
    #[inline(always)]
    pub const fn stamp(self) -> Stamp {
        Stamp((self.0 / 1_000) as u32)
    }
}

/// A moment in microseconds modulo 2^32; intervals of more than 71 minutes come out short.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Stamp(pub u32);

impl Stamp {
    /// Microseconds from `earlier` to `self`; 0 when `earlier` is later by less than 2^31.
    #[inline(always)]
    pub const fn since(self, earlier: Self) -> u32 {
        let d = self.0.wrapping_sub(earlier.0);
        if d > u32::MAX - 1_000_000 { 0 } else { d }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_total() {
        assert_eq!(Nanos(5).since(Nanos(9)), 0);
        assert_eq!(Nanos(u64::MAX).micros_since(Nanos(0)), u32::MAX);
        let before_wrap = Nanos(0xffff_fff0 * 1_000).stamp();
        let after_wrap = Nanos((0xffff_fff0u64 + 0x20) * 1_000).stamp();
        assert_eq!(after_wrap.since(before_wrap), 0x20);
        // A packet of another processor, stamped a little earlier than one already judged.
        assert_eq!(before_wrap.since(after_wrap), 0);
    }
}
