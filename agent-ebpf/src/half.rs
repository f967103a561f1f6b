//! What one side of a connection has sent, as far as this point saw it.

use crate::{
    seq::SeqNum,
    time::{Nanos, Stamp},
    wire::Segment,
};
use bytemuck::{Pod, Zeroable};

/// One side's sending: one cache line, written by the side's own packets.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Half {
    /// Highest sequence number reached, plus 1.
    pub next: SeqNum,
    /// Initial sequence number; for a half met mid-way the first number seen.
    pub isn: SeqNum,
    /// Highest acknowledgement this side has sent: what of the *other* half it has.
    pub ack: SeqNum,
    /// Latest TSval.
    pub ts_val: u32,
    /// Payload bytes sent, repeats included.
    pub bytes: u64,
    /// Segments sent, as on the wire.
    pub segments: u64,
    /// Last packet.
    pub last_seen: Nanos,
    /// Last packet that carried sequence space.
    pub last_data: Stamp,
    /// End of the segment whose acknowledgement is timed.
    pub timed_end: SeqNum,
    /// When it passed.
    pub timed_at: Stamp,
    /// Which of the 32 IPv4 identifications up to `ip_id` were seen; bit 0 is `ip_id` itself.
    pub ip_ids: u32,
    /// Latest IPv4 identification.
    pub ip_id: u16,
    /// Last window, unscaled.
    pub window: u16,
    /// Last TTL or hop limit.
    pub ttl: u8,
    /// Window shift from the SYN, plus 1; 0 when the SYN was not seen or had none.
    pub window_scale: u8,
    /// Duplicate ACKs in a row that this side has sent; stops at 255.
    pub dup_acks: u8,
    /// `Half::SEEN` and the like.
    pub bits: u8,
}
const _: () = assert!(size_of::<Half>() == 64);

/// What is known of a half's way to the other end and back, and of its sender's habits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Path {
    /// Smallest round trip of this half's segments from this point, microseconds; 0 when none was measured.
    pub rtt_min_us: u32,
    /// Smoothed round trip (RFC 6298, 2.3), microseconds.
    pub rtt_us: u32,
    /// Maximum segment size from the SYN; 0 when not seen.
    pub mss: u16,
    /// How often IPv4 identifications of new segments grew by a little; halved with `ids_bad` at 255.
    pub ids_good: u8,
    /// How often they did not.
    pub ids_bad: u8,
}
const _: () = assert!(size_of::<Path>() == 12);

impl Half {
    /// A packet of this half was seen.
    pub const SEEN: u8 = 1;
    /// Its SYN was seen.
    pub const SYN: u8 = 1 << 1;
    /// Its FIN was seen.
    pub const FIN: u8 = 1 << 2;
    /// Its segments carry timestamps.
    pub const TIMESTAMPS: u8 = 1 << 3;
    /// A segment is being timed.
    pub const TIMED: u8 = 1 << 4;
    /// `ack` counts.
    pub const ACKED: u8 = 1 << 5;
    /// Its packets leave through the point (tc egress); else they come in.
    pub const OUT: u8 = 1 << 6;
    /// It sent its FIN before it acknowledged the other side's.
    pub const CROSSED: u8 = 1 << 7;

    /// Whether `bit` is set.
    #[inline(always)]
    pub const fn has(&self, bit: u8) -> bool {
        self.bits & bit != 0
    }

    /// Whether a packet of this half was seen.
    #[inline(always)]
    pub const fn seen(&self) -> bool {
        self.has(Self::SEEN)
    }

    /// Whether its FIN was seen.
    #[inline(always)]
    pub const fn fin(&self) -> bool {
        self.has(Self::FIN)
    }

    /// Whether both ends closed at the same time, as far as this half tells.
    #[inline(always)]
    pub const fn crossed(&self) -> bool {
        self.has(Self::CROSSED)
    }

    /// Whether an acknowledgement up to `ack` is the half's last one again, with data outstanding.
    #[inline(always)]
    pub const fn repeats_ack(&self, peer: &Self, ack: SeqNum) -> bool {
        self.has(Self::ACKED) && ack.0 == self.ack.0 && peer.next.after(ack)
    }

