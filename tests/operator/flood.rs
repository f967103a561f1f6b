//! A flood of SYNs: connections that are followed stay followed and exact, every segment is counted, and it is said.

use std::net::Ipv4Addr;
use std::time::Duration;

use harness::agent::Launch;
use harness::impair::flags::SYN;
use harness::raw::{Frame, RawPort};
use harness::tcp::{self, Dial, Serve, Server};
use harness::topology::{CLIENT, OUTSIDE, SERVER};
use harness::truth::Nft;
use harness::{Gateway, eventually};

use crate::watch::{DEADLINE, POINTS, configuration, exactly, services};

const SYNS: u32 = 200_000;
const LIVE: u16 = 50;

#[test]
fn a_flood_of_syns_is_counted_and_costs_no_connection_that_is_followed() {
    let world = Gateway::plan().patient().build();
    // Nobody answers what is only to flood.
    let _deaf = Nft::load(
        &world.server,
        "deaf",
        "chain input {\n type filter hook input priority 0;\n tcp dport 9 drop\n}",
    );
    let more = services([("card", 443)]) + "tables:\n  half_open: 4096\n";
    let agent = Launch::configuration(configuration(&more)).alone().start(&world.gateway);
    let server = Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
    let ports = 20_000..20_000 + LIVE;
    let mut open: Vec<_> = ports
        .map(|port| Dial::default().from((CLIENT.v4, port)).connect(&world.client, server.address()))
        .collect();
    for conn in &mut open {
        tcp::echo(conn, 1_000);
    }
    let series = agent.metrics().len();
    let port = RawPort::open(&world.client, CLIENT.interface);
    for n in 0..SYNS {
        // Each from an address and port of its own.
        let from = (Ipv4Addr::from(0x0b00_0000 | n >> 8), 1_024 + (n & 0xff) as u16);
        let syn = Frame::new(from, (SERVER.v4, 9)).macs(CLIENT.mac, OUTSIDE.mac).flags(SYN).seq(n);
        port.send(&syn.build());
        if n % (SYNS / 20) == 0 {
            for conn in &mut open {
                tcp::echo(conn, 100);
            }
        }
    }
    eventually(Duration::from_secs(3), "the flood to be told", || {
        agent.metrics().get("fivetuple_flood", &[]) == 1.0
    });
    // Every SYN either opened a connection or found no room, at each point; none is missing in the totals.
    eventually(DEADLINE, "every SYN to be counted", || {
        let metrics = agent.metrics();
        POINTS.iter().all(|point| {
            let here = [("point", *point), ("svc", "other")];
            metrics.sum("fivetuple_tcp_segments_total", &here) == f64::from(SYNS)
        })
    });
    let metrics = agent.metrics();
    for point in POINTS {
        let opened = metrics.sum(
            "fivetuple_tcp_connections_opened_total",
            &[("point", point), ("svc", "other"), ("by", "syn")],
        );
        let refused =
            metrics.sum("fivetuple_tracking_losses_total", &[("point", point), ("reason", "half_open_full")]);
        assert_eq!(opened + refused, f64::from(SYNS), "{point}: {opened} opened, {refused} refused");
        assert!(refused > 0.0 && opened >= 1_000.0, "{point}: {opened} opened, {refused} refused");
    }
    assert_eq!(metrics.len(), series, "a flood makes no series");
    for conn in &mut open {
        tcp::echo(conn, 100);
    }
    let payload = u32::from(LIVE) * (1_000 + 21 * 100);
    exactly(&agent, "payload_bytes_total", &[("from", "client")], &[(&[("svc", "card")], payload)]);
    let live = u32::from(LIVE);
    exactly(&agent, "connections_opened_total", &[("svc", "card")], &[(&[("by", "syn")], live)]);
    exactly(&agent, "connections_closed_total", &[("svc", "card")], &[]);
    exactly(&agent, "retransmitted_segments_total", &[("svc", "card")], &[]);
    eventually(DEADLINE, "the flood to be over", || agent.metrics().get("fivetuple_flood", &[]) == 0.0);
    drop(open);
    agent.stop();
}
