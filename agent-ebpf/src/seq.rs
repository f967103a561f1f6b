//! Sequence numbers as a type: they wrap, so they have an order only by signed distance (RFC 9293, 3.4).

use bytemuck::{Pod, Zeroable};

/// A TCP sequence or acknowledgement number, modulo 2^32.
///
/// There is no `Ord`: two numbers compare only by [`SeqNum::distance`], and every operation is total.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// Bytes from `from` to `self`, in -2^31..2^31; positive when `self` comes later.
    #[inline(always)]
    pub const fn distance(self, from: Self) -> i32 {
        self.0.wrapping_sub(from.0) as i32
    }

    /// Whether `self` comes later than `other`.
    #[inline(always)]
    pub const fn after(self, other: Self) -> bool {
        self.distance(other) > 0
    }

    /// Whether `self` comes later than `other` or is the same.
    #[inline(always)]
    pub const fn at_or_after(self, other: Self) -> bool {
        self.distance(other) >= 0
    }

    /// The number `bytes` later.
    #[inline(always)]
    pub const fn plus(self, bytes: u32) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// The number `bytes` earlier.
    #[inline(always)]
    pub const fn minus(self, bytes: u32) -> Self {
        Self(self.0.wrapping_sub(bytes))
    }

    /// The later of the two.
    #[inline(always)]
    pub const fn later(self, other: Self) -> Self {
        if other.after(self) { other } else { self }
    }

    /// The earlier of the two.
    #[inline(always)]
    pub const fn earlier(self, other: Self) -> Self {
        if other.after(self) { self } else { other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_holds_across_the_wrap() {
        let a = SeqNum(u32::MAX - 1);
        let b = a.plus(4);
        assert_eq!(b, SeqNum(2));
        assert!(b.after(a) && !a.after(b) && a.at_or_after(a));
        assert_eq!((b.distance(a), a.distance(b)), (4, -4));
        assert_eq!((a.later(b), a.earlier(b)), (b, a));
        assert_eq!(b.minus(4), a);
    }
}
