//! What was counted of one connection, in the schema's terms.

use super::{
    super::{file::Packet, labels::Labels},
    history::Previous,
    repeats::Repeats,
};
use crate::{config::Limits, source::host::Judged};
use agent_ebpf::{
    anomaly::{Cause, Holder, Origin, Outcome, reset},
    facts::Verdict,
    flow::FlowKey,
    seq::SeqNum,
    time::Nanos,
    wire::Segment,
};
use std::time::Duration;

/// RSTs of one connection that are told one by one; all are counted.
const RESETS: usize = 64;

/// One connection.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its number.
    pub number: u64,
    /// End points, VLANs.
    pub key: FlowKey,
    /// Service of its server, as the core sees it.
    pub svc: u16,
    /// Number of its first packet in the capture.
    pub first_frame: u64,
    /// When that came.
    pub first_seen: Nanos,
    /// When the last one came.
    pub last_seen: Nanos,
    /// Which half is the client's.
    pub client: usize,
    /// What tells so.
    pub client_by: ClientBy,
    /// What each half sent, in the key's order.
    pub half: [Tally; 2],
    /// How it began.
    pub handshake: Handshake,
    /// Its RSTs.
    pub resets: Vec<Reset>,
    /// The connection that had the end points before.
    pub previous: Option<Previous>,
    /// Who held TIME-WAIT when the SYN took the end points again, how the SYN was answered, and the gap, by the core.
    pub reuse: Option<(Holder, Option<Outcome>, u64)>,
    /// Bytes of the request that was unanswered when the connection ended, by the core.
    pub unanswered: u32,
    /// Last FIN or RST.
    closed_at: Option<Nanos>,
    /// Who closed first, and whether by RST.
    closer: Option<(usize, bool)>,
}

/// What tells which end is the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientBy {
    /// It sent the first packet that was seen.
    First,
    /// It was sent the SYN-ACK.
    SynAck,
    /// It sent the SYN.
    Syn,
}

/// What one half sent.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)] // each is the schema's field of its name
pub struct Tally {
    pub packets: u64,
    pub bytes: u64,
    pub data_packets: u64,
    pub retransmissions: u64,
    pub fast_retransmissions: u64,
    pub spurious_retransmissions: u64,
    pub late_fills: u64,
    pub out_of_order: u64,
    pub net_duplicates: u64,
    pub unknown: u64,
    pub lost_segments: u64,
    pub dup_acks: u64,
    pub zero_windows: u64,
    pub zero_window_probes: u64,
    pub keep_alives: u64,
    pub rst: u64,
    pub fin: u64,
    pub syn: u64,
    pub synack: u64,
    pub syn_retransmissions: u64,
    isn: Option<SeqNum>,
    repeats: Repeats,
}

/// An RST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// Number of its packet.
    pub frame: u64,
    /// Which half sent it.
    pub half: usize,
    /// In what state of the connection, in the schema's words.
    pub why: &'static str,
    /// Why, by the core.
    pub cause: Option<Cause>,
    /// From where, by the core.
    pub origin: Origin,
}

/// When a connection began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshake {
    /// The last SYN before the ACK.
    pub last_syn: Option<Nanos>,
    /// The last SYN before a SYN-ACK.
    pub syn: Option<Nanos>,
    /// The last SYN-ACK that answered it.
    pub syn_ack: Option<Nanos>,
    /// The ACK that ended the handshake.
    pub ack: Option<Nanos>,
}

impl Account {
    pub(super) fn new(
        number: u64,
        packet: &Packet<'_>,
        judged: &Judged<'_>,
        previous: Option<Previous>,
    ) -> Self {
        Self {
            number,
            key: *judged.key,
            svc: judged.facts.svc,
            first_frame: packet.number,
            first_seen: packet.at,
            last_seen: packet.at,
            client: judged.half,
            client_by: ClientBy::First,
            half: Default::default(),
            handshake: Handshake::default(),
            resets: Vec::new(),
            previous,
            reuse: None,
            unanswered: 0,
            closed_at: None,
            closer: None,
        }
    }

    /// Whether the segment begins another connection: a SYN with another initial number than its half's.
    pub(super) fn is_left_by(&self, judged: &Judged<'_>) -> bool {
        let flags = judged.segment.flags;
        let me = &self.half[judged.half];
        flags.syn() && !flags.ack() && !flags.rst() && me.packets > 0 && me.isn != Some(judged.segment.seq)
    }

    /// A SYN sent again with its number. The core may have given it up in between, when the one before was challenged
    /// and the challenge reset (RFC 9293, 3.10.7.4), and take it for a new one; this connection is still the same.
    pub(super) fn is_repeated_by(&self, judged: &Judged<'_>) -> bool {
        let (s, me) = (judged.segment, &self.half[judged.half]);
        s.flags.syn() && me.isn == Some(s.seq) && judged.facts.verdict == Verdict::InOrder
    }

    pub(super) fn enter(&mut self, packet: &Packet<'_>, judged: &Judged<'_>, labels: Labels) {
        let (s, f, half) = (judged.segment, judged.facts, judged.half);
        self.last_seen = self.last_seen.max(packet.at);
        self.shake_hands(s, half, packet.at);
        if s.flags.rst() {
            self.reset(packet, judged);
        }
        if let Some(holder) = f.holder {
            self.reuse = Some((holder, f.outcome, f.gap));
        }
        self.unanswered = self.unanswered.max(f.unanswered);
        let peer = &mut self.half[1 - half];
        peer.spurious_retransmissions += peer.repeats.answered(s, f.dsack);
        let me = &mut self.half[half];
        if f.verdict == Verdict::OutOfOrder && f.new == 0 {
            me.spurious_retransmissions += me.repeats.overtook(s);
        }
        me.count(s, f.verdict, labels);
        if s.flags.fin() || s.flags.rst() {
            self.closed_at = Some(packet.at);
            self.closer.get_or_insert((half, s.flags.rst()));
        }
    }

