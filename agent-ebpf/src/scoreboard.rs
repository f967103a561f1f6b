//! What is kept of a half only once something is wrong with it: holes, SACKed ranges, and its counts.
//!
//! A healthy flow has no scoreboard. Holes stand in fixed slots; loops over them have constant bounds.

use crate::{
    seq::SeqNum,
    time::Stamp,
    wire::{Options, Segment, options::MAX_SACK_BLOCKS},
};
use bytemuck::{Pod, Zeroable};
use core::hint::black_box;

/// Holes that one half keeps at once.
pub const HOLES: usize = 8;
const SLOT_BITS: u32 = 3;
const _: () = assert!(HOLES == 1 << SLOT_BITS);

/// Sequence space below `next` that this point never saw, and what opened it; or did not see before it was sent again.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Hole {
    /// First missing number; equal to `end` when the slot is free.
    pub start: SeqNum,
    /// Number after the last missing one.
    pub end: SeqNum,
    /// TSval of the segment that opened it.
    pub opener_ts: u32,
    /// When it opened.
    pub opened_at: Stamp,
    /// IPv4 identification of the segment that opened it.
    pub opener_id: u16,
    /// [`Hole::REFILLED`] or [`Hole::BY_NEWER`], kept while no hole wants the slot, for the first copy may yet come; of a
    /// hole [`Hole::BEGINS`] or 0.
    pub bits: u16,
}

impl Hole {
    /// Filled by what was sent again.
    pub const REFILLED: u16 = 1;
    /// The same, with a later TSval than that of the segment that opened it.
    pub const BY_NEWER: u16 = 3;
    /// A request or an answer begins where it does.
    pub const BEGINS: u16 = 1 << 2;

    /// 1 for a slot without a hole.
    #[inline(always)]
    fn free(&self) -> u32 {
        same(self.start.0, self.end.0)
    }

    /// 1 for one that nothing has filled.
    #[inline(always)]
    fn missing(&self) -> u32 {
        (self.free() ^ 1) & (self.refilled() ^ 1)
    }

    /// 1 for one that was filled by what was sent again.
    #[inline(always)]
    fn refilled(&self) -> u32 {
        self.bits as u32 & 1
    }

    /// 1 for one that a request or an answer begins with.
    #[inline(always)]
    fn begins(&self) -> u32 {
        (self.bits / Self::BEGINS) as u32 & 1
    }

    /// Whether a request or an answer begins with it, and at this number.
    #[inline(always)]
    pub fn begins_at(&self, seq: SeqNum) -> bool {
        self.begins() & same(self.start.0, seq.0) != 0
    }
}

/// 1 if `a` lies after `b`.
#[inline(always)]
fn after(a: SeqNum, b: SeqNum) -> u32 {
    b.0.wrapping_sub(a.0) >> 31
}

/// 1 if both are the same.
#[inline(always)]
fn same(a: u32, b: u32) -> u32 {
    let differing = a ^ b;
    1 ^ (differing | differing.wrapping_neg()) >> 31
}

/// `a` for 1, `b` for 0.
#[inline(always)]
fn pick(which: u32, a: SeqNum, b: SeqNum) -> SeqNum {
    SeqNum(b.0 ^ (a.0 ^ b.0) & black_box(0u32.wrapping_sub(which)))
}

/// Counts of one half, since the flow was met.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[allow(missing_docs)] // each is the anomaly of its name
pub struct Counts {
    pub retransmissions: u32,
    pub late_fills: u32,
    pub spurious: u32,
    pub out_of_order: u32,
    pub duplicates: u32,
    pub unknown: u32,
    pub gaps: u32,
    pub dup_acks: u32,
    pub dsacks: u32,
    pub zero_windows: u32,
    pub syn_retransmissions: u32,
    pub keepalives: u32,
}

