//! The step: a flow and a segment give facts, and the flow's next state. The only place where TCP is understood.
//!
//! Time and everything looked up elsewhere come in as a [`Sighting`]. Total: any segment in any state gives facts,
//! no arithmetic overflows, nothing panics.

use crate::{
    anomaly::reset::cause,
    before::{repeats_ack, tells_of_more},
    close,
    facts::{Facts, Verdict},
    flow::Flow,
    half::{Half, Path, carries_id},
    label::{Direction, Side},
    open::{self, takes_over},
    scoreboard::{HalfScore, Scoreboard},
    seq::SeqNum,
    sequence::{KEEPALIVE_SILENCE, count_repeat, decide, explain, follow, keep, locate},
    sighting::Sighting,
    time::Nanos,
    traffic::Opened,
    wire::{Segment, tcp::TLS_HANDSHAKE},
};

/// Observes one segment and writes its facts to `f`, which is blank. Call [`crate::before::before`] first, under
/// the same lock: without a scoreboard only segments may come that ask for none, with one only segments that open nothing.
///
/// In stages that hand over nothing but what stands in memory. The kernel's verifier follows every path with what it
/// knows of each value in a register or on the stack: paths of one stage that leave the same behind become one.
#[inline(always)]
pub fn observe(flow: &mut Flow, score: Option<&mut Scoreboard>, s: &Segment, at: &Sighting, f: &mut Facts) {
    f.segments = s.segments;
    let mut score = score;
    if score.is_none() {
        identify(flow, s, at, f);
    }
    let (flow, f) = (settled(flow), settled(f));
    if let Some(sc) = &mut score {
        if !flow.has(Flow::SCORED) {
            // The entry may be an earlier connection's.
            sc.wipe();
        }
        flow.bits |= Flow::SCORED;
    }
    recall(flow, s, at, f);
    let (flow, f) = (settled(flow), settled(f));
    if f.hairpin {
        // Routed back out of the interface it came in on: the same segment, seen a second time.
        return;
    }
    if f.holder.is_some() && f.outcome.is_none() {
        open::answer(flow, s, at.dir & 1, f);
    }
    let (flow, f) = (settled(flow), settled(f));
    if open::contends(flow, s, at.dir & 1, at.now, f) {
        if f.rst {
            f.cause = cause(f);
        }
        flow.half[at.dir & 1].segments += s.segments as u64;
        if let Some(sc) = &mut score {
            tally(&mut sc.half[at.dir & 1], f);
        }
        return;
    }
    let (flow, f) = (settled(flow), settled(f));
    if f.rst {
        let me = &mut flow.half[at.dir & 1];
        me.segments += s.segments as u64;
        f.foreign = if me.seen() {
            is_foreign(me, &flow.path[at.dir & 1], s)
        } else {
            at.usual_ttl != 0 && at.usual_ttl != s.ttl
        };
        if let Some(sc) = &score {
            let [a, b] = &sc.half;
            f.repeats = if a.repeats > b.repeats { a.repeats } else { b.repeats };
        }
        f.cause = cause(f);
    } else {
        if carries_id(s) {
            f.order = Some(flow.half[at.dir & 1].note_ip_id(s.ip_id, s.segments));
        }
        let (flow, f) = (settled(flow), settled(f));
        acknowledge(flow, score.as_deref_mut(), s, at, f);
        let (flow, f) = (settled(flow), settled(f));
        place(flow, score.as_deref_mut(), s, at, f);
        if let Some(sc) = &mut score
            && matches!(f.verdict, Verdict::Keepalive)
        {
            count_repeat(&mut sc.half[at.dir & 1], s.seq);
        }
        if let Some(sc) = &mut score
            && f.below
        {
            let sc = settled(&mut sc.half[at.dir & 1]);
            sc.fill(s.seq, f.known_end);
            decide(settled(flow), settled(sc), s, at, settled(f));
            keep(settled(sc), s, settled(f));
            explain(settled(flow), settled(sc), s, at, settled(f));
        }
        let (flow, f) = (settled(flow), settled(f));
        remember(flow, s, at, f);
        let (flow, f) = (settled(flow), settled(f));
        if speaks(s, f) {
            let bytes = if f.new < s.payload { f.new } else { s.payload };
            f.first_byte_us = converse(flow, f.side, bytes, s.segments, s.first, at.now);
            // What overtook the beginning is none; the beginning fills the hole that it opened.
            f.begins |= f.turn && matches!(f.verdict, Verdict::InOrder);
            f.text = f.begins && flow.has(Flow::TEXT);
        }
    }
    let (flow, f) = (settled(flow), settled(f));
    let me = &mut flow.half[at.dir & 1];
    me.note_seen(at.now);
    if !f.foreign {
        me.ttl = s.ttl;
    }
    close::advance(flow, s, at.dir & 1, at.now, f);
    if let Some(sc) = &mut score {
        tally(&mut sc.half[at.dir & 1], settled(f));
        let restless = sc.half[0].restless() | sc.half[1].restless();
        flow.bits = flow.bits & !Flow::RESTLESS | if restless { Flow::RESTLESS } else { 0 };
    }
}

