//! How long things took: the boxes on both sides make the ways long, and their logs bound what each point can have seen.

use std::time::Duration;

use harness::Gateway;
use harness::impair::{Direction, Log, TcpFacts, flags, rules};
use harness::tcp::{self, Serve, Server};
use harness::topology::Version;

use Direction::{ToClient, ToServer};

use crate::watch::{Counted, POINTS, Watch, server_ip};

/// One way through the box on the client's side, and through the one on the server's.
const OUTER: Duration = Duration::from_millis(10);
const INNER: Duration = Duration::from_millis(20);
const REQUEST: u64 = 700;
const RESPONSE: u64 = 900;
const EXCHANGES: usize = 4;

/// When a segment passed the gateway, at the earliest and at the latest: after the box before it, before the one behind.
#[derive(Clone, Copy, Debug)]
struct Passed {
    earliest: Duration,
    latest: Duration,
}

impl Passed {
    /// The least and the most that can have been between two segments.
    fn since(self, earlier: Passed) -> [Duration; 2] {
        [self.earliest.saturating_sub(earlier.latest), self.latest - earlier.earliest]
    }
}

/// Everything that went one way and fits, in order.
fn passed(outer: &Log, inner: &Log, way: Direction, fits: impl Fn(&TcpFacts) -> bool) -> Vec<Passed> {
    let at = |log: &Log| -> Vec<Duration> {
        log.arrived(way).filter(|(_, tcp)| fits(tcp)).map(|(arrival, _)| arrival.at).collect()
    };
    let (outer, inner) = (at(outer), at(inner));
    assert_eq!(outer.len(), inner.len(), "nothing is lost between the boxes");
    let ends = match way {
        ToServer => outer.iter().map(|at| *at + OUTER).zip(inner).collect::<Vec<_>>(),
        ToClient => inner.iter().map(|at| *at + INNER).zip(outer).collect(),
    };
    ends.into_iter().map(|(earliest, latest)| Passed { earliest, latest }).collect()
}

/// A figure in seconds lies within these bounds, which the agent's microseconds may miss by one at each end of each span.
#[track_caller]
fn within(seconds: f64, bounds: [Duration; 2], spans: u32, what: &str) {
    let slack = Duration::from_micros(2) * spans;
    let [least, most] = [bounds[0].saturating_sub(slack), bounds[1] + slack].map(|bound| bound.as_secs_f64());
    assert!((least..=most).contains(&seconds), "{what}: {seconds} s is not within {least} and {most}");
}

#[track_caller]
fn histogram(counted: &Counted, point: &str, name: &str, count: usize, bounds: [Duration; 2]) {
    let get =
        |part: &str| counted.0.sum(&format!("fivetuple_tcp_{name}_seconds_{part}"), &[("point", point)]);
    assert_eq!(get("count"), count as f64, "{name} at {point}");
    within(get("sum"), bounds, count as u32, &format!("the sum of {name} at {point}"));
}

fn is_right(version: Version) {
    let world =
        Gateway::plan().patient().client_side(rules::delay(OUTER)).server_side(rules::delay(INNER)).build();
    let watch = Watch::start(&world);
    let serve = Serve::Answer { request: REQUEST, response: RESPONSE };
    let server = Server::start(&world.server, (server_ip(version), 443), serve);
    let mut conn = tcp::connect(&world.client, server.address());
    for _ in 0..EXCHANGES {
        conn.send(REQUEST);
        conn.receive(RESPONSE);
    }
    let kernel = conn.info();
    let list = watch.agent.get_json("/api/v1/flows");
    conn.half_close();
    conn.receive_to_end();
    drop(conn);
    let counted = watch.at_the_end();
    counted.nothing_wrong();

    let (outer, inner) = (world.client_box().log(), world.server_box().log());
    let all = |way, fits: fn(&TcpFacts) -> bool| passed(&outer, &inner, way, fits);
    let syn = all(ToServer, |tcp| tcp.has(flags::SYN))[0];
    let shaken = all(ToServer, |tcp| !tcp.has(flags::SYN))[0];
    let requests = all(ToServer, |tcp| tcp.payload > 0);
    let responses = all(ToClient, |tcp| tcp.payload > 0);
    assert_eq!([requests.len(), responses.len()], [EXCHANGES; 2]);
    let answered: Vec<_> =
        responses.iter().zip(&requests).map(|(response, request)| response.since(*request)).collect();
    let sum = answered.iter().fold([Duration::ZERO; 2], |sum, span| [sum[0] + span[0], sum[1] + span[1]]);
    for point in POINTS {
        histogram(&counted, point, "handshake_rtt", 1, shaken.since(syn));
        histogram(&counted, point, "first_response_byte", EXCHANGES, sum);
    }

    let flows = list["flows"].as_array().expect("a list of flows");
    assert_eq!(flows.len(), 2, "{list}");
    for flow in flows {
        let point = flow["point"].as_str().expect("a flow has a point");
        let get = |path: &str| flow.pointer(path).and_then(serde_json::Value::as_f64);
        let seconds = |path: &str| get(path).unwrap_or_else(|| panic!("no {path} in {flow}"));
        within(seconds("/handshake_rtt_seconds"), shaken.since(syn), 1, point);
        within(seconds("/first_response_byte_seconds"), answered[EXCHANGES - 1], 1, point);
        // What the client sends is acknowledged from beyond the inner box, what the server sends from beyond the outer.
        let beyond = [("/from_client", 2 * INNER), ("/from_server", 2 * OUTER)];
        for (side, way) in beyond {
            let [least, smooth] =
                ["rtt_min_seconds", "rtt_seconds"].map(|figure| seconds(&format!("{side}/{figure}")));
            let whole = Duration::from_micros(u64::from(kernel.rtt)).as_secs_f64();
            assert!(way.as_secs_f64() <= least && least <= smooth, "{point}{side}: {least} and {smooth}");
            assert!(least < whole, "{point}{side}: {least} s, but the client's kernel sees {whole} s in all");
        }
        // Both ways together are the client's own round trip, but for what the ends themselves take.
        let both = seconds("/from_client/rtt_min_seconds") + seconds("/from_server/rtt_min_seconds");
        assert!(both >= 2.0 * (OUTER + INNER).as_secs_f64(), "{point}: {both}");
    }
    counted.complete();
}

#[test]
fn times_are_right_with_ipv4() {
    is_right(Version::V4);
}

#[test]
fn times_are_right_with_ipv6() {
    is_right(Version::V6);
}
