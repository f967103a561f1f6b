//! What TTL or hop limit a server's SYN-ACKs have at a point, by its address: by it an RST that answers a SYN, the first
//! packet of its side, is known as somebody else's.
//!
//! One table of words for all, each place taken by whoever came last: it only ever gives or withholds a hint.

use crate::wire::Addr;

/// Places of the table.
pub const PLACES: u32 = 1 << 12;
/// SYN-ACKs in a row that must agree: an address may stand for several hosts, at several distances.
const AGREEING: u8 = 3;

/// Of one address at one point: which, how many SYN-ACKs agreed, and their TTL, in one word so that no processor reads
/// halves of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hops(pub u64);

/// Where an address stands at a point and in a VLAN (a flow key's scope), and by what it is known there.
#[inline(always)]
pub fn place(addr: &Addr, scope: u32) -> (u32, u64) {
    let mix = |h: u64, w: u64| (h ^ w).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let word = |i: usize| (addr.0[i] as u64) << 32 | addr.0[i + 1] as u64;
    let hash = mix(mix(mix(scope as u64 + 1, word(0)), word(2)), 0);
    ((hash >> 52) as u32 & (PLACES - 1), hash << 16)
}

impl Hops {
    const COUNT: u64 = 0xff00;
    const KNOWN: u64 = !0xffff;

    /// The TTL that the last SYN-ACKs agreed on, 0 for none.
    #[inline(always)]
    pub fn usual(self, known: u64) -> u8 {
        let agreed = (self.0 & Self::COUNT) >> 8 >= AGREEING as u64;
        if self.0 & Self::KNOWN == known && agreed { self.0 as u8 } else { 0 }
    }

    /// The same after another SYN-ACK.
    #[inline(always)]
    pub fn after(self, known: u64, ttl: u8) -> Self {
        let same = self.0 & Self::KNOWN == known && self.0 as u8 == ttl;
        let count = if same { (self.0 & Self::COUNT) >> 8 } else { 0 };
        let count = if count < AGREEING as u64 { count + 1 } else { count };
        Self(known | count << 8 | ttl as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_in_a_row_agree_and_another_starts_anew() {
        let (_, known) = place(&Addr::v4([192, 0, 2, 1]), 0);
        let (_, other) = place(&Addr::v4([192, 0, 2, 1]), 1);
        let mut hops = Hops::default();
        for ttl in [62, 62, 62, 62] {
            hops = hops.after(known, ttl);
        }
        assert_eq!((hops.usual(known), hops.usual(other)), (62, 0));
        let moved = hops.after(known, 61);
        assert_eq!(moved.usual(known), 0, "another host behind the address, or another way");
        assert_eq!(moved.after(known, 61).after(known, 61).usual(known), 61);
        assert_eq!(hops.after(other, 62).usual(known), 0, "the place is another's now");
    }
}
