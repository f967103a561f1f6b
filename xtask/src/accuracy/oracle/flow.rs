//! A connection as the benchmark describes it, computed from tshark's packets and labels.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::packet::Row;
use crate::accuracy::{
    line::Flow,
    wire::{ACK, FIN, RST, SYN},
};

/// An end point.
type End = (String, u16);

/// How sure it is who the client is: the best evidence wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ClientBy {
    First,
    SynAck,
    Syn,
}

/// How far the handshake has come, as seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Handshake {
    None,
    Syn,
    SynAck,
    Done,
}

/// What one side has sent.
#[derive(Default)]
struct Sent {
    packets: u64,
    bytes: u64,
    syn: u64,
    synack: u64,
    rst: u64,
    fin: u64,
    /// By the name that the field has in a flow line.
    labels: BTreeMap<&'static str, u64>,
}

/// A packet's label, and the flow's counter of it.
const COUNTED: [(&str, &str); 10] = [
    ("retransmission", "retransmissions"),
    ("fast_retransmission", "fast_retransmissions"),
    ("spurious_retransmission", "spurious_retransmissions"),
    ("out_of_order", "out_of_order"),
    ("lost_segment", "lost_segments"),
    ("ack_lost_segment", "ack_lost_segments"),
    ("duplicate_ack", "dup_acks"),
    ("zero_window", "zero_windows"),
    ("keep_alive", "keep_alives"),
    ("syn_retransmission", "syn_retransmissions"),
];

/// One connection, while its packets come.
pub struct FlowState {
    /// In order of their addresses as text, as the benchmark sorts them.
    ends: [End; 2],
    sent: [Sent; 2],
    /// Which of the ends is the client.
    client: usize,
    client_by: Option<ClientBy>,
    handshake: Handshake,
    initial_rtt: Option<i64>,
    first_frame: u64,
    first_at: i64,
    last_close: Option<i64>,
    /// Was the first of FIN and RST an RST, and whose?
    closed_by: Option<(bool, usize)>,
    fin_from: [bool; 2],
    rst_why: Vec<(u64, usize, &'static str)>,
    tunnel: bool,
    frags: bool,
    cut: bool,
}

impl FlowState {
    /// Begins with a packet, which is still to be added.
    pub fn new(row: &Row) -> Self {
        let mut ends = [source(row), destination(row)];
        ends.sort();
        Self {
            client: usize::from(ends[1] == source(row)),
            ends,
            sent: Default::default(),
            client_by: None,
            handshake: Handshake::None,
            initial_rtt: None,
            first_frame: row.packet.frame,
            first_at: row.at,
            last_close: None,
            closed_by: None,
            fin_from: [false; 2],
            rst_why: Vec::new(),
            tunnel: row.packet.tunnel,
            frags: false,
            cut: false,
        }
    }

    /// Its two end points, and whether it is in a tunnel: what a reuse is told by.
    pub fn ends(&self) -> ([End; 2], bool) {
        (self.ends.clone(), self.tunnel)
    }

    /// One more packet.
    pub fn add(&mut self, row: &Row) {
        let from = usize::from(self.ends[1] == source(row));
        let sent = &mut self.sent[from];
        sent.packets += 1;
        sent.bytes += row.packet.len.unwrap_or(0);
        for (label, field) in COUNTED {
            *sent.labels.entry(field).or_default() += u64::from(row.packet.labels.has(label));
        }
        self.frags |= row.packet.frag;
        self.cut |= row.packet.cut;
        self.note_handshake(row, from);
        self.initial_rtt = self.initial_rtt.or(row.initial_rtt);
        if row.flags & RST != 0 {
            self.sent[from].rst += 1;
            self.rst_why.push((row.packet.frame, from, self.why_reset(from)));
        }
        if row.flags & FIN != 0 {
            self.sent[from].fin += 1;
            self.fin_from[from] = true;
        }
        if row.flags & (FIN | RST) != 0 {
            self.last_close = Some(row.at);
            self.closed_by.get_or_insert((row.flags & RST != 0, from));
        }
    }

