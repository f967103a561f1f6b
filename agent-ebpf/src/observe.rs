//! The step: a flow and a segment give facts, and the flow's next state. The only place where TCP is understood.
//!
//! Time and everything looked up elsewhere come in as a [`Sighting`]. Total: any segment in any state gives facts,
//! no arithmetic overflows, nothing panics.

use crate::{
    close::{self, how_ended},
    facts::{Facts, Verdict},
    flow::{Closed, Flow},
    half::{Half, Path, carries_id},
    label::Direction,
    open::{self, takes_over},
    scoreboard::{HalfScore, Scoreboard},
    sequence::{Context, judge},
    time::Nanos,
    traffic::{Close, Opened},
    wire::Segment,
};
use bytemuck::{Pod, Zeroable};

/// Limits that the operator sets, nanoseconds; may change while flows live.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// A silence this long before an RST makes its cause `idle`.
    pub idle: u64,
    /// How long a closed five-tuple counts as in TIME-WAIT.
    pub time_wait: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { idle: 30_000_000_000, time_wait: 60_000_000_000 }
    }
}

/// Where and when a segment was seen, and what the tables know beside the flow itself.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    /// Which half it belongs to, 0 or 1.
    pub dir: usize,
    /// The key's [`crate::flow::FlowKey::tag`].
    pub tag: u32,
    /// The hook.
    pub direction: Direction,
    /// When.
    pub now: Nanos,
    /// The services of the lower and the higher end point as servers; 0 for none. Looked up only where the segment
    /// may open a flow.
    pub services: [u16; 2],
    /// The connection that had the five-tuple before, where the flow table has forgotten it.
    pub prior: Option<Closed>,
    /// Limits.
    pub settings: Settings,
}

impl Sighting {
    /// A sighting of which nothing but the hook is known yet.
    #[inline(always)]
    pub const fn blank(direction: Direction) -> Self {
        let settings = Settings { idle: 0, time_wait: 0 };
        Self { dir: 0, tag: 0, direction, now: Nanos(0), services: [0; 2], prior: None, settings }
    }
}

/// What must happen before a segment can be observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Go,
    /// The flow needs its scoreboard.
    Score,
    /// The segment opens a new connection: the flow's end is to be reported first.
    End(Close),
}

/// Asks what must happen before `observe`; `scored` says that a scoreboard is at hand, or cannot be had.
#[inline(always)]
pub fn before(flow: &Flow, s: &Segment, dir: usize, scored: bool) -> Before {
    if !flow.has(Flow::USED) {
        return Before::Go;
    }
    if !flow.has(Flow::ENDED) && takes_over(flow, s, dir) {
        return Before::End(how_ended(flow));
    }
    if !scored && wants_score(flow, s, dir) { Before::Score } else { Before::Go }
}

/// Whether something about the segment belongs on the scoreboard.
#[inline(always)]
fn wants_score(flow: &Flow, s: &Segment, dir: usize) -> bool {
    if flow.has(Flow::SCORED) {
        return true;
    }
    if !flow.has(Flow::USED) {
        return false;
    }
    let (me, peer) = (&flow.half[dir & 1], &flow.half[1 - (dir & 1)]);
    if s.sequence_len() > 0 {
        if me.seen() && s.seq != me.next {
            return true;
        }
    } else if s.seq == me.next.minus(1) {
        return true;
    }
    (s.window == 0 && s.flags.plain()) || s.options.sack_blocks > 0 || repeats_ack(me, peer, s)
}

/// A duplicate ACK: no data, nothing new acknowledged, window unchanged, data outstanding (RFC 5681, 2).
#[inline(always)]
fn repeats_ack(me: &Half, peer: &Half, s: &Segment) -> bool {
    s.flags.ack()
        && s.flags.plain()
        && s.payload == 0
        && me.has(Half::ACKED)
        && s.ack == me.ack
        && s.seq == me.next
        && peer.next.after(s.ack)
        && (s.window == me.window || s.options.sack_blocks > 0)
}

