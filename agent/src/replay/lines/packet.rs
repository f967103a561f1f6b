//! A packet's line.

use super::{
    super::{file::Packet, labels::Labels},
    values::{Address, Epoch, Seconds, Vlans},
};
use crate::source::host::Judged;
use agent_ebpf::{
    anomaly::{Cause, reset},
    facts::{Evidence, Verdict},
    time::Nanos,
};
use serde::Serialize;

/// One TCP packet. Down to `tsval` in the schema's words.
#[derive(Debug, Serialize)]
pub struct PacketLine<'a> {
    t: &'static str,
    frame: u64,
    time_epoch: Epoch,
    src: Address,
    sport: u16,
    dst: Address,
    dport: u16,
    flags: u8,
    seq: u32,
    ack: u32,
    len: u32,
    win: u16,
    flow: u64,
    analysis: Labels,
    vlan: Vlans,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_id: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tsval: Option<u32>,
    /// The capture.
    point: &'a str,
    /// Which side the core takes the sender for.
    from: &'static str,
    verdict: &'static str,
    /// What decided the verdict, where something had to.
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<&'static str>,
    /// Why it was sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    /// Why it resets the connection, and from where.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<&'static str>,
    /// On a five-tuple taken again: who held TIME-WAIT.
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<&'static str>,
    /// How the SYN that took it was answered; on the packet that answered it.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    /// From the previous close to the SYN; on the SYN.
    #[serde(skip_serializing_if = "Option::is_none")]
    gap: Option<Seconds>,
    /// Bytes of a request that stays unanswered with this packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    unanswered_bytes: Option<u32>,
}

impl<'a> PacketLine<'a> {
    /// The line of a packet.
    pub fn of(packet: &Packet<'_>, judged: &Judged<'_>, analysis: Labels, flow: u64, point: &'a str) -> Self {
        let (s, f) = (judged.segment, judged.facts);
        let again = matches!(f.verdict, Verdict::LateFill | Verdict::Retransmission | Verdict::Spurious);
        let cause = f.cause.checked_sub(1).and_then(Cause::from_code).filter(|_| f.rst);
        Self {
            t: "packet",
            frame: packet.number,
            time_epoch: Epoch(packet.at),
            src: Address(s.src),
            sport: s.sport,
            dst: Address(s.dst),
            dport: s.dport,
            flags: s.flags.0,
            seq: s.seq.0,
            ack: s.ack.0,
            len: s.payload,
            win: s.window,
            flow,
            analysis,
            vlan: Vlans(s.vlans),
            ip_id: (!s.v6).then_some(s.ip_id),
            tsval: s.options.timestamps.then_some(s.options.ts_val),
            point,
            from: f.side.name(),
            verdict: f.verdict.name(),
            evidence: (f.evidence != Evidence::None).then(|| f.evidence.name()),
            kind: again.then(|| f.kind.name()),
            cause: cause.map(Cause::name),
            origin: f.rst.then(|| reset::origin(f).name()),
            holder: f.holder.filter(|_| f.syn || f.decided || f.rst).map(|h| h.name()),
            outcome: f.outcome.filter(|_| f.decided).map(|o| o.name()),
            gap: f.gap_measured.then(|| Seconds::between(Nanos(0), Nanos(f.gap))),
            unanswered_bytes: (f.unanswered > 0).then_some(f.unanswered),
        }
    }
}
