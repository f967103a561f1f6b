//! The format of a line. It is fixed: every key is in every line, and docs/connection-log.md explains each.

use crate::connection::{Connection, Sent};
use agent_ebpf::label::Side;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, UNIX_EPOCH},
};

/// A line: one connection as one point saw it. What was not seen, or does not apply, is null.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line<'a> {
    /// Its last packet, RFC 3339 with microseconds.
    pub time: String,
    /// The point.
    pub point: &'a str,
    /// The service.
    pub svc: &'a str,
    /// Address of the side that sent the first SYN.
    pub client: IpAddr,
    /// Its port.
    pub client_port: u16,
    /// Address of the other side.
    pub server: IpAddr,
    /// Its port.
    pub server_port: u16,
    /// VLAN identifiers, the outer one first.
    pub vlans: &'a [u16],
    /// It was met mid-way: which side is the client is a guess.
    pub inferred: bool,
    /// What it came to for the client.
    pub result: Option<&'static str>,
    /// How it ended.
    pub close: Option<&'static str>,
    /// Why it was reset.
    pub reset_cause: Option<&'static str>,
    /// Where the RST came from.
    pub reset_origin: Option<&'static str>,
    /// Seconds from the close of the connection before on this five-tuple.
    pub reuse_gap_seconds: Option<f64>,
    /// How the SYN was answered that took the five-tuple again.
    pub reuse_outcome: Option<&'a str>,
    /// Requests that were answered.
    pub answered_requests: u32,
    /// Payload bytes of the request that got no answer, or of the last that got one.
    pub request_bytes: Option<u32>,
    /// Segments that brought new bytes of it.
    pub request_segments: Option<u16>,
    /// It was answered.
    pub request_answered: Option<bool>,
    /// Method of its last request, of a service whose HTTP is looked at.
    pub http_method: Option<&'a str>,
    /// Path of that request, without its query.
    pub http_path: Option<&'a str>,
    /// Bytes of its body, by its `Content-Length`.
    pub http_request_length: Option<u64>,
    /// Status of the answer.
    pub http_status: Option<u16>,
    /// Payload bytes that the client sent, repeats included.
    pub client_bytes: u64,
    /// Payload bytes that the server sent, repeats included.
    pub server_bytes: u64,
    /// Segments of the client.
    pub client_segments: u64,
    /// Segments of the server.
    pub server_segments: u64,
    /// From the last SYN to the ACK that ended the handshake, in seconds.
    pub handshake_seconds: Option<f64>,
    /// From the last answered request to the first byte of its response, in seconds.
    pub first_byte_seconds: Option<f64>,
    /// From the first packet to the last, in seconds.
    pub duration_seconds: f64,
    /// Verdicts on what the client sent, by their names; only those above 0.
    pub client_verdicts: &'a BTreeMap<String, u32>,
    /// Verdicts on what the server sent.
    pub server_verdicts: &'a BTreeMap<String, u32>,
}

impl<'a> Line<'a> {
    /// Of a connection.
    pub fn of(connection: &'a Connection) -> Self {
        let c = connection;
        let (times, request, http) = (&c.times, c.request, c.http.as_ref());
        let sent = |side: Side| -> &'a Sent { connection.sent(side) };
        let (client, server) = (sent(Side::Client), sent(Side::Server));
        Self {
            time: humantime::format_rfc3339_micros(UNIX_EPOCH + Duration::from_nanos(times.last_seen_ns))
                .to_string(),
            point: &c.point,
            svc: &c.svc,
            client: c.client.address,
            client_port: c.client.port,
            server: c.server.address,
            server_port: c.server.port,
            vlans: &c.vlans,
            inferred: c.inferred,
            result: c.result.map(|result| result.name()),
            close: c.close.map(|close| close.name()),
            reset_cause: c.reset.map(|reset| reset.cause.name()),
            reset_origin: c.reset.map(|reset| reset.origin.name()),
            reuse_gap_seconds: c.reuse.as_ref().and_then(|reuse| reuse.gap_seconds),
            reuse_outcome: c.reuse.as_ref().and_then(|reuse| reuse.outcome.as_deref()),
            answered_requests: c.answered,
            request_bytes: request.map(|request| request.bytes),
            request_segments: request.map(|request| request.segments),
            request_answered: request.map(|request| !request.pending),
            http_method: http.and_then(|http| http.method.as_deref()),
            http_path: http.and_then(|http| http.path.as_deref()),
            http_request_length: http.and_then(|http| http.request_length),
            http_status: http.and_then(|http| http.status),
            client_bytes: client.bytes,
            server_bytes: server.bytes,
            client_segments: client.segments,
            server_segments: server.segments,
            handshake_seconds: c.handshake_rtt_seconds,
            first_byte_seconds: c.first_response_byte_seconds,
            duration_seconds: times.last_seen_ns.saturating_sub(times.opened_ns) as f64 / 1e9,
            client_verdicts: &client.anomalies,
            server_verdicts: &server.anomalies,
        }
    }

    /// Appends it, with its end of line.
    pub fn write(&self, to: &mut Vec<u8>) {
        // Memory takes any bytes, and the line has only keys that are text.
        if serde_json::to_writer(&mut *to, self).is_ok() {
            to.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{Reset, tests::answered};
    use agent_ebpf::anomaly::{Cause, Origin};

    const GOOD: &str = r#"{"time":"2023-11-14T22:13:20.100000Z","point":"outside","svc":"card","client":"192.0.2.1","client_port":40000,"server":"198.51.100.7","server_port":443,"vlans":[],"inferred":false,"result":"answered","close":"fin_client","reset_cause":null,"reset_origin":null,"reuse_gap_seconds":null,"reuse_outcome":null,"answered_requests":1,"request_bytes":800,"request_segments":1,"request_answered":true,"http_method":null,"http_path":null,"http_request_length":null,"http_status":null,"client_bytes":800,"server_bytes":800,"client_segments":5,"server_segments":5,"handshake_seconds":0.002,"first_byte_seconds":0.05,"duration_seconds":0.1,"client_verdicts":{},"server_verdicts":{}}
"#;

    fn written(connection: &Connection) -> String {
        let mut out = Vec::new();
        Line::of(connection).write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_format_is_fixed() {
        let mut connection = answered("outside", 1_700_000_000_000_000_000);
        assert_eq!(written(&connection), GOOD);
        connection.reset = Some(Reset { cause: Cause::Abort, origin: Origin::Middlebox, from: None });
        connection.from_server.anomalies.insert("retransmission".to_owned(), 3);
        let text = written(&connection);
        for part in [
            r#""reset_cause":"abort","reset_origin":"middlebox""#,
            r#""client_verdicts":{},"server_verdicts":{"retransmission":3}"#,
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn the_page_explains_every_key_in_order() {
        let page = include_str!("../../../docs/connection-log.md");
        let explained: Vec<&str> =
            page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        let keys: Vec<&str> = GOOD.split('"').skip(1).step_by(2).collect();
        let keys: Vec<&&str> = keys.iter().filter(|word| GOOD.contains(&format!("\"{word}\":"))).collect();
        assert_eq!(explained.iter().collect::<Vec<_>>(), keys);
    }
}
