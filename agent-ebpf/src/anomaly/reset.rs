//! Who reset a connection, and why.
//!
//! An RST ends a connection at once (RFC 9293, 3.10.7). Its cause follows from what the connection was doing:
//! the first rule of [`cause`] that fits. Its origin is a middlebox when its TTL or IPv4 identification is not what
//! the side it claims to come from has been sending.

use super::{
    Hit,
    reuse::{Holder, Outcome},
};
use crate::{
    facts::Facts,
    label::{Side, labels},
    phase::Phase,
};

labels! {
    /// Why a connection was reset.
    Cause("cause") {
        TimeWait = "time_wait": "a reused five-tuple met the old connection's TIME-WAIT: the RST answers its SYN or ends a challenge ACK",
        AfterReuse = "after_reuse": "a reused five-tuple was accepted and reset within its first exchange: likely the other leg's TIME-WAIT",
        Refused = "refused": "the RST answers a SYN: nobody listens, or a firewall rejects",
        HalfOpen = "half_open": "before any data: health checks and scanners end like this",
        AfterFin = "after_fin": "after a FIN: fast recycling, or data after the close",
        Timeout = "timeout": "at least three repeats of the same bytes, or keepalives, had gone unanswered",
        Idle = "idle": "the connection had been silent for the idle limit",
        Abort = "abort": "any other RST of an established connection",
        UnknownFlow = "unknown_flow": "this point never saw the connection, or only the one packet that was refused",
    }
}

labels! {
    /// Where an RST came from.
    Origin("origin") {
        Endpoint = "endpoint": "nothing speaks against the side it names as its sender",
        Middlebox = "middlebox": "its TTL or IPv4 identification is not what that side has been sending",
    }
}

/// Unanswered repeats of the same bytes that make a `timeout`.
pub const TIMEOUT_REPEATS: u8 = 3;

/// The code of the first rule that fits; a second RST of a connection has the first one's cause, as both answer the
/// same event.
#[inline(always)]
pub fn cause(f: &Facts) -> u8 {
    if f.cause != 0 { f.cause } else { rule(f) as u8 + 1 }
}

#[inline(always)]
fn rule(f: &Facts) -> Cause {
    let from_server = matches!(f.side, Side::Server);
    let handshake = f.phase <= Phase::SynSent as u8;
    if let Some(holder) = f.holder {
        // Against an open connection the phase is the old one's; a reuse of a closed one has its own.
        let waits = handshake || matches!(holder, Holder::Open);
        // Where the old connection was reset nobody waits: the SYN is refused like any other.
        let answers_syn = from_server && handshake && !matches!(holder, Holder::Nobody);
        let ends_challenge = !from_server && waits && matches!(f.outcome, Some(Outcome::Challenged));
        if answers_syn || ends_challenge {
            return Cause::TimeWait;
        }
        // Also when the SYN was challenged or ignored first, and accepted when it was repeated.
        let accepted = matches!(f.outcome, Some(Outcome::Accepted)) || !waits;
        if accepted && !f.second_exchange && !f.fin_before {
            return Cause::AfterReuse;
        }
    }
    if handshake && from_server {
        return Cause::Refused;
    }
    if f.fin_before {
        return Cause::AfterFin;
    }
    if !f.data_before && f.phase < Phase::Closed as u8 {
        if f.begun {
            return Cause::HalfOpen;
        }
        // The answer to a packet of a connection that its receiver does not know either (RFC 9293, 3.10.7.1).
        if !f.met {
            return Cause::UnknownFlow;
        }
    }
    if f.repeats >= TIMEOUT_REPEATS {
        return Cause::Timeout;
    }
    if f.silence >= f.idle_limit { Cause::Idle } else { Cause::Abort }
}

/// Where the RST came from.
#[inline(always)]
pub fn origin(f: &Facts) -> Origin {
    if f.foreign { Origin::Middlebox } else { Origin::Endpoint }
}

/// Place of a cause and origin among the family's label combinations.
#[inline(always)]
pub const fn sub(cause: u8, origin: Origin) -> usize {
    cause as usize * Origin::ALL.len() + origin as usize
}

/// Asks whether the segment is an RST.
#[inline(always)]
pub fn detect(f: &Facts) -> Hit {
    if !f.rst {
        return Hit::NONE;
    }
    Hit::when(true, 1, sub(f.cause.saturating_sub(1), origin(f)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rst(side: Side, phase: Phase) -> Facts {
        Facts { rst: true, phase: phase as u8, begun: true, met: true, data_before: true, ..Facts::blank(side, 0, 1) }
    }

    #[test]
    fn a_later_rst_shares_the_cause() {
        for c in Cause::ALL {
            let f = Facts { cause: *c as u8 + 1, ..rst(Side::Client, Phase::Reset) };
            assert_eq!(cause(&f), *c as u8 + 1);
        }
    }

    #[test]
    fn first_matching_rule_decides() {
        let est = |side| rst(side, Phase::Established);
        let reused = |o| Facts { holder: Some(Holder::Receiver), outcome: o, ..rst(Side::Server, Phase::SynSent) };
        assert_eq!(rule(&reused(None)), Cause::TimeWait);
        assert_eq!(rule(&Facts { holder: Some(Holder::Nobody), ..reused(Some(Outcome::Refused)) }), Cause::Refused);
        assert_eq!(rule(&Facts { side: Side::Client, ..reused(Some(Outcome::Challenged)) }), Cause::TimeWait);
        let accepted = Facts { phase: Phase::Established as u8, ..reused(Some(Outcome::Accepted)) };
        assert_eq!(rule(&accepted), Cause::AfterReuse);
        assert_eq!(rule(&Facts { second_exchange: true, ..accepted }), Cause::Abort);
        let late = |side, o| Facts { side, outcome: Some(o), ..accepted };
        assert_eq!(rule(&late(Side::Server, Outcome::Ignored)), Cause::AfterReuse);
        let challenged = late(Side::Client, Outcome::Challenged);
        assert_eq!(rule(&challenged), Cause::AfterReuse);
        assert_eq!(rule(&Facts { second_exchange: true, ..challenged }), Cause::Abort);
        assert_eq!(rule(&Facts { holder: Some(Holder::Open), ..challenged }), Cause::TimeWait);
        assert_eq!(rule(&rst(Side::Server, Phase::SynSent)), Cause::Refused);
        assert_eq!(rule(&Facts { data_before: false, ..rst(Side::Client, Phase::SynReceived) }), Cause::HalfOpen);
        let late = Facts { data_before: false, begun: false, ..est(Side::Server) };
        assert_eq!(rule(&Facts { met: false, ..late }), Cause::UnknownFlow);
        assert_eq!(rule(&late), Cause::Abort, "idle when it was met, and none of the handshake seen");
        assert_eq!(rule(&Facts { fin_before: true, repeats: 9, ..est(Side::Client) }), Cause::AfterFin);
        assert_eq!(rule(&Facts { repeats: 3, silence: 9, idle_limit: 5, ..est(Side::Client) }), Cause::Timeout);
        assert_eq!(rule(&Facts { repeats: 2, silence: 5, idle_limit: 5, ..est(Side::Client) }), Cause::Idle);
        assert_eq!(rule(&Facts { silence: 4, idle_limit: 5, ..est(Side::Server) }), Cause::Abort);
    }
}
