//! The figures that a rule may name: the metrics, by the names and labels under which `/metrics` shows them.

use crate::{
    aggregate::{
        inside::SideFigures,
        rows::seconds,
        snapshot::{Mode, OpenFlows, Snapshot},
    },
    connection::second_leg::LegState,
    source::sweep,
};
use agent_ebpf::{
    anomaly::Anomaly,
    counter::{Series, width},
    health::{Health, Kind},
    histogram::{BOUNDS, Histogram},
    label::{Direction, Label as _, Side},
    traffic::Traffic,
};
use std::sync::LazyLock;

/// Where a figure belongs: numbers of the point (of a pair, the one nearer to the clients), of the pair's other point,
/// and of the service, as far as the metric has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// Label `point`.
    pub point: Option<usize>,
    /// Label `to`.
    pub to: Option<usize>,
    /// Label `svc`.
    pub svc: Option<usize>,
}

/// What the cells of a metric are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A point and a service.
    Service,
    /// Two points and a service.
    Pair,
    /// A point.
    Point,
    /// The agent.
    Agent,
}

impl Place {
    /// The labels that name a cell.
    pub fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Service => &["svc", "point"],
            Self::Pair => &["svc", "point", "to"],
            Self::Point => &["point"],
            Self::Agent => &[],
        }
    }
}

/// A label beside those of the cell, and its values.
pub type Label = (&'static str, Vec<&'static str>);

/// Takes a cell, the place of the label combination (row-major over the labels' values), and the figure.
type Each<'a> = &'a mut dyn FnMut(Cell, usize, f64);

/// A metric.
pub struct Family {
    /// Its name, as `/metrics` shows it.
    pub name: String,
    /// Whether it only grows.
    pub counter: bool,
    /// What its cells are.
    pub place: Place,
    /// Its other labels.
    pub labels: Vec<Label>,
    read: Reader,
}

/// Where its figures stand in a snapshot.
enum Reader {
    /// So many counters of the totals, from the first on.
    Totals {
        first: usize,
        count: usize,
    },
    /// A histogram's number of observations.
    Observations(Histogram),
    /// A histogram's sum, in seconds.
    Sum(Histogram),
    Open(fn(&OpenFlows) -> u64),
    Foreign,
    Legs,
    Inside(OfSide),
    InsideConnections,
    /// Self-counters of one kind, by hook and reason.
    Health(Kind),
    Attached,
    /// One figure for each value of its only label, or one alone.
    Agent(fn(&Snapshot, usize) -> f64),
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl std::fmt::Debug for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Family {
    /// The metric of a name.
    pub fn find(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|family| family.name == name)
    }

    /// Label combinations of a cell.
    pub fn width(&self) -> usize {
        self.labels.iter().map(|(_, values)| values.len()).product()
    }

