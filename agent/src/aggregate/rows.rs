//! One connection as a row of the flow list.

use super::{Names, filter::ip};
use crate::api::{EndPoint, FlowRow, HalfRow, Pending, Reuse};
use agent_ebpf::{
    anomaly::{
        Anomaly, AnomalySet, Cause,
        reuse::{Holder, Outcome},
    },
    flow::{Flow, FlowKey},
    half::Half,
    label::Side,
    phase::Phase,
    scoreboard::Counts,
    time::Nanos,
    traffic::Close,
    wire::Addr,
};
use std::time::Duration;

/// A connection, and what was counted of its halves, in the key's order.
#[derive(Debug, Clone, Copy)]
pub struct Sight {
    /// Its key.
    pub key: FlowKey,
    /// Its state.
    pub flow: Flow,
    /// Its counts, zero where nothing was wrong.
    pub counts: [Counts; 2],
}

impl Sight {
    /// The client's address and port.
    pub fn client(&self) -> (Addr, u16) {
        self.key.end_points()[usize::from(self.flow.client & 1)]
    }

    /// Both initial sequence numbers, the client's first, by which a connection is known at any point; `None` unless both SYNs
    /// were seen.
    pub fn numbers(&self) -> Option<(u32, u32)> {
        let half = &self.flow.half;
        let client = usize::from(self.flow.client & 1);
        half.iter().all(|half| half.has(Half::SYN)).then(|| (half[client].isn.0, half[1 - client].isn.0))
    }

    /// What went wrong with it.
    pub fn anomalies(&self) -> AnomalySet {
        let mut set = 0;
        for (half, counts) in self.counts.iter().enumerate() {
            for (anomaly, n) in by_anomaly(counts, self.flow.side(half)) {
                set |= u32::from(n > 0) << anomaly as u32;
            }
        }
        let flow = &self.flow;
        set |= u32::from(flow.cause > 0) << Anomaly::Reset as u32;
        set |= u32::from(flow.holder > 0) << Anomaly::Reuse as u32;
        let unanswered = flow.close > 0 && flow.has(Flow::PENDING);
        set |= u32::from(unanswered) << Anomaly::UnansweredRequest as u32;
        AnomalySet(set)
    }

    /// The row at the moment `now`.
    pub fn row(&self, names: &Names, now: Nanos, stall: Duration) -> FlowRow {
        let flow = &self.flow;
        let client = usize::from(flow.client & 1);
        let ends = self.key.end_points();
        let ends = ends.map(|(addr, port)| names.shown.end(EndPoint { address: ip(addr), port }));
        FlowRow {
            point: names.point(self.key.point()),
            svc: names.service(flow.svc),
            client: ends[client],
            server: ends[1 - client],
            vlans: vlans(self.key.vlans()),
            phase: flow.phase().name().to_owned(),
            inferred: flow.has(Flow::JOINED_LATE),
            age_seconds: seconds(now.since(flow.opened)),
            idle_seconds: seconds(now.since(flow.last_seen())),
            handshake_rtt_seconds: measured(flow.handshake_us),
            first_response_byte_seconds: measured(flow.first_byte_us),
            answered_requests: flow.answered,
            pending: flow.has(Flow::PENDING).then(|| Pending {
                request_bytes: flow.request_bytes,
                waiting_seconds: seconds(now.since(flow.last_request())),
                stalled: flow.stalled(now, nanos(stall)),
            }),
            reuse: reuse(flow.holder, flow.outcome, flow.gap),
            close: stored(flow.close, Close::from_code).map(|c| c.name().to_owned()),
            reset_cause: stored(flow.cause, Cause::from_code).map(|c| c.name().to_owned()),
            anomalies: self.anomalies().iter().map(|a| a.name().to_owned()).collect(),
            from_client: self.half(client),
            from_server: self.half(1 - client),
        }
    }

    fn half(&self, index: usize) -> HalfRow {
        let (half, path) = (&self.flow.half[index], &self.flow.path[index]);
        let side = self.flow.side(index);
        let counts = by_anomaly(&self.counts[index], side).into_iter().filter(|(_, n)| *n > 0);
        HalfRow {
            segments: half.segments,
            bytes: half.bytes,
            rtt_seconds: measured(path.rtt_us),
            rtt_min_seconds: measured(path.rtt_min_us),
            anomalies: counts.map(|(a, n)| (a.name().to_owned(), n)).collect(),
        }
    }
}

/// What a half's counts are called.
pub fn by_anomaly(counts: &Counts, side: Side) -> [(Anomaly, u32); 12] {
    let syn = match side {
        Side::Client => Anomaly::SynRetransmission,
        Side::Server => Anomaly::SynAckRetransmission,
    };
    [
        (Anomaly::Retransmission, counts.retransmissions),
        (Anomaly::LateFill, counts.late_fills),
        (Anomaly::Spurious, counts.spurious),
        (Anomaly::OutOfOrder, counts.out_of_order),
        (Anomaly::Duplicate, counts.duplicates),
        (Anomaly::Unknown, counts.unknown),
        (Anomaly::Gap, counts.gaps),
        (Anomaly::DuplicateAck, counts.dup_acks),
        (Anomaly::DuplicateSack, counts.dsacks),
        (Anomaly::ZeroWindow, counts.zero_windows),
        (syn, counts.syn_retransmissions),
        (Anomaly::Keepalive, counts.keepalives),
    ]
}

