//! Sequence verdicts: what a segment that carries sequence space is, against what its half has sent before.
//!
//! The question that matters is whether a segment below `next` was sent *before* the newest one (the network
//! reordered or copied it) or sent *again* (something was lost). Evidence is asked strongest first: the order in which
//! the sender made its packets, then what the other side reported, then time against the round trip.

use crate::{
    facts::{Evidence, RetransKind, Verdict},
    half::{Half, IdOrder, Path},
    scoreboard::{HalfScore, Hole},
    seq::SeqNum,
    time::Nanos,
    wire::Segment,
};

/// Assumed round trip where none was measured, microseconds.
const UNKNOWN_RTT_US: u32 = 3_000;
/// Linux's smallest retransmission timeout beyond the smoothed round trip (`TCP_RTO_MIN`), microseconds.
const RTO_MIN_US: u32 = 200_000;
/// The smallest timeout RFC 6298, 2.4 asks for; a silence this long is no probe's, microseconds.
const RTO_CERTAIN_US: u32 = 1_000_000;
/// Duplicate ACKs that make a sender send again (RFC 5681, 3.2).
const DUPLICATE_ACKS: u8 = 3;

/// What was judged of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The verdict.
    pub verdict: Verdict,
    /// What decided it.
    pub evidence: Evidence,
    /// Why it was sent again, for those that were.
    pub kind: RetransKind,
    /// Wire segments that the verdict holds for.
    pub segments: u32,
    /// Sequence space that this point had not seen before.
    pub new: u32,
    /// Microseconds since the hole opened, for fills.
    pub hole_age_us: u32,
    /// The oldest hole was dropped for want of slots.
    pub dropped: bool,
}

/// What the judgement looks at besides the half itself.
pub struct Context<'a> {
    /// The other side's half.
    pub peer: &'a Half,
    /// The way of this half, and of the other.
    pub paths: [&'a Path; 2],
    /// Where the packet's IPv4 identification stands, where it has one.
    pub order: Option<IdOrder>,
    /// Now.
    pub now: Nanos,
}

impl Context<'_> {
    /// What one full round trip takes at least, microseconds: from this point to either end and back, added up.
    /// Nothing can be sent again sooner, because its sender must first hear that it is missing.
    #[inline(always)]
    fn round_trip_us(&self) -> u32 {
        match self.paths[0].rtt_min_us.saturating_add(self.paths[1].rtt_min_us) {
            0 => UNKNOWN_RTT_US,
            us => us,
        }
    }

    /// Whether the IPv4 identification tells the order of sending.
    #[inline(always)]
    fn id_order(&self) -> Option<IdOrder> {
        if self.paths[0].ids_tell() { self.order } else { None }
    }

    /// Whether the other side is known to have all before `end`.
    #[inline(always)]
    fn acked(&self, end: SeqNum) -> bool {
        self.peer.has(Half::ACKED) && self.peer.ack.at_or_after(end)
    }
}

