//! Sequence verdicts: what a segment that carries sequence space is, against what its half has sent before.
//!
//! The question that matters is whether a segment below `next` was sent *before* the newest one (the network
//! reordered or copied it) or sent *again* (something was lost). Evidence is asked strongest first: the order in which
//! the sender made its packets, then what the other side reported, then time against the round trip.

use crate::{
    facts::{Evidence, Facts, RetransKind, Verdict},
    flow::Flow,
    half::{Half, IdOrder, Path},
    scoreboard::{HalfScore, Hole},
    seq::SeqNum,
    sighting::Sighting,
    time::Nanos,
    wire::Segment,
};

/// Assumed round trip where none was measured, microseconds.
const UNKNOWN_RTT_US: u32 = 3_000;
/// Linux's smallest retransmission timeout beyond the smoothed round trip (`TCP_RTO_MIN`), microseconds.
const RTO_MIN_US: u32 = 200_000;
/// The smallest timeout RFC 6298, 2.4 asks for; a silence this long is no probe's, microseconds.
const RTO_CERTAIN_US: u32 = 1_000_000;
/// Silence of a side before which it sends nothing to keep the connection alive, nanoseconds: Linux's smallest interval is 1 s
/// (`tcp_keepalive_intvl`), RFC 9293, 3.8.4 asks for hours; and while a timer may run there is no silence to break.
pub const KEEPALIVE_SILENCE: u64 = RTO_MIN_US as u64 * 1_000;
/// Duplicate ACKs that make a sender send again (RFC 5681, 3.2).
const DUPLICATE_ACKS: u8 = 3;

/// What the judgement looks at besides the half itself.
struct Context<'a> {
    /// The segment's half.
    me: &'a Half,
    /// The other side's half.
    peer: &'a Half,
    /// The way of this half, and of the other.
    paths: [&'a Path; 2],
    /// Where the packet's IPv4 identification stands, where it has one.
    order: Option<IdOrder>,
    /// That of the segment that last moved the half on.
    tail_id: u16,
    /// The segment is a SYN that was answered already, with an acknowledgement of the connection before (RFC 5961, 4).
    challenged: bool,
    /// Now.
    now: Nanos,
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

    /// The same less an eighth, for what hosts and queues have added to the smallest of a few samples.
    #[inline(always)]
    fn shortest_us(&self) -> u32 {
        let us = self.round_trip_us();
        us - us / 8
    }

    /// Whether the IPv4 identification tells the order of sending.
    #[inline(always)]
    fn id_order(&self) -> Option<IdOrder> {
        if self.paths[0].ids_tell() { self.order } else { None }
    }

    /// Whether the half may still be sending again what was lost together.
    #[inline(always)]
    fn recovering(&self, score: &HalfScore) -> bool {
        score.has(HalfScore::RECOVERED) && !(self.acked(score.recover) && self.me.next.after(score.recover))
    }

    /// Whether the other side is known to have all before `end`.
    #[inline(always)]
    fn acked(&self, end: SeqNum) -> bool {
        self.peer.has(Half::ACKED) && self.peer.ack.at_or_after(end)
    }
}

/// Takes a segment that begins where its half had ended, with nothing else to ask.
#[inline(always)]
pub fn follow(me: &mut Half, s: &Segment, f: &mut Facts) {
    me.next = s.end();
    f.verdict = Verdict::InOrder;
    f.new = s.sequence_len();
}

/// Finds where a segment lies that carries sequence space on a half that was seen before. One that begins at its
/// half's end or beyond is judged with that; for the others `fill` on the scoreboard, [`decide`] and [`explain`] follow.
#[inline(always)]
pub fn locate(me: &mut Half, peer: &Half, score: &mut HalfScore, s: &Segment, at: &Sighting, f: &mut Facts) {
    let (next, end) = (me.next, s.end());
    let from_next = s.seq.distance(next);
    if let Some(probe) = one_byte(score, s, from_next, [me, peer], at.now) {
        f.verdict = probe;
        return;
    }
    if from_next < 0 {
        f.below = true;
        f.known_end = end.earlier(next);
        f.new = if end.after(next) { end.distance(next) as u32 } else { 0 };
        f.segments = s.segments_in(f.known_end.distance(s.seq) as u32);
        return;
    }
    score.bits &= !HalfScore::BEHIND;
    let probed = take_probed(score, from_next);
    follow(me, s, f);
    if from_next > 0 && !probed {
        f.verdict = Verdict::Gap;
        let hole = Hole {
            start: next,
            end: s.seq,
            opener_ts: s.options.ts_val,
            opened_at: at.now.stamp(),
            opener_id: s.ip_id,
            bits: Hole::BEGINS * f.turn as u16,
        };
        f.hole_dropped = !score.open(hole);
    }
}

