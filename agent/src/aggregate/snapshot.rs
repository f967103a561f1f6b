//! All figures of one moment, as the metrics show them.

use super::inside::{Figures, Pair};
use crate::{
    alert::figures::Figures as AlertFigures, config::choice::Twice, connection::second_leg::LegState,
    connection_log::Lines, process::Process,
};
use agent_ebpf::{counter::COUNTERS, health::Health};
use std::{
    collections::{BTreeMap, HashMap},
    time::SystemTime,
};

/// All figures of one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Names of the points, by their numbers; empty where a number is none's.
    pub points: Vec<String>,
    /// Numbers of those whose interfaces are gone, and not waited for.
    pub gone: Vec<usize>,
    /// Names of the services, by their numbers.
    pub services: Vec<String>,
    /// What passed, for each point and service: see [`Snapshot::totals`].
    pub totals: Vec<Totals>,
    /// The programs' own accounts, ingress and egress, for each point; and one more for packets of interfaces
    /// that are none.
    pub health: Vec<[[u64; Health::COUNT]; 2]>,
    /// Where the programs hang.
    pub attached: Vec<Attached>,
    /// Interfaces that see what others see.
    pub twice: Vec<Twice>,
    /// Interfaces and points that there was no room for.
    pub interfaces: Interfaces,
    /// Fill of the kernel's tables.
    pub tables: Vec<Table>,
    /// What came of the records on the ring.
    pub ring: Ring,
    /// Open flows for each point and service, as totals are.
    pub open: Vec<OpenFlows>,
    /// Connections of clients that their service does not allow, as totals are.
    pub foreign: Vec<u64>,
    /// What the programs cost; empty unless the kernel keeps count (`kernel.bpf_stats_enabled`).
    pub programs: Vec<ProgramRun>,
    /// The newest event of a series.
    pub exemplars: HashMap<SeriesKey, Exemplar>,
    /// More connections are asked for than can be followed.
    pub flood: bool,
    /// Resets after a reuse, by point, service and how the second leg stood.
    pub legs: BTreeMap<LegKey, u64>,
    /// What happens between two points.
    pub inside: BTreeMap<Pair, Figures>,
    /// Connections at a point that were not compared with another's.
    pub inside_left_out: u64,
    /// The last time that the configuration was read.
    pub reload: Reload,
    /// Lines of the connection log.
    pub connection_log: Lines,
    /// The alerts; none in the figures that they are judged by.
    pub alerts: AlertFigures,
    /// The agent itself.
    pub process: Process,
}

/// Interfaces and points that there was no room for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// Interfaces that are asked for and are no point.
    pub waiting: u64,
    /// Points whose interfaces were gone, and whose series ended before their time.
    pub early: u64,
}

/// Point, service, and how the second leg stood.
pub type LegKey = (u8, u16, LegState);

/// Counters of one point and service, both directions together, in the order of `agent_ebpf::counter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals(pub Box<[u64]>);

impl Default for Totals {
    fn default() -> Self {
        Self(vec![0; COUNTERS].into())
    }
}

/// One counter of one point and service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SeriesKey {
    /// Number of the point.
    pub point: usize,
    /// Number of the service.
    pub svc: usize,
    /// Place among the counters.
    pub counter: usize,
}

/// An event that stands for a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exemplar {
    /// The event.
    pub event_id: u64,
    /// When it happened.
    pub at: SystemTime,
}

/// Where one direction of a point is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// Name of the point.
    pub point: String,
    /// `ingress` or `egress`.
    pub hook: &'static str,
    /// How, where it is seen at all.
    pub mode: Option<Mode>,
}

/// How a program hangs on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Native XDP.
    Xdp,
    /// A tcx link.
    Tcx,
    /// A filter on the clsact qdisc.
    Clsact,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Xdp, Self::Tcx, Self::Clsact];

    /// The value of the label `mode`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// Fill of a kernel table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The label `table`.
    pub name: &'static str,
    /// Entries now.
    pub entries: u64,
    /// Entries at most.
    pub capacity: u64,
}

/// What came of the records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ring {
    /// Records the programs made: `received + lost`.
    pub submitted: u64,
    /// Records the agent took from the ring.
    pub received: u64,
    /// Records that found the ring full.
    pub lost: u64,
    /// Of the received, those that made no sense.
    pub malformed: u64,
}

/// Flows that are open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenFlows {
    /// Connections in the tables that have not ended.
    pub open: u64,
    /// Of those, with a request that has been waiting longer than the stall limit.
    pub stalled: u64,
}

/// What a program cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramRun {
    /// Its name.
    pub program: &'static str,
    /// How often it ran.
    pub runs: u64,
    /// For how long, in nanoseconds.
    pub nanos: u64,
}

/// The last time that the configuration was read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reload {
    /// Whether it was valid.
    pub successful: bool,
    /// When it last was.
    pub success_at: SystemTime,
}

impl Default for Reload {
    fn default() -> Self {
        Self { successful: true, success_at: SystemTime::UNIX_EPOCH }
    }
}

impl Snapshot {
    /// The points, with their numbers.
    pub fn named(&self) -> impl Iterator<Item = (usize, &str)> {
        self.points.iter().map(String::as_str).enumerate().filter(|(_, name)| !name.is_empty())
    }

    /// Place of a point and service in `totals` and `open`.
    pub fn index(&self, point: usize, svc: usize) -> usize {
        point * self.services.len() + svc
    }
}
