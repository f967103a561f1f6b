//! How a connection goes on and ends: phases, FIN, RST, and what remains unsaid.

use crate::{
    anomaly::Cause,
    facts::Facts,
    flow::Flow,
    half::Half,
    label::Side,
    phase::Phase,
    time::Nanos,
    traffic::{Close, Served},
    wire::Segment,
};

/// How far an RST may lie from its half's end and still close the connection, bytes: a blind one is a challenge to
/// the receiver and no close (RFC 9293, 3.10.7.4; RFC 5961, 3). Windows are known only where the SYN was seen.
const RST_REACH: u32 = 1 << 24;

/// How a flow ended about which nothing more will be heard.
#[inline(always)]
pub fn how_ended(flow: &Flow) -> Close {
    let first_client = flow.first_fin == flow.client + 1;
    if flow.half[0].fin() && flow.half[1].fin() {
        return if first_client { Close::FinClient } else { Close::FinServer };
    }
    if flow.first_fin != 0 {
        return if first_client { Close::HalfFinClient } else { Close::HalfFinServer };
    }
    if flow.phase < Phase::Established as u8 { Close::HandshakeSilence } else { Close::Silence }
}

/// The side that a close is counted for: the first FIN's or the RST's sender, else the client.
#[inline(always)]
pub fn closer(close: Close) -> Side {
    match close {
        Close::FinServer | Close::ResetServer | Close::HalfFinServer => Side::Server,
        _ => Side::Client,
    }
}

/// What an ended flow came to for its client.
#[inline(always)]
pub fn served(flow: &Flow) -> Served {
    const HANDSHAKE_SILENCE: u8 = Close::HandshakeSilence as u8 + 1;
    const BY_CLIENT: u8 = Close::ResetClient as u8 + 1;
    const BY_SERVER: u8 = Close::ResetServer as u8 + 1;
    const REFUSED: u8 = Cause::Refused as u8 + 1;
    const TIME_WAIT: u8 = Cause::TimeWait as u8 + 1;
    const TIMEOUT: u8 = Cause::Timeout as u8 + 1;
    const AFTER_FIN: u8 = Cause::AfterFin as u8 + 1;
    let (spoke, pending) = (flow.exchanges > 0, flow.has(Flow::PENDING));
    if flow.close == HANDSHAKE_SILENCE {
        return Served::TimedOut;
    }
    if flow.close == BY_CLIENT || flow.close == BY_SERVER {
        if flow.cause == TIMEOUT {
            return Served::TimedOut;
        }
        if !spoke && !flow.has(Flow::ANSWERED) && (flow.cause == REFUSED || flow.cause == TIME_WAIT) {
            return Served::Refused;
        }
        // A client that has its answer may end the connection as it likes; after a FIN the RST cuts nothing off.
        let cuts = spoke && flow.cause != AFTER_FIN && (flow.close == BY_SERVER || pending);
        if cuts {
            return Served::Reset;
        }
    }
    match (pending, spoke) {
        (true, _) => Served::Unanswered,
        (false, true) => Served::Answered,
        (false, false) => Served::Unused,
    }
}

/// How a connection ended, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// How.
    pub close: Close,
    /// For the client.
    pub served: Served,
    /// Bytes of a request that stays unanswered, 0 for none.
    pub unanswered: u32,
}

/// Marks the flow as ended.
#[inline(always)]
pub fn end(flow: &mut Flow, close: Close) -> End {
    flow.bits |= Flow::ENDED;
    flow.close = close as u8 + 1;
    let unanswered = if flow.has(Flow::PENDING) { flow.request_bytes } else { 0 };
    End { close, served: served(flow), unanswered }
}

