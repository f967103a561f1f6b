//! How a connection begins: new, met mid-way, or on a five-tuple that an earlier one had.

use crate::{
    anomaly::reuse::{Holder, Outcome},
    facts::{Evidence, Facts, RetransKind, Verdict},
    flow::{Closed, Flow},
    half::Half,
    layout::SERVICE_TEXT,
    phase::Phase,
    seq::SeqNum,
    sighting::Sighting,
    time::Nanos,
    traffic::Opened,
    wire::Segment,
};

/// Whether the segment begins a new connection on a five-tuple that `flow` still has.
#[inline(always)]
pub fn takes_over(flow: &Flow, s: &Segment, dir: usize) -> bool {
    if !s.flags.syn() || s.flags.rst() {
        return false;
    }
    if s.flags.ack() {
        return contender_dir(flow) == Some(1 - (dir & 1)) && s.ack == flow.contender.plus(1);
    }
    let me = &flow.half[dir & 1];
    let other_number = !me.has(Half::SYN) || me.isn != s.seq;
    // A SYN of the other side while none was answered is a simultaneous open (RFC 9293, 3.5), not another attempt.
    let unanswered = flow.phase == Phase::SynSent as u8 && me.has(Half::SYN);
    other_number && (flow.closed() || unanswered)
}

/// The half whose SYN contends for the five-tuple of an open connection.
#[inline(always)]
fn contender_dir(flow: &Flow) -> Option<usize> {
    if flow.has(Flow::CONTENDED) { Some(flow.has(Flow::CONTENDER_HIGH) as usize) } else { None }
}

/// Makes a blank flow this segment's.
#[inline(always)]
pub fn open(flow: &mut Flow, s: &Segment, at: &Sighting) -> Opened {
    let by_syn = s.flags.syn();
    flow.client = client_of(s, at) as u8;
    flow.bits = Flow::USED | if by_syn { 0 } else { Flow::JOINED_LATE };
    flow.tag = at.tag;
    serve(flow, service_of(flow.client, at));
    flow.opened = at.now;
    if by_syn && !s.flags.ack() {
        flow.phase = Phase::SynSent as u8;
        flow.syn_at = at.now;
        if let Some(prior) = &at.prior {
            reuse(flow, prior, s.seq, at);
        }
    } else {
        flow.phase = if by_syn { Phase::SynReceived } else { Phase::Established } as u8;
    }
    if by_syn { Opened::Syn } else { Opened::JoinedLate }
}

/// Which half is the client's, by a segment without a flow: the sender of a SYN, the receiver of a SYN-ACK. Mid-way the
/// end that is a configured service serves; failing that the one with the lower port, as servers' ports lie below the
/// ephemeral range (RFC 6335, 6).
#[inline(always)]
pub fn client_of(s: &Segment, at: &Sighting) -> usize {
    let dir = at.dir & 1;
    if s.flags.syn() {
        return dir ^ s.flags.ack() as usize;
    }
    match (at.services[0] != 0, at.services[1] != 0) {
        (true, false) => return 1,
        (false, true) => return 0,
        _ => {}
    }
    if s.sport < s.dport { 1 - dir } else { dir }
}

/// Makes it a flow of a service.
#[inline(always)]
fn serve(flow: &mut Flow, service: u16) {
    flow.svc = service & !SERVICE_TEXT;
    if service & SERVICE_TEXT != 0 {
        flow.bits |= Flow::TEXT;
    }
}

/// The service of the other half than the client's, with [`SERVICE_TEXT`].
#[inline(always)]
pub fn service_of(client: u8, at: &Sighting) -> u16 {
    // Chosen by a branch: before Linux 6.8 the verifier loses the bounds of an index that was made by XOR.
    if core::hint::black_box(client) == 0 { at.services[1] } else { at.services[0] }
}

