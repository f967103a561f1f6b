//! One connection as one point saw it: what [`crate::locate`] and the like reason about.
//!
//! A running agent and a capture tell it alike, as both have it from the core's own state of the connection. Times are
//! the clock's of the host that saw it.

pub mod http;
pub mod join;
mod label;
pub mod legs;
pub mod second_leg;
pub mod source;

use crate::{
    aggregate::shown::Shown,
    aggregate::{
        Names,
        filter::ip,
        rows::{self, Sight, by_anomaly, measured, stored},
    },
    api::{EndPoint, Reuse},
};
use agent_ebpf::{
    anomaly::{Anomaly, Cause, Origin},
    close::served,
    flow::Flow,
    half::Half,
    label::Side,
    phase::Phase,
    time::{Nanos, Stamp},
    traffic::{Close, Served},
};
use http::Http;
use second_leg::SecondLeg;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

/// One connection as one point saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    /// The point.
    pub point: String,
    /// The service.
    pub svc: String,
    /// The side that sent the first SYN.
    pub client: EndPoint,
    /// The other side.
    pub server: EndPoint,
    /// VLAN identifiers, the outer one first.
    pub vlans: Vec<u16>,
    /// It was met mid-way: which side is the client is a guess.
    pub inferred: bool,
    /// When things happened.
    pub times: Times,
    /// How far it has come.
    #[serde(with = "label::one")]
    pub phase: Phase,
    /// How it ended; none while it is open.
    #[serde(with = "label::optional")]
    pub close: Option<Close>,
    /// What it came to; none while it is open.
    #[serde(with = "label::optional")]
    pub result: Option<Served>,
    /// The RST that ended it, or came after its end.
    pub reset: Option<Reset>,
    /// How the leg that a proxy should have opened for it stood; only of one that was reset, where both legs are seen.
    pub second_leg: Option<SecondLeg>,
    /// What the five-tuple's previous connection has to do with it.
    pub reuse: Option<Reuse>,
    /// Requests that were answered.
    pub answered: u32,
    /// The request that waits for its answer, or the last that was answered; none when the client asked nothing.
    pub request: Option<Request>,
    /// What its last request and the answer say, of a service whose HTTP is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
    /// Its client spoke TLS, by the first byte; none while it has said nothing.
    pub tls: Option<bool>,
    /// Seconds of the handshake, where it was seen.
    pub handshake_rtt_seconds: Option<f64>,
    /// Seconds from the last answered request to the first byte of its response.
    pub first_response_byte_seconds: Option<f64>,
    /// All that the client sent.
    pub from_client: Sent,
    /// All that the server sent.
    pub from_server: Sent,
}

/// When things happened: nanoseconds since 1970 by the clock of the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// First packet.
    pub opened_ns: u64,
    /// Last SYN of the client.
    pub syn_ns: Option<u64>,
    /// The SYN-ACK that answered it.
    pub syn_ack_ns: Option<u64>,
    /// The ACK that ended the handshake.
    pub established_ns: Option<u64>,
    /// The end of the last request, to the microsecond as all below; these only of a connection that is known for less than
    /// 71 minutes.
    pub request_ns: Option<u64>,
    /// The first byte of its answer.
    pub answer_ns: Option<u64>,
    /// The client's last payload or FIN.
    pub client_end_ns: Option<u64>,
    /// The server's.
    pub server_end_ns: Option<u64>,
    /// Last FIN or RST, to the nanosecond.
    pub closed_ns: Option<u64>,
    /// Last packet.
    pub last_seen_ns: u64,
}

impl Times {
    /// Moves all of them, nanoseconds.
    pub fn shift(&mut self, by: i64) {
        let Self {
            opened_ns,
            syn_ns,
            syn_ack_ns,
            established_ns,
            request_ns,
            answer_ns,
            client_end_ns,
            server_end_ns,
            closed_ns,
            last_seen_ns,
        } = self;
        let all = [
            syn_ns,
            syn_ack_ns,
            established_ns,
            request_ns,
            answer_ns,
            client_end_ns,
            server_end_ns,
            closed_ns,
        ];
        let all = all.into_iter().flatten();
        all.chain([opened_ns, last_seen_ns]).for_each(|at| *at = at.wrapping_add_signed(by));
    }
}