/// One half's scoreboard (the word is RFC 6675's).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct HalfScore {
    /// Holes in no order.
    pub holes: [Hole; HOLES],
    /// The hole that decides what the latest segment below `next` is: one that it touched. Only what was sent again
    /// touches several, with what was seen between them.
    pub filling: Hole,
    /// Bytes of that segment that lay in holes.
    pub filled: u32,
    /// What the other side's latest SACK reported of this half.
    pub sacked: [[SeqNum; 2]; MAX_SACK_BLOCKS],
    /// Counts.
    pub counts: Counts,
    /// Holes that ended at or before this number may have been dropped for want of slots.
    pub forgotten_to: SeqNum,
    /// Highest number that SACK reported.
    pub sack_high: SeqNum,
    /// `next` when a retransmission timeout was last seen: what is sent again below it belongs to that timeout.
    pub timeout_high: SeqNum,
    /// Start of the bytes that were last sent again.
    pub repeat_seq: SeqNum,
    /// `next` when something was last sent again: until it is acknowledged the half may send at once what an
    /// acknowledgement of a part shows to be lost (RFC 6582, 3.2, "recover").
    pub recover: SeqNum,
    /// TSval of the other side's first acknowledgement that told of a loss, in its latest run of such.
    pub told_ts: u32,
    /// When the run's latest came.
    pub told_at: Stamp,
    /// `next` at that time.
    pub told_to: SeqNum,
    /// How often in a row they were, unanswered; stops at 255.
    pub repeats: u8,
    /// `HalfScore::FORGOT` and the like.
    pub bits: u8,
    /// What a search found; means nothing afterwards.
    found: u8,
    /// The slot that is dropped next when all are taken.
    turn: u8,
}

/// A flow's scoreboard: both halves, in the key's order. Aligned, so that wiping it takes few instructions.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Scoreboard {
    /// The halves.
    pub half: [HalfScore; 2],
}
const _: () = assert!(size_of::<Scoreboard>() == 600);

impl Scoreboard {
    /// Forgets everything.
    #[inline(always)]
    pub fn wipe(&mut self) {
        let words: *mut u64 = core::ptr::from_mut(self).cast();
        for i in 0..size_of::<Self>() / 8 {
            // Word by word: as a call of `memset`, which the compiler would make of it, the kernel's verifier walks
            // through it byte by byte.
            // SAFETY: inside `self`, which is aligned to words and for which all zeroes are blank.
            unsafe { words.add(i).write_volatile(0) };
        }
    }
}

impl HalfScore {
    /// `forgotten_to` counts.
    pub const FORGOT: u8 = 1;
    /// `sack_high` counts.
    pub const SACKED: u8 = 1 << 1;
    /// `timeout_high` counts.
    pub const TIMED_OUT: u8 = 1 << 2;
    /// The half sent a byte into a closed window, which the sequence numbers do not count yet.
    pub const PROBED: u8 = 1 << 3;
    /// The half's latest segment with sequence space ended below `next`.
    pub const BEHIND: u8 = 1 << 4;
    /// `recover` counts.
    pub const RECOVERED: u8 = 1 << 5;

    /// `told_ts` counts.
    pub const TOLD: u8 = 1 << 6;
    /// Not everything of that run is echoed.
    pub const UNECHOED: u8 = 1 << 7;

    /// Whether `bit` is set.
    #[inline(always)]
    pub const fn has(&self, bit: u8) -> bool {
        self.bits & bit != 0
    }

    /// Whether the half's next segment in order, or an acknowledgement of the other side, changes anything here.
    #[inline(always)]
    pub const fn restless(&self) -> bool {
        self.has(Self::BEHIND | Self::PROBED) || self.repeats > 0
    }

