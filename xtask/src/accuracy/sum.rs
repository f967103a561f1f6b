//! Figures of many captures, added up by whose word is taken and by the place of capture.

use std::collections::BTreeMap;

use super::{
    compare::{Comparison, Counts},
    flows::Flows,
    folder::Kind,
    label::{Labels, NOT_ADVANCING, NOT_ADVANCING_PARTS},
    line::Lines,
    place::Place,
    resets::{self, Resets},
};

/// The figures of one tool.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    /// Packets that were judged, and those of them with the very same labels.
    pub packets: [u64; 2],
    /// Packets that the tool did not report.
    pub missing: u64,
    /// Packets of which it read other headers.
    pub misread: u64,
    /// Packets that it reported and the reference does not have.
    pub extra: u64,
    /// By class.
    pub classes: Vec<(String, Counts)>,
    /// By class, at each place.
    pub places: BTreeMap<Place, Vec<(String, Counts)>>,
    /// Its flows.
    pub flows: Flows,
    /// Its RSTs.
    pub resets: Resets,
    /// Packets of captures in which nothing was sent again, overtaken or copied, and those that it calls so.
    pub clean: [u64; 2],
    /// Segments that it found not to advance, and those of which it could not tell why.
    pub unknown: [u64; 2],
}

impl Sum {
    /// What one capture brings.
    pub fn of(
        reference: &Lines,
        candidate: &Lines,
        found: &Comparison,
        places: Vec<(Place, Vec<(String, Counts)>)>,
    ) -> Self {
        let not_advancing = found.classes.iter().find(|(name, _)| name == NOT_ADVANCING);
        let clean = match not_advancing {
            Some((_, counts)) if counts.right + counts.missed == 0 => [found.judged, counts.added],
            _ => [0; 2],
        };
        let parts = Labels::of(NOT_ADVANCING_PARTS);
        let is_unknown = |verdict: &Option<String>| verdict.as_deref() == Some("unknown");
        let unknown = candidate.packets.values().filter(|packet| is_unknown(&packet.verdict)).count() as u64;
        let named = candidate
            .packets
            .values()
            .filter(|packet| packet.labels.any(parts) && !is_unknown(&packet.verdict));
        Self {
            packets: [found.judged, found.same_labels],
            missing: found.missing,
            misread: found.misread,
            extra: found.extra,
            classes: found.classes.clone(),
            places: places.into_iter().collect(),
            flows: found.flows,
            resets: resets::compare(reference, candidate),
            clean,
            unknown: [unknown + named.count() as u64, unknown],
        }
    }

    /// Adds another capture's figures.
    pub fn add(&mut self, more: &Self) {
        let pairs = [
            (&mut self.packets, more.packets),
            (&mut self.clean, more.clean),
            (&mut self.unknown, more.unknown),
        ];
        for (sum, more) in pairs {
            sum[0] += more[0];
            sum[1] += more[1];
        }
        self.missing += more.missing;
        self.misread += more.misread;
        self.extra += more.extra;
        add_classes(&mut self.classes, &more.classes);
        for (place, classes) in &more.places {
            add_classes(self.places.entry(*place).or_default(), classes);
        }
        self.flows.add(more.flows);
        self.resets.add(more.resets);
    }

    /// A class's counts, at one place or at all.
    pub fn class(&self, place: Option<Place>, name: &str) -> Option<Counts> {
        let classes = match place {
            None => &self.classes,
            Some(place) => self.places.get(&place)?,
        };
        classes.iter().find(|(class, _)| class == name).map(|(_, counts)| *counts)
    }
}

fn add_classes(sum: &mut Vec<(String, Counts)>, more: &[(String, Counts)]) {
    for (name, counts) in more {
        match sum.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => known.add(*counts),
            None => sum.push((name.clone(), *counts)),
        }
    }
}

/// fivetuple's figures, and tshark's where it is not the reference itself.
#[derive(Clone, Debug, Default)]
pub struct Both {
    /// Captures.
    pub files: u64,
    /// fivetuple.
    pub ours: Sum,
    /// tshark.
    pub tshark: Option<Sum>,
}

/// All figures of a folder.
pub type Figures = BTreeMap<Kind, Both>;