/// Notes whose TIME-WAIT a SYN met, when the previous connection closed less than the window ago.
#[inline(always)]
fn reuse(flow: &mut Flow, prior: &Closed, isn: SeqNum, at: &Sighting) {
    let dir = at.dir & 1;
    let gap = at.now.since(prior.at);
    // The old connection's own SYN, late: no reuse.
    let old_isn = if dir == 0 { prior.isn[0] } else { prior.isn[1] };
    if gap > at.settings.time_wait || old_isn == isn {
        return;
    }
    let holder = match prior.holder {
        0 => Holder::Nobody,
        Closed::BOTH => Holder::Both,
        h if (h - 1) as usize == dir => Holder::Sender,
        _ => Holder::Receiver,
    };
    flow.holder = holder as u8 + 1;
    // 0 means "not measured".
    flow.gap = if gap == 0 { 1 } else { gap };
    flow.prior_next = prior.next;
}

/// Makes the flow the new connection's that `takes_over` found; the old one's end was reported before. A SYN that had
/// contended for the five-tuple, and comes again now that the old connection was reset, is judged as the repeat it is.
#[inline(always)]
pub fn take_over(flow: &mut Flow, s: &Segment, at: &Sighting, f: &mut Facts) {
    let (was_open, prior) = (!flow.closed(), Closed::of(flow));
    let confirmed = flow.bits & Flow::CONFIRMED;
    if s.flags.ack() {
        // The contender's SYN passed earlier: open with it, then observe the SYN-ACK.
        let client = flow.has(Flow::CONTENDER_HIGH) as usize;
        let (isn, syn_at, was) = (flow.contender, flow.syn_at, flow.half[client]);
        flow.wipe(at.tag);
        flow.client = client as u8;
        flow.bits = Flow::USED;
        serve(flow, at.services[1 - client]);
        (flow.opened, flow.syn_at) = (syn_at, syn_at);
        flow.phase = Phase::SynSent as u8;
        let half = &mut flow.half[client];
        (half.isn, half.next, half.last_seen, half.ttl) = (isn, isn.plus(1), syn_at, was.ttl);
        half.bits = Half::SEEN | Half::SYN | was.bits & Half::OUT;
    } else {
        let again = contender_dir(flow) == Some(at.dir & 1) && flow.contender == s.seq;
        let (holder, outcome) = (flow.holder, flow.outcome);
        flow.wipe(at.tag);
        open(flow, s, at);
        if again {
            (flow.holder, flow.outcome) = (holder, outcome);
            let came = matches!(outcome_of(flow), Some(Outcome::Challenged));
            flow.bits |= if came { Flow::CHALLENGED } else { 0 };
            f.verdict = if came { Verdict::Spurious } else { Verdict::Retransmission };
            f.evidence = if came { Evidence::Ack } else { Evidence::Sequence };
            f.kind = RetransKind::Syn;
        } else if !was_open {
            reuse(flow, &prior, s.seq, at);
        }
    }
    // It stands among the confirmed ones already.
    flow.bits |= confirmed;
    if was_open {
        flow.holder = Holder::Open as u8 + 1;
        flow.prior_next = prior.next;
    }
}

/// Whether a reused five-tuple's SYN is answered with this segment, and how.
#[inline(always)]
pub fn answer(flow: &mut Flow, s: &Segment, dir: usize, f: &mut Facts) {
    let (sender, isn) = match contender_dir(flow) {
        Some(d) => (d, flow.contender),
        None if flow.phase == Phase::SynSent as u8 => {
            let client = (flow.client & 1) as usize;
            (client, flow.half[client].isn)
        }
        None => return,
    };
    let outcome = if dir == sender {
        if f.opened.is_none() && s.flags.syn() && !s.flags.ack() && s.seq == isn {
            Outcome::Ignored
        } else {
            return;
        }
    } else if s.flags.rst() {
        // An RST that answers the SYN acknowledges it; the old connection's own would not (RFC 9293, 3.10.7).
        if s.flags.ack() && s.ack != isn.plus(1) {
            return;
        }
        Outcome::Refused
    } else if s.flags.ack() && s.ack == isn.plus(1) {
        Outcome::Accepted
    } else if s.flags.syn() || s.payload > 0 {
        return;
    } else {
        Outcome::Challenged
    };
    flow.outcome = outcome as u8 + 1;
    f.outcome = Some(outcome);
    f.decided = true;
}