/// Observes one segment and writes its facts to `f`. Call [`before`] first, under the same lock.
#[inline(always)]
pub fn observe(flow: &mut Flow, score: Option<&mut Scoreboard>, s: &Segment, at: &Sighting, f: &mut Facts) {
    let dir = at.dir & 1;
    let mut opened = None;
    let mut gap_measured = false;
    if !flow.has(Flow::USED) {
        opened = Some(open::open(flow, s, at));
        gap_measured = flow.gap > 0;
    } else if takes_over(flow, s, dir) {
        open::take_over(flow, s, at);
        opened = Some(Opened::Syn);
        gap_measured = flow.gap > 0;
    }
    let score = match score {
        Some(sc) => {
            if !flow.has(Flow::SCORED) {
                // The entry may be an earlier connection's.
                *sc = Scoreboard::default();
                flow.bits |= Flow::SCORED;
            }
            Some(sc)
        }
        None => None,
    };

    *f = Facts::blank(flow.side(dir), flow.svc, s.segments);
    f.opened = opened;
    f.gap_measured = gap_measured;
    f.syn = s.flags.syn();
    f.syn_ack = s.flags.syn() && s.flags.ack();
    f.rst = s.flags.rst();
    f.phase = flow.phase();
    f.fin_before = flow.half[0].fin() || flow.half[1].fin();
    f.data_before = flow.exchanges > 0 || flow.has(Flow::ANSWERED);
    f.second_exchange = flow.exchanges > 1;
    f.silence = if opened.is_some() { 0 } else { at.now.since(flow.last_seen()) };
    f.idle_limit = at.settings.idle;
    f.first_cause = flow.cause;
    f.gap = flow.gap;
    f.holder = open::holder_of(flow);
    f.outcome = open::outcome_of(flow);

    let out = matches!(at.direction, Direction::Egress);
    let me = &flow.half[dir];
    if me.seen() && me.has(Half::OUT) != out {
        // Routed back out of the interface it came in on: the same segment, seen a second time.
        flow.bits |= Flow::HAIRPIN;
        *f = Facts::blank(f.side, f.svc, f.segments);
        f.hairpin = true;
        return;
    }
    if f.holder.is_some() && f.outcome.is_none() {
        open::answer(flow, s, dir, f);
    }
    if open::contends(flow, s, dir, at.now, f) {
        if let Some(sc) = score
            && matches!(f.verdict, Verdict::Retransmission)
        {
            sc.half[dir].counts.syn_retransmissions += 1;
        }
        flow.half[dir].segments += s.segments as u64;
        return;
    }

    let [low, high] = &mut flow.half;
    let (me, peer_half) = if dir == 0 { (low, high) } else { (high, low) };
    let [plow, phigh] = &mut flow.path;
    let (path, peer_path) = if dir == 0 { (plow, phigh) } else { (phigh, plow) };
    let (mut mine, mut theirs): (Option<&mut HalfScore>, Option<&mut HalfScore>) = match score {
        Some(sc) => {
            let [a, b] = &mut sc.half;
            f.repeats = if a.repeats > b.repeats { a.repeats } else { b.repeats };
            if dir == 0 { (Some(a), Some(b)) } else { (Some(b), Some(a)) }
        }
        None => (None, None),
    };
    me.segments += s.segments as u64;
    me.bytes += s.payload as u64;
    if out {
        me.bits |= Half::OUT;
    }
    f.expected = me.next;
    f.acked = peer_half.ack;
    f.dup_acks = peer_half.dup_acks;

    if f.rst {
        f.foreign = me.seen() && is_foreign(me, path, s);
    } else {
        let order = if carries_id(s) { Some(me.note_ip_id(s.ip_id, s.segments)) } else { None };
        let ack_advanced = acknowledge(me, peer_half, peer_path, theirs.as_deref_mut(), s, at.now, f);
        let first = !me.seen() || (s.flags.syn() && !me.has(Half::SYN) && opened.is_some());
        let mut new = 0;
        let mut in_front = ack_advanced;
        if first {
            begin(me, peer_half, path, s);
            new = s.sequence_len();
            f.verdict = if new > 0 { Verdict::InOrder } else { Verdict::None };
        } else if s.sequence_len() > 0 {
            let c = Context { peer: peer_half, paths: [path, peer_path], order, now: at.now };
            let j = judge(me, mine.as_deref_mut(), s, &c);
            (f.verdict, f.evidence, f.kind, f.segments) = (j.verdict, j.evidence, j.kind, j.segments);
            (f.hole_age_us, f.hole_dropped) = (j.hole_age_us, j.dropped);
            new = j.new;
            in_front = matches!(j.verdict, Verdict::InOrder | Verdict::Gap);
        } else if s.flags.plain() && s.seq == me.next.minus(1) {
            f.verdict = if peer_half.seen() && peer_half.window == 0 {
                Verdict::ZeroWindowProbe
            } else {
                Verdict::Keepalive
            };
        }
        if let Some(o) = order
            && in_front
        {
            path.learn_ids(o);
        }
        remember(me, s, at.now, in_front && s.sequence_len() > 0);
        f.zero_window = s.window == 0 && s.flags.plain();
        me.window = s.window;
        converse(flow, s, dir, new, at.now, f);
    }

    let me = &mut flow.half[dir];
    me.last_seen = at.now;
    if !f.foreign {
        me.ttl = s.ttl;
    }
    close::advance(flow, s, dir, at.now, f);
    if let Some(sc) = &mut mine {
        tally(sc, f);
    }
}

