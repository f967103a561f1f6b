//! What must happen before a segment can be observed.

use crate::{close::how_ended, flow::Flow, half::Half, open::takes_over, traffic::Close, wire::Segment};

/// What must happen before a segment can be observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Go,
    /// The flow needs its scoreboard.
    Score,
    /// The segment opens a new connection: the flow's end is to be reported first.
    End(Close),
    /// It does, and the scoreboard at hand is the old connection's: only after a race with another processor.
    Raced,
}

/// Asks what must happen before `observe`; `scored` says that a scoreboard is at hand, or cannot be had.
#[inline(always)]
pub fn before(flow: &Flow, s: &Segment, dir: usize, scored: bool) -> Before {
    if !flow.has(Flow::USED) || takes_over(flow, s, dir) {
        if scored {
            return Before::Raced;
        }
        let live = flow.has(Flow::USED) && !flow.has(Flow::ENDED);
        if !live {
            return Before::Go;
        }
        return Before::End(match how_ended(flow) {
            // It did not fall silent: another one was let in on its five-tuple.
            Close::Silence => Close::Replaced,
            close => close,
        });
    }
    if !scored && wants_score(flow, s, dir) { Before::Score } else { Before::Go }
}

/// Whether something about the segment belongs on the scoreboard.
#[inline(always)]
fn wants_score(flow: &Flow, s: &Segment, dir: usize) -> bool {
    // One byte may be a probe's, of which the scoreboard keeps account.
    if flow.has(Flow::RESTLESS) || (flow.has(Flow::SCORED) && s.payload == 1) {
        return true;
    }
    let (me, peer) = (&flow.half[dir & 1], &flow.half[1 - (dir & 1)]);
    if s.sequence_len() > 0 {
        if me.seen() && s.seq != me.next {
            return true;
        }
    } else if s.seq == me.next.minus(1) || tells_of_more(me, s) {
        return true;
    }
    (s.window == 0 && s.flags.plain()) || s.options.sack_blocks > 0 || repeats_ack(me, peer, s)
}

/// A segment without sequence space whose number is beyond all that was seen: it has the next number of its sender
/// (RFC 9293, 3.10), so what lies between was sent before it.
#[inline(always)]
pub(crate) fn tells_of_more(me: &Half, s: &Segment) -> bool {
    me.seen() && s.sequence_len() == 0 && s.flags.plain() && s.flags.ack() && s.seq.after(me.next)
}

/// A duplicate ACK: no data, nothing new acknowledged, window unchanged, data outstanding (RFC 5681, 2).
#[inline(always)]
pub(crate) fn repeats_ack(me: &Half, peer: &Half, s: &Segment) -> bool {
    s.flags.ack()
        && s.flags.plain()
        && s.payload == 0
        && s.seq == me.next
        && me.repeats_ack(peer, s.ack)
        && (s.window == me.window || s.options.sack_blocks > 0)
}

#[cfg(test)]
#[path = "before_tests.rs"]
mod tests;