    /// Whether it goes beyond all that the half has acknowledged.
    #[inline(always)]
    pub const fn acks_more(&self, ack: SeqNum) -> bool {
        !self.has(Self::ACKED) || ack.after(self.ack)
    }

    /// Whether an acknowledgement up to `ack` ends the round trip that is being timed.
    #[inline(always)]
    pub const fn is_timed(&self, ack: SeqNum) -> bool {
        self.has(Self::TIMED) && ack.at_or_after(self.timed_end)
    }

    /// Takes the time of a packet, which may be a little before that of the one before: another processor's, or a coarser
    /// clock's.
    #[inline(always)]
    pub fn note_seen(&mut self, now: Nanos) {
        if now > self.last_seen {
            self.last_seen = now;
        }
    }

    /// Takes the clock of the half's segments.
    #[inline(always)]
    pub fn note_timestamp(&mut self, ts_val: u32) {
        if !self.has(Self::TIMESTAMPS) || (ts_val.wrapping_sub(self.ts_val) as i32) > 0 {
            self.ts_val = ts_val;
        }
        self.bits |= Self::TIMESTAMPS;
    }

    /// Takes a segment with sequence space; one that moved the half on, to its `next`, may be timed.
    #[inline(always)]
    pub fn note_sending(&mut self, moved: bool, now: Nanos) {
        self.last_data = now.stamp();
        if moved && !self.has(Self::TIMED) {
            self.timed_end = self.next;
            self.timed_at = now.stamp();
            self.bits |= Self::TIMED;
        }
    }

    /// Where a packet's IPv4 identification stands against those already seen, and remembers it.
    ///
    /// A window over the last 32, as receivers keep against replay (RFC 4303, 3.4.3).
    #[inline(always)]
    pub fn note_ip_id(&mut self, first: u16, segments: u32) -> IdOrder {
        let last = first.wrapping_add(segments.wrapping_sub(1) as u16);
        let all = low_bits(segments);
        // The latest one's own bit is always set once any is followed.
        if self.ip_ids == 0 {
            (self.ip_id, self.ip_ids) = (last, all);
            return IdOrder::First;
        }
        let ahead = last.wrapping_sub(self.ip_id) as i16 as i32;
        if ahead > 0 && first.wrapping_sub(self.ip_id) as i16 <= 0 {
            // Segments that were merged although all carry one identification (Linux `inet_gro_receive`).
            return IdOrder::Jump;
        }
        if ahead > 0 {
            let kept = if ahead < 32 { self.ip_ids << (ahead as u32 & 31) } else { 0 };
            (self.ip_id, self.ip_ids) = (last, kept | all);
            return if ahead <= 64 + segments as i32 { IdOrder::Next } else { IdOrder::Jump };
        }
        let back = (-ahead) as u32;
        if back > 1_024 {
            (self.ip_id, self.ip_ids) = (last, all);
            return IdOrder::Jump;
        }
        if back >= 32 {
            return IdOrder::Old;
        }
        let bit = 1u32 << (back & 31);
        let seen = self.ip_ids & bit != 0;
        self.ip_ids |= bit;
        if seen { IdOrder::Again } else { IdOrder::Earlier }
    }
}

/// A mask of the lowest `n` bits, at most 32.
#[inline(always)]
const fn low_bits(n: u32) -> u32 {
    if n >= 32 { u32::MAX } else { (1u32 << (n & 31)) - 1 }
}

/// Where an IPv4 identification stands against the sender's earlier ones.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdOrder {
    /// The first that is followed.
    First,
    /// A little above all seen.
    Next,
    /// Far from all seen: the sender does not count one by one.
    Jump,
    /// Below the latest, and not seen yet.
    Earlier,
    /// Seen already: the same packet, where the sender's identifications grow.
    Again,
    /// Well below the latest: too far to tell whether it was seen, and not sent now.
    Old,
}

impl IdOrder {
    /// The order of a stored code; an unknown one reads as [`IdOrder::Old`].
    #[inline(always)]
    pub const fn of(code: u8) -> Self {
        match code {
            0 => Self::First,
            1 => Self::Next,
            2 => Self::Jump,
            3 => Self::Earlier,
            4 => Self::Again,
            _ => Self::Old,
        }
    }
}

