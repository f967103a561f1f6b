//! Who reset a connection, and why.
//!
//! An RST ends a connection at once (RFC 9293, 3.10.7). Its cause follows from what the connection was doing:
//! the first rule of [`cause`] that fits. Its origin is a middlebox when its TTL or IPv4 identification is not what
//! the side it claims to come from has been sending.

use super::{Hit, reuse::Outcome};
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
        Timeout = "timeout": "at least three repeats of the same bytes had gone unanswered",
        Idle = "idle": "the connection had been silent for the idle limit",
        Abort = "abort": "any other RST of an established connection",
        UnknownFlow = "unknown_flow": "this point never saw the connection",
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

/// The first rule that fits.
#[inline(always)]
pub fn cause(f: &Facts) -> Cause {
    if let Some(first) = first_cause(f) {
        return first;
    }
    let from_server = matches!(f.side, Side::Server);
    let handshake = matches!(f.phase, Phase::New | Phase::SynSent);
    if f.holder.is_some() {
        let answers_syn = from_server && handshake;
        let ends_challenge = !from_server && matches!(f.outcome, Some(Outcome::Challenged));
        if answers_syn || ends_challenge {
            return Cause::TimeWait;
        }
        let accepted = matches!(f.outcome, Some(Outcome::Accepted));
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
    if !f.data_before && !matches!(f.phase, Phase::Closed | Phase::Reset) {
        return Cause::HalfOpen;
    }
    if f.repeats >= TIMEOUT_REPEATS {
        return Cause::Timeout;
    }
    if f.silence >= f.idle_limit { Cause::Idle } else { Cause::Abort }
}

/// A second RST of a connection has the first one's cause: both answer the same event.
#[inline(always)]
fn first_cause(f: &Facts) -> Option<Cause> {
    Some(match f.first_cause {
        1 => Cause::TimeWait,
        2 => Cause::AfterReuse,
        3 => Cause::Refused,
        4 => Cause::HalfOpen,
        5 => Cause::AfterFin,
        6 => Cause::Timeout,
        7 => Cause::Idle,
        8 => Cause::Abort,
        9 => Cause::UnknownFlow,
        _ => return None,
    })
}

/// Where the RST came from.
#[inline(always)]
pub fn origin(f: &Facts) -> Origin {
    if f.foreign { Origin::Middlebox } else { Origin::Endpoint }
}

/// Place of a cause and origin among the family's label combinations.
#[inline(always)]
pub const fn sub(cause: Cause, origin: Origin) -> usize {
    cause as usize * Origin::ALL.len() + origin as usize
}

/// Asks whether the segment is an RST.
#[inline(always)]
pub fn detect(f: &Facts) -> Hit {
    if !f.rst {
        return Hit::NONE;
    }
    Hit::when(true, 1, sub(cause(f), origin(f)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::anomaly::reuse::Holder;

    fn rst(side: Side, phase: Phase) -> Facts {
        Facts { rst: true, phase, data_before: true, ..Facts::blank(side, 0, 1) }
    }

    #[test]
    fn codes_of_first_causes() {
        for c in Cause::ALL {
            let f = Facts { first_cause: *c as u8 + 1, ..rst(Side::Client, Phase::Reset) };
            assert_eq!(cause(&f), *c);
        }
    }

    #[test]
    fn first_matching_rule_decides() {
        let est = |side| rst(side, Phase::Established);
        let reused = |o| Facts { holder: Some(Holder::Receiver), outcome: o, ..rst(Side::Server, Phase::SynSent) };
        assert_eq!(cause(&reused(None)), Cause::TimeWait);
        assert_eq!(cause(&Facts { side: Side::Client, ..reused(Some(Outcome::Challenged)) }), Cause::TimeWait);
        let accepted = Facts { phase: Phase::Established, ..reused(Some(Outcome::Accepted)) };
        assert_eq!(cause(&accepted), Cause::AfterReuse);
        assert_eq!(cause(&Facts { second_exchange: true, ..accepted }), Cause::Abort);
        assert_eq!(cause(&rst(Side::Server, Phase::SynSent)), Cause::Refused);
        assert_eq!(cause(&Facts { data_before: false, ..rst(Side::Client, Phase::SynReceived) }), Cause::HalfOpen);
        assert_eq!(cause(&Facts { fin_before: true, repeats: 9, ..est(Side::Client) }), Cause::AfterFin);
        assert_eq!(cause(&Facts { repeats: 3, silence: 9, idle_limit: 5, ..est(Side::Client) }), Cause::Timeout);
        assert_eq!(cause(&Facts { repeats: 2, silence: 5, idle_limit: 5, ..est(Side::Client) }), Cause::Idle);
        assert_eq!(cause(&Facts { silence: 4, idle_limit: 5, ..est(Side::Server) }), Cause::Abort);
    }
}
