//! Flows of a candidate against those of a reference: matched by end points and first frame, compared field by field.

use std::collections::HashMap;

use serde_json::Value;

use super::line::Flow;

/// The fields that are compared; pairs are [client, server].
const FIELDS: [&str; 19] = [
    "packets",
    "bytes",
    "retransmissions",
    "fast_retransmissions",
    "spurious_retransmissions",
    "out_of_order",
    "lost_segments",
    "ack_lost_segments",
    "dup_acks",
    "zero_windows",
    "keep_alives",
    "rst",
    "fin",
    "syn_retransmissions",
    "syn",
    "synack",
    "reused",
    "unanswered",
    "close",
];
/// The headline counters.
const CORE: [&str; 5] = ["packets", "retransmissions", "out_of_order", "rst", "reused"];
/// How far two times may be apart, in seconds: a capture of microseconds cannot tell more.
const TOLERANCE: f64 = 1e-6;

/// How many flows agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flows {
    /// Flows of the reference.
    pub reference: u64,
    /// Those of which every field that both have is the same.
    pub exact: u64,
    /// Of those without a segment that is hidden from any observer here: of which every field is the same, and all.
    pub visible: [u64; 2],
    /// Those of which the headline counters are the same.
    pub core: u64,
    /// Handshake round trips that are the same, and all there are.
    pub handshake_rtt: [u64; 2],
    /// Reuse gaps that are the same, and all there are.
    pub reused_gap: [u64; 2],
}

impl Flows {
    /// Counts these as well.
    pub fn add(&mut self, more: Self) {
        self.reference += more.reference;
        self.exact += more.exact;
        self.core += more.core;
        for (sum, value) in self.visible.iter_mut().zip(more.visible) {
            *sum += value;
        }
        for (sum, value) in self.handshake_rtt.iter_mut().zip(more.handshake_rtt) {
            *sum += value;
        }
        for (sum, value) in self.reused_gap.iter_mut().zip(more.reused_gap) {
            *sum += value;
        }
    }
}

/// Compares them; `hides` tells of a flow of the reference whether it has a segment that is hidden here.
pub fn compare(reference: &[Flow], candidate: &[Flow], hides: impl Fn(&Flow) -> bool) -> Flows {
    let is_set = |flow: &Flow, key: &str| {
        !matches!(flow.get(key), None | Some(Value::Bool(false) | Value::Null))
            && flow.get(key) != Some(&Value::from(0))
    };
    let judged: Vec<&Flow> = reference
        .iter()
        .filter(|flow| !["tunnel", "frags", "cut"].iter().any(|key| is_set(flow, key)))
        .collect();
    let mut found = Flows { reference: judged.len() as u64, ..Flows::default() };
    for (reference, candidate) in matched(&judged, candidate) {
        let visible = u64::from(!hides(reference));
        found.visible[1] += visible;
        let Some(candidate) = candidate else { continue };
        let differ = |key: &&str| {
            let (Some(theirs), Some(ours)) = (reference.get(*key), candidate.get(*key)) else { return false };
            *theirs != oriented(ours, candidate, reference)
        };
        let exact = u64::from(!FIELDS.iter().any(differ));
        found.exact += exact;
        found.visible[0] += visible * exact;
        found.core += u64::from(!CORE.iter().any(differ));
        note_time(&mut found.handshake_rtt, reference, candidate, "handshake_rtt");
        note_time(&mut found.reused_gap, reference, candidate, "reused_gap");
    }
    found
}

/// Each flow of the reference with its flow of the candidate: first by the frame they begin with, then in order.
fn matched<'a>(reference: &[&'a Flow], candidate: &'a [Flow]) -> Vec<(&'a Flow, Option<&'a Flow>)> {
    let mut by_ends: HashMap<_, Vec<Option<&Flow>>> = HashMap::new();
    for flow in candidate {
        by_ends.entry(ends(flow)).or_default().push(Some(flow));
    }
    let mut take = |flow: &Flow, fits: &dyn Fn(&Flow) -> bool| {
        by_ends.get_mut(&ends(flow))?.iter_mut().find(|left| left.is_some_and(fits))?.take()
    };
    let same_first: Vec<_> = reference
        .iter()
        .map(|flow| take(flow, &|other| other.get("first_frame") == flow.get("first_frame")))
        .collect();
    let in_order = reference
        .iter()
        .zip(same_first)
        .map(|(flow, found)| (*flow, found.or_else(|| take(flow, &|_| true))));
    in_order.collect()
}

/// The two end points, whichever is the client.
fn ends(flow: &Flow) -> [String; 2] {
    let end = |address: &str, port: &str| format!("{} {}", flow[address], flow[port]);
    let mut ends = [end("src", "sport"), end("dst", "dport")];
    ends.sort();
    ends
}

/// The candidate's value as the reference would write it: its [client, server], if both mean the same by client.
fn oriented(value: &Value, candidate: &Flow, reference: &Flow) -> Value {
    let same_client = ["src", "sport"].iter().all(|key| candidate.get(*key) == reference.get(*key));
    match value.as_array().map(Vec::as_slice) {
        Some([client, server]) if !same_client => Value::from(vec![server.clone(), client.clone()]),
        _ => value.clone(),
    }
}

fn note_time([same, all]: &mut [u64; 2], reference: &Flow, candidate: &Flow, key: &str) {
    let Some(theirs) = reference.get(key) else { return };
    let (theirs, ours) = (theirs.as_f64(), candidate.get(key).and_then(Value::as_f64));
    if theirs.is_some() || ours.is_some() {
        *all += 1;
        *same += u64::from(theirs.zip(ours).is_some_and(|(a, b)| (a - b).abs() <= TOLERANCE));
    }
}