/// A five-tuple's history, from codes stored plus 1.
pub fn reuse(holder: u8, outcome: u8, gap: u64) -> Option<Reuse> {
    stored(holder, Holder::from_code).map(|holder| Reuse {
        gap_seconds: (gap > 0).then(|| seconds(gap)),
        holder: holder.name().to_owned(),
        outcome: stored(outcome, Outcome::from_code).map(|o| o.name().to_owned()),
    })
}

/// A code stored plus 1, 0 for none.
pub fn stored<T>(code: u8, table: impl Fn(u8) -> Option<T>) -> Option<T> {
    code.checked_sub(1).and_then(table)
}

/// VLAN identifiers, the outer one first.
pub fn vlans(packed: u32) -> Vec<u16> {
    [packed & 0xfff, packed >> 12 & 0xfff].into_iter().filter(|id| *id > 0).map(|id| id as u16).collect()
}

/// Seconds of nanoseconds.
pub fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// Nanoseconds, as the core counts them.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Microseconds that are 0 where nothing was measured.
pub fn measured(us: u32) -> Option<f64> {
    (us > 0).then(|| f64::from(us) / 1e6)
}

/// Whether a connection is over, and how far it came, for those who count open ones.
pub fn is_open(flow: &Flow) -> bool {
    flow.close == 0 && flow.phase().ne(&Phase::New)
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_ebpf::{flow::FlowKey4, half::Half, wire::Addr};

    fn sight() -> Sight {
        let ms = |n: u64| Nanos(n * 1_000_000);
        let key = FlowKey4 {
            low: Addr::v4([192, 0, 2, 1]).0[3],
            high: Addr::v4([192, 0, 2, 9]).0[3],
            ports: 443 << 16 | 40_000,
            scope: 1 << 24 | 7 << 12 | 5,
        };
        let mut flow = Flow {
            phase: Phase::Established as u8,
            client: 1,
            bits: Flow::USED | Flow::PENDING,
            svc: 1,
            opened: ms(1_000),
            request_bytes: 800,
            handshake_us: 2_500,
            request_at: ms(5_000).stamp(),
            holder: Holder::Receiver as u8 + 1,
            gap: 300_000_000,
            ..Flow::default()
        };
        flow.half[1] =
            Half { last_seen: ms(5_000), bytes: 800, segments: 3, bits: Half::SEEN, ..Half::default() };
        let counts = [
            Counts { zero_windows: 2, ..Counts::default() },
            Counts { syn_retransmissions: 1, ..Counts::default() },
        ];
        Sight { key: FlowKey::V4(key), flow, counts }
    }

    fn names() -> Names {
        Names {
            points: vec!["a".into(), "dmz".into()],
            services: vec!["other".into(), "card".into()],
            ..Names::default()
        }
    }

    #[test]
    fn a_row_says_what_the_flow_knows() {
        let row = sight().row(&names(), Nanos(11_000_000_000), Duration::from_secs(5));
        assert_eq!(
            (row.point.as_str(), row.svc.as_str(), row.phase.as_str()),
            ("dmz", "card", "established")
        );
        assert_eq!(
            (row.client.to_string(), row.server.to_string()),
            ("192.0.2.9:40000".into(), "192.0.2.1:443".into())
        );
        assert_eq!(row.vlans, [5, 7]);
        assert_eq!((row.age_seconds, row.idle_seconds), (10.0, 6.0));
        assert_eq!(row.handshake_rtt_seconds, Some(0.0025));
        let pending = row.pending.unwrap();
        assert_eq!((pending.request_bytes, pending.waiting_seconds, pending.stalled), (800, 6.0, true));
        let reuse = row.reuse.unwrap();
        assert_eq!(
            (reuse.gap_seconds, reuse.holder.as_str(), reuse.outcome),
            (Some(0.3), "syn_receiver", None)
        );
        assert_eq!(row.anomalies, ["zero_window", "syn_retransmission", "reuse"]);
        assert_eq!(row.from_client.anomalies["syn_retransmission"], 1);
        assert_eq!(row.from_server.anomalies["zero_window"], 2);
        assert_eq!((row.close, row.reset_cause), (None, None));
    }

    #[test]
    fn a_request_pending_at_the_end_is_unanswered() {
        let mut sight = sight();
        sight.flow.close = Close::FinServer as u8 + 1;
        sight.flow.cause = Cause::AfterFin as u8 + 1;
        let set = sight.anomalies();
        assert!(set.has(Anomaly::UnansweredRequest) && set.has(Anomaly::Reset));
        let row = sight.row(&names(), Nanos(11_000_000_000), Duration::from_secs(5));
        assert_eq!(
            (row.close.as_deref(), row.reset_cause.as_deref()),
            (Some("fin_server"), Some("after_fin"))
        );
        assert!(!is_open(&sight.flow) && !row.pending.unwrap().stalled);
    }
}
