//! More connections than the flow table has room for: none is lost, and the operator is told what to raise.

use std::time::{Duration, Instant};

use harness::Gateway;
use harness::tcp::{self, Dial, Serve, Server};
use harness::topology::{CLIENT, SERVER};

use crate::watch::{POINTS, eventually_exactly, exactly, silence_until, watch};

/// For all points together, as a connection has a flow at each.
const ROOM: u32 = 256;
const CONNECTIONS: u16 = 200;

#[test]
fn a_full_flow_table_loses_no_connection() {
    let world = Gateway::plan().patient().build();
    let agent = watch(&world, &format!("tables:\n  flows: {ROOM}\n"));
    let server = Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
    let ports = 20_000..20_000 + CONNECTIONS;
    let mut open: Vec<_> = ports
        .map(|port| Dial::default().from((CLIENT.v4, port)).connect(&world.client, server.address()))
        .collect();
    // What stands among the half-open flows is not taken for a handshake that failed, nor forgotten between two sweeps.
    for _ in 0..3 {
        for conn in &mut open {
            tcp::echo(conn, 100);
        }
        silence_until(Instant::now(), Duration::from_secs(2));
    }
    let all = u32::from(CONNECTIONS);
    exactly(&agent, "connections_opened_total", &[], &[(&[("by", "syn")], all)]);
    exactly(&agent, "connections_closed_total", &[], &[]);
    exactly(&agent, "payload_bytes_total", &[("from", "client")], &[(&[], all * 300)]);
    let metrics = agent.metrics();
    let refused = metrics.sum("fivetuple_tracking_losses_total", &[("reason", "flow_table_full")]);
    assert_eq!(
        refused,
        f64::from(2 * all - ROOM),
        "each connection once at each point that had no place for it"
    );
    for point in POINTS {
        assert_eq!(metrics.sum("fivetuple_tcp_open_connections", &[("point", point)]), f64::from(all));
    }

    for conn in open.drain(..50) {
        conn.reset();
    }
    for conn in open {
        conn.half_close();
        drop(conn);
    }
    let how = [
        (&[("close", "fin_client"), ("from", "client")][..], all - 50),
        (&[("close", "rst_client"), ("from", "client")], 50),
    ];
    eventually_exactly(&agent, "connections_closed_total", &[], &how);
    exactly(&agent, "unanswered_requests_total", &[], &[]);
    exactly(&agent, "connections_opened_total", &[], &[(&[("by", "syn")], all)]);
    agent.stop();
}
