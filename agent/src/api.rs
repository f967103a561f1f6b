//! What the HTTP interface takes and gives, shared by the server and by `fivetuple flows`.

use crate::{
    alert::{engine::Standing, message::Alert, state::State},
    connection::Connection,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
};

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
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventFilter {
    /// The event of this number, as an exemplar names it.
    pub id: Option<u64>,
    /// Name of the service.
    pub svc: Option<String>,
    /// Network in CIDR, or one address, of either end.
    pub address: Option<String>,
    /// Port of either end.
    pub port: Option<u16>,
    /// Name of an anomaly the event shows.
    pub anomaly: Option<String>,
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

/// One flow: one TCP connection as seen at one point.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct FlowRow {
    /// The point.
    pub point: String,
    /// The service.
    pub svc: String,
    /// The side that sent the first SYN.
    pub client: EndPoint,
    /// The other side.
    pub server: EndPoint,
    /// VLAN identifiers, the outer one first.
    pub vlans: Vec<u16>,
    /// How far the connection has come.
    pub phase: String,
    /// The flow was met mid-way: which side is the client is a guess.
    pub inferred: bool,
    /// Seconds since its first packet.
    pub age_seconds: f64,
    /// Seconds since its last packet.
    pub idle_seconds: f64,
    /// Round trip of the handshake in seconds, where it was seen.
    pub handshake_rtt_seconds: Option<f64>,
    /// Seconds from the last answered request to the first byte of its response.
    pub first_response_byte_seconds: Option<f64>,
    /// Requests that were answered.
    pub answered_requests: u32,
    /// The request that waits for its answer.
    pub pending: Option<Pending>,
    /// What the five-tuple's previous connection has to do with this one.
    pub reuse: Option<Reuse>,
    /// How the connection ended, if it did.
    pub close: Option<String>,
    /// Why it was reset, if it was.
    pub reset_cause: Option<String>,
    /// What went wrong with it, by the anomalies' names.
    pub anomalies: Vec<String>,
    /// All that the client sent.
    pub from_client: HalfRow,
    /// All that the server sent.
    pub from_server: HalfRow,
}

/// Which connections to list; all where nothing is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionFilter {
    /// Name of the service.
    pub svc: Option<String>,
    /// Network in CIDR, or one address, of either end.
    pub address: Option<String>,
    /// Port of either end.
    pub port: Option<u16>,
    /// Only those whose last packet came in the last so many seconds.
    pub since_seconds: Option<u64>,
}

/// Which connections to compare; all where nothing is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainFilter {
    /// Name of the service.
    pub svc: Option<String>,
    /// Only those whose last packet came in the last so many seconds.
    pub since_seconds: Option<u64>,
}

/// What to tell of five-tuples that come back; all where nothing is asked.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReuseFilter {
    /// Name of the service.
    pub svc: Option<String>,
    /// Only of connections whose last packet came in the last so many seconds.
    pub since_seconds: Option<u64>,
    /// The point in front of the balancer.
    pub clients: Option<String>,
    /// The point behind it.
    pub proxies: Option<String>,
    /// The TIME-WAIT of the last stage that is predicted, in seconds.
    pub time_wait_seconds: Option<f64>,
}

/// Connections at all points, open and ended, in no order.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ConnectionList {
    /// Ended connections that were known and had to give way to newer ones.
    pub forgotten: u64,
    /// The connections.
    pub connections: Vec<Connection>,
}

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EndPoint {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

impl Default for EndPoint {
    fn default() -> Self {
        Self { address: IpAddr::from([0; 4]), port: 0 }
    }
}

impl fmt::Display for EndPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address, self.port).fmt(f)
    }
}

/// A request without an answer yet.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Pending {
    /// Its size so far, in bytes.
    pub request_bytes: u32,
    /// Seconds it has been waiting.
    pub waiting_seconds: f64,
    /// It has been waiting longer than the stall limit.
    pub stalled: bool,
}

/// A five-tuple taken again within the TIME-WAIT window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reuse {
    /// Seconds from the close to the SYN; none where the close was not seen.
    pub gap_seconds: Option<f64>,
    /// Who held TIME-WAIT.
    pub holder: String,
    /// How the SYN was answered, where that is known by now.
    pub outcome: Option<String>,
}

