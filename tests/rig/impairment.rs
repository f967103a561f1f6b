//! The box does exactly what its log says.

use std::time::Duration;

use harness::impair::rules::{self, Random};
use harness::impair::{Action, Direction, Log};
use harness::tcp::{self, Serve, Server};
use harness::topology::{RIGHT, SERVER};
use harness::{Gateway, Pair};

#[test]
fn a_clean_box_forwards_20_mb_without_one_retransmission() {
    let world = Gateway::plan().client_side(rules::clean()).server_side(rules::clean()).build();
    let server = Server::start(&world.server, (SERVER.v4, 443), Serve::Sink);
    let mut conn = tcp::connect(&world.client, server.address());
    conn.send(20_000_000);
    conn.half_close();
    conn.receive_to_end();
    assert_eq!(conn.info().total_retrans, 0);
    assert_eq!(conn.info().bytes_acked, 20_000_002, "payload, SYN and FIN");
    for log in [world.client_box().log(), world.server_box().log()] {
        assert_eq!(log.sent_again(Direction::ToServer), 0);
        assert_eq!(log.arrivals.len(), log.departures.len());
        let bytes: u64 = log.arrived(Direction::ToServer).map(|(_, tcp)| u64::from(tcp.payload)).sum();
        assert_eq!(bytes, 20_000_000);
        assert!(log.arrived(Direction::ToServer).all(|(_, tcp)| tcp.payload <= 1448), "no super-packets");
    }
}
