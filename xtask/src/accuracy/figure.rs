//! Figures one by one: what `--json` prints, one object a line.

use serde_json::{Value, json};

use super::{
    compare::{Counts, share},
    place::Place,
    sum::{Both, Figures, Sum},
};

/// One figure of fivetuple's, and tshark's beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Whose word, place, class and measure, with slashes between.
    pub name: String,
    /// fivetuple's; none where there is nothing to divide by.
    pub value: Option<f64>,
    /// What is counted; `share` for 0 to 1.
    pub unit: &'static str,
    /// tshark's.
    pub baseline: Option<f64>,
}

impl Figure {
    /// The object that `--json` prints.
    pub fn json(&self) -> Value {
        let ratio = self.value.zip(self.baseline).filter(|(_, b)| *b != 0.0).map(|(v, b)| v / b);
        json!({
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "baseline": self.baseline,
            "ratio": ratio,
        })
    }
}

/// Every figure, with this before each name.
pub fn figures(prefix: &str, figures: &Figures) -> Vec<Figure> {
    figures.iter().flat_map(|(kind, both)| of_kind(&format!("{prefix}{kind}"), both)).collect()
}

fn of_kind(kind: &str, both: &Both) -> Vec<Figure> {
    let mut all = Vec::new();
    for place in places(&both.ours) {
        let at = place.map_or_else(|| "all".to_owned(), |place| place.to_string());
        for (class, ours) in classes(both, place) {
            let tshark = both.tshark.as_ref().map(|sum| sum.class(place, &class).unwrap_or_default());
            for (measure, of) in SHARES {
                all.push(Figure {
                    name: format!("{kind}/{at}/{class}/{measure}"),
                    value: of(ours),
                    unit: "share",
                    baseline: tshark.and_then(of),
                });
            }
            for (measure, of) in COUNTS {
                all.push(Figure {
                    name: format!("{kind}/{at}/{class}/{measure}"),
                    value: count(of(ours)),
                    unit: "packets",
                    baseline: tshark.map(of).and_then(count),
                });
            }
        }
    }
    for (name, of) in WHOLES {
        all.push(Figure {
            name: format!("{kind}/{name}"),
            value: part(of(&both.ours)),
            unit: "share",
            baseline: both.tshark.as_ref().map(of).and_then(part),
        });
    }
    all
}

type Measure<T> = (&'static str, fn(Counts) -> T);

const SHARES: [Measure<Option<f64>>; 3] =
    [("precision", Counts::precision), ("recall", Counts::recall), ("f1", Counts::f1)];
const COUNTS: [Measure<u64>; 3] = [("right", |c| c.right), ("added", |c| c.added), ("missed", |c| c.missed)];

/// A name, and how to read it: all there are, and those that are so.
type Whole = (&'static str, fn(&Sum) -> [u64; 2]);

/// What is counted in whole packets, flows or RSTs: all there are, and those that are right.
pub const WHOLES: [Whole; 14] = [
    ("packets/same_labels", |sum| sum.packets),
    ("packets/missing", |sum| [sum.packets[0] + sum.missing, sum.missing]),
    ("packets/extra", |sum| [sum.packets[0] + sum.extra, sum.extra]),
    ("packets/misread", |sum| [sum.packets[0], sum.misread]),
    ("packets/false_positives_in_clean_captures", |sum| sum.clean),
    ("packets/unknown", |sum| sum.unknown),
    ("flows/exact", |sum| [sum.flows.reference, sum.flows.exact]),
    ("flows/exact (visible)", |sum| [sum.flows.visible[1], sum.flows.visible[0]]),
    ("flows/headline_counters_exact", |sum| [sum.flows.reference, sum.flows.core]),
    ("flows/handshake_rtt", |sum| [sum.flows.handshake_rtt[1], sum.flows.handshake_rtt[0]]),
    ("flows/reused_gap", |sum| [sum.flows.reused_gap[1], sum.flows.reused_gap[0]]),
    ("resets/sender", |sum| sum.resets.sender),
    ("resets/reason", |sum| sum.resets.reason),
    ("resets/origin", |sum| sum.resets.origin),
];

fn part([all, part]: [u64; 2]) -> Option<f64> {
    share(part, all)
}

#[expect(clippy::cast_precision_loss, reason = "counts of packets are far below 2^52")]
fn count(packets: u64) -> Option<f64> {
    Some(packets as f64)
}

/// The places that these figures have, the whole first.
pub fn places(sum: &Sum) -> impl Iterator<Item = Option<Place>> {
    std::iter::once(None).chain(sum.places.keys().copied().map(Some))
}

/// The classes that occur at a place, with fivetuple's counts: those that the reference or either tool names at all.
pub fn classes(both: &Both, place: Option<Place>) -> Vec<(String, Counts)> {
    let named = |counts: Option<Counts>| counts.is_some_and(|c| c.right + c.added + c.missed > 0);
    let all = match place {
        None => &both.ours.classes,
        Some(place) => match both.ours.places.get(&place) {
            Some(classes) => classes,
            None => return Vec::new(),
        },
    };
    let occurs = |name: &str| {
        named(both.ours.class(place, name))
            || named(both.tshark.as_ref().and_then(|sum| sum.class(place, name)))
    };
    all.iter().filter(|(name, _)| occurs(name)).cloned().collect()
}