/// Judges a segment that carries sequence space on a half that was seen before, and moves `next` on.
#[inline(always)]
pub fn judge(me: &mut Half, mut score: Option<&mut HalfScore>, s: &Segment, c: &Context) -> Judged {
    let end = s.end();
    let next = me.next;
    let from_next = s.seq.distance(next);
    let mut j = Judged {
        verdict: Verdict::InOrder,
        evidence: Evidence::None,
        kind: RetransKind::Unknown,
        segments: s.segments,
        new: s.sequence_len(),
        hole_age_us: 0,
        dropped: false,
    };
    if let Some(probe) = one_byte(score.as_deref_mut(), s, from_next, c, next) {
        j.verdict = probe;
        j.new = 0;
        return j;
    }
    if from_next >= 0 {
        let probed = take_probed(score.as_deref_mut(), from_next);
        if from_next > 0 && !probed {
            j.verdict = Verdict::Gap;
            if let Some(sc) = score {
                let hole = Hole {
                    start: next,
                    end: s.seq,
                    opener_ts: s.options.ts_val,
                    opened_at: c.now.stamp(),
                    opener_id: s.ip_id,
                    reserved: 0,
                };
                j.dropped = !sc.open(hole);
            }
        }
        me.next = end;
        return j;
    }
    let known_end = end.earlier(next);
    let known = known_end.distance(s.seq) as u32;
    let beyond = if end.after(next) { end.distance(next) as u32 } else { 0 };
    if beyond > 0 {
        me.next = end;
    }
    j.segments = s.segments_in(known);
    let fill = match score.as_deref_mut() {
        Some(sc) => sc.fill(s.seq, known_end),
        None => None,
    };
    if let Some(f) = fill {
        j.hole_age_us = c.now.stamp().since(f.hole.opened_at);
        (j.verdict, j.evidence) = if f.bytes < known {
            // A first sending never overlaps what was sent before it.
            (Verdict::LateFill, Evidence::Sequence)
        } else {
            filled(me, score.as_deref(), s, &f.hole, j.hole_age_us, c)
        };
        j.new = f.bytes + beyond;
    } else {
        let lost_track = me.isn.after(s.seq)
            || match score.as_deref() {
                Some(sc) => sc.may_be_forgotten(known_end),
                // No room for a scoreboard: what holes there were is not known.
                None => true,
            };
        (j.verdict, j.evidence) = repeated(me, score.as_deref(), s, known_end, lost_track, c);
        j.new = beyond;
    }
    if matches!(j.verdict, Verdict::LateFill | Verdict::Retransmission | Verdict::Spurious) {
        j.kind = kind(me, score.as_deref(), s, end, next, c);
        if let Some(sc) = score {
            note_repeat(sc, s.seq, next, j.kind);
        }
        // Karn: the acknowledgement to come does not tell which sending it is for (RFC 6298, 3).
        if me.has(Half::TIMED) && me.timed_end.after(s.seq) {
            me.bits &= !Half::TIMED;
        }
    }
    j
}

/// Keepalives and window probes of one byte (those without a byte carry no sequence space, see `observe`).
#[inline(always)]
fn one_byte(
    score: Option<&mut HalfScore>,
    s: &Segment,
    from_next: i32,
    c: &Context,
    next: SeqNum,
) -> Option<Verdict> {
    if s.payload != 1 || !s.flags.plain() || (from_next != 0 && from_next != -1) {
        return None;
    }
    if c.peer.seen() && c.peer.window == 0 {
        if let Some(sc) = score {
            sc.bits |= HalfScore::PROBED;
        }
        return Some(Verdict::ZeroWindowProbe);
    }
    // While its byte is outstanding a sender's timer sends again and not to keep alive (Linux `tcp_keepalive_timer`).
    if from_next == -1 && (!c.peer.has(Half::ACKED) || c.acked(next)) {
        return Some(Verdict::Keepalive);
    }
    None
}

/// Whether the half goes on right after the one byte it had sent into a closed window: the byte was taken, and is
/// no hole. Asked once; sending the byte again with more behind it settles it too.
#[inline(always)]
fn take_probed(score: Option<&mut HalfScore>, from_next: i32) -> bool {
    match score {
        Some(sc) if sc.has(HalfScore::PROBED) => {
            sc.bits &= !HalfScore::PROBED;
            from_next == 1
        }
        _ => false,
    }
}

/// A segment that lies in a hole: overtaken, or sent again.
#[inline(always)]
fn filled(
    me: &Half,
    score: Option<&HalfScore>,
    s: &Segment,
    hole: &Hole,
    age_us: u32,
    c: &Context,
) -> (Verdict, Evidence) {
    if c.id_order().is_some() {
        let later = s.ip_id.wrapping_sub(hole.opener_id) as i16;
        if later != 0 {
            return (if later < 0 { Verdict::OutOfOrder } else { Verdict::LateFill }, Evidence::IpId);
        }
    }
    if s.options.timestamps && me.has(Half::TIMESTAMPS) {
        let later = s.options.ts_val.wrapping_sub(hole.opener_ts) as i32;
        if later != 0 {
            return (if later < 0 { Verdict::OutOfOrder } else { Verdict::LateFill }, Evidence::Timestamp);
        }
    }
    if age_us < c.round_trip_us() {
        return (Verdict::OutOfOrder, Evidence::Time);
    }
    let evidence = if score.is_some_and(|sc| sc.sacked_above(hole.start)) {
        Evidence::Sack
    } else if c.peer.dup_acks >= DUPLICATE_ACKS {
        Evidence::DuplicateAck
    } else {
        Evidence::Time
    };
    (Verdict::LateFill, evidence)
}

