//! A connection's line.

use super::{
    super::ledger::{Account, ClientBy, Reset, Tally},
    values::{Address, Epoch, Seconds, Vlans},
};
use agent_ebpf::time::Nanos;
use serde::{Serialize, Serializer};

/// One connection. Down to `vlans` in the schema's words; pairs are [client, server].
#[derive(Debug, Serialize)]
pub struct FlowLine<'a> {
    t: &'static str,
    flow: u64,
    src: Address,
    sport: u16,
    dst: Address,
    dport: u16,
    client_by: &'static str,
    first_frame: u64,
    first_seen: Epoch,
    last_seen: Epoch,
    packets: [u64; 2],
    bytes: [u64; 2],
    data_packets: [u64; 2],
    retransmissions: [u64; 2],
    fast_retransmissions: [u64; 2],
    /// With those that a D-SACK showed later, which have no label of their own.
    spurious_retransmissions: [u64; 2],
    out_of_order: [u64; 2],
    net_duplicates: [u64; 2],
    lost_segments: [u64; 2],
    dup_acks: [u64; 2],
    zero_windows: [u64; 2],
    keep_alives: [u64; 2],
    rst: [u64; 2],
    rst_why: Why<'a>,
    fin: [u64; 2],
    syn: u64,
    synack: u64,
    syn_retransmissions: [u64; 2],
    close: &'static str,
    reused: bool,
    reused_gap: Option<Seconds>,
    reused_idle: Option<Seconds>,
    prev_close: Option<&'static str>,
    handshake_rtt: Option<Seconds>,
    syn_rtt: Option<Seconds>,
    ack_rtt: Option<Seconds>,
    unanswered: bool,
    vlans: Vlans,
    /// The capture.
    point: &'a str,
    svc: &'a str,
    /// Of the retransmissions: those whose first copy was lost before this point.
    late_fills: [u64; 2],
    zero_window_probes: [u64; 2],
    /// Segments of which nothing tells what they are.
    unknown: [u64; 2],
    /// Each RST's cause and origin.
    resets: Causes<'a>,
    /// The five-tuple was taken again within its TIME-WAIT window.
    #[serde(skip_serializing_if = "Option::is_none")]
    reuse: Option<Reuse>,
    /// Bytes of the request that was unanswered at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    unanswered_bytes: Option<u32>,
}

#[derive(Debug, Serialize)]
struct Reuse {
    holder: &'static str,
    outcome: Option<&'static str>,
    gap: Option<Seconds>,
}

impl<'a> FlowLine<'a> {
    /// The line of a connection.
    pub fn of(a: &'a Account, point: &'a str, svc: &'a str) -> Self {
        let ends = a.key.end_points();
        let [(src, sport), (dst, dport)] = [ends[a.client], ends[1 - a.client]];
        let pair = |field: fn(&Tally) -> u64| a.sides().map(field);
        let sum = |field: fn(&Tally) -> u64| pair(field).iter().sum();
        let between = |from: Option<Nanos>, to: Option<Nanos>| Some(Seconds::between(from?, to?));
        let h = &a.handshake;
        Self {
            t: "flow",
            flow: a.number,
            src: Address(src),
            sport,
            dst: Address(dst),
            dport,
            client_by: match a.client_by {
                ClientBy::Syn => "syn",
                ClientBy::SynAck => "synack",
                ClientBy::First => "first",
            },
            first_frame: a.first_frame,
            first_seen: Epoch(a.first_seen),
            last_seen: Epoch(a.last_seen),
            packets: pair(|t| t.packets),
            bytes: pair(|t| t.bytes),
            data_packets: pair(|t| t.data_packets),
            retransmissions: pair(|t| t.retransmissions),
            fast_retransmissions: pair(|t| t.fast_retransmissions),
            spurious_retransmissions: pair(|t| t.spurious_retransmissions),
            out_of_order: pair(|t| t.out_of_order),
            net_duplicates: pair(|t| t.net_duplicates),
            lost_segments: pair(|t| t.lost_segments),
            dup_acks: pair(|t| t.dup_acks),
            zero_windows: pair(|t| t.zero_windows),
            keep_alives: pair(|t| t.keep_alives),
            rst: pair(|t| t.rst),
            rst_why: Why(a),
            fin: pair(|t| t.fin),
            syn: sum(|t| t.syn),
            synack: sum(|t| t.synack),
            syn_retransmissions: pair(|t| t.syn_retransmissions),
            close: a.close(),
            reused: a.previous.is_some(),
            reused_gap: a.previous.and_then(|p| between(p.closed_at, Some(a.first_seen))),
            reused_idle: a.previous.map(|p| Seconds::between(p.last_seen, a.first_seen)),
            prev_close: a.previous.map(|p| p.close),
            handshake_rtt: between(h.syn, h.ack),
            syn_rtt: between(h.syn, h.syn_ack),
            ack_rtt: between(h.syn_ack, h.ack),
            unanswered: a.is_unanswered(),
            vlans: Vlans(a.key.vlans()),
            point,
            svc,
            late_fills: pair(|t| t.late_fills),
            zero_window_probes: pair(|t| t.zero_window_probes),
            unknown: pair(|t| t.unknown),
            resets: Causes(a),
            reuse: a.reuse.map(|(holder, outcome, gap)| Reuse {
                holder: holder.name(),
                outcome: outcome.map(|o| o.name()),
                gap: (gap > 0).then(|| Seconds::between(Nanos(0), Nanos(gap))),
            }),
            unanswered_bytes: (a.unanswered > 0).then_some(a.unanswered),
        }
    }
}

/// Of each RST frame, sender, and the connection's state.
#[derive(Debug)]
struct Why<'a>(&'a Account);

/// Of each RST frame, cause, and origin.
#[derive(Debug)]
struct Causes<'a>(&'a Account);

impl Serialize for Why<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let from = |r: &Reset| if r.half == self.0.client { "client" } else { "server" };
        serializer.collect_seq(self.0.resets.iter().map(|r| (r.frame, from(r), r.why)))
    }
}

impl Serialize for Causes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let resets = self.0.resets.iter();
        serializer.collect_seq(resets.map(|r| (r.frame, r.cause.map(|c| c.name()), r.origin.name())))
    }
}
