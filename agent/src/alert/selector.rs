//! Which figures a rule takes: metrics, and the values of labels that count.

use super::family::{Cell, Family, Place};
use crate::{aggregate::snapshot::Snapshot, config::OTHER_SERVICE};
use std::{collections::BTreeMap, fmt};

/// Metrics with the same kind of cells, and which of their labels' values count; the others are added up.
#[derive(Debug, Clone, PartialEq)]
pub struct Selector {
    /// The metrics, added up.
    pub families: Vec<&'static Family>,
    /// Values of labels, of those that are restricted.
    pub only: BTreeMap<String, Vec<String>>,
}

impl Selector {
    /// What its cells are.
    pub fn place(&self) -> Place {
        self.families.first().map_or(Place::Agent, |family| family.place)
    }

    /// The figures of a snapshot: also those of services that are not judged now, so that one that is judged again has no
    /// sudden past.
    pub fn read(&self, snapshot: &Snapshot) -> BTreeMap<Cell, f64> {
        let mut out = BTreeMap::new();
        for family in &self.families {
            let counts: Vec<bool> = (0..family.width()).map(|sub| self.counts(family, sub)).collect();
            family.read(snapshot, &mut |cell, sub, value| {
                if counts[sub] && self.takes(cell, snapshot) {
                    *out.entry(cell).or_default() += value;
                }
            });
        }
        out
    }

    /// Whether the label combination of that place counts.
    fn counts(&self, family: &Family, mut sub: usize) -> bool {
        family.labels.iter().rev().all(|(name, values)| {
            let value = values[sub % values.len()];
            sub /= values.len();
            self.allows(name, value)
        })
    }

    fn takes(&self, cell: Cell, snapshot: &Snapshot) -> bool {
        let point = |n: Option<usize>| n.and_then(|n| snapshot.points.get(n));
        let svc = cell.svc.and_then(|n| snapshot.services.get(n));
        point(cell.point).is_none_or(|point| self.allows("point", point))
            && point(cell.to).is_none_or(|to| self.allows("to", to))
            && svc.is_none_or(|svc| self.allows("svc", svc))
    }

    /// Whether a cell is judged. Without a service of the rule's own choice the named services `svcs` are, and where there
    /// are none, `other`.
    pub fn judges(&self, cell: Cell, snapshot: &Snapshot, svcs: &[String]) -> bool {
        cell.svc.and_then(|n| snapshot.services.get(n)).is_none_or(|svc| {
            let other = svc == OTHER_SERVICE && (svcs.is_empty() || self.only.contains_key("svc"));
            other || svcs.contains(svc)
        })
    }

    /// Whether a label may have that value.
    pub fn allows(&self, label: &str, value: &str) -> bool {
        self.only.get(label).is_none_or(|values| values.iter().any(|v| v == value))
    }
}

/// As PromQL has it, as far as that can be.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.families.iter().map(|family| family.name.as_str()).collect();
        f.write_str(&names.join(" + "))?;
        let only: Vec<_> = self
            .only
            .iter()
            .map(|(label, values)| match values.as_slice() {
                [value] => format!("{label}=\"{value}\""),
                many => format!("{label}=~\"{}\"", many.join("|")),
            })
            .collect();
        if only.is_empty() { Ok(()) } else { write!(f, "{{{}}}", only.join(",")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::metrics::tests::snapshot;
    use agent_ebpf::{anomaly::Anomaly, label::Side};

    fn selector(name: &str, only: &[(&str, &[&str])]) -> Selector {
        let only = only.iter().map(|(k, v)| ((*k).to_owned(), v.iter().map(ToString::to_string).collect()));
        Selector { families: vec![Family::find(name).unwrap()], only: only.collect() }
    }

    fn sum(selector: &Selector, s: &Snapshot, svcs: &[&str]) -> Vec<f64> {
        let svcs: Vec<_> = svcs.iter().map(ToString::to_string).collect();
        let judged = |(cell, _): &(Cell, f64)| selector.judges(*cell, s, &svcs);
        selector.read(s).into_iter().filter(judged).map(|(_, value)| value).collect()
    }

    #[test]
    fn labels_restrict_and_the_rest_is_added_up() {
        let mut s = snapshot();
        for (svc, side, n) in [(0, Side::Client, 1), (1, Side::Client, 10), (1, Side::Server, 100)] {
            for point in 0..2 {
                let at = s.index(point, svc);
                s.totals[at].0[Anomaly::Gap.place(side, 0)] += n + point as u64;
            }
        }
        let name = "fivetuple_tcp_gaps_total";
        assert_eq!(sum(&selector(name, &[]), &s, &["card"]), [110.0, 112.0], "each point");
        assert_eq!(sum(&selector(name, &[]), &s, &[]), [1.0, 2.0], "other, where no service is named");
        assert_eq!(sum(&selector(name, &[("from", &["server"])]), &s, &["card"]), [100.0, 101.0]);
        assert_eq!(sum(&selector(name, &[("point", &["dmz"])]), &s, &["card"]), [112.0]);
        assert_eq!(sum(&selector(name, &[("svc", &["other"])]), &s, &["card"]), [1.0, 2.0]);
        assert_eq!(sum(&selector(name, &[("svc", &["card"])]), &s, &["bank"]), [0.0; 0], "it is no more");
    }

    #[test]
    fn it_is_told_as_promql() {
        let s = selector(
            "fivetuple_tcp_resets_total",
            &[("cause", &["time_wait", "after_reuse"]), ("from", &["server"])],
        );
        assert_eq!(
            s.to_string(),
            "fivetuple_tcp_resets_total{cause=~\"time_wait|after_reuse\",from=\"server\"}"
        );
    }
}