/// Judges a segment that begins below its half's end, by what it filled.
#[inline(always)]
pub fn decide(flow: &mut Flow, score: &mut HalfScore, s: &Segment, at: &Sighting, f: &mut Facts) {
    let dir = at.dir & 1;
    let c = Context {
        me: &flow.half[dir],
        peer: &flow.half[1 - dir],
        paths: [&flow.path[dir], &flow.path[1 - dir]],
        order: f.order,
        tail_id: flow.tail_id[dir],
        challenged: s.flags.syn() && flow.has(Flow::CHALLENGED),
        now: at.now,
    };
    if score.filled == 0 {
        (f.verdict, f.evidence) = repeated(score, s, f, &c);
        return;
    }
    f.new += score.filled;
    f.begins = score.filling.begins_at(s.seq);
    f.hole_age_us = c.now.stamp().since(score.filling.opened_at);
    (f.verdict, f.evidence) = if score.filled < f.known_end.distance(s.seq) as u32 {
        // A first sending never overlaps what was sent before it.
        (Verdict::LateFill, Evidence::Sequence)
    } else {
        filled(score, s, f.hole_age_us, &c)
    };
}

/// Keeps in mind what was filled by what was sent again.
#[inline(always)]
pub fn keep(score: &mut HalfScore, s: &Segment, f: &Facts) {
    if matches!(f.verdict, Verdict::LateFill) {
        let (from, to) = (score.filling.start.later(s.seq), score.filling.end.earlier(f.known_end));
        let newer = s.options.timestamps && s.options.ts_val.wrapping_sub(score.filling.opener_ts) as i32 > 0;
        score.refill(from, to, newer);
    }
}

/// Says of a segment that was sent again why, and moves the half on.
#[inline(always)]
pub fn explain(flow: &mut Flow, score: &mut HalfScore, s: &Segment, at: &Sighting, f: &mut Facts) {
    let dir = at.dir & 1;
    if matches!(f.verdict, Verdict::LateFill | Verdict::Retransmission | Verdict::Spurious) {
        let c = Context {
            me: &flow.half[dir],
            peer: &flow.half[1 - dir],
            paths: [&flow.path[dir], &flow.path[1 - dir]],
            order: None,
            tail_id: 0,
            challenged: false,
            now: at.now,
        };
        f.kind = kind(score, s, &c);
        note_repeat(score, s.seq, flow.half[dir].next, f.kind);
        let me = &mut flow.half[dir];
        // Karn: the acknowledgement to come does not tell which sending it is for (RFC 6298, 3).
        if me.has(Half::TIMED) && me.timed_end.after(s.seq) {
            me.bits &= !Half::TIMED;
        }
    }
    let me = &mut flow.half[dir];
    me.next = me.next.later(s.end());
    score.bits |= HalfScore::BEHIND;
    if s.end() == me.next {
        score.bits &= !HalfScore::BEHIND;
    }
}

/// Keepalives and window probes of one byte (those without a byte carry no sequence space, see `observe`).
#[inline(always)]
fn one_byte(
    score: &mut HalfScore,
    s: &Segment,
    from_next: i32,
    halves: [&Half; 2],
    now: Nanos,
) -> Option<Verdict> {
    let [me, peer] = halves;
    if s.payload != 1 || !s.flags.plain() || (from_next != 0 && from_next != -1) {
        return None;
    }
    if peer.seen() && peer.window == 0 {
        score.bits |= HalfScore::PROBED;
        return Some(Verdict::ZeroWindowProbe);
    }
    // While its byte is outstanding a sender's timer sends again and not to keep alive (Linux `tcp_keepalive_timer`).
    let outstanding = peer.has(Half::ACKED) && me.next.after(peer.ack);
    if from_next == -1 && !outstanding && now.since(me.last_seen) >= KEEPALIVE_SILENCE {
        return Some(Verdict::Keepalive);
    }
    None
}