    /// Shows each figure of a snapshot.
    pub fn read(&self, snapshot: &Snapshot, each: Each<'_>) {
        match self.read {
            Reader::Totals { first, count } => by_service(snapshot, |cell, at| {
                let totals = snapshot.totals.get(at).map_or(&[][..], |totals| &totals.0);
                let values = totals.get(first..first + count).unwrap_or_default();
                values.iter().enumerate().for_each(|(sub, value)| each(cell, sub, *value as f64));
            }),
            Reader::Observations(histogram) => by_service(snapshot, |cell, at| {
                let first = histogram.base();
                let buckets = snapshot.totals.get(at).and_then(|t| t.0.get(first..=first + BOUNDS.len()));
                each(cell, 0, buckets.unwrap_or_default().iter().sum::<u64>() as f64);
            }),
            Reader::Sum(histogram) => by_service(snapshot, |cell, at| {
                let sum = snapshot.totals.get(at).map_or(0, |totals| totals.0[histogram.sum()]);
                each(cell, 0, seconds(sum));
            }),
            Reader::Open(figure) => by_service(snapshot, |cell, at| {
                each(cell, 0, snapshot.open.get(at).map_or(0, figure) as f64);
            }),
            Reader::Foreign => by_service(snapshot, |cell, at| {
                each(cell, 0, snapshot.foreign.get(at).copied().unwrap_or_default() as f64);
            }),
            Reader::Legs => by_service(snapshot, |cell, _| {
                let (point, svc) = (cell.point.unwrap_or_default(), cell.svc.unwrap_or_default());
                for (sub, state) in LegState::VALUES.iter().enumerate() {
                    let key = (u8::try_from(point).unwrap_or(u8::MAX), svc as u16, *state);
                    each(cell, sub, snapshot.legs.get(&key).copied().unwrap_or_default() as f64);
                }
            }),
            Reader::Inside(figure) => by_pair(snapshot, |cell, figures| {
                let sides = figures.sides.iter().enumerate();
                sides.for_each(|(sub, side)| each(cell, sub, figure(side) as f64));
            }),
            Reader::InsideConnections => {
                by_pair(snapshot, |cell, figures| each(cell, 0, figures.connections as f64));
            }
            Reader::Health(kind) => {
                for (point, _) in snapshot.named() {
                    let Some(hooks) = snapshot.health.get(point) else { continue };
                    let cell = Cell { point: Some(point), ..Cell::default() };
                    let rows = || Health::ALL.iter().filter(|row| row.kind() == kind);
                    let values = hooks.iter().flat_map(|counts| rows().map(|row| counts[*row as usize]));
                    values.enumerate().for_each(|(sub, value)| each(cell, sub, value as f64));
                }
            }
            Reader::Attached => {
                for (point, name) in snapshot.named().filter(|(n, _)| !snapshot.gone.contains(n)) {
                    let cell = Cell { point: Some(point), ..Cell::default() };
                    for (hook, direction) in Direction::ALL.iter().enumerate() {
                        let mode =
                            snapshot.attached.iter().find(|a| a.point == *name && a.hook == direction.name());
                        let mode = mode.and_then(|attached| attached.mode);
                        for (place, known) in Mode::ALL.into_iter().enumerate() {
                            let sub = hook * Mode::ALL.len() + place;
                            each(cell, sub, f64::from(u8::from(mode == Some(known))));
                        }
                    }
                }
            }
            Reader::Agent(figure) => {
                (0..self.width()).for_each(|sub| each(Cell::default(), sub, figure(snapshot, sub)));
            }
        }
    }
}

/// Every point and service, with their place among the totals.
fn by_service(snapshot: &Snapshot, mut each: impl FnMut(Cell, usize)) {
    for (point, _) in snapshot.named() {
        for svc in 0..snapshot.services.len() {
            let cell = Cell { point: Some(point), to: None, svc: Some(svc) };
            each(cell, snapshot.index(point, svc));
        }
    }
}

fn by_pair(snapshot: &Snapshot, mut each: impl FnMut(Cell, &crate::aggregate::inside::Figures)) {
    for (pair, figures) in &snapshot.inside {
        let [point, to] = [pair.from, pair.to].map(|n| Some(usize::from(n)));
        each(Cell { point, to, svc: Some(usize::from(pair.svc)) }, figures);
    }
}