    fn shake_hands(&mut self, s: &Segment, half: usize, at: Nanos) {
        let (syn, ack) = (s.flags.syn(), s.flags.ack());
        let by = match (syn, ack) {
            (true, false) => ClientBy::Syn,
            (true, true) => ClientBy::SynAck,
            _ => ClientBy::First,
        };
        if by > self.client_by {
            self.client = if syn && ack { 1 - half } else { half };
            self.client_by = by;
        }
        let h = &mut self.handshake;
        let from_client = half == self.client;
        if syn && !ack && from_client && h.ack.is_none() {
            h.last_syn = Some(at);
        }
        match (syn, ack) {
            (true, false) if from_client && h.syn_ack.is_none() => h.syn = Some(at),
            (true, true) if !from_client && h.syn.is_some() && h.ack.is_none() => h.syn_ack = Some(at),
            (false, true) if from_client && !s.flags.rst() && h.syn_ack.is_some() && h.ack.is_none() => {
                h.ack = Some(at);
            }
            _ => {}
        }
    }

    fn reset(&mut self, packet: &Packet<'_>, judged: &Judged<'_>) {
        if self.resets.len() == RESETS {
            return;
        }
        let (me, peer) = (&self.half[judged.half], &self.half[1 - judged.half]);
        let h = &self.handshake;
        let why = if peer.syn > 0 && peer.synack == 0 && me.synack == 0 && me.packets == me.rst {
            "refused"
        } else if h.syn.is_some() && h.ack.is_none() {
            "handshake"
        } else if me.fin > 0 && peer.fin > 0 {
            "after_close"
        } else if me.fin > 0 || peer.fin > 0 {
            "after_fin"
        } else if h.ack.is_some() {
            "established"
        } else {
            "midstream"
        };
        self.resets.push(Reset {
            frame: packet.number,
            half: judged.half,
            why,
            cause: judged.facts.cause.checked_sub(1).and_then(Cause::from_code),
            origin: reset::origin(judged.facts),
        });
    }

    /// How it closed, in the schema's words.
    pub fn close(&self) -> &'static str {
        let both = self.half.iter().all(|half| half.fin > 0);
        match self.closer {
            None => "none",
            Some((half, rst)) => match (rst, both, half == self.client) {
                (true, _, true) => "rst_client",
                (true, _, false) => "rst_server",
                (false, true, true) => "fin_client",
                (false, true, false) => "fin_server",
                (false, false, true) => "half_fin_client",
                (false, false, false) => "half_fin_server",
            },
        }
    }

    /// Whether the client sent data, the server none, and the connection closed.
    pub fn is_unanswered(&self) -> bool {
        let [client, server] = self.sides();
        client.bytes > 0 && server.bytes == 0 && self.closer.is_some()
    }

    /// Client's and server's half.
    pub fn sides(&self) -> [&Tally; 2] {
        [&self.half[self.client], &self.half[1 - self.client]]
    }

    /// What the connection after this one on the same end points is to know.
    pub(super) fn previous_to_come(&self) -> Previous {
        Previous { closed_at: self.closed_at, last_seen: self.last_seen, close: self.close() }
    }

    /// The silence after which nothing more is to be expected, as long as the host's tables wait.
    pub(super) fn patience(&self, limits: &Limits) -> Duration {
        if self.closer.is_none() && self.half.iter().all(|half| half.packets > 0) {
            limits.flow_idle_timeout
        } else {
            limits.handshake_timeout.max(limits.time_wait)
        }
    }
}

impl Tally {
    fn count(&mut self, s: &Segment, verdict: Verdict, labels: Labels) {
        let n = |label: Labels| u64::from(labels.has(label));
        self.packets += 1;
        self.bytes += u64::from(s.payload);
        self.data_packets += u64::from(s.payload > 0);
        self.retransmissions += n(Labels::RETRANSMISSION);
        self.fast_retransmissions += n(Labels::FAST_RETRANSMISSION);
        self.spurious_retransmissions += n(Labels::SPURIOUS_RETRANSMISSION);
        self.late_fills += u64::from(verdict == Verdict::LateFill);
        self.out_of_order += n(Labels::OUT_OF_ORDER);
        self.net_duplicates += n(Labels::NET_DUPLICATE);
        self.unknown += u64::from(verdict == Verdict::Unknown);
        self.lost_segments += n(Labels::LOST_SEGMENT);
        self.dup_acks += n(Labels::DUPLICATE_ACK);
        self.zero_windows += n(Labels::ZERO_WINDOW);
        self.zero_window_probes += n(Labels::ZERO_WINDOW_PROBE);
        self.keep_alives += n(Labels::KEEP_ALIVE);
        self.rst += n(Labels::RST);
        self.fin += u64::from(s.flags.fin());
        self.syn += u64::from(s.flags.syn() && !s.flags.ack());
        self.synack += u64::from(s.flags.syn() && s.flags.ack());
        self.syn_retransmissions += n(Labels::SYN_RETRANSMISSION);
        if s.flags.syn() {
            self.isn = Some(s.seq);
        }
        if labels.has(Labels::RETRANSMISSION) && !labels.has(Labels::SPURIOUS_RETRANSMISSION) {
            self.repeats.note(s);
        }
    }
}
