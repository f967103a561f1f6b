//! What one segment did to its flow: computed once, in [`crate::observe`], and judged by the anomaly table.

use crate::{
    anomaly::reuse::{Holder, Outcome},
    half::IdOrder,
    label::{Side, labels},
    phase::Phase,
    seq::SeqNum,
    traffic::{Close, Opened, Served},
};

labels! {
    /// How a segment stands to the sequence space its half has used (docs of the design's table of verdicts).
    Verdict("verdict") {
        None = "none": "carries no sequence space",
        InOrder = "in_order": "begins where the half had ended",
        Gap = "gap": "begins later: opens a hole",
        Keepalive = "keepalive": "at most one byte just before the end",
        ZeroWindowProbe = "zero_window_probe": "at most one byte against a closed window",
        OutOfOrder = "out_of_order": "fills a hole and was sent before the segment that opened it",
        LateFill = "late_fill": "fills a hole and was sent again: lost before this point",
        Retransmission = "retransmission": "repeats bytes seen here and not acknowledged: lost after this point",
        Spurious = "spurious": "repeats bytes the other side has acknowledged",
        Duplicate = "duplicate": "the very same packet again",
        Unknown = "unknown": "below the end, and nothing decides what it is",
    }
}

labels! {
    /// What decided between sent before, sent again and copied.
    Evidence("evidence") {
        None = "none": "nothing had to decide",
        IpId = "ip_id": "the sender's IPv4 identifications, seen to grow",
        Timestamp = "timestamp": "TSval (RFC 7323)",
        DuplicateAck = "duplicate_ack": "duplicate ACKs of the other side",
        Sack = "sack": "SACK blocks of the other side (RFC 2018)",
        Ack = "ack": "an acknowledgement of the other side",
        Time = "time": "the time since the hole opened, against the round trip",
        Sequence = "sequence": "the sequence numbers alone",
    }
}

labels! {
    /// Why a sender sent again.
    RetransKind("kind") {
        Fast = "fast": "three duplicate ACKs or SACK had told it (RFC 5681, 3.2; RFC 6675)",
        Timeout = "timeout": "a retransmission timeout had passed in silence (RFC 6298)",
        Probe = "probe": "tail loss probe: the highest segment, no duplicate ACKs (RFC 8985, 7)",
        Syn = "syn": "a SYN or SYN-ACK",
        Unknown = "unknown": "nothing tells",
    }
}

