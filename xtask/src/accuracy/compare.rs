//! A candidate against a reference, packet by packet: the rules of the benchmark's `compare.py`.
//!
//! Packets are matched by frame number. Tunnelled packets, fragments and packets cut inside the TCP options are left
//! out: nothing can be judged there. Where a reference marks segments that are hidden from any observer at that place
//! (sent again, but the first copy never came by), two more classes count without them.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    flows::{self, Flows},
    label::{CLASSES, Labels, NOT_ADVANCING, NOT_ADVANCING_PARTS, VISIBLE},
    line::{Lines, Packet},
};

/// How often the two agree on a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Both say so.
    pub right: u64,
    /// Only the candidate says so: a false positive.
    pub added: u64,
    /// Only the reference says so: a false negative.
    pub missed: u64,
}

impl Counts {
    /// Which part of what the candidate says is right; none if it never says so.
    pub fn precision(self) -> Option<f64> {
        share(self.right, self.right + self.added)
    }

    /// Which part of what it should say it says; none if it never should.
    pub fn recall(self) -> Option<f64> {
        share(self.right, self.right + self.missed)
    }

    /// The harmonic mean of both.
    pub fn f1(self) -> Option<f64> {
        share(2 * self.right, 2 * self.right + self.added + self.missed)
    }

    /// Counts these as well.
    pub fn add(&mut self, more: Self) {
        self.right += more.right;
        self.added += more.added;
        self.missed += more.missed;
    }

    fn note(&mut self, reference: bool, candidate: bool) {
        self.right += u64::from(reference && candidate);
        self.added += u64::from(!reference && candidate);
        self.missed += u64::from(reference && !candidate);
    }
}

/// A part of a whole; none of nothing.
#[expect(clippy::cast_precision_loss, reason = "counts of packets are far below 2^52")]
pub fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// What a comparison found.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Packets that both have, or that one may leave out.
    pub judged: u64,
    /// Those of them whose labels are the same.
    pub same_labels: u64,
    /// Packets of the reference that the candidate does not have.
    pub missing: u64,
    /// Packets of the candidate that the reference does not have.
    pub extra: u64,
    /// Packets of which the two read different addresses, ports, sequence numbers or lengths.
    pub misread: u64,
    /// By class, in the order of [`CLASSES`].
    pub classes: Vec<(String, Counts)>,
    /// What became of the flows.
    pub flows: Flows,
    /// Where the labels differ.
    pub disagreements: Vec<Disagreement>,
}

/// One packet that two files do not label alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// Which.
    pub frame: u64,
    /// What the reference says.
    pub reference: Labels,
    /// What the candidate says.
    pub candidate: Labels,
}

/// Compares them.
pub fn compare(reference: &Lines, candidate: &Lines) -> Comparison {
    let judged = judged(reference, candidate);
    let names: Vec<&str> = match &reference.meta.classes {
        Some(names) => names.iter().map(String::as_str).collect(),
        None => CLASSES.to_vec(),
    };
    let all = Labels::of(names.iter().copied());
    let mut sets: Vec<(String, Labels)> =
        names.iter().map(|name| ((*name).to_owned(), Labels::of([*name]))).collect();
    let not_advancing = Labels::of(NOT_ADVANCING_PARTS);
    if all.has("retransmission") && all.has("out_of_order") {
        sets.push((NOT_ADVANCING.to_owned(), not_advancing));
    }
    let mut classes: Vec<(String, Counts)> =
        sets.iter().map(|(name, set)| (name.clone(), count(&judged, *set, false))).collect();
    if reference.packets.values().any(|packet| packet.hidden) {
        let retransmission = Labels::of(["retransmission"]);
        for (name, set) in [("retransmission", retransmission), (NOT_ADVANCING, not_advancing)] {
            classes.push((format!("{name}{VISIBLE}"), count(&judged, set, true)));
        }
    }
    let pairs = judged.iter().map(|(frame, r, c)| (*frame, labels(*r).and(all), labels(*c).and(all)));
    let disagreements: Vec<Disagreement> = pairs
        .filter(|(_, reference, candidate)| reference != candidate)
        .map(|(frame, reference, candidate)| Disagreement { frame, reference, candidate })
        .collect();
    let misread = judged.iter().filter(|(_, r, c)| r.zip(*c).is_some_and(|(r, c)| is_misread(r, c)));
    let missing = reference.packets.iter().filter(|(frame, packet)| {
        !is_left_out(packet) && !candidate.packets.contains_key(frame) && !candidate.meta.sparse
    });
    let extra = candidate
        .packets
        .keys()
        .filter(|frame| !reference.packets.contains_key(frame) && !reference.meta.sparse);
    let hiding: HashSet<u64> =
        reference.packets.values().filter(|packet| packet.hidden).map(|packet| packet.flow).collect();
    Comparison {
        judged: judged.len() as u64,
        same_labels: (judged.len() - disagreements.len()) as u64,
        missing: missing.count() as u64,
        extra: extra.count() as u64,
        misread: misread.count() as u64,
        classes,
        flows: flows::compare(&reference.flows, &candidate.flows, |flow| {
            let first = flow.get("first_frame").and_then(Value::as_u64);
            let packet = first.and_then(|frame| reference.packets.get(&frame));
            packet.is_some_and(|packet| hiding.contains(&packet.flow))
        }),
        disagreements,
    }
}

/// A frame number, and the packet in the reference and in the candidate.
type Judged<'a> = (u64, Option<&'a Packet>, Option<&'a Packet>);

/// The packets that are compared, in file order.
fn judged<'a>(reference: &'a Lines, candidate: &'a Lines) -> Vec<Judged<'a>> {
    let theirs = reference.packets.iter().filter(|(_, packet)| !is_left_out(packet));
    let mut frames: Vec<u64> = theirs.map(|(frame, _)| *frame).collect();
    if reference.meta.sparse {
        frames.extend(candidate.packets.keys());
        frames.sort_unstable();
        frames.dedup();
    }
    let found = frames.into_iter().map(|f| (f, reference.packets.get(&f), candidate.packets.get(&f)));
    found.filter(|(.., ours)| ours.is_some() || candidate.meta.sparse).collect()
}

fn is_left_out(packet: &Packet) -> bool {
    packet.tunnel || packet.frag || packet.cut
}

fn labels(packet: Option<&Packet>) -> Labels {
    packet.map(|packet| packet.labels).unwrap_or_default()
}

fn count(judged: &[Judged<'_>], set: Labels, visible_only: bool) -> Counts {
    let mut counts = Counts::default();
    for (_, reference, candidate) in judged {
        if !(visible_only && reference.is_some_and(|packet| packet.hidden)) {
            counts.note(labels(*reference).any(set), labels(*candidate).any(set));
        }
    }
    counts
}

/// Did the candidate read another packet? What it does not say is not held against it.
fn is_misread(reference: &Packet, candidate: &Packet) -> bool {
    fn differ<T: PartialEq>(reference: Option<&T>, candidate: Option<&T>) -> bool {
        candidate.is_some() && candidate != reference
    }
    differ(reference.src.as_ref(), candidate.src.as_ref())
        || differ(reference.sport.as_ref(), candidate.sport.as_ref())
        || differ(reference.dst.as_ref(), candidate.dst.as_ref())
        || differ(reference.dport.as_ref(), candidate.dport.as_ref())
        || differ(reference.seq.as_ref(), candidate.seq.as_ref())
        || differ(reference.len.as_ref(), candidate.len.as_ref())
}