/// Takes a segment of which nothing can be said into its half, so that the flow's counts stay whole.
#[inline(always)]
pub fn count_only(flow: &mut Flow, s: &Segment, at: &Sighting, f: &mut Facts) {
    f.side = flow.side(at.dir & 1);
    f.svc = flow.svc;
    f.segments = s.segments;
    let me = &mut flow.half[at.dir & 1];
    me.segments += s.segments as u64;
    me.bytes += s.payload as u64;
    me.next = me.next.later(s.end());
    me.note_seen(at.now);
}

/// The same place, of whose contents the compiler forgets what it knew.
#[inline(always)]
pub(crate) fn settled<T>(place: &mut T) -> &mut T {
    core::hint::black_box(place)
}

/// Both halves, the segment's own first. By offset and not by a branch, which would be two paths to the verifier.
#[inline(always)]
pub(crate) fn halves(flow: &mut Flow, dir: usize) -> (&mut Half, &mut Half) {
    let first = flow.half.as_mut_ptr();
    // SAFETY: two different places of the two.
    unsafe { (&mut *first.add(dir & 1), &mut *first.add(1 - (dir & 1))) }
}

/// Makes sure that the flow is the segment's, and begins the facts.
#[inline(always)]
fn identify(flow: &mut Flow, s: &Segment, at: &Sighting, f: &mut Facts) {
    if !flow.has(Flow::USED) {
        f.opened = Some(open::open(flow, s, at));
        f.gap_measured = flow.gap > 0;
    } else if takes_over(flow, s, at.dir) {
        open::take_over(flow, s, at, f);
        f.opened = Some(Opened::Syn);
        f.gap_measured = flow.gap > 0;
    }
}

/// What the rules ask about the flow as it was before the segment.
#[inline(always)]
fn recall(flow: &mut Flow, s: &Segment, at: &Sighting, f: &mut Facts) {
    f.side = flow.side(at.dir & 1);
    f.svc = flow.svc;
    let out = matches!(at.direction, Direction::Egress);
    let (me, _) = halves(flow, at.dir);
    if me.seen() && me.has(Half::OUT) != out {
        f.hairpin = true;
        return;
    }
    f.syn = s.flags.syn();
    f.syn_ack = s.flags.syn() && s.flags.ack();
    f.rst = s.flags.rst();
    f.phase = flow.phase;
    f.fin_before = flow.half[0].fin() || flow.half[1].fin();
    f.data_before = flow.exchanges > 0 || flow.has(Flow::ANSWERED);
    f.second_exchange = flow.exchanges > 1;
    f.silence = if f.opened.is_some() { 0 } else { at.now.since(flow.last_seen()) };
    f.turn = matches!(f.side, Side::Server) == flow.has(Flow::PENDING);
    f.idle_limit = at.settings.idle;
    f.cause = flow.cause;
    f.gap = flow.gap;
    f.holder = open::holder_of(flow);
    f.outcome = open::outcome_of(flow);
    f.begun = !flow.has(Flow::JOINED_LATE);
    let (me, peer) = halves(flow, at.dir);
    f.met = me.seen();
    f.expected = me.next;
    f.acked = peer.ack;
    f.dup_acks = peer.dup_acks;
}

