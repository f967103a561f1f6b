//! The labelled captures as other hosts would have sent them.
//!
//! Linux counts the IPv4 ID of each connection up by one and sends timestamps, and both tell which of two segments was
//! sent first. Others do not: IDs are zero (RFC 6864 allows it for whole datagrams), random, or one counter for all that
//! the host sends; Windows sends no timestamps unless asked. What was sent again does not depend on that, so the truth
//! stays the truth for the rewritten copies.
//!
//! A packet keeps one ID wherever it was captured, and a copy that the network made keeps that of its original: the IDs
//! are given in the order in which the packets left their hosts, as the capture on that host has it. Timestamps are
//! overwritten by no-operations, so nothing changes its length. Checksums are made right again.

mod capture;
mod packet;

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use self::{
    capture::Capture,
    packet::{Identity, Layout},
};
use super::{
    folder::Case,
    judge::{self, Replay},
    line,
    oracle::Oracle,
    sum::Figures,
};

/// How IPv4 IDs are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ids {
    /// As captured.
    Kept,
    /// Always 0.
    Zero,
    /// Anything.
    Random,
    /// One counter for all connections of a host.
    HostWide,
}

/// One way of sending.
pub struct Variant {
    /// Its name in tables and figures.
    pub name: &'static str,
    ids: Ids,
    timestamps: bool,
}

const fn variant(name: &'static str, ids: Ids, timestamps: bool) -> Variant {
    Variant { name, ids, timestamps }
}

/// Every way of sending that is tried.
pub const VARIANTS: [Variant; 7] = [
    variant("zero-id", Ids::Zero, true),
    variant("random-id", Ids::Random, true),
    variant("host-id", Ids::HostWide, true),
    variant("no-ts", Ids::Kept, false),
    variant("zero-id+no-ts", Ids::Zero, false),
    variant("random-id+no-ts", Ids::Random, false),
    variant("host-id+no-ts", Ids::HostWide, false),
];

/// The figures for one way of sending.
pub struct Senders {
    /// The variant's.
    pub name: &'static str,
    /// On the rewritten copies.
    pub figures: Figures,
}

/// Writes the copies below a directory and judges them.
pub fn judge(labelled: &[Case], directory: &Path, replay: &Replay, oracle: &Oracle) -> Result<Vec<Senders>> {
    let judge_variant = |variant: &Variant| {
        let copies = rewrite(labelled, variant, &directory.join(variant.name))?;
        let verdict = judge::judge(&copies, replay, oracle)?;
        if let Some((_, why)) = verdict.failed.first() {
            bail!("{}: {why}", variant.name);
        }
        let figures = judge::sum(&verdict);
        Ok(Senders { name: variant.name, figures })
    };
    VARIANTS.iter().map(judge_variant).collect()
}

/// The same cases with rewritten captures.
fn rewrite(labelled: &[Case], variant: &Variant, directory: &Path) -> Result<Vec<Case>> {
    let mut scenarios: BTreeMap<PathBuf, Vec<&Case>> = BTreeMap::new();
    for case in labelled {
        scenarios.entry(case.capture.parent().unwrap_or(Path::new("")).to_owned()).or_default().push(case);
    }
    let mut copies = Vec::new();
    for cases in scenarios.values() {
        let mut captures = Vec::new();
        for case in cases {
            let bytes = line::bytes(&case.capture)?;
            captures.push(Capture::read(bytes).with_context(|| case.capture.display().to_string())?);
        }
        let ids = ids(variant.ids, &captures);
        for (case, capture) in cases.iter().zip(&mut captures) {
            for range in capture.records() {
                let record = &mut capture.bytes[range];
                let Some(layout) = Layout::of(record) else { continue };
                if variant.ids != Ids::Kept
                    && let Some(Some(id)) = ids.get(&layout.identity(record))
                {
                    layout.set_id(record, *id);
                }
                if !variant.timestamps {
                    layout.remove_timestamps(record);
                }
            }
            let path = directory.join(&case.name).with_extension("");
            let parent = path.parent().unwrap_or(directory);
            fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
            fs::write(&path, &capture.bytes).with_context(|| path.display().to_string())?;
            copies.push(Case { capture: path, ..(*case).clone() });
        }
    }
    Ok(copies)
}

/// The new ID of every packet of a scenario, in whichever of its captures it is.
fn ids(kind: Ids, captures: &[Capture]) -> HashMap<Identity, Option<u16>> {
    let mut ids = HashMap::new();
    let mut counters: HashMap<Vec<u8>, u16> = HashMap::new();
    // The client's capture has all that the client sent, in order; the server's all that the server sent. What others
    // put in between is numbered where it is met first.
    for (at, own_only) in [(captures, true), (captures, false)] {
        for capture in at {
            for range in capture.records() {
                let record = &capture.bytes[range];
                let Some(layout) = Layout::of(record) else { continue };
                if own_only && !layout.is_fresh(record) {
                    continue;
                }
                let identity = layout.identity(record);
                match ids.entry(identity) {
                    // Sent twice with the very same headers, as a SYN-ACK is within a millisecond: which of the two a
                    // copy elsewhere is, nobody can tell. They keep what they have.
                    Entry::Occupied(mut twice) if own_only => *twice.get_mut() = None,
                    Entry::Occupied(_) => {}
                    Entry::Vacant(new) => {
                        let id = match kind {
                            Ids::Kept | Ids::Zero => 0,
                            Ids::Random => new.key().random(),
                            Ids::HostWide => {
                                let counter = counters.entry(layout.source(record).to_vec()).or_default();
                                *counter = counter.wrapping_add(1);
                                *counter
                            }
                        };
                        new.insert(Some(id));
                    }
                }
            }
        }
    }
    ids
}