impl Path {
    /// Learns from the identification of a segment that is new by its sequence number.
    #[inline(always)]
    pub fn learn_ids(&mut self, order: IdOrder) {
        match order {
            IdOrder::Next => self.ids_good = self.ids_good.saturating_add(1),
            IdOrder::First => return,
            _ => self.ids_bad = self.ids_bad.saturating_add(1),
        }
        if self.ids_good == u8::MAX || self.ids_bad == u8::MAX {
            self.ids_good /= 2;
            self.ids_bad /= 2;
        }
    }

    /// Whether this sender's identifications grow a little with each packet, so that they tell the order of sending:
    /// per connection (Linux), or host-wide on a host that is not too busy. Zero and random ones never pass.
    #[inline(always)]
    pub const fn ids_tell(&self) -> bool {
        self.ids_good >= 1 && self.ids_good as u32 >= 8 * self.ids_bad as u32
    }

    /// Takes a round-trip sample, microseconds (RFC 6298, 2.2 and 2.3 with alpha 1/8).
    #[inline(always)]
    pub fn sample_rtt(&mut self, us: u32) {
        // 0 means "none yet"; a sample below a microsecond is one.
        let us = if us == 0 { 1 } else { us };
        if self.rtt_min_us == 0 {
            (self.rtt_min_us, self.rtt_us) = (us, us);
            return;
        }
        if us < self.rtt_min_us {
            self.rtt_min_us = us;
        }
        self.rtt_us = self.rtt_us - self.rtt_us / 8 + us / 8;
    }
}

/// Identifications only tell the order of sending within one IPv4 half; SYN-ACKs of Linux carry 0
/// (`ip_build_and_send_pkt`), so SYNs are left out, and so is 0 itself: a host that counts comes by it once in 65,536
/// packets, one that does not care (RFC 6864, 4.1) always sends it.
#[inline(always)]
pub fn carries_id(s: &Segment) -> bool {
    !s.v6 && s.ip_id != 0 && !s.flags.syn() && !s.flags.rst()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifications_one_by_one_across_the_wrap() {
        let mut h = Half::default();
        assert_eq!(h.note_ip_id(65_534, 1), IdOrder::First);
        assert_eq!(h.note_ip_id(65_535, 1), IdOrder::Next);
        assert_eq!(h.note_ip_id(1, 1), IdOrder::Next);
        assert_eq!(h.note_ip_id(0, 1), IdOrder::Earlier);
        assert_eq!(h.note_ip_id(0, 1), IdOrder::Again);
        assert_eq!(h.note_ip_id(65_535, 1), IdOrder::Again);
        assert_eq!(h.note_ip_id(30_000, 1), IdOrder::Jump);
        assert_eq!(h.note_ip_id(29_500, 1), IdOrder::Old);
        assert_eq!(h.note_ip_id(28_000, 1), IdOrder::Jump);
    }

    #[test]
    fn a_super_packet_takes_as_many_identifications_as_segments() {
        let mut h = Half::default();
        h.note_ip_id(100, 1);
        assert_eq!(h.note_ip_id(101, 40), IdOrder::Next);
        assert_eq!(h.ip_id, 140);
        assert_eq!(h.note_ip_id(120, 1), IdOrder::Again);
        assert_eq!(h.note_ip_id(141, 1), IdOrder::Next);
    }

    #[test]
    fn zero_and_random_identifications_never_tell() {
        let mut p = Path::default();
        let mut h = Half::default();
        for _ in 0..20 {
            let order = h.note_ip_id(0, 1);
            p.learn_ids(order);
        }
        assert!(!p.ids_tell());
        let (mut p, mut h, mut x) = (Path::default(), Half::default(), 1u32);
        for _ in 0..1_000 {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            p.learn_ids(h.note_ip_id((x >> 16) as u16, 1));
            assert!(!p.ids_tell() || p.ids_bad == 0);
        }
        assert!(!p.ids_tell());
    }

    #[test]
    fn smoothing_follows_rfc_6298() {
        let mut p = Path::default();
        p.sample_rtt(8_000);
        assert_eq!((p.rtt_min_us, p.rtt_us), (8_000, 8_000));
        p.sample_rtt(16_000);
        assert_eq!((p.rtt_min_us, p.rtt_us), (8_000, 9_000));
        p.sample_rtt(0);
        assert_eq!(p.rtt_min_us, 1);
    }
}