    fn note_handshake(&mut self, row: &Row, from: usize) {
        if row.flags & SYN != 0 && row.flags & ACK == 0 {
            self.sent[from].syn += 1;
            self.learn_client(ClientBy::Syn, from);
            if matches!(self.handshake, Handshake::None | Handshake::Syn) && from == self.client {
                self.handshake = Handshake::Syn;
            }
        } else if row.flags & SYN != 0 {
            self.sent[from].synack += 1;
            self.learn_client(ClientBy::SynAck, 1 - from);
            if matches!(self.handshake, Handshake::Syn | Handshake::SynAck) && from != self.client {
                self.handshake = Handshake::SynAck;
            }
        } else if self.client_by.is_none() {
            self.learn_client(ClientBy::First, from);
        }
        let answers = row.flags & ACK != 0 && row.flags & (SYN | RST) == 0;
        if self.handshake == Handshake::SynAck && from == self.client && answers {
            self.handshake = Handshake::Done;
        }
    }

    fn learn_client(&mut self, by: ClientBy, client: usize) {
        if self.client_by.is_none_or(|known| known < by) {
            (self.client_by, self.client) = (Some(by), client);
        }
    }

    /// A plain reason for an RST that has just been counted, from the flow's state before it.
    fn why_reset(&self, from: usize) -> &'static str {
        let (own, other) = (&self.sent[from], &self.sent[1 - from]);
        if other.syn > 0 && other.synack == 0 && own.synack == 0 && own.packets == own.rst {
            return "refused";
        }
        match (self.handshake, self.fin_from.iter().filter(|sent| **sent).count()) {
            (Handshake::Syn | Handshake::SynAck, _) => "handshake",
            (_, 2) => "after_close",
            (_, 1) => "after_fin",
            (Handshake::Done, _) => "established",
            (Handshake::None, _) => "midstream",
        }
    }

    fn role(&self, end: usize) -> &'static str {
        if end == self.client { "client" } else { "server" }
    }

    fn close(&self) -> String {
        match self.closed_by {
            None => "none".to_owned(),
            Some((true, from)) => format!("rst_{}", self.role(from)),
            Some((false, from)) if self.fin_from == [true; 2] => format!("fin_{}", self.role(from)),
            Some((false, from)) => format!("half_fin_{}", self.role(from)),
        }
    }

    /// The flow line, knowing the flow that had these end points before.
    pub fn line(&self, previous: Option<&Self>) -> Flow {
        let (client, server) = (self.client, 1 - self.client);
        let pair = |of: &dyn Fn(&Sent) -> u64| json!([of(&self.sent[client]), of(&self.sent[server])]);
        let both = |of: &dyn Fn(&Sent) -> u64| json!(self.sent.iter().map(of).sum::<u64>());
        let gap = previous.and_then(|flow| flow.last_close).map(|closed| seconds(self.first_at - closed));
        let unanswered =
            self.sent[client].bytes > 0 && self.sent[server].bytes == 0 && self.closed_by.is_some();
        let why: Vec<Value> =
            self.rst_why.iter().map(|(frame, from, why)| json!([frame, self.role(*from), why])).collect();
        let mut line: Flow = [
            ("src", json!(self.ends[client].0)),
            ("sport", json!(self.ends[client].1)),
            ("dst", json!(self.ends[server].0)),
            ("dport", json!(self.ends[server].1)),
            ("first_frame", json!(self.first_frame)),
            ("packets", pair(&|sent| sent.packets)),
            ("bytes", pair(&|sent| sent.bytes)),
            ("rst", pair(&|sent| sent.rst)),
            ("rst_why", json!(why)),
            ("fin", pair(&|sent| sent.fin)),
            ("syn", both(&|sent| sent.syn)),
            ("synack", both(&|sent| sent.synack)),
            ("close", json!(self.close())),
            ("reused", json!(previous.is_some())),
            ("reused_gap", json!(gap)),
            ("handshake_rtt", json!(self.initial_rtt.map(seconds))),
            ("unanswered", json!(unanswered)),
            ("tunnel", json!(self.tunnel)),
            ("frags", json!(self.frags)),
            ("cut", json!(self.cut)),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
        for (_, field) in COUNTED {
            let value = pair(&|sent| sent.labels.get(field).copied().unwrap_or(0));
            line.insert(field.to_owned(), value);
        }
        line
    }
}

fn source(row: &Row) -> End {
    (row.packet.src.clone().unwrap_or_default(), row.packet.sport.unwrap_or(0))
}

fn destination(row: &Row) -> End {
    (row.packet.dst.clone().unwrap_or_default(), row.packet.dport.unwrap_or(0))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the gap between two connections in one capture is far below 2^52 ns"
)]
fn seconds(nanoseconds: i64) -> f64 {
    nanoseconds as f64 / 1e9
}