/// Takes the segment into its half: where it stands in the sequence space.
#[inline(always)]
fn place(flow: &mut Flow, score: Option<&mut Scoreboard>, s: &Segment, at: &Sighting, f: &mut Facts) {
    let dir = at.dir & 1;
    let first_syn = s.flags.syn() && f.opened.is_some();
    let (me, peer) = halves(flow, dir);
    me.segments += s.segments as u64;
    me.bytes += s.payload as u64;
    if matches!(at.direction, Direction::Egress) {
        me.bits |= Half::OUT;
    }
    if !me.seen() || (first_syn && !me.has(Half::SYN)) {
        begin(me, peer, s);
        flow.path[dir].mss = s.options.mss;
        f.new = s.sequence_len();
        // A repeat of a SYN that had contended was judged already.
        if f.new > 0 && matches!(f.verdict, Verdict::None) {
            f.verdict = Verdict::InOrder;
        }
    } else if s.sequence_len() > 0 || tells_of_more(me, s) {
        match score {
            Some(sc) => locate(me, peer, &mut sc.half[dir], s, at, f),
            None => follow(me, s, f),
        }
        f.front = matches!(f.verdict, Verdict::InOrder | Verdict::Gap);
    } else if s.flags.plain() && s.seq == me.next.minus(1) {
        if peer.seen() && peer.window == 0 {
            f.verdict = Verdict::ZeroWindowProbe;
        } else if at.now.since(me.last_seen) >= KEEPALIVE_SILENCE {
            f.verdict = Verdict::Keepalive;
        }
    }
}

/// A half's first segment.
#[inline(always)]
fn begin(me: &mut Half, peer: &mut Half, s: &Segment) {
    me.isn = s.seq;
    me.next = s.end();
    me.bits |= Half::SEEN;
    if s.flags.syn() {
        me.bits |= Half::SYN;
        me.window_scale = match s.options.window_scale {
            Some(shift) => shift + 1,
            None => 0,
        };
        if peer.seen() && !peer.has(Half::ACKED) {
            // The other side's own SYN carried no acknowledgement: it has nothing of this half yet.
            peer.ack = s.seq;
            peer.bits |= Half::ACKED;
        }
    }
}

/// What the segment acknowledges of the other half.
#[inline(always)]
fn acknowledge(flow: &mut Flow, score: Option<&mut Scoreboard>, s: &Segment, at: &Sighting, f: &mut Facts) {
    if !s.flags.ack() {
        return;
    }
    let dir = at.dir & 1;
    let usual_us = flow.path[0].rtt_us.saturating_add(flow.path[1].rtt_us);
    let (me, peer) = halves(flow, dir);
    let advances = me.acks_more(s.ack);
    f.dup_ack = !advances && repeats_ack(me, peer, s);
    if let Some(sc) = score {
        let theirs = &mut sc.half[1 - dir];
        if theirs.repeats > 0 && s.ack.after(theirs.repeat_seq) {
            theirs.repeats = 0;
        }
        if s.options.sack_blocks > 0 {
            f.dsack = theirs.note_sack(&s.options, s.ack);
        }
        let tells = f.dup_ack || (s.options.sack_blocks > 0 && !f.dsack);
        if tells && s.options.timestamps {
            // An end takes the TSval of what is not beyond its last acknowledgement (RFC 7323, 4.3).
            let echoed = peer.has(Half::ACKED) && peer.ack.at_or_after(s.seq);
            theirs.tell(s, at.now.stamp(), peer.next, usual_us, echoed);
        }
    }
    if !advances {
        me.dup_acks = me.dup_acks.saturating_add(f.dup_ack as u8);
        return;
    }
    f.front = true;
    take_ack(flow, dir, s.ack, at.now);
}

/// Takes an acknowledgement beyond all that the half has acknowledged.
#[inline(always)]
pub(crate) fn take_ack(flow: &mut Flow, dir: usize, ack: SeqNum, now: Nanos) {
    let (me, peer) = halves(flow, dir);
    me.ack = ack;
    me.bits |= Half::ACKED;
    me.dup_acks = 0;
    if peer.is_timed(ack) {
        peer.bits &= !Half::TIMED;
        let us = now.stamp().since(peer.timed_at);
        flow.path[1 - (dir & 1)].sample_rtt(us);
    }
}