/// All that one side sent.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct HalfRow {
    /// Segments on the wire.
    pub segments: u64,
    /// Payload bytes, repeats included.
    pub bytes: u64,
    /// Smoothed round trip from this point to the other end and back, in seconds.
    pub rtt_seconds: Option<f64>,
    /// Smallest such round trip, in seconds.
    pub rtt_min_seconds: Option<f64>,
    /// Counts of its anomalies since the flow was met, by their names; only those above 0.
    pub anomalies: BTreeMap<String, u32>,
}

/// The alerts that are not inactive.
#[derive(Debug, Default, Serialize)]
pub struct AlertList {
    /// The alerts, in the order of the rules.
    pub alerts: Vec<AlertRow>,
}

/// One alert that is not inactive.
#[derive(Debug, Serialize)]
pub struct AlertRow {
    /// The rule.
    pub rule: String,
    /// `page` or `watch`.
    pub severity: &'static str,
    /// `pending`, `firing`, or `clearing`: all is well again, and it is about to be over.
    pub state: &'static str,
    /// Labels of its group: `svc`, `point`, `to`.
    pub labels: BTreeMap<&'static str, String>,
    /// What is compared with the thresholds now; null where nothing can be said.
    pub value: Option<f64>,
    /// What was told when it fired; null while it is pending.
    pub alert: Option<Alert>,
}

impl AlertList {
    /// Of all alerts.
    pub fn of(standings: Vec<Standing>) -> Self {
        let row = |standing: Standing| AlertRow {
            rule: standing.rule,
            severity: standing.severity,
            state: standing.state.name(),
            labels: standing.place.into_iter().collect(),
            value: standing.value,
            alert: standing.alert,
        };
        let active = standings.into_iter().filter(|standing| standing.state != State::Inactive);
        Self { alerts: active.map(row).collect() }
    }
}

/// The event list.
#[derive(Debug, Default, Serialize)]
pub struct EventList {
    /// The events, the newest first.
    pub events: Vec<EventRow>,
}

/// One event.
#[derive(Debug, Serialize)]
pub struct EventRow {
    /// Its number, as exemplars carry it.
    pub id: u64,
    /// When, in RFC 3339.
    pub time: String,
    /// What happened.
    #[serde(flatten)]
    pub what: Event,
}

/// What happened.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A segment showed an anomaly.
    Anomaly(Box<AnomalyEvent>),
    /// A connection ended: all that was known of it.
    End(Box<FlowRow>),
}

/// A segment with at least one anomaly, and the evidence. What does not apply is left out.
#[derive(Debug, Default, Serialize)]
pub struct AnomalyEvent {
    /// The point.
    pub point: String,
    /// The service.
    pub svc: String,
    /// `ingress` or `egress`.
    pub direction: &'static str,
    /// The side that sent the first SYN.
    pub client: EndPoint,
    /// The other side.
    pub server: EndPoint,
    /// VLAN identifiers, the outer one first.
    pub vlans: Vec<u16>,
    /// Who sent the segment: `client` or `server`.
    pub from: &'static str,
    /// The anomalies' names.
    pub anomalies: Vec<&'static str>,
    /// How the segment stands to the sequence space its side has used.
    pub verdict: &'static str,
    /// What decided that.
    pub evidence: &'static str,
    /// Why it was sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// Why the connection was reset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<&'static str>,
    /// Where the RST came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<&'static str>,
    /// What the five-tuple's previous connection has to do with this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reuse: Option<Reuse>,
    /// Bytes of the request that got no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unanswered_bytes: Option<u32>,
    /// Seconds since the connection's last packet.
    pub silence_seconds: f64,
    /// Seconds since the hole opened that the segment filled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hole_age_seconds: Option<f64>,
    /// Duplicate ACKs of the other side in a row.
    pub dup_acks: u8,
    /// Unanswered repeats of the same bytes.
    pub repeats: u8,
    /// Where the side had ended: the sequence number that was expected.
    pub expected: u32,
    /// What the other side had acknowledged.
    pub acked: u32,
    /// The segment.
    pub segment: SegmentRow,
}

/// Header fields of a segment.
#[derive(Debug, Default, Serialize)]
pub struct SegmentRow {
    /// Flags as letters: `S`, `SA`, `PA`.
    pub flags: String,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Payload bytes.
    pub payload: u32,
    /// Wire segments that the verdict holds for; more than 1 in a GSO super-packet.
    pub segments: u32,
    /// Window as it stands in the header.
    pub window: u16,
    /// TSval; 0 where absent.
    pub ts_val: u32,
    /// IPv4 identification.
    pub ip_id: u16,
    /// TTL or hop limit.
    pub ttl: u8,
}