/// An RST.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// Why it came.
    #[serde(with = "label::one")]
    pub cause: Cause,
    /// Where it came from.
    #[serde(with = "label::one")]
    pub origin: Origin,
    /// Which side it names as its sender; none when the connection had ended before.
    #[serde(with = "label::optional")]
    pub from: Option<Side>,
}

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its payload bytes.
    pub bytes: u32,
    /// Segments that brought new bytes of it, as on the wire; 65,535 stands for any larger number.
    pub segments: u16,
    /// Nothing has answered it.
    pub pending: bool,
}

/// All that one side sent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// Segments on the wire.
    pub segments: u64,
    /// Payload bytes, repeats included.
    pub bytes: u64,
    /// Initial sequence number, where the SYN was seen.
    pub isn: Option<u32>,
    /// The sequence number after the last one.
    pub next: u32,
    /// What of the other side it has acknowledged: the number after the last byte.
    pub acked: Option<u32>,
    /// Latest TSval.
    pub ts_val: Option<u32>,
    /// TTL or hop limit at this point; none when it sent nothing.
    pub ttl: Option<u8>,
    /// Maximum segment size from the SYN.
    pub mss: Option<u16>,
    /// Smallest round trip from this point to the other end and back, in seconds.
    pub rtt_min_seconds: Option<f64>,
    /// It sent a FIN.
    pub fin: bool,
    /// Counts of its anomalies since the flow was met, by their names; only those above 0.
    pub anomalies: BTreeMap<String, u32>,
}

/// How a host's monotonic clock and its wall clock stand.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall_ns: u64,
    monotonic: Nanos,
}

impl Clock {
    /// Of two readings of one moment.
    pub fn new(wall: SystemTime, monotonic: Nanos) -> Self {
        let wall = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall_ns: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX), monotonic }
    }

    /// Of a capture, whose times are the wall clock's.
    pub fn of_capture() -> Self {
        Self { wall_ns: 0, monotonic: Nanos(0) }
    }

    fn wall(self, at: Nanos) -> u64 {
        self.wall_ns.wrapping_add(at.0.wrapping_sub(self.monotonic.0))
    }

    fn at(self, at: Nanos) -> Option<u64> {
        (at.0 != 0).then(|| self.wall(at))
    }
}

impl Connection {
    /// What is known of a connection.
    pub fn of(sight: &Sight, names: &Names, clock: Clock) -> Self {
        let flow = &sight.flow;
        let client = usize::from(flow.client & 1);
        let ends = sight.key.end_points().map(|(addr, port)| EndPoint { address: ip(addr), port });
        let close = stored(flow.close, Close::from_code);
        Self {
            point: names.point(sight.key.point()),
            svc: names.service(flow.svc),
            client: ends[client],
            server: ends[1 - client],
            vlans: rows::vlans(sight.key.vlans()),
            inferred: flow.has(Flow::JOINED_LATE),
            times: times(flow, clock),
            phase: flow.phase(),
            close,
            result: close.map(|_| served(flow)),
            reset: stored(flow.cause, Cause::from_code).map(|cause| Reset {
                cause,
                origin: if flow.has(Flow::RESET_BY_MIDDLEBOX) { Origin::Middlebox } else { Origin::Endpoint },
                from: match close {
                    Some(Close::ResetClient) => Some(Side::Client),
                    Some(Close::ResetServer) => Some(Side::Server),
                    _ => None,
                },
            }),
            second_leg: None,
            reuse: rows::reuse(flow.holder, flow.outcome, flow.gap),
            answered: flow.answered,
            request: request(flow),
            http: None,
            tls: (flow.exchanges > 0 && !flow.has(Flow::JOINED_LATE)).then(|| flow.has(Flow::TLS)),
            handshake_rtt_seconds: measured(flow.handshake_us),
            first_response_byte_seconds: measured(flow.first_byte_us),
            from_client: sent(sight, client),
            from_server: sent(sight, 1 - client),
        }
    }

    /// As it is shown to anybody.
    #[must_use]
    pub fn shown(self, shown: Shown) -> Self {
        let leg = |leg: SecondLeg| SecondLeg { server: shown.end(leg.server), ..leg };
        Self {
            client: shown.end(self.client),
            server: shown.end(self.server),
            second_leg: self.second_leg.map(leg),
            ..self
        }
    }