/// Keeps what later segments are judged by.
#[inline(always)]
fn remember(flow: &mut Flow, s: &Segment, at: &Sighting, f: &mut Facts) {
    if f.front
        && let Some(order) = f.order
    {
        flow.path[at.dir & 1].learn_ids(order);
    }
    f.zero_window = s.window == 0 && s.flags.plain();
    let me = &mut flow.half[at.dir & 1];
    me.window = s.window;
    if s.options.timestamps {
        me.note_timestamp(s.options.ts_val);
    }
    if s.sequence_len() > 0 {
        me.note_sending(matches!(f.verdict, Verdict::InOrder | Verdict::Gap), at.now);
        if f.new > 0 && s.end() == me.next {
            flow.tail_id[at.dir & 1] = s.last_id();
        }
    }
}

/// Whether an RST does not look like what its side has been sending: another TTL, or an IPv4 identification that is
/// neither zero (Linux sends it so without a socket, `tcp_v4_send_reset`) nor near the side's own.
#[inline(always)]
fn is_foreign(me: &Half, path: &Path, s: &Segment) -> bool {
    if s.ttl != me.ttl {
        return true;
    }
    if s.v6 || s.ip_id == 0 || !path.ids_tell() || me.ip_ids == 0 {
        return false;
    }
    let ahead = s.ip_id.wrapping_sub(me.ip_id) as i16;
    !(-32..=1_024).contains(&ahead)
}

/// Requests and answers: new payload of either side, the segments it came in, and its first byte; for the first of an
/// answer, microseconds since the request's end.
#[inline(always)]
pub(crate) fn converse(
    flow: &mut Flow,
    side: Side,
    bytes: u32,
    segments: u32,
    first: u8,
    now: Nanos,
) -> Option<u32> {
    if matches!(side, Side::Server) {
        flow.bits |= Flow::ANSWERED;
        if !flow.has(Flow::PENDING) {
            return None;
        }
        flow.bits &= !Flow::PENDING;
        flow.first_byte_us = now.stamp().since(flow.request_at);
        flow.answered = flow.answered.saturating_add(1);
        (flow.asked_bytes, flow.asked_segments) = (flow.request_bytes, flow.request_segments);
        (flow.request_bytes, flow.request_segments) = (0, 0);
        return Some(flow.first_byte_us);
    }
    if flow.exchanges == 0 && first == TLS_HANDSHAKE {
        flow.bits |= Flow::TLS;
    }
    if !flow.has(Flow::PENDING) {
        flow.exchanges = flow.exchanges.saturating_add(1);
    }
    flow.bits |= Flow::PENDING;
    flow.request_bytes = flow.request_bytes.saturating_add(bytes);
    flow.request_segments = flow.request_segments.saturating_add(segments as u16);
    flow.request_at = now.stamp();
    None
}

/// Whether the segment's payload says something: the alert before a close asks for nothing (RFC 8446, 6.1).
#[inline(always)]
fn speaks(s: &Segment, f: &Facts) -> bool {
    s.payload > 0 && f.new > 0 && (matches!(f.side, Side::Server) || !s.tls_alert)
}

/// Counts on the half's scoreboard.
#[inline(always)]
fn tally(sc: &mut HalfScore, f: &Facts) {
    let n = f.segments;
    let c = &mut sc.counts;
    match f.verdict {
        Verdict::Gap => c.gaps += 1,
        Verdict::Keepalive => c.keepalives += 1,
        Verdict::OutOfOrder => c.out_of_order = c.out_of_order.wrapping_add(n),
        Verdict::LateFill => c.late_fills = c.late_fills.wrapping_add(n),
        Verdict::Retransmission => c.retransmissions = c.retransmissions.wrapping_add(n),
        Verdict::Spurious => c.spurious = c.spurious.wrapping_add(n),
        Verdict::Duplicate => c.duplicates = c.duplicates.wrapping_add(n),
        Verdict::Unknown => c.unknown = c.unknown.wrapping_add(n),
        Verdict::None | Verdict::InOrder | Verdict::ZeroWindowProbe => {}
    }
    c.dup_acks += f.dup_ack as u32;
    c.dsacks += f.dsack as u32;
    c.zero_windows += f.zero_window as u32;
    if f.syn && matches!(f.verdict, Verdict::Retransmission | Verdict::Spurious) {
        c.syn_retransmissions += 1;
    }
}
