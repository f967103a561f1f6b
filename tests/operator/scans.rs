//! Whole networks as clients, and every port as a service: what is asked of the agent stays within its bounds, and is a
//! few things to be told, each once, not a hundred thousand.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use harness::agent::{Agent, Launch};
use harness::hook::{Hook, Mood};
use harness::impair::flags::SYN;
use harness::process::resident;
use harness::raw::{Frame, RawPort};
use harness::tcp::{self, Serve, Server};
use harness::topology::{CLIENT, OUTSIDE, SERVER};
use harness::{Gateway, eventually};

use crate::watch::{DEADLINE, POINTS, configuration, exactly, services};

const SEGMENTS: &str = "fivetuple_tcp_segments_total";

/// SYNs that opened a connection at a point and those that found no room.
fn opened_and_refused(agent: &Agent, point: &str) -> [f64; 2] {
    let metrics = agent.metrics();
    let opened = [("point", point), ("by", "syn")];
    let refused = [("point", point), ("reason", "half_open_full")];
    [
        metrics.sum("fivetuple_tcp_connections_opened_total", &opened),
        metrics.sum("fivetuple_tracking_losses_total", &refused),
    ]
}

/// Connections that are open meanwhile.
const LIVE: u32 = 20;

/// Every port of a host, whose kernel refuses; then 256 hosts that answer nothing, 256 ports of each.
#[test]
fn a_scan_is_told_once_and_costs_no_connection_that_is_followed() {
    let world = Gateway::plan().patient().build();
    world.gateway.ip(&format!("route add 10.99.0.0/24 via {}", SERVER.v4));
    let hook = Hook::start(&world.gateway, Mood::Takes);
    let alerts = format!("alerts:\n  webhooks: [{{url: '{}'}}]\n", hook.url());
    // All other ports of its host are a service, too: nobody is told of what belongs to none.
    let host = format!("  - name: host\n    prefixes: [{}]\n", SERVER.v4);
    let text = configuration(&(services([("card", 443)]) + &host + &alerts));
    let agent = Launch::configuration(text).alone().start(&world.gateway);
    let server = Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
    let mut live: Vec<_> = (0..LIVE).map(|_| tcp::connect(&world.client, server.address())).collect();
    live.iter_mut().for_each(|conn| tcp::echo(conn, 1_000));
    let series = agent.metrics().len();

    let every_port = (1..=u16::MAX).filter(|port| *port != 443).map(|port| (SERVER.v4, port));
    let every_host = (0..=u16::MAX).map(|n| {
        let [host, port] = n.to_be_bytes();
        (Ipv4Addr::new(10, 99, 0, host), 1_000 + u16::from(port))
    });
    let port = RawPort::open(&world.client, CLIENT.interface);
    let mut syns = 0;
    for to in every_port.chain(every_host) {
        let syn = Frame::new((CLIENT.v4, 50_000), to).macs(CLIENT.mac, OUTSIDE.mac).flags(SYN).seq(syns);
        port.send(&syn.build());
        syns += 1;
    }
    assert_eq!(syns, 65_534 + 65_536);
    for point in POINTS {
        eventually(DEADLINE, "every SYN to be counted", || {
            let [opened, refused] = opened_and_refused(&agent, point);
            if opened + refused == f64::from(syns + LIVE) {
                Ok(())
            } else {
                Err(format!("{opened} + {refused}"))
            }
        });
    }
    assert_eq!(agent.metrics().len(), series, "a scan makes no series");
    live.iter_mut().for_each(|conn| tcp::echo(conn, 100));
    exactly(&agent, "payload_bytes_total", &[("from", "client")], &[(&[("svc", "card")], LIVE * 1_100)]);
    exactly(&agent, "connections_closed_total", &[("svc", "card")], &[]);

    let told = || {
        let mut told = BTreeMap::new();
        for post in hook.posts() {
            let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let labels = &post.body["labels"];
            let keys = [&labels["alertname"], &labels["svc"], &labels["point"], &post.body["status"]];
            let what = keys.map(word).join(" ");
            *told.entry(what).or_insert(0) += 1;
        }
        told
    };
    eventually(DEADLINE, "the scan to be an alert", || {
        if told().contains_key("FivetupleRefused host  firing") {
            Ok(())
        } else {
            Err(format!("{:?}", told()))
        }
    });
    eventually(DEADLINE, "the flood to be over", || agent.metrics().get("fivetuple_flood", &[]) == 0.0);
    let told = told();
    println!("{syns} SYNs: {told:?}");
    let card = told.keys().any(|what| what.contains("card"));
    assert!(!card && told.len() <= 8 && told.values().all(|times| *times == 1), "{told:?}");
    drop(live);
    agent.stop();
}

/// A client each; the gateway's interface is not the one they ask, so that only `outside` sees them.
const CLIENTS: u32 = 300_000;

#[test]
fn a_crowd_of_clients_makes_no_series_and_takes_bounded_memory() {
    let world = Gateway::new();
    let text = configuration(&services([("card", 443)]));
    let agent = Launch::configuration(text).alone().start(&world.gateway);
    let series = agent.metrics().len();
    let before = resident(agent.pid()).expect("it runs");
    let port = RawPort::open(&world.client, CLIENT.interface);
    let mut syn = Frame::new((Ipv4Addr::new(11, 0, 0, 0), 40_000), (SERVER.v4, 9)).flags(SYN).build();
    let (mut fastest, mut slowest, mut largest) = (Duration::MAX, Duration::ZERO, 0);
    for n in 0..CLIENTS {
        // The source address, but for its first byte. Nobody looks at checksums on the way in.
        syn[14 + 13..14 + 16].copy_from_slice(&n.to_be_bytes()[1..]);
        port.send(&syn);
        if n % (CLIENTS / 10) == CLIENTS / 20 {
            let began = Instant::now();
            let text = agent.get("/metrics");
            (fastest, slowest) = (fastest.min(began.elapsed()), slowest.max(began.elapsed()));
            largest = largest.max(text.len());
        }
    }
    eventually(DEADLINE, "every SYN to be counted", || {
        let counted = agent.metrics().sum(SEGMENTS, &[("point", "outside"), ("svc", "other")]);
        if counted == f64::from(CLIENTS) { Ok(()) } else { Err(counted) }
    });
    let [opened, refused] = opened_and_refused(&agent, "outside");
    assert_eq!(opened + refused, f64::from(CLIENTS), "{opened} were followed, {refused} are counted as not");
    assert_eq!(agent.metrics().len(), series, "no client makes a series");
    let grown = resident(agent.pid()).expect("it runs").saturating_sub(before);
    println!(
        "{CLIENTS} clients, {opened} followed: {series} series, {largest} bytes, scraped in {fastest:?} to {slowest:?}; \
         {before} KiB, and {grown} more"
    );
    assert!(largest <= 1 << 20, "{largest} bytes");
    // Others may have the processors at any one of them.
    assert!(fastest <= Duration::from_millis(100), "{fastest:?}");
    assert!(grown <= 48 << 10, "{grown} KiB");
    agent.stop();
}