    /// What one side sent.
    pub fn sent(&self, side: Side) -> &Sent {
        match side {
            Side::Client => &self.from_client,
            Side::Server => &self.from_server,
        }
    }

    /// Whether it and `other` were open at the same time.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (a, b) = (&self.times, &other.times);
        a.opened_ns <= b.last_seen_ns && b.opened_ns <= a.last_seen_ns
    }

    /// The side that closed first by a FIN, and so holds TIME-WAIT (RFC 9293, 3.6); none while open, or after an RST.
    pub fn active_closer(&self) -> Option<Side> {
        match self.close? {
            Close::FinClient | Close::HalfFinClient => Some(Side::Client),
            Close::FinServer | Close::HalfFinServer => Some(Side::Server),
            _ => None,
        }
    }
}

impl Sent {
    /// How often an anomaly was counted.
    pub fn count(&self, anomaly: Anomaly) -> u64 {
        self.anomalies.get(anomaly.name()).copied().unwrap_or(0).into()
    }

    /// Segments that were sent more than once, of whatever class.
    pub fn retransmissions(&self) -> u64 {
        [Anomaly::LateFill, Anomaly::Retransmission, Anomaly::Spurious].map(|a| self.count(a)).iter().sum()
    }

    /// Payload bytes without repeats, where its beginning was seen; with them otherwise.
    pub fn payload(&self) -> u64 {
        match self.isn {
            Some(isn) => u64::from(self.next.wrapping_sub(isn).saturating_sub(1 + u32::from(self.fin))),
            None => self.bytes,
        }
    }
}

fn times(flow: &Flow, clock: Clock) -> Times {
    let after_syn =
        |us: u32| (us > 0 && flow.syn_at.0 != 0).then(|| clock.wall(flow.syn_at) + u64::from(us) * 1_000);
    let client = usize::from(flow.client & 1);
    // Moments in microseconds come round again.
    let told = flow.last_seen().since(flow.opened) < u64::from(u32::MAX) * 1_000;
    let moment = |half: &Half, at: Stamp| {
        let last = half.last_seen;
        clock.wall(Nanos((last.0 / 1_000).saturating_sub(last.stamp().since(at).into()) * 1_000))
    };
    let end = |half: &Half| (told && (half.bytes > 0 || half.fin())).then(|| moment(half, half.last_data));
    let request = (told && flow.exchanges > 0).then(|| moment(&flow.half[client], flow.request_at));
    let answered = flow.answered > 0 && !flow.has(Flow::PENDING);
    Times {
        opened_ns: clock.wall(flow.opened),
        syn_ns: clock.at(flow.syn_at),
        syn_ack_ns: after_syn(flow.synack_us),
        established_ns: after_syn(flow.handshake_us),
        request_ns: request,
        answer_ns: request.filter(|_| answered).map(|at| at + u64::from(flow.first_byte_us) * 1_000),
        client_end_ns: end(&flow.half[client]),
        server_end_ns: end(&flow.half[1 - client]),
        closed_ns: clock.at(flow.closed_at),
        last_seen_ns: clock.wall(flow.last_seen()),
    }
}

fn request(flow: &Flow) -> Option<Request> {
    let pending = flow.has(Flow::PENDING);
    let (bytes, segments) = if pending {
        (flow.request_bytes, flow.request_segments)
    } else {
        (flow.asked_bytes, flow.asked_segments)
    };
    (bytes > 0).then_some(Request { bytes, segments, pending })
}

fn sent(sight: &Sight, half: usize) -> Sent {
    let flow = &sight.flow;
    let (h, path) = (&flow.half[half], &flow.path[half]);
    let counts = by_anomaly(&sight.counts[half], flow.side(half)).into_iter().filter(|(_, n)| *n > 0);
    Sent {
        segments: h.segments,
        bytes: h.bytes,
        isn: h.has(Half::SYN).then_some(h.isn.0),
        next: h.next.0,
        acked: h.has(Half::ACKED).then_some(h.ack.0),
        ts_val: h.has(Half::TIMESTAMPS).then_some(h.ts_val),
        ttl: (h.seen() && h.ttl > 0).then_some(h.ttl),
        mss: (path.mss > 0).then_some(path.mss),
        rtt_min_seconds: measured(path.rtt_min_us),
        fin: h.fin(),
        anomalies: counts.map(|(a, n)| (a.name().to_owned(), n)).collect(),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
pub mod tests;