/// A segment all of whose known bytes this point has seen: copied, needless, or lost further on.
#[inline(always)]
fn repeated(
    me: &Half,
    score: Option<&HalfScore>,
    s: &Segment,
    known_end: SeqNum,
    lost_track: bool,
    c: &Context,
) -> (Verdict, Evidence) {
    match c.id_order() {
        Some(IdOrder::Again) => return (Verdict::Duplicate, Evidence::IpId),
        Some(_) => {}
        None => {
            let timestamps = s.options.timestamps && me.has(Half::TIMESTAMPS);
            let later = s.options.ts_val.wrapping_sub(me.ts_val) as i32;
            if timestamps && later < 0 {
                // What is sent again carries the clock of its sending, which is not before the newest one's.
                return (Verdict::Duplicate, Evidence::Timestamp);
            }
            let soon = c.now.stamp().since(me.last_data) < c.round_trip_us();
            if soon && !(timestamps && later > 0) && s.end() == me.next && s.sequence_len() > 0 {
                // The last segment again, before its sender could have heard anything.
                return (Verdict::Duplicate, Evidence::Time);
            }
        }
    }
    if lost_track {
        return (Verdict::Unknown, Evidence::None);
    }
    if c.acked(known_end) {
        return (Verdict::Spurious, Evidence::Ack);
    }
    if score.is_some_and(|sc| sc.is_sacked(s.seq, known_end)) {
        return (Verdict::Spurious, Evidence::Sack);
    }
    let evidence = if c.id_order().is_some() { Evidence::IpId } else { Evidence::Sequence };
    (Verdict::Retransmission, evidence)
}

/// Why a segment was sent again.
#[inline(always)]
fn kind(
    me: &Half,
    score: Option<&HalfScore>,
    s: &Segment,
    end: SeqNum,
    next: SeqNum,
    c: &Context,
) -> RetransKind {
    if s.flags.syn() {
        return RetransKind::Syn;
    }
    let silence = c.now.stamp().since(me.last_data);
    let (reported, in_timeout, before) = match score {
        Some(sc) => (
            sc.sacked_above(end),
            sc.has(HalfScore::TIMED_OUT) && sc.timeout_high.at_or_after(end) && !c.acked(sc.timeout_high),
            sc.repeats > 0 && sc.repeat_seq == s.seq,
        ),
        None => (false, false, false),
    };
    let told = reported || c.peer.dup_acks >= DUPLICATE_ACKS;
    let tail = end.at_or_after(next) && c.peer.dup_acks == 0 && !reported && !before;
    let rto = c.round_trip_us().saturating_add(RTO_MIN_US);
    if silence >= rto && !told {
        // With one segment outstanding, Linux's probe and its timeout fall together (`tcp_schedule_loss_probe`).
        return if tail && silence < RTO_CERTAIN_US { RetransKind::Probe } else { RetransKind::Timeout };
    }
    if in_timeout {
        return RetransKind::Timeout;
    }
    if told {
        return RetransKind::Fast;
    }
    if tail { RetransKind::Probe } else { RetransKind::Unknown }
}

/// Keeps count of unanswered repeats of the same bytes, and how far a timeout's recovery reaches.
#[inline(always)]
fn note_repeat(sc: &mut HalfScore, seq: SeqNum, next: SeqNum, kind: RetransKind) {
    if sc.repeats > 0 && sc.repeat_seq == seq {
        sc.repeats = sc.repeats.saturating_add(1);
    } else {
        (sc.repeat_seq, sc.repeats) = (seq, 1);
    }
    if matches!(kind, RetransKind::Timeout)
        && !(sc.has(HalfScore::TIMED_OUT) && sc.timeout_high.at_or_after(next))
    {
        sc.timeout_high = next;
        sc.bits |= HalfScore::TIMED_OUT;
    }
}