    /// The last slot of those that fit best: a higher number, below 16, is better, and 0 does not fit. Computed without
    /// a branch, as are the fits below, and handed over in memory: the kernel's verifier would follow each slot by itself
    /// through all that comes after.
    #[inline(always)]
    fn find(&mut self, fit: impl Fn(&Hole) -> u32) -> Option<usize> {
        let mut best = 0u32;
        for i in 0..HOLES {
            let this = fit(&self.holes[i]) << SLOT_BITS | i as u32;
            let better = black_box(0u32.wrapping_sub(best.wrapping_sub(this) >> 31));
            best ^= (best ^ this) & better;
        }
        let found: *mut u8 = &mut self.found;
        // SAFETY: a reference is valid for both.
        let best = unsafe {
            found.write_volatile(best as u8);
            found.read_volatile()
        };
        if best < 1 << SLOT_BITS { None } else { Some(best as usize & (HOLES - 1)) }
    }

    /// Opens a hole; false when the oldest one had to be dropped for it.
    #[inline(always)]
    pub fn open(&mut self, hole: Hole) -> bool {
        if let Some(i) = self.find(|h| (h.free() << 1) | h.refilled()) {
            self.holes[i] = hole;
            return true;
        }
        // All slots are taken: they go in turn, from the last one, as they were taken.
        self.turn = self.turn.wrapping_sub(1);
        let i = self.turn as usize & (HOLES - 1);
        let end = self.holes[i].end;
        self.holes[i] = hole;
        self.forget(end);
        false
    }

    /// Keeps in mind that `[start, end)` of the hole just met was filled by what was sent again, if there is a slot that
    /// no hole wants; `newer` says that it has a later TSval than the opener.
    #[inline(always)]
    pub fn refill(&mut self, start: SeqNum, end: SeqNum, newer: bool) {
        let bits = if newer { Hole::BY_NEWER } else { Hole::REFILLED };
        let hole = Hole { start, end, bits, ..self.filling };
        // The same hole's next segment joins what is kept of it.
        let joins = |h: &Hole| {
            same(h.end.0, start.0) & same(h.opened_at.0, hole.opened_at.0) & same(h.bits as u32, bits as u32)
        };
        let fit = |h: &Hole| (h.free() << 1) | (h.refilled() * (1 | (2 * joins(h))));
        if let Some(i) = self.find(fit) {
            let h = &mut self.holes[i];
            let start = if h.free() | joins(h) ^ 1 != 0 { start } else { h.start };
            *h = Hole { start, ..hole };
        }
    }

    /// The hole that `[seq, end)` lay in before it was sent again.
    #[inline(always)]
    pub fn refilled(&mut self, seq: SeqNum, end: SeqNum) -> Option<&Hole> {
        let i = self.find(|h| h.refilled() & !after(h.start, seq) & !after(end, h.end))?;
        Some(&self.holes[i])
    }

    #[inline(always)]
    fn forget(&mut self, to: SeqNum) {
        self.forgotten_to = if self.has(Self::FORGOT) { self.forgotten_to.later(to) } else { to };
        self.bits |= Self::FORGOT;
    }

    /// Whether `[seq, end)` may have lain in a hole that was dropped.
    #[inline(always)]
    pub fn may_be_forgotten(&self, end: SeqNum) -> bool {
        self.has(Self::FORGOT) && self.forgotten_to.at_or_after(end)
    }

    /// Takes `[seq, end)` out of the holes; `filled` and `filling` say what it met.
    #[inline(always)]
    pub fn fill(&mut self, seq: SeqNum, end: SeqNum) {
        self.filled = 0;
        let meets = |h: &Hole| h.missing() & after(end, h.start) & after(h.end, seq);
        let Some(i) = self.find(|h| meets(h) << h.begins()) else { return };
        let h = self.holes[i];
        self.filling = h;
        if seq.after(h.start) && h.end.after(end) {
            // Filled in the middle: what is left above needs a slot of its own, and nothing else was touched.
            self.filled = end.distance(seq) as u32;
            self.holes[i].end = seq;
            self.open(Hole { start: end, bits: 0, ..h });
            return;
        }
        for h in &mut self.holes {
            let met = meets(h);
            let (from, to) = (pick(after(seq, h.start), seq, h.start), pick(after(h.end, end), end, h.end));
            self.filled += pick(met, SeqNum(to.0.wrapping_sub(from.0)), SeqNum(0)).0;
            let head_stays = after(seq, h.start);
            h.end = pick(met & head_stays, seq, h.end);
            h.start = pick(met & (head_stays ^ 1), to, h.start);
            h.bits &= !(Hole::BEGINS * (met & (head_stays ^ 1)) as u16);
        }
    }

