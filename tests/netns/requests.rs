//! Requests without an answer, with one, and those that still wait.

use harness::Gateway;
use harness::tcp::{self, Serve, Server};
use harness::topology::Version;
use serde_json::Value;

use crate::watch::{Hook, POINTS, Watch, server_ip};

fn unanswered_events(watch: &Watch) -> Vec<Value> {
    let list = watch.agent.get_json("/api/v1/events?anomaly=unanswered");
    let events = list["events"].as_array().expect("a list of events").iter();
    events.filter(|event| event["type"] == "anomaly").cloned().collect()
}

#[test]
fn a_request_that_nobody_answers_is_told_with_its_size() {
    let world = Gateway::plan().patient().build();
    let watch = Watch::start(&world);
    let server = Server::start(&world.server, (server_ip(Version::V4), 443), Serve::Sink);
    let mut conn = tcp::connect(&world.client, server.address());
    conn.send(800);
    conn.half_close();
    assert_eq!(conn.receive_to_end(), 0);
    let local = conn.local();
    drop(conn);
    let counted = watch.at_the_end();
    for point in POINTS {
        counted.only(point, "client", &[("unanswered_requests", 1)]);
        counted.only(point, "server", &[]);
        assert_eq!(
            counted.exactly("fivetuple_tcp_first_response_byte_seconds_count", &[("point", point)]),
            0
        );
    }
    let events = harness::eventually(tcp::DEADLINE, "an event of each point", || {
        let events = unanswered_events(&watch);
        if events.len() == 2 { Ok(events) } else { Err(format!("{events:?}")) }
    });
    for point in POINTS {
        let event = events.iter().find(|event| event["point"] == point).expect("each point tells of it");
        assert_eq!(event["unanswered_bytes"], 800, "{event}");
        assert_eq!(event["client"]["port"], local.port());
        assert_eq!(event["server"]["port"], 443);
    }
    counted.complete();
}

#[test]
fn answered_requests_are_timed_and_nothing_is_missing() {
    let world = Gateway::plan().patient().build();
    let watch = Watch::start(&world);
    let serve = Serve::Answer { request: 800, response: 3000 };
    let server = Server::start(&world.server, (server_ip(Version::V4), 443), serve);
    let mut conn = tcp::connect(&world.client, server.address());
    for _ in 0..5 {
        conn.send(800);
        conn.receive(3000);
    }
    conn.half_close();
    conn.receive_to_end();
    drop(conn);
    let counted = watch.at_the_end();
    counted.nothing_wrong();
    for point in POINTS {
        assert_eq!(
            counted.exactly("fivetuple_tcp_first_response_byte_seconds_count", &[("point", point)]),
            5
        );
    }
    assert_eq!(unanswered_events(&watch), Vec::<Value>::new());
    counted.complete();
}

#[test]
fn the_last_of_some_requests_is_not_answered() {
    let world = Gateway::plan().patient().build();
    let watch = Watch::start(&world);
    let serve = Serve::Answer { request: 800, response: 3000 };
    let server = Server::start(&world.server, (server_ip(Version::V4), 443), serve);
    let mut conn = tcp::connect(&world.client, server.address());
    conn.send(800);
    conn.receive(3000);
    // Not enough to be answered.
    conn.send(500);
    conn.half_close();
    conn.receive_to_end();
    drop(conn);
    let counted = watch.at_the_end();
    for point in POINTS {
        counted.only(point, "client", &[("unanswered_requests", 1)]);
        counted.only(point, "server", &[]);
        assert_eq!(
            counted.exactly("fivetuple_tcp_first_response_byte_seconds_count", &[("point", point)]),
            1
        );
    }
    let bytes = harness::eventually(tcp::DEADLINE, "an event of each point", || {
        let events = unanswered_events(&watch);
        (events.len() == 2)
            .then(|| events.iter().map(|event| event["unanswered_bytes"].as_u64()).collect::<Vec<_>>())
    });
    assert_eq!(bytes, [Some(500), Some(500)]);
}

#[test]
fn a_request_that_waits_beyond_the_limit_is_stalled_until_it_is_answered() {
    let world = Gateway::plan().patient().build();
    let watch = Watch::configured(&world, Hook::Tc, "limits:\n  stall: 200ms\n");
    let serve = Serve::Answer { request: 800, response: 3000 };
    let server = Server::start(&world.server, (server_ip(Version::V4), 443), serve);
    let mut conn = tcp::connect(&world.client, server.address());
    let stalled = |wanted: u64| {
        watch.eventually(&format!("{wanted} stalled requests"), |counted| {
            let found =
                POINTS.map(|point| counted.exactly("fivetuple_tcp_stalled_requests", &[("point", point)]));
            if found == [wanted; 2] { Ok(()) } else { Err(format!("{found:?}")) }
        });
    };
    assert_eq!(watch.now().exactly("fivetuple_tcp_stalled_requests", &[]), 0);
    // Half a request: the server waits for the rest.
    conn.send(400);
    stalled(1);
    conn.send(400);
    conn.receive(3000);
    stalled(0);
    drop(conn);
    let counted = watch.at_the_end();
    counted.nothing_wrong();
}