/// Segments that belong to a SYN which has not become a connection, and must not touch one that is open: a SYN
/// against an open connection, its repeats, the challenge, the refusal. True when nothing more is to be observed.
#[inline(always)]
pub fn contends(flow: &mut Flow, s: &Segment, dir: usize, now: Nanos, f: &mut Facts) -> bool {
    if f.opened.is_some() {
        return false;
    }
    if flow.phase == Phase::SynSent as u8 && !flow.has(Flow::CONTENDED) {
        let old = answers_old(flow, s, dir);
        if old && dir != flow.client as usize && s.flags.plain() && s.payload == 0 {
            flow.bits |= Flow::CHALLENGED;
        }
        return old;
    }
    if s.flags.syn() && !s.flags.ack() && !s.flags.rst() {
        return contend(flow, s, dir, now, f);
    }
    let Some(sender) = contender_dir(flow) else {
        return false;
    };
    if f.decided && dir != sender {
        if s.flags.rst() {
            // The cause rule asks for the phase of the connection that is reset: the one that never was.
            f.phase = Phase::SynSent as u8;
            flow.bits &= !Flow::CONTENDED;
        }
        return true;
    }
    if dir == sender && s.flags.plain() && s.payload > 0 {
        // The old connection lives on.
        flow.bits &= !Flow::CONTENDED;
        (flow.holder, flow.outcome) = (0, 0);
        (f.holder, f.outcome) = (None, None);
    }
    false
}

/// A SYN with a number of its own while the connection is open.
#[inline(always)]
fn contend(flow: &mut Flow, s: &Segment, dir: usize, now: Nanos, f: &mut Facts) -> bool {
    let (me, peer) = (&flow.half[dir], &flow.half[1 - dir]);
    if me.has(Half::SYN) && me.isn == s.seq {
        return false;
    }
    if !me.has(Half::SYN) && peer.has(Half::SYN) && peer.has(Half::ACKED) && peer.ack == s.seq.plus(1) {
        // The SYN that the SYN-ACK before it answers.
        return false;
    }
    if contender_dir(flow) == Some(dir) && flow.contender == s.seq {
        let came = matches!(outcome_of(flow), Some(Outcome::Challenged));
        f.verdict = if came { Verdict::Spurious } else { Verdict::Retransmission };
        f.kind = RetransKind::Syn;
        flow.syn_at = now;
        return true;
    }
    flow.contender = s.seq;
    flow.syn_at = now;
    flow.bits = flow.bits & !Flow::CONTENDER_HIGH | Flow::CONTENDED;
    if dir == 1 {
        flow.bits |= Flow::CONTENDER_HIGH;
    }
    (flow.holder, flow.outcome) = (Holder::Open as u8 + 1, 0);
    (f.holder, f.outcome) = (Some(Holder::Open), None);
    f.verdict = Verdict::InOrder;
    true
}

/// While a SYN waits for its answer: what answers the connection before it, or the challenge that came of it.
#[inline(always)]
fn answers_old(flow: &Flow, s: &Segment, dir: usize) -> bool {
    let client = (flow.client & 1) as usize;
    let isn = flow.half[client].isn;
    if s.flags.syn() {
        // A SYN-ACK of something else; without ACK it is a repeat, or a simultaneous open (RFC 9293, 3.5).
        return dir != client && s.flags.ack() && s.ack != isn.plus(1);
    }
    if dir != client {
        // A refusal counts whatever it acknowledges: some devices do not bother.
        let answers = s.flags.ack() && s.ack == isn.plus(1);
        return !(s.flags.rst() || answers);
    }
    // The client's RST to a challenge has the number the challenge asked for (RFC 9293, 3.10.7.3), and leaves its SYN be.
    s.flags.rst() && s.seq != isn.plus(1) && s.seq != isn
}

/// Who held the TIME-WAIT this flow's SYN met.
#[inline(always)]
pub fn holder_of(flow: &Flow) -> Option<Holder> {
    Some(match flow.holder {
        1 => Holder::Sender,
        2 => Holder::Receiver,
        3 => Holder::Both,
        4 => Holder::Nobody,
        5 => Holder::Open,
        _ => return None,
    })
}

/// How this flow's reuse was answered, once it was.
#[inline(always)]
pub fn outcome_of(flow: &Flow) -> Option<Outcome> {
    Some(match flow.outcome {
        1 => Outcome::Accepted,
        2 => Outcome::Challenged,
        3 => Outcome::Refused,
        4 => Outcome::Ignored,
        _ => return None,
    })
}