/// Moves the phase on after a segment was taken into its half.
#[inline(always)]
pub fn advance(flow: &mut Flow, s: &Segment, dir: usize, now: Nanos, f: &mut Facts) {
    let [a, b] = &flow.half;
    let (me, peer) = if dir == 0 { (*a, *b) } else { (*b, *a) };
    if s.flags.rst() {
        reset(flow, s, dir, now, f);
        return;
    }
    let from_client = matches!(f.side, Side::Client);
    match Phase::of(flow.phase) {
        Phase::SynSent if s.flags.syn() => {
            if s.flags.ack() {
                flow.phase = Phase::SynReceived as u8;
                flow.synack_us = now.micros_since(flow.syn_at);
            } else {
                flow.syn_at = now;
            }
        }
        // The SYN-ACK passed elsewhere.
        Phase::SynSent if s.flags.ack() => flow.phase = Phase::Established as u8,
        Phase::SynReceived if from_client && !s.flags.syn() && s.flags.ack() && s.ack.after(peer.isn) => {
            flow.phase = Phase::Established as u8;
            if flow.syn_at.0 != 0 {
                flow.handshake_us = now.micros_since(flow.syn_at);
                f.handshake_us = Some(flow.handshake_us);
            }
        }
        _ => {}
    }
    if s.flags.fin() {
        fin(flow, dir, now);
    }
    let [a, b] = &flow.half;
    if flow.phase == Phase::Closing as u8
        && a.fin()
        && b.fin()
        && a.ack.at_or_after(b.next)
        && b.ack.at_or_after(a.next)
    {
        flow.phase = Phase::Closed as u8;
        finish(flow, how_ended(flow), f);
    }
    if !flow.has(Flow::CONFIRMED) && is_conversation(flow, s, &me, &peer) {
        flow.bits |= Flow::CONFIRMED;
    }
    f.confirmed = flow.has(Flow::CONFIRMED);
}

/// Whether both sides speak to each other, or one speaks on: a lone SYN or a scan's packet does not.
#[inline(always)]
fn is_conversation(flow: &Flow, s: &Segment, me: &Half, peer: &Half) -> bool {
    if flow.phase < Phase::Established as u8 {
        return false;
    }
    // Half of the sequence space would pass for an acknowledgement; a window at most is one.
    let near = |d: i32| (-(RST_REACH as i32)..=0).contains(&d);
    let answers = peer.seen() && s.flags.ack() && near(s.ack.distance(peer.next));
    let goes_on = s.payload > 0 && me.bytes > s.payload as u64;
    answers || goes_on
}

#[inline(always)]
fn fin(flow: &mut Flow, dir: usize, now: Nanos) {
    let [a, b] = &mut flow.half;
    let (me, peer) = if dir == 0 { (a, b) } else { (b, a) };
    flow.closed_at = now;
    if me.fin() {
        return;
    }
    me.bits |= Half::FIN;
    if peer.fin() && peer.next.after(me.ack) {
        // Neither had the other's FIN when it sent its own (RFC 9293, 3.6, case 3): both wait.
        me.bits |= Half::CROSSED;
        peer.bits |= Half::CROSSED;
    }
    if flow.first_fin == 0 {
        flow.first_fin = dir as u8 + 1;
    }
    if flow.phase < Phase::Closing as u8 {
        flow.phase = Phase::Closing as u8;
    }
}

#[inline(always)]
fn reset(flow: &mut Flow, s: &Segment, dir: usize, now: Nanos, f: &mut Facts) {
    flow.cause = f.cause;
    let me = &flow.half[dir];
    let off = s.seq.distance(me.next).unsigned_abs();
    if me.seen() && flow.phase != Phase::SynSent as u8 && off > RST_REACH {
        return;
    }
    flow.closed_at = now;
    flow.phase = Phase::Reset as u8;
    if f.foreign {
        flow.bits |= Flow::RESET_BY_MIDDLEBOX;
    }
    let close = if matches!(f.side, Side::Client) { Close::ResetClient } else { Close::ResetServer };
    finish(flow, close, f);
}

#[inline(always)]
fn finish(flow: &mut Flow, close: Close, f: &mut Facts) {
    f.remember = true;
    if !flow.has(Flow::ENDED) {
        let end = end(flow, close);
        (f.closed, f.served, f.unanswered) = (Some(close), end.served, end.unanswered);
    }
}