    /// Notes what a segment of the other side, acknowledging up to `ack`, says of this half; true for a D-SACK,
    /// the report of bytes received twice (RFC 2883, 4: the first block, at or below the acknowledgement or
    /// inside the second block).
    #[inline(always)]
    pub fn note_sack(&mut self, o: &Options, ack: SeqNum) -> bool {
        let mut dsack = false;
        if o.sack_blocks > 0 {
            let first = o.sack[0];
            dsack = ack.at_or_after(first[1]);
            if o.sack_blocks > 1 {
                let second = o.sack[1];
                dsack |= first[0].at_or_after(second[0]) && second[1].at_or_after(first[1]);
            }
        }
        let mut i = 0;
        while i < MAX_SACK_BLOCKS {
            let used = (i as u8) < o.sack_blocks;
            let block = o.sack[i];
            if used && block[1].after(ack) {
                self.sacked[i] = block;
                self.sack_high =
                    if self.has(Self::SACKED) { self.sack_high.later(block[1]) } else { block[1] };
                self.bits |= Self::SACKED;
            } else if o.sack_blocks > 0 {
                self.sacked[i] = [SeqNum(0); 2];
            }
            i += 1;
        }
        dsack
    }

    /// Notes an acknowledgement that tells the half, which had sent all below `next`, of a loss. A run of such lasts until
    /// all that was sent meanwhile is acknowledged and two round trips (`us`) have passed, in which the half may still be
    /// answering. `echoed` says that it will echo the TSval from then on.
    #[inline(always)]
    pub fn tell(&mut self, s: &Segment, now: Stamp, next: SeqNum, us: u32, echoed: bool) {
        let over = s.ack.at_or_after(self.told_to) && now.since(self.told_at) > us.saturating_mul(2);
        if over || !self.has(Self::TOLD) {
            self.told_ts = s.options.ts_val;
            self.bits &= !Self::UNECHOED;
        }
        (self.told_at, self.told_to) = (now, next);
        self.bits |= Self::TOLD | if echoed { 0 } else { Self::UNECHOED };
    }

    /// Whether what echoes `ts_ecr` can have been sent because of such a run: its sender had heard of it.
    #[inline(always)]
    pub fn told(&self, ts_ecr: u32) -> bool {
        self.has(Self::TOLD) && (self.has(Self::UNECHOED) || ts_ecr.wrapping_sub(self.told_ts) as i32 >= 0)
    }

    /// Whether the other side has reported all of `[seq, end)` as received.
    #[inline(always)]
    pub fn is_sacked(&self, seq: SeqNum, end: SeqNum) -> bool {
        let mut i = 0;
        while i < MAX_SACK_BLOCKS {
            let [left, right] = self.sacked[i];
            if left.0 != right.0 && seq.at_or_after(left) && right.at_or_after(end) {
                return true;
            }
            i += 1;
        }
        false
    }

