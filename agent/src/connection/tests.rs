//! Connections for tests, and how they are told.

use super::*;

/// A connection of a service that nothing happened to: client 192.0.2.1:40000, server 198.51.100.7:443, one request of
/// 800 bytes, answered; it lived for 100 ms from `at_ns`.
pub fn answered(point: &str, at_ns: u64) -> Connection {
    let sent = Sent {
        segments: 5,
        bytes: 800,
        isn: Some(1_000),
        next: 1_802,
        fin: true,
        ttl: Some(64),
        mss: Some(1_460),
        ..Sent::default()
    };
    Connection {
        point: point.to_owned(),
        svc: "card".to_owned(),
        client: EndPoint { address: [192, 0, 2, 1].into(), port: 40_000 },
        server: EndPoint { address: [198, 51, 100, 7].into(), port: 443 },
        vlans: Vec::new(),
        inferred: false,
        times: Times {
            opened_ns: at_ns,
            syn_ns: Some(at_ns),
            syn_ack_ns: Some(at_ns + 1_000_000),
            established_ns: Some(at_ns + 2_000_000),
            request_ns: Some(at_ns + 3_000_000),
            answer_ns: Some(at_ns + 53_000_000),
            client_end_ns: Some(at_ns + 99_000_000),
            server_end_ns: Some(at_ns + 100_000_000),
            closed_ns: Some(at_ns + 100_000_000),
            last_seen_ns: at_ns + 100_000_000,
        },
        phase: Phase::Closed,
        close: Some(Close::FinClient),
        result: Some(Served::Answered),
        reset: None,
        second_leg: None,
        reuse: None,
        answered: 1,
        request: Some(Request { bytes: 800, segments: 1, pending: false }),
        http: None,
        tls: Some(false),
        handshake_rtt_seconds: Some(0.002),
        first_response_byte_seconds: Some(0.05),
        from_client: sent.clone(),
        from_server: Sent { isn: Some(9_000), next: 9_802, ..sent },
    }
}

/// The same, so much later.
pub fn later(connection: &Connection, ns: u64) -> Connection {
    let mut c = connection.clone();
    c.times.shift(ns.cast_signed());
    c
}

#[test]
fn a_connection_survives_its_way_through_json() {
    let mut connection = answered("outside", 1_700_000_000_123_456_789);
    connection.reset = Some(Reset { cause: Cause::AfterFin, origin: Origin::Middlebox, from: None });
    connection.from_client.anomalies.insert(Anomaly::OutOfOrder.name().to_owned(), 3);
    let text = serde_json::to_string(&connection).unwrap();
    assert!(text.contains(r#""result":"answered""#) && text.contains(r#""cause":"after_fin""#), "{text}");
    assert_eq!(serde_json::from_str::<Connection>(&text).unwrap(), connection);
    assert_eq!(
        (connection.from_client.count(Anomaly::OutOfOrder), connection.from_client.payload()),
        (3, 800)
    );
    let wrong = text.replace("after_fin", "after_all");
    let error = serde_json::from_str::<Connection>(&wrong).unwrap_err().to_string();
    assert!(error.contains("\"after_all\" is none of time_wait, "), "{error}");
}

#[test]
fn times_are_the_wall_clocks() {
    let wall = UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    let clock = Clock::new(wall, Nanos(5_000_000_000));
    assert_eq!(clock.wall(Nanos(4_000_000_000)), 1_699_999_999_000_000_000);
    assert_eq!((clock.at(Nanos(0)), Clock::of_capture().wall(Nanos(7))), (None, 7));
    let flow = Flow { syn_at: Nanos(4_000_000_000), synack_us: 250, ..Flow::default() };
    let times = times(&flow, clock);
    assert_eq!((times.syn_ack_ns, times.established_ns), (Some(1_699_999_999_000_250_000), None));
    assert_eq!((times.request_ns, times.answer_ns, times.client_end_ns), (None, None, None));
}

#[test]
fn moments_in_microseconds_are_the_wall_clocks_as_long_as_they_do_not_come_round() {
    let at = |us: u64| Nanos(7_000_000_000 + us * 1_000 + 123);
    let half = |last: u64, data: u64| Half {
        bytes: 1,
        last_seen: at(last),
        last_data: at(data).stamp(),
        ..Half::default()
    };
    let mut flow = Flow {
        opened: at(0),
        exchanges: 1,
        answered: 1,
        request_at: at(300).stamp(),
        first_byte_us: 50,
        half: [half(900, 340), half(700, 500)],
        client: 1,
        ..Flow::default()
    };
    let told = |flow: &Flow| {
        let times = times(flow, Clock::of_capture());
        let since = |at: Option<u64>| at.map(|ns| (ns - 7_000_000_000) as f64 / 1e3);
        [times.request_ns, times.answer_ns, times.client_end_ns, times.server_end_ns].map(since)
    };
    assert_eq!(told(&flow), [Some(300.0), Some(350.0), Some(500.0), Some(340.0)]);
    flow.bits |= Flow::PENDING;
    assert_eq!(told(&flow)[1], None, "the answer was the last request's");
    flow.half[0].last_seen = at(72 * 60 * 1_000_000);
    assert_eq!(told(&flow), [None; 4]);
}

#[test]
fn both_are_open_at_a_time_or_not() {
    let (a, b) = (answered("a", 1_000_000_000), answered("b", 1_100_000_000));
    assert!(a.overlaps(&b) && b.overlaps(&a));
    assert!(!a.overlaps(&answered("b", 1_100_000_001)));
    assert_eq!(a.active_closer(), Some(Side::Client));
}