/// A half's first segment.
#[inline(always)]
fn begin(me: &mut Half, peer: &mut Half, path: &mut Path, s: &Segment) {
    me.isn = s.seq;
    me.next = s.end();
    me.bits |= Half::SEEN;
    if s.flags.syn() {
        me.bits |= Half::SYN;
        path.mss = s.options.mss;
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

/// What the segment acknowledges of the other half; true when it acknowledges something new.
#[inline(always)]
fn acknowledge(
    me: &mut Half,
    peer: &mut Half,
    peer_path: &mut Path,
    theirs: Option<&mut HalfScore>,
    s: &Segment,
    now: Nanos,
    f: &mut Facts,
) -> bool {
    if !s.flags.ack() {
        return false;
    }
    let mut reported = None;
    if let Some(sc) = theirs {
        if s.options.sack_blocks > 0 {
            f.dsack = sc.note_sack(&s.options, s.ack);
        }
        reported = Some(sc);
    }
    if me.has(Half::ACKED) && !s.ack.after(me.ack) {
        if repeats_ack(me, peer, s) {
            me.dup_acks = me.dup_acks.saturating_add(1);
            f.dup_ack = true;
        }
        return false;
    }
    me.ack = s.ack;
    me.bits |= Half::ACKED;
    me.dup_acks = 0;
    if peer.has(Half::TIMED) && s.ack.at_or_after(peer.timed_end) {
        peer.bits &= !Half::TIMED;
        peer_path.sample_rtt(now.stamp().since(peer.timed_at));
    }
    if let Some(sc) = reported
        && sc.repeats > 0
        && s.ack.after(sc.repeat_seq)
    {
        sc.repeats = 0;
    }
    true
}

/// Keeps what later segments are judged by.
#[inline(always)]
fn remember(me: &mut Half, s: &Segment, now: Nanos, in_front: bool) {
    if s.options.timestamps {
        if !me.has(Half::TIMESTAMPS) || (s.options.ts_val.wrapping_sub(me.ts_val) as i32) > 0 {
            me.ts_val = s.options.ts_val;
        }
        me.bits |= Half::TIMESTAMPS;
    }
    if s.sequence_len() == 0 {
        return;
    }
    me.last_data = now.stamp();
    if in_front && !me.has(Half::TIMED) {
        me.timed_end = me.next;
        me.timed_at = now.stamp();
        me.bits |= Half::TIMED;
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

/// Requests and answers: `new` is sequence space not seen before.
#[inline(always)]
fn converse(flow: &mut Flow, s: &Segment, dir: usize, new: u32, now: Nanos, f: &mut Facts) {
    if s.payload == 0 || new == 0 {
        return;
    }
    if dir != (flow.client & 1) as usize {
        flow.bits |= Flow::ANSWERED;
        if flow.has(Flow::PENDING) {
            flow.bits &= !Flow::PENDING;
            flow.first_byte_us = now.stamp().since(flow.request_at);
            flow.answered = flow.answered.saturating_add(1);
            flow.request_bytes = 0;
            f.first_byte_us = Some(flow.first_byte_us);
        }
        return;
    }
    // The alert before a close asks for nothing (RFC 8446, 6.1).
    if s.tls_alert {
        return;
    }
    if !flow.has(Flow::PENDING) {
        flow.exchanges = flow.exchanges.saturating_add(1);
    }
    flow.bits |= Flow::PENDING;
    flow.request_bytes = flow.request_bytes.saturating_add(if new < s.payload { new } else { s.payload });
    flow.request_at = now.stamp();
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
