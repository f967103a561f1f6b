//! Populations for tests, and what is said of them.

use super::*;
use crate::{api::Reuse, connection::Reset};
use agent_ebpf::{
    anomaly::{Cause, Origin},
    label::Side,
    traffic::{Close, Served},
};

/// A connection on a five-tuple that nobody used before.
pub fn fresh(at_ns: u64) -> Connection {
    crate::connection::tests::answered("dmz", at_ns)
}

/// One whose five-tuple was taken again after so many seconds, and that failed by it or was answered.
pub fn reused(gap_seconds: f64, collided: bool) -> Connection {
    let reuse = Reuse { gap_seconds: Some(gap_seconds), holder: "syn_receiver".to_owned(), outcome: None };
    let mut connection = Connection { reuse: Some(reuse), ..fresh(1_700_000_000_000_000_000) };
    if collided {
        connection.close = Some(Close::ResetServer);
        connection.result = Some(Served::Reset);
        connection.reset =
            Some(Reset { cause: Cause::AfterReuse, origin: Origin::Endpoint, from: Some(Side::Server) });
    }
    connection
}

fn asked(connections: &[Connection], asked: &ReuseFilter) -> Result<Report, String> {
    report(connections, &["outside".to_owned(), "dmz".to_owned()], asked, 0)
}

fn told(connections: &[Connection]) -> String {
    text::text(&asked(connections, &ReuseFilter::default()).unwrap())
}

#[test]
fn a_time_wait_of_a_second_is_found_and_what_shorter_ones_would_leave() {
    let gap = |i: u32| 0.05 + 0.1 * f64::from(i);
    let mut connections: Vec<_> = (0..20).map(|i| reused(gap(i), gap(i) < 1.0)).collect();
    for connection in &mut connections {
        connection.from_client.rtt_min_seconds = Some(0.002);
        connection.handshake_rtt_seconds = Some(0.004);
    }
    let text = told(&connections);
    for part in [
        "20 connections at dmz, 20 on a five-tuple taken again within the window: 10 collided, 10 were answered.",
        "TIME-WAIT in force at the far end: about 1.0s (the largest gap that collided is 950ms, the smallest above it \
         that did not 1.1s).",
        "     500ms     5                0\n",
        "20ms takes them to zero",
        "1 address of 1 with collisions makes nine of ten of them: 1 port for 20 connections.",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(!text.contains("overlap") && text.contains("No connections at outside."), "{text}");
}

#[test]
fn nothing_taken_again_and_nothing_collided_are_told_apart() {
    assert!(
        told(&[fresh(1)])
            .contains("1 connection at dmz, none on a five-tuple taken again within the window.")
    );
    let text = told(&[reused(0.4, false), reused(0.6, false)]);
    assert!(text.contains("2 were answered") && text.contains("No collision"), "{text}");
    assert!(!text.contains("TIME-WAIT in force at") && !text.contains("LEFT"), "{text}");
}

#[test]
fn an_overlap_is_told() {
    let text = told(&[reused(0.2, true), reused(0.9, true), reused(0.3, false), reused(1.2, false)]);
    assert!(text.contains("overlap by 600ms"), "{text}");
}

#[test]
fn in_front_of_a_balancer_no_time_wait_is_told_but_where_to_ask() {
    // The client's port comes back after 5 s; the balancer gives ports of its own, which come back after 0.5 s and collide.
    let mut connections = Vec::new();
    for n in 0..8_u16 {
        let collided = n % 2 == 0;
        let mut front = Connection { point: "outside".to_owned(), ..reused(5.0, collided) };
        front.times.shift(i64::from(n) * 6_000_000_000);
        (front.from_client.isn, front.from_server.isn) = (Some(n.into()), Some(70_000 + u32::from(n)));
        let gap = if collided { 0.5 } else { 1.5 };
        let mut behind = Connection { times: front.times, reuse: reused(gap, false).reuse, ..front.clone() };
        (behind.point, behind.client.port) = ("dmz".to_owned(), 50_000 + n);
        behind.times.syn_ns = behind.times.syn_ns.map(|at| at + 100_000);
        connections.extend([front, behind]);
    }
    let text = told(&connections);
    for part in [
        "8 connections at outside, 8 on a five-tuple taken again within the window: 4 collided, 4 were answered.\n \
         Not by these five-tuples: 4 of them have another address or port at dmz, and that is what collides.",
        "TIME-WAIT in force at the far end: about 1.0s (the largest gap that collided is 500ms",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert_eq!(text.matches("TIME-WAIT in force").count(), 1, "{text}");
    assert_eq!(text.matches("with another TIME-WAIT").count(), 1, "{text}");
    // Where nothing behind it is seen, gaps of both kinds lie among each other.
    connections.retain(|c| c.point == "outside");
    for (n, c) in connections.iter_mut().enumerate() {
        c.reuse.as_mut().unwrap().gap_seconds = Some(n as f64);
    }
    connections
        .extend([0.5, 1.5, 2.5].map(|gap| Connection { point: "outside".to_owned(), ..reused(gap, false) }));
    let text = told(&connections);
    assert!(text.contains(" No TIME-WAIT explains them: ") && !text.contains("TIME-WAIT in force"), "{text}");
}

#[test]
fn a_gap_that_is_not_known_is_counted_by_itself() {
    let mut open = reused(0.0, true);
    open.reuse.as_mut().unwrap().gap_seconds = None;
    let text = told(&[open]);
    assert!(
        text.contains("1 collision came while the connection before was not known to be closed"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_asked_is_refused_with_what_can() {
    let with = |clients: Option<&str>, proxies: Option<&str>| ReuseFilter {
        clients: clients.map(str::to_owned),
        proxies: proxies.map(str::to_owned),
        ..ReuseFilter::default()
    };
    let refused = |filter| asked(&[fresh(1)], &filter).unwrap_err();
    assert_eq!(
        refused(with(Some("outsid"), Some("dmz"))),
        "clients: there is no \"outsid\"; did you mean outside? (there are: outside, dmz)"
    );
    assert!(refused(with(Some("dmz"), Some("dmz"))).contains("both dmz"));
    assert!(refused(with(None, Some("dmz"))).contains("go together"));
    let nothing = asked(&[fresh(1)], &with(Some("outside"), Some("dmz"))).unwrap();
    assert!(nothing.no_prediction.as_deref().is_some_and(|why| why.contains("nothing collided")));
}

#[test]
fn a_report_survives_its_way_through_json() {
    let report = asked(&[reused(0.2, true), reused(0.3, false), fresh(7)], &ReuseFilter::default()).unwrap();
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
}
