//! Another configuration needs other tables: what the old ones hold is brought over.

use harness::agent::{Agent, Launch};
use harness::tcp::{self, Conn, Serve, Server};
use harness::topology::SERVER;
use harness::{Bpffs, Gateway, eventually};

use super::{detach, end};
use crate::watch::{DEADLINE, configuration, services};

const OPENED: &str = "fivetuple_tcp_connections_opened_total";

/// What the client sent, of one point and service.
#[track_caller]
fn sent(agent: &Agent, point: &str, svc: &str, bytes: f64) {
    let labels = [("point", point), ("svc", svc), ("from", "client")];
    eventually(DEADLINE, "these bytes", || {
        match agent.metrics().sum("fivetuple_tcp_payload_bytes_total", &labels) {
            got if got == bytes => Ok(()),
            got => Err(format!("{point} {svc}: {got}, not {bytes}")),
        }
    });
}

fn opened(agent: &Agent, point: &str) -> [f64; 2] {
    ["syn", "joined_late"].map(|by| agent.metrics().sum(OPENED, &[("point", point), ("by", by)]))
}

fn generations(bpffs: &Bpffs) -> usize {
    bpffs.pins().iter().filter(|pin| pin.ends_with("DESCRIPTION")).count()
}

#[track_caller]
fn said(log: &[String], words: &str) {
    assert!(log.iter().any(|line| line.contains(words)), "{words} is not in {log:?}");
}

#[test]
fn points_and_services_come_and_go_and_counts_stay_with_their_names() {
    let world = Gateway::plan().patient().build();
    let bpffs = Bpffs::new();
    let server = Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
    let late = Server::start(&world.server, (SERVER.v4, 500), Serve::Echo);
    let start = |text: &str| bpffs.pin(Launch::configuration(text)).start(&world.gateway);
    let echo = |conn: &mut Conn, bytes| tcp::echo(conn, bytes);
    let card = services([("card", 443)]);
    let outside = format!("interfaces:\n  - name: outside\n{card}");

    let agent = start(&outside);
    let mut conn = tcp::connect(&world.client, server.address());
    echo(&mut conn, 1_000);
    sent(&agent, "outside", "card", 1_000.0);
    drop(agent);
    echo(&mut conn, 200);

    // A point is added, in front of the one that was there.
    let both = format!("interfaces:\n  - name: inside\n  - name: outside\n{card}");
    let agent = start(&both);
    echo(&mut conn, 30);
    sent(&agent, "outside", "card", 1_230.0);
    sent(&agent, "inside", "card", 30.0);
    assert_eq!((opened(&agent, "outside"), opened(&agent, "inside")), ([1.0, 0.0], [0.0, 1.0]));
    said(&end(agent), "migrated");
    assert_eq!(generations(&bpffs), 1);

    // One service that there is room for, and then more than that.
    let two = services([("card", 443), ("late", 500)]);
    let agent = start(&configuration(&two));
    let mut other = tcp::connect(&world.client, late.address());
    echo(&mut other, 5);
    echo(&mut conn, 4);
    sent(&agent, "outside", "card", 1_234.0);
    sent(&agent, "outside", "late", 5.0);
    drop(agent);
    let names: Vec<_> = (1..40_u16).map(|i| format!("more{i}")).collect();
    let many = names.iter().enumerate().map(|(i, name)| (name.as_str(), 1_000 + i as u16));
    let many = services(many.chain([("late", 500), ("card", 443)]));
    let agent = start(&configuration(&many));
    echo(&mut conn, 1_000);
    echo(&mut other, 50);
    sent(&agent, "outside", "card", 2_234.0);
    sent(&agent, "inside", "card", 1_034.0);
    sent(&agent, "outside", "late", 55.0);
    assert_eq!((opened(&agent, "outside"), opened(&agent, "inside")), ([2.0, 0.0], [1.0, 1.0]));
    said(&end(agent), "migrated");

    // Larger tables: the flows are copied.
    let large = format!("{many}tables:\n  flows: 131072\n  half_open: 32768\n  ring_bytes: 8388608\n");
    let agent = start(&configuration(&large));
    echo(&mut conn, 1);
    sent(&agent, "outside", "card", 2_235.0);
    assert_eq!((opened(&agent, "outside"), opened(&agent, "inside")), ([2.0, 0.0], [1.0, 1.0]));
    let flows = agent.get_json("/api/v1/flows?svc=card");
    let bytes: Vec<_> =
        flows["flows"].as_array().expect("a list").iter().map(|f| &f["from_client"]["bytes"]).collect();
    assert_eq!(bytes.len(), 2, "{flows}");
    assert!(bytes.contains(&&2_235.into()) && bytes.contains(&&1_035.into()), "{flows}");
    said(&end(agent), "flows_copied=4");

    // A point is no more: the other one's number changes, and nothing else of it.
    let inside = format!("interfaces:\n  - name: inside\n{large}");
    let agent = start(&inside);
    echo(&mut conn, 10);
    sent(&agent, "inside", "card", 1_045.0);
    assert_eq!(opened(&agent, "inside"), [1.0, 1.0]);
    assert_eq!(agent.metrics().count(OPENED, &[("point", "outside")]), 0);
    assert_eq!(agent.metrics().sum("fivetuple_tcp_gaps_total", &[]), 0.0);
    let attached = harness::agent::left_attached(&world.gateway);
    assert!(attached.len() == 2 && attached.iter().all(|line| line.starts_with("inside")), "{attached:?}");
    said(&end(agent), "no point any more");
    assert_eq!(generations(&bpffs), 1);
    detach(&world, &bpffs);
}
