//! RSTs: is the sender the right one, is the plain reason the one that the flow's state gives, and is a stranger's RST
//! told from an end's?

use std::collections::BTreeMap;

use serde_json::Value;

use super::line::{Flow, Lines};

/// How many RSTs agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resets {
    /// RSTs of the reference, and those that the candidate found with the same sender.
    pub sender: [u64; 2],
    /// RSTs of which the reference gives a reason, and those with the same reason.
    pub reason: [u64; 2],
    /// RSTs of whose origin the candidate says anything, and those of a middlebox or an endpoint as it says.
    pub origin: [u64; 2],
}

impl Resets {
    /// Counts these as well.
    pub fn add(&mut self, more: Self) {
        let pairs = [
            (&mut self.sender, more.sender),
            (&mut self.reason, more.reason),
            (&mut self.origin, more.origin),
        ];
        for (sum, more) in pairs {
            sum[0] += more[0];
            sum[1] += more[1];
        }
    }
}

/// Compares them.
pub fn compare(reference: &Lines, candidate: &Lines) -> Resets {
    let mut resets = Resets::default();
    let judged = reference
        .packets
        .values()
        .filter(|packet| packet.labels.has("rst") && !packet.tunnel && !packet.frag && !packet.cut);
    let (their_reasons, our_reasons) =
        (third(&reference.flows, "rst_why"), third(&candidate.flows, "rst_why"));
    let origins = third(&candidate.flows, "resets");
    for packet in judged {
        let ours = candidate.packets.get(&packet.frame);
        let same = ours.is_some_and(|ours| {
            ours.labels.has("rst") && (&ours.src, ours.sport) == (&packet.src, packet.sport)
        });
        resets.sender[0] += 1;
        resets.sender[1] += u64::from(same);
        if let Some(reason) = their_reasons.get(&packet.frame) {
            resets.reason[0] += 1;
            resets.reason[1] += u64::from(our_reasons.get(&packet.frame) == Some(reason));
        }
        if let Some(origin) = origins.get(&packet.frame) {
            resets.origin[0] += 1;
            resets.origin[1] += u64::from((*origin == "middlebox") == packet.injected);
        }
    }
    resets
}

/// What each RST's entry says last, by its frame: `[frame, side, reason]` or `[frame, cause, origin]`.
fn third<'a>(flows: &'a [Flow], key: &str) -> BTreeMap<u64, &'a str> {
    let entries = flows.iter().filter_map(|flow| flow.get(key)?.as_array()).flatten();
    entries
        .filter_map(|entry| Some((entry.get(0)?.as_u64()?, entry.get(2).and_then(Value::as_str)?)))
        .collect()
}
