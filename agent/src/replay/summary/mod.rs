//! The report: what an operator wants to know of captures, gathered while they are judged.
//!
//! Counts are the totals that the kernel would have kept; single connections come from the records of their ends.

mod text;
mod worst;

use super::judge::Judge;
use crate::{
    aggregate::{
        Names, events,
        rows::{Sight, nanos},
    },
    config::{OTHER_SERVICE, Watch},
};
use agent_ebpf::{
    label::Side,
    layout::{HealthCounts, Totals},
    record::Record,
    time::Nanos,
};
use std::path::{Path, PathBuf};
use worst::Worst;

/// The report on all captures.
pub struct Summary<'a> {
    watch: &'a Watch,
    names: Names,
    points: Vec<Point>,
}

/// The report on one capture.
pub struct Point {
    number: usize,
    path: PathBuf,
    stall: u64,
    /// What could not be read.
    problems: Vec<String>,
    span: Option<(Nanos, Nanos)>,
    /// By service.
    totals: Vec<Totals>,
    health: HealthCounts,
    worst: Worst,
    /// Connections that had not ended when the capture did.
    open: u64,
    /// Of those, with a request that was waiting longer than the stall limit.
    stalled: u64,
}

impl<'a> Summary<'a> {
    /// Empty, with these services and limits.
    pub fn new(watch: &'a Watch) -> Self {
        let services = watch.services.iter().map(|service| service.name.clone());
        let services = std::iter::once(OTHER_SERVICE.to_owned()).chain(services).collect();
        Self { watch, names: Names { services, ..Names::default() }, points: Vec::new() }
    }

    /// Begins the report on another capture.
    pub fn point(&mut self, name: &str, path: &Path) -> &mut Point {
        self.names.points.push(name.to_owned());
        let point = Point {
            number: self.points.len(),
            path: path.into(),
            stall: nanos(self.watch.limits.stall),
            problems: Vec::new(),
            span: None,
            totals: Vec::new(),
            health: HealthCounts::default(),
            worst: Worst::default(),
            open: 0,
            stalled: 0,
        };
        self.points.push(point);
        let last = self.points.len() - 1;
        &mut self.points[last]
    }

    /// The report.
    pub fn text(&self) -> String {
        text::text(self)
    }
}

impl Point {
    /// Something could not be read.
    pub fn problem(&mut self, text: String) {
        self.problems.push(text);
    }

    /// Takes a record; of an end, the connection.
    pub fn record(&mut self, record: &Record) {
        if let Record::End(end) = record {
            self.worst.offer(self.number, end.head.at, events::sight(end));
        }
    }

    /// Takes what is known at the end of the capture.
    pub fn finish(&mut self, judge: &mut Judge<'_>) {
        judge.all_records(|record| self.record(&record));
        self.span = judge.span();
        self.totals = judge.totals();
        self.health = judge.health();
        let now = self.span.map_or(Nanos(0), |(_, last)| last);
        judge.host().each_open(|key, flow, counts| {
            self.open += 1;
            self.stalled += u64::from(flow.stalled(now, self.stall));
            self.worst.offer(self.number, now, Sight { key, flow: *flow, counts });
        });
    }

    /// The sum of a counter over the services.
    fn total(&self, place: usize) -> u64 {
        self.totals.iter().map(|totals| totals[place]).sum()
    }

    /// The sum of a row of counters over the services and its `width / 2` label combinations.
    fn row(&self, base: usize, width: usize, side: Side) -> u64 {
        let subs = 0..width / 2;
        subs.map(|sub| self.total(agent_ebpf::counter::place(base, width, side, sub))).sum()
    }
}