/// What one segment did, and the state of the flow that the rules ask about *before* it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Who sent it.
    pub side: Side,
    /// The flow's service.
    pub svc: u16,
    /// Sequence verdict.
    pub verdict: Verdict,
    /// What decided it.
    pub evidence: Evidence,
    /// For repeats and late fills: why it was sent again.
    pub kind: RetransKind,
    /// Wire segments that the verdict holds for.
    pub segments: u32,
    /// The segment is a SYN or SYN-ACK.
    pub syn: bool,
    /// The segment is a SYN-ACK.
    pub syn_ack: bool,
    /// Repeats the last acknowledgement while data is outstanding (RFC 5681, 2).
    pub dup_ack: bool,
    /// Reports bytes received twice (RFC 2883).
    pub dsack: bool,
    /// Closes the window.
    pub zero_window: bool,
    /// The segment is an RST.
    pub rst: bool,
    /// The RST's TTL or IPv4 identification is not what this side has been sending.
    pub foreign: bool,
    /// An RST's [`crate::anomaly::Cause`] code plus 1; of the flow's earlier RST until [`crate::anomaly::reset::cause`]
    /// was asked, since a later one shares it.
    pub cause: u8,
    /// [`crate::phase::Phase`] code before the segment.
    pub phase: u8,
    /// Sequence space that this point had not seen before.
    pub new: u32,
    /// The segment begins below the half's end.
    pub below: bool,
    /// Where that part of it ends.
    pub known_end: SeqNum,
    /// The segment moved its half, or what it acknowledges, on: it was sent after all that came before it.
    pub front: bool,
    /// Where its IPv4 identification stands, where it has one.
    pub order: Option<IdOrder>,
    /// A FIN of either side had passed before.
    pub fin_before: bool,
    /// Payload of either side had passed before.
    pub data_before: bool,
    /// The client had begun a second exchange before.
    pub second_exchange: bool,
    /// The connection was seen from its handshake on.
    pub begun: bool,
    /// Its sender was seen before.
    pub met: bool,
    /// Highest number of unanswered repeats of the same bytes before, of either half.
    pub repeats: u8,
    /// Nanoseconds since the flow's last packet; 0 for its first.
    pub silence: u64,
    /// The configured idle limit, nanoseconds.
    pub idle_limit: u64,
    /// Who held the previous connection's TIME-WAIT; `None` when the five-tuple was not reused.
    pub holder: Option<Holder>,
    /// How the reuse went, when it is known by now.
    pub outcome: Option<Outcome>,
    /// This segment decided `outcome`.
    pub decided: bool,
    /// From the previous connection's close to the reusing SYN, nanoseconds; 0 unless reused after a close.
    pub gap: u64,
    /// This segment is the reusing SYN, and the gap is known.
    pub gap_measured: bool,
    /// The flow was met with this segment.
    pub opened: Option<Opened>,
    /// The handshake ended with this segment; microseconds since the last SYN.
    pub handshake_us: Option<u32>,
    /// The server answered with this segment; microseconds since the request's end.
    pub first_byte_us: Option<u32>,
    /// The flow ended with this segment.
    pub closed: Option<Close>,
    /// The five-tuple is to be remembered as closed (now, or with a newer time).
    pub remember: bool,
    /// It is its side's turn to begin: a request, or the answer to one.
    pub turn: bool,
    /// A request or an answer begins with it.
    pub begins: bool,
    /// The same, and its service's texts are asked for.
    pub text: bool,
    /// What it came to for the client, if it ended.
    pub served: Served,
    /// The flow ended with a request unanswered; its bytes.
    pub unanswered: u32,
    /// Duplicate ACKs of the other side in a row, evidence for the record.
    pub dup_acks: u8,
    /// Microseconds since the hole opened, evidence for the record.
    pub hole_age_us: u32,
    /// `next` of the half before the segment, evidence for the record.
    pub expected: SeqNum,
    /// Highest acknowledgement of the other side before the segment, evidence for the record.
    pub acked: SeqNum,
    /// The flow may leave the half-open table.
    pub confirmed: bool,
    /// More holes than slots: the oldest was dropped.
    pub hole_dropped: bool,
    /// Counted, but not judged: seen a second time on its way out of the same interface.
    pub hairpin: bool,
}

impl Facts {
    /// Facts of a segment that nothing is known about.
    #[inline(always)]
    pub const fn blank(side: Side, svc: u16, segments: u32) -> Self {
        Self {
            side,
            svc,
            verdict: Verdict::None,
            evidence: Evidence::None,
            kind: RetransKind::Unknown,
            segments,
            syn: false,
            syn_ack: false,
            dup_ack: false,
            dsack: false,
            zero_window: false,
            rst: false,
            foreign: false,
            cause: 0,
            phase: Phase::New as u8,
            new: 0,
            below: false,
            known_end: SeqNum(0),
            front: false,
            order: None,
            fin_before: false,
            data_before: false,
            second_exchange: false,
            begun: false,
            met: false,
            repeats: 0,
            silence: 0,
            idle_limit: u64::MAX,
            holder: None,
            outcome: None,
            decided: false,
            gap: 0,
            gap_measured: false,
            opened: None,
            handshake_us: None,
            first_byte_us: None,
            closed: None,
            remember: false,
            turn: false,
            begins: false,
            text: false,
            served: Served::Unused,
            unanswered: 0,
            dup_acks: 0,
            hole_age_us: 0,
            expected: SeqNum(0),
            acked: SeqNum(0),
            confirmed: false,
            hole_dropped: false,
            hairpin: false,
        }
    }

    /// Whether the anomaly table has anything to ask; false for a healthy segment.
    #[inline(always)]
    pub const fn notable(&self) -> bool {
        self.verdict as u8 >= Verdict::Gap as u8
            || self.dup_ack
            || self.dsack
            || self.zero_window
            || self.rst
            || self.decided
            || self.unanswered > 0
    }
}