/// Whether the half goes on right after the one byte it had sent into a closed window: the byte was taken, and is
/// no hole. Asked once; sending the byte again with more behind it settles it too.
#[inline(always)]
fn take_probed(score: &mut HalfScore, from_next: i32) -> bool {
    let probed = score.has(HalfScore::PROBED);
    score.bits &= !HalfScore::PROBED;
    probed && from_next == 1
}

/// A segment that lies in a hole: overtaken, or sent again.
#[inline(always)]
fn filled(score: &HalfScore, s: &Segment, age_us: u32, c: &Context) -> (Verdict, Evidence) {
    let hole = &score.filling;
    if c.id_order().is_some() {
        let later = s.ip_id.wrapping_sub(hole.opener_id) as i16;
        if later != 0 {
            return (if later < 0 { Verdict::OutOfOrder } else { Verdict::LateFill }, Evidence::IpId);
        }
    }
    if s.options.timestamps && c.me.has(Half::TIMESTAMPS) {
        let later = s.options.ts_val.wrapping_sub(hole.opener_ts) as i32;
        if later != 0 {
            return (if later < 0 { Verdict::OutOfOrder } else { Verdict::LateFill }, Evidence::Timestamp);
        }
    }
    if age_us < c.shortest_us() {
        return (Verdict::OutOfOrder, Evidence::Time);
    }
    let evidence = if score.sacked_above(hole.start) {
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
fn repeated(score: &mut HalfScore, s: &Segment, f: &Facts, c: &Context) -> (Verdict, Evidence) {
    let known_end = f.known_end;
    if let Some(evidence) = overtaken_by_its_repeat(score, s, known_end, c) {
        return (Verdict::OutOfOrder, evidence);
    }
    if matches!(c.id_order(), Some(IdOrder::Earlier))
        && s.end() == c.me.next
        && (s.last_id().wrapping_sub(c.tail_id) as i16) < 0
    {
        // Made before the copy that this point has: that one had been sent again, and overtook this.
        return (Verdict::OutOfOrder, Evidence::IpId);
    }
    let silence = c.now.stamp().since(c.me.last_data);
    let recovering = c.recovering(score);
    let timestamps = s.options.timestamps && c.me.has(Half::TIMESTAMPS);
    let later = s.options.ts_val.wrapping_sub(c.me.ts_val) as i32;
    match c.id_order() {
        // The same packet, unless it says more than before. After a timeout's silence it may be its sender's: some use the
        // identification again (RFC 1122, 3.2.1.5), but not the clock.
        Some(IdOrder::Again) if !(f.front || timestamps && later > 0) => {
            let alone = !timestamps && silence >= c.round_trip_us().saturating_add(RTO_MIN_US);
            return (if alone { Verdict::Unknown } else { Verdict::Duplicate }, Evidence::IpId);
        }
        // What is sent again takes the next number: a copy, or an earlier repeat so late.
        Some(IdOrder::Old) => {
            let verdict = if recovering { Verdict::Unknown } else { Verdict::Duplicate };
            return (verdict, Evidence::IpId);
        }
        Some(_) => {}
        None => {
            // Why its sender may have sent something again without a silence: it was told of a loss (RFC 5681, 3.2), or
            // of a part of one (RFC 6582, 3.2).
            // A server answers every SYN it gets again, and its timer besides (RFC 9293, 3.10.7.4): two SYN-ACKs may
            // follow each other at once.
            let syn_ack = s.flags.syn() && s.flags.ack();
            // What is sent again echoes the acknowledgement that asked for it, if not a later one (RFC 7323, 4.3).
            let told = if timestamps {
                score.told(s.options.ts_ecr)
            } else {
                c.peer.dup_acks > 0 || score.sacked_above(known_end)
            };
            let reason = told || recovering;
            let at_once = later == 0 && !reason && !f.front && !syn_ack && silence < c.round_trip_us();
            if timestamps && (later < 0 || at_once) {
                // What is sent again carries the clock of its sending: it was copied, or sent again before the newest
                // one and overtaken by it. A timer would have let that clock go on.
                let verdict = if reason { Verdict::Unknown } else { Verdict::Duplicate };
                return (verdict, Evidence::Timestamp);
            }
            let soon = !score.has(HalfScore::BEHIND) && silence < c.round_trip_us();
            // Whatever a sender's identifications mean, a copy has the one of its original.
            let other_id = matches!(c.order, Some(order) if !matches!(order, IdOrder::Again));
            let other = f.front || other_id || (timestamps && later > 0);
            if soon && !syn_ack && !other && s.end() == c.me.next {
                // The last segment again, before its sender could have heard of it.
                let verdict = if recovering { Verdict::Unknown } else { Verdict::Duplicate };
                return (verdict, Evidence::Time);
            }
        }
    }
    if c.me.isn.after(s.seq) || score.may_be_forgotten(known_end) {
        // From before this point joined, or in a hole that was dropped.
        return (Verdict::Unknown, Evidence::None);
    }
    if c.challenged || c.acked(known_end) {
        return (Verdict::Spurious, Evidence::Ack);
    }
    if score.is_sacked(s.seq, known_end) {
        return (Verdict::Spurious, Evidence::Sack);
    }
    let evidence = if c.id_order().is_some() { Evidence::IpId } else { Evidence::Sequence };
    (Verdict::Retransmission, evidence)
}

/// Whether all that this point has of these bytes was sent again, and this is the first copy, so late that it was taken
/// for lost: it was made before the segment that opened the hole (RFC 4737, 3: reordered is what a later one overtook).
#[inline(always)]
fn overtaken_by_its_repeat(
    score: &mut HalfScore,
    s: &Segment,
    known_end: SeqNum,
    c: &Context,
) -> Option<Evidence> {
    let hole = score.refilled(s.seq, known_end)?;
    if let Some(order) = c.id_order() {
        let before = (s.ip_id.wrapping_sub(hole.opener_id) as i16) < 0;
        return if before && !matches!(order, IdOrder::Again) { Some(Evidence::IpId) } else { None };
    }
    // As old as the opener is older than the repeat, if that one's clock had moved on.
    let age = s.options.ts_val.wrapping_sub(hole.opener_ts) as i32;
    let before = age < 0 || (age == 0 && hole.bits == Hole::BY_NEWER);
    if s.options.timestamps && before { Some(Evidence::Timestamp) } else { None }
}

/// Why a segment was sent again.
#[inline(always)]
fn kind(score: &HalfScore, s: &Segment, c: &Context) -> RetransKind {
    let (end, next) = (s.end(), c.me.next);
    if s.flags.syn() {
        return RetransKind::Syn;
    }
    let silence = c.now.stamp().since(c.me.last_data);
    let reported = score.sacked_above(end);
    let in_timeout = score.has(HalfScore::TIMED_OUT)
        && score.timeout_high.at_or_after(end)
        && !c.acked(score.timeout_high);
    let before = score.repeats > 0 && score.repeat_seq == s.seq;
    let told = reported || c.peer.dup_acks >= DUPLICATE_ACKS;
    // A probe waits for two round trips (RFC 8985, 7.2).
    let waited = silence >= c.round_trip_us();
    let tail = waited && end.at_or_after(next) && c.peer.dup_acks == 0 && !reported && !before;
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

/// Keeps count of unanswered repeats of the same bytes; a keepalive asks again for the acknowledgement of one it has sent.
#[inline(always)]
pub fn count_repeat(sc: &mut HalfScore, seq: SeqNum) {
    if sc.repeats > 0 && sc.repeat_seq == seq {
        sc.repeats = sc.repeats.saturating_add(1);
    } else {
        (sc.repeat_seq, sc.repeats) = (seq, 1);
    }
}

/// Keeps account of what was sent again: how often, and how far a timeout's recovery reaches.
#[inline(always)]
fn note_repeat(sc: &mut HalfScore, seq: SeqNum, next: SeqNum, kind: RetransKind) {
    count_repeat(sc, seq);
    sc.recover = next;
    sc.bits |= HalfScore::RECOVERED;
    if matches!(kind, RetransKind::Timeout)
        && !(sc.has(HalfScore::TIMED_OUT) && sc.timeout_high.at_or_after(next))
    {
        sc.timeout_high = next;
        sc.bits |= HalfScore::TIMED_OUT;
    }
}
