//! What the HTTP interface takes and gives, shared by the server and by `fivetuple flows`.

use serde::{Deserialize, Serialize};

/// One thing that must hold for the agent to be ready.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// What was found.
    pub detail: String,
}

/// The answer of `/-/ready?verbose`.
#[derive(Debug, Clone, Serialize)]
pub struct Readiness {
    /// Whether every check holds.
    pub ready: bool,
    /// The checks.
    pub checks: Vec<Check>,
}

/// Why there is no list.
#[derive(Debug)]
pub enum Refusal {
    /// The filter asks for something that cannot be; the text says what can.
    Filter(String),
    /// The list could not be read.
    Failed(anyhow::Error),
}

/// Which flows to list; all where nothing is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowFilter {
    /// Name of the service.
    pub svc: Option<String>,
    /// Network in CIDR, or one address, of either end.
    pub address: Option<String>,
    /// Port of either end.
    pub port: Option<u16>,
    /// Name of an anomaly the flow shows.
    pub anomaly: Option<String>,
    /// At most this many.
    pub limit: Option<usize>,
}

/// Which events to list; the last ones where nothing is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventFilter {
    /// The event of this id, as an exemplar names it.
    pub id: Option<u64>,
    /// At most this many.
    pub limit: Option<usize>,
}

/// The flow list.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct FlowList {
    /// Flows that the filter lets through, also those beyond the limit.
    pub total: usize,
    /// The flows.
    pub flows: Vec<FlowRow>,
}

/// One flow.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct FlowRow {}

/// The event list.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct EventList {
    /// The events, the newest first.
    pub events: Vec<EventRow>,
}

/// One event.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct EventRow {}