/// Every metric that a rule may name.
pub static ALL: LazyLock<Vec<Family>> = LazyLock::new(|| {
    let mut all = Vec::new();
    all.extend(Anomaly::ALL.iter().map(|row| counters(*row)));
    all.extend(Traffic::ALL.iter().map(|row| counters(*row)));
    for histogram in Histogram::ALL {
        let name = |part| format!("fivetuple_tcp_{}_{part}", histogram.series());
        all.push(family(&name("count"), true, Place::Service, vec![], Reader::Observations(*histogram)));
        all.push(family(&name("sum"), true, Place::Service, vec![], Reader::Sum(*histogram)));
    }
    let gauge = |name, figure| family(name, false, Place::Service, vec![], Reader::Open(figure));
    all.push(gauge("fivetuple_tcp_open_connections", |open| open.open));
    all.push(gauge("fivetuple_tcp_stalled_requests", |open| open.stalled));
    let foreign = "fivetuple_tcp_foreign_connections_total";
    all.push(family(foreign, true, Place::Service, vec![], Reader::Foreign));
    let legs = vec![("leg", LegState::VALUES.iter().map(|leg| leg.value()).collect())];
    all.push(family("fivetuple_leg_resets_total", true, Place::Service, legs, Reader::Legs));
    let connections = "fivetuple_inside_connections_total";
    all.push(family(connections, true, Place::Pair, vec![], Reader::InsideConnections));
    for (name, figure) in INSIDE {
        all.push(family(name, true, Place::Pair, vec![from()], Reader::Inside(figure)));
    }
    let left_out = |snapshot: &Snapshot, _| snapshot.inside_left_out as f64;
    all.push(own("fivetuple_inside_left_out_total", true, vec![], left_out));
    for (name, kind) in [
        ("fivetuple_packets_seen_total", Kind::Seen),
        ("fivetuple_packets_counted_total", Kind::Counted),
        ("fivetuple_packets_skipped_total", Kind::Skipped),
        ("fivetuple_tracking_losses_total", Kind::Short),
    ] {
        let reasons: Vec<_> =
            Health::ALL.iter().filter(|row| row.kind() == kind).map(|row| row.name()).collect();
        let mut labels = vec![hook()];
        if reasons.len() > 1 {
            labels.push(("reason", reasons));
        }
        all.push(family(name, true, Place::Point, labels, Reader::Health(kind)));
    }
    let modes = Mode::ALL.iter().map(|mode| mode.name()).collect();
    let labels = vec![hook(), ("mode", modes)];
    all.push(family("fivetuple_attached", false, Place::Point, labels, Reader::Attached));
    all.extend(of_the_agent());
    all
});

/// A figure of one side.
type OfSide = fn(&SideFigures) -> u64;

/// What one side's segments met between two points.
const INSIDE: [(&str, OfSide); 4] = [
    ("fivetuple_inside_lost_segments_total", |side| side.lost),
    ("fivetuple_inside_reordered_segments_total", |side| side.reordered),
    ("fivetuple_inside_added_segments_total", |side| side.added),
    ("fivetuple_inside_added_resets_total", |side| side.resets),
];

fn of_the_agent() -> Vec<Family> {
    let tables = || {
        let names = sweep::TABLES.iter().map(|(_, name)| *name).chain(["services"]);
        vec![("table", names.collect())]
    };
    vec![
        own("fivetuple_ring_submitted_total", true, vec![], |s, _| s.ring.submitted as f64),
        own("fivetuple_ring_received_total", true, vec![], |s, _| s.ring.received as f64),
        own("fivetuple_ring_lost_total", true, vec![], |s, _| s.ring.lost as f64),
        own("fivetuple_ring_malformed_total", true, vec![], |s, _| s.ring.malformed as f64),
        own("fivetuple_table_entries", false, tables(), |s, n| {
            s.tables.get(n).map_or(0.0, |t| t.entries as f64)
        }),
        own("fivetuple_table_capacity", false, tables(), |s, n| {
            s.tables.get(n).map_or(0.0, |t| t.capacity as f64)
        }),
        own(
            "fivetuple_connection_log_lines_total",
            true,
            vec![("result", vec!["written", "sampled_out", "failed"])],
            |s, n| {
                let lines = s.connection_log;
                [lines.written, lines.sampled_out, lines.failed][n] as f64
            },
        ),
        own("fivetuple_config_last_reload_successful", false, vec![], |s, _| {
            f64::from(u8::from(s.reload.successful))
        }),
        own("process_resident_memory_bytes", false, vec![], |s, _| s.process.resident_bytes as f64),
        own("process_cpu_seconds_total", true, vec![], |s, _| s.process.cpu_seconds),
        own("process_open_fds", false, vec![], |s, _| s.process.open_fds as f64),
    ]
}

fn family(name: &str, counter: bool, place: Place, labels: Vec<Label>, read: Reader) -> Family {
    Family { name: name.to_owned(), counter, place, labels, read }
}

