//! What a case is: its packets, its flows, and what must be so afterwards.

use agent_ebpf::anomaly::Anomaly;
use agent_ebpf::drive::{COUNTED, LISTED, Plan};
use agent_ebpf::traffic::Traffic;

use super::segment::{Field, From, Line, Segment};
use super::world::Hook;

/// Which tables a case has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Few flows in tables of the default size.
    Small,
    /// 64,000 flows in tables with room for 65,536.
    Many,
    /// A million flows, and room for 1,048,576.
    Million,
    /// Emptied after every run.
    Fresh,
    /// Nothing more fits in.
    Full,
}

/// Flows of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flows {
    /// One, all the time.
    One,
    /// As they stand in the list of the world from this place on.
    Listed(u32),
    /// Each step is done with as many as the case has packets, before the next step is: that many connections at the
    /// same time.
    Lockstep {
        /// New ones each time; otherwise the same again.
        new: bool,
    },
}

/// One kind of packet of a case.
#[derive(Clone, Debug)]
pub struct Step {
    /// In the table, where a case has several.
    pub label: &'static str,
    /// The first packet.
    pub segment: Segment,
    /// How it changes from one to the next.
    pub adds: Vec<(Field, [i32; 2])>,
}

/// What must have been counted, as parts of a step's packets; all else must be zero.
#[derive(Clone, Copy, Debug, Default)]
pub struct Claim {
    /// Anomalies.
    pub anomalies: &'static [(Anomaly, f64)],
    /// Connections opened, established, closed.
    pub traffic: &'static [(Traffic, f64)],
    /// Entries of the flow table and the half-open one, where the case clears them.
    pub entries: (f64, f64),
}

/// A case.
#[derive(Clone, Debug)]
pub struct Case {
    /// In tables and names.
    pub name: &'static str,
    /// Its tables.
    pub place: Place,
    /// Around its packets.
    pub line: Line,
    /// Where the client's packets are seen; the server's are at the other hook.
    pub client_at: Hook,
    /// Connections to make first, by a handshake.
    pub open: u32,
    /// Packets of flow 0 that come once, after that.
    pub before: Vec<Segment>,
    /// What is measured, in this order.
    pub steps: Vec<Step>,
    /// Whose packets these are.
    pub flows: Flows,
    /// The other side acknowledges everything before each run.
    pub acknowledged: bool,
    /// Packets of each step.
    pub repeat: u32,
    /// What must come of it.
    pub claim: Claim,
}

impl Case {
    /// Where a segment is seen.
    pub fn hook(&self, segment: &Segment) -> Hook {
        match (segment.from, self.client_at) {
            (From::Client, hook) => hook,
            (From::Server, Hook::Xdp) => Hook::Tc,
            (From::Server, Hook::Tc) => Hook::Xdp,
        }
    }

    /// Whether the driver has to change anything between two packets.
    pub fn is_driven(&self) -> bool {
        self.flows != Flows::One || self.steps.iter().any(|step| !step.adds.is_empty())
    }

    /// The driver's plan for flows of this kind from `first` on; `as_client` as in [`Segment::bytes`].
    pub fn plan(&self, step: &Step, flows: Flows, first: u32, as_client: bool) -> Plan {
        let from = if as_client { From::Client } else { step.segment.from };
        let (address_at, port_at) = self.line.end_point_at(from);
        let kind = match flows {
            Flows::One => agent_ebpf::drive::ONE,
            Flows::Listed(_) => LISTED,
            Flows::Lockstep { .. } => COUNTED,
        };
        let mut plan = Plan { flows: kind, first, address_at, port_at, ..Plan::default() };
        plan.address = self.line.address();
        for (place, (field, by)) in plan.adds.iter_mut().zip(&step.adds) {
            *place = step.segment.add(self.line, *field, *by);
        }
        plan.count = step.adds.len() as u32;
        plan
    }
}

/// Two cases at the same time, on a processor each.
#[derive(Clone, Debug)]
pub struct Pair {
    /// In tables and names.
    pub name: &'static str,
    /// Both of one world, with one step each.
    pub cases: [Case; 2],
}