    /// Whether the other side has reported bytes above `end` as received.
    #[inline(always)]
    pub const fn sacked_above(&self, end: SeqNum) -> bool {
        self.has(Self::SACKED) && self.sack_high.after(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hole(start: u32, end: u32) -> Hole {
        Hole { start: SeqNum(start), end: SeqNum(end), opener_id: end as u16, ..Hole::default() }
    }

    fn holes(s: &HalfScore) -> Vec<(u32, u32)> {
        let mut v: Vec<_> =
            s.holes.iter().filter(|h| h.missing() == 1).map(|h| (h.start.0, h.end.0)).collect();
        v.sort_unstable();
        v
    }

    fn filled(s: &mut HalfScore, seq: u32, end: u32) -> u32 {
        s.fill(SeqNum(seq), SeqNum(end));
        s.filled
    }

    #[test]
    fn fills_shrink_split_and_close() {
        let mut s = HalfScore::default();
        assert!(s.open(hole(100, 200)));
        assert_eq!(filled(&mut s, 0, 100), 0);
        assert_eq!(filled(&mut s, 90, 110), 10);
        assert_eq!(holes(&s), [(110, 200)]);
        assert_eq!(filled(&mut s, 190, 210), 10);
        assert_eq!(filled(&mut s, 140, 150), 10);
        assert_eq!(holes(&s), [(110, 140), (150, 190)]);
        assert_eq!(filled(&mut s, 100, 300), 70);
        assert_eq!(holes(&s), []);
    }

    #[test]
    fn across_the_wrap() {
        let mut s = HalfScore::default();
        s.open(Hole { start: SeqNum(u32::MAX - 9), end: SeqNum(10), ..Hole::default() });
        assert_eq!(filled(&mut s, u32::MAX, 5), 6);
        assert_eq!(filled(&mut s, u32::MAX - 20, 20), 14);
        assert_eq!(holes(&s), []);
    }

    #[test]
    fn a_ninth_hole_drops_the_oldest_and_says_so() {
        let mut s = HalfScore::default();
        for i in 0..8 {
            assert!(s.open(hole(100 * i, 100 * i + 50)));
        }
        assert!(!s.may_be_forgotten(SeqNum(50)));
        assert!(!s.open(hole(800, 850)));
        assert!(s.may_be_forgotten(SeqNum(50)) && !s.may_be_forgotten(SeqNum(150)));
        assert_eq!(filled(&mut s, 0, 50), 0);
    }

    #[test]
    fn what_was_sent_again_is_kept_in_slots_that_no_hole_wants() {
        let mut s = HalfScore::default();
        s.open(hole(100, 300));
        for seq in [100, 200] {
            assert_eq!(filled(&mut s, seq, seq + 100), 100);
            s.refill(SeqNum(seq), SeqNum(seq + 100), true);
        }
        assert_eq!(holes(&s), []);
        let kept = |s: &mut HalfScore| s.refilled(SeqNum(100), SeqNum(300)).map(|h| (h.opener_id, h.bits));
        assert_eq!(kept(&mut s), Some((300, Hole::BY_NEWER)), "one range, of one hole");
        assert_eq!(s.refilled(SeqNum(250), SeqNum(301)), None);
        for i in 10..17 {
            assert!(s.open(hole(100 * i, 100 * i + 50)));
        }
        assert!(kept(&mut s).is_some());
        assert!(s.open(hole(1_700, 1_750)), "a hole comes before it");
        assert_eq!((kept(&mut s), holes(&s).len()), (None, 8));
        s.refill(SeqNum(100), SeqNum(300), false);
        assert_eq!((kept(&mut s), holes(&s).len()), (None, 8));
    }

    #[test]
    fn sack_and_dsack() {
        let mut s = HalfScore::default();
        let mut o = Options { sack_blocks: 1, ..Options::blank() };
        o.sack[0] = [SeqNum(200), SeqNum(300)];
        assert!(!s.note_sack(&o, SeqNum(100)));
        assert!(s.is_sacked(SeqNum(200), SeqNum(250)) && !s.is_sacked(SeqNum(150), SeqNum(250)));
        assert!(s.sacked_above(SeqNum(299)) && !s.sacked_above(SeqNum(300)));
        o.sack[0] = [SeqNum(50), SeqNum(100)];
        assert!(s.note_sack(&o, SeqNum(100)));
        o.sack_blocks = 2;
        o.sack[0] = [SeqNum(220), SeqNum(240)];
        o.sack[1] = [SeqNum(200), SeqNum(300)];
        assert!(s.note_sack(&o, SeqNum(100)));
    }
}