fn own(name: &str, counter: bool, labels: Vec<Label>, figure: fn(&Snapshot, usize) -> f64) -> Family {
    family(name, counter, Place::Agent, labels, Reader::Agent(figure))
}

fn counters<S: Series>(row: S) -> Family {
    let labels = row.labels().iter().map(|table| (table.key, table.values.to_vec()));
    let labels = std::iter::once(from()).chain(labels).collect();
    let read = Reader::Totals { first: row.base(), count: width(row.labels()) };
    family(&format!("fivetuple_tcp_{}_total", row.series()), true, Place::Service, labels, read)
}

fn from() -> Label {
    (Side::TABLE.key, Side::TABLE.values.to_vec())
}

fn hook() -> Label {
    ("hook", Direction::ALL.iter().map(|hook| hook.name()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::{inside::Figures, metrics, metrics::tests::snapshot};
    use std::collections::BTreeMap;

    /// The samples of the exposition, by name and labels as they stand there.
    fn exposed(snapshot: Snapshot) -> BTreeMap<String, f64> {
        let text = metrics::render(snapshot).unwrap();
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples
            .map(|line| line.rsplit_once(' ').unwrap())
            .map(|(k, v)| (k.to_owned(), v.parse().unwrap()))
            .collect()
    }

    #[test]
    fn every_metric_reads_what_the_exposition_shows() {
        let mut s = snapshot();
        for (n, totals) in s.totals.iter_mut().enumerate() {
            totals.0.iter_mut().enumerate().for_each(|(i, count)| *count = (1_000 * n + i) as u64);
        }
        for (n, hooks) in s.health.iter_mut().enumerate() {
            for (m, counts) in hooks.iter_mut().enumerate() {
                counts.iter_mut().enumerate().for_each(|(i, count)| *count = (100 * n + 50 * m + i) as u64);
            }
        }
        s.legs.insert((1, 1, LegState::Refused), 6);
        s.foreign = vec![0, 4, 0, 0];
        let pair = crate::aggregate::inside::Pair { from: 0, to: 1, svc: 1 };
        let mut figures = Figures { connections: 8, ..Figures::default() };
        (figures.sides[1].reordered, figures.sides[0].resets) = (3, 2);
        s.inside.insert(pair, figures);
        let exposed = exposed(s.clone());
        for family in ALL.iter() {
            let mut sum = 0.0;
            family.read(&s, &mut |cell, sub, value| {
                assert!(sub < family.width(), "{family:?}");
                assert!(cell.point.is_some() == family.place.labels().contains(&"point"), "{family:?}");
                sum += value;
            });
            let named = |key: &&String| {
                key.strip_prefix(&*family.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
            };
            // What came on no watched interface belongs to no point.
            let shown: Vec<_> =
                exposed.iter().filter(|(k, _)| named(k) && !k.contains("point=\"none\"")).collect();
            assert!(!shown.is_empty(), "{family:?} is not shown");
            let want: f64 = shown.iter().map(|(_, value)| **value).sum();
            assert!((sum - want).abs() < 1e-6, "{family:?}: {sum}, not {want}");
        }
    }

    /// A combination of labels stands at its own place.
    #[test]
    fn labels_are_row_major_as_in_the_exposition() {
        let resets = Family::find("fivetuple_tcp_resets_total").unwrap();
        let names: Vec<_> = resets.labels.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["from", "cause", "origin"]);
        let mut s = snapshot();
        let sub = 2 * resets.labels[2].1.len() + 1;
        let at = s.index(0, 1);
        s.totals[at].0[Anomaly::Reset.place(Side::Server, sub)] = 7;
        let mut found = Vec::new();
        resets.read(&s, &mut |cell, sub, value| {
            if value > 0.0 {
                found.push((cell.point, cell.svc, sub));
            }
        });
        let side = resets.labels[1].1.len() * resets.labels[2].1.len();
        assert_eq!(found, [(Some(0), Some(1), side + sub)]);
    }
}
