//! Flow lines of a labelled capture: sums over its packets.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::label::{Capture, Label, ends};
use crate::segment::{FIN, RST, Segment};

/// The flow's counters, and the labels that they count.
const COUNTED: [(&str, &str); 7] = [
    ("retransmissions", "retransmission"),
    ("out_of_order", "out_of_order"),
    ("spurious_retransmissions", "spurious_retransmission"),
    ("net_duplicates", "net_duplicate"),
    ("syn_retransmissions", "syn_retransmission"),
    ("rst", "rst"),
    ("zero_windows", "zero_window"),
];

/// One connection. A SYN with a new initial number on the same end points begins a new one.
struct Flow {
    client: SocketAddr,
    server: SocketAddr,
    isn: Option<u32>,
    first_frame: u64,
    first_at: u64,
    last_at: u64,
    closed_at: Option<u64>,
    /// What was there before on the same end points.
    previous: Option<usize>,
    packets: [u64; 2],
    bytes: [u64; 2],
    counts: [[u64; 2]; COUNTED.len()],
}

/// The number of each packet's flow, and the flows' lines.
pub fn flows(capture: &Capture, labels: &[Label]) -> (Vec<usize>, Vec<Value>) {
    let mut flows: Vec<Flow> = Vec::new();
    let mut open: HashMap<[SocketAddr; 2], usize> = HashMap::new();
    let mut numbers = Vec::new();
    for (segment, label) in capture.segments.iter().zip(labels) {
        let known = open.get(&ends(segment)).copied();
        let begins =
            known.is_none_or(|at| segment.opens() && flows[at].isn.is_some_and(|isn| isn != segment.seq));
        let at = if begins {
            flows.push(Flow::new(segment, known));
            open.insert(ends(segment), flows.len() - 1);
            flows.len() - 1
        } else {
            known.expect("a flow that does not begin is known")
        };
        flows[at].add(segment, label);
        numbers.push(at);
    }
    let lines = (0..flows.len()).map(|at| flows[at].line(at, flows[at].previous.map(|p| &flows[p])));
    let lines = lines.collect();
    (numbers, lines)
}

impl Flow {
    fn new(segment: &Segment, previous: Option<usize>) -> Self {
        Self {
            client: segment.from,
            server: segment.to,
            isn: segment.opens().then_some(segment.seq),
            first_frame: segment.frame,
            first_at: segment.at,
            last_at: segment.at,
            closed_at: None,
            previous,
            packets: [0; 2],
            bytes: [0; 2],
            counts: [[0; 2]; COUNTED.len()],
        }
    }

    fn add(&mut self, segment: &Segment, label: &Label) {
        let side = usize::from(segment.from != self.client);
        self.packets[side] += 1;
        self.bytes[side] += u64::from(segment.len);
        for (counts, (_, name)) in self.counts.iter_mut().zip(COUNTED) {
            counts[side] += u64::from(label.analysis.contains(&name));
        }
        self.last_at = segment.at;
        if segment.flags & (FIN | RST) != 0 {
            self.closed_at = Some(segment.at);
        }
    }

    fn line(&self, number: usize, previous: Option<&Self>) -> Value {
        let since = |at: u64| self.first_at.saturating_sub(at) as f64 / 1e9;
        let mut line = json!({
            "t": "flow",
            "flow": number,
            "reused": previous.is_some(),
            "reused_gap": previous.and_then(|flow| flow.closed_at).map(since),
            "reused_idle": previous.map(|flow| since(flow.last_at)),
            "src": self.client.ip(),
            "sport": self.client.port(),
            "dst": self.server.ip(),
            "dport": self.server.port(),
            "first_frame": self.first_frame,
            "first_seen": time(self.first_at),
            "packets": self.packets,
            "bytes": self.bytes,
        });
        for (counts, (field, _)) in self.counts.iter().zip(COUNTED) {
            line[field] = json!(counts);
        }
        line
    }
}

/// Seconds with nine decimals.
pub fn time(at: u64) -> String {
    format!("{}.{:09}", at / 1_000_000_000, at % 1_000_000_000)
}
