//! Handshakes that need more than one try.

use harness::Gateway;
use harness::impair::rules;
use harness::impair::{Action, Direction, Log, flags};
use harness::tcp::{self, Serve, Server};
use harness::topology::Version;
use harness::truth::Counters;

use Direction::{ToClient, ToServer};

use crate::watch::{Counted, POINTS, Watch, server_ip};

fn connect_and_close(world: &Gateway) {
    let server = Server::start(&world.server, (server_ip(Version::V4), 443), Serve::Echo);
    let mut conn = tcp::connect(&world.client, server.address());
    tcp::echo(&mut conn, 1000);
    conn.half_close();
    conn.receive_to_end();
}

/// How many segments with exactly these of SYN and ACK came this way.
fn came(log: &Log, direction: Direction, wanted: u8) -> u64 {
    log.arrived(direction).filter(|(_, tcp)| tcp.flags & (flags::SYN | flags::ACK) == wanted).count() as u64
}

#[track_caller]
fn one_connection(counted: &Counted, point: &str) {
    assert_eq!(counted.labelled("connections_opened", &[("point", point), ("by", "syn")]), 1);
    assert_eq!(counted.labelled("connections_opened", &[("point", point)]), 1);
    assert_eq!(counted.labelled("connections_established", &[("point", point)]), 1);
    assert_eq!(counted.exactly("fivetuple_tcp_five_tuple_reuses_total", &[("point", point)]), 0);
}

#[test]
fn a_syn_lost_beyond_the_points_is_sent_again() {
    let rule = rules::first(|packet| packet.direction == ToServer && packet.has(flags::SYN), Action::Drop);
    let world = Gateway::plan().server_side(rule).build();
    let watch = Watch::start(&world);
    connect_and_close(&world);
    let counted = watch.at_the_end();
    assert_eq!(came(&world.server_box().log(), ToServer, flags::SYN), 2);
    let kernel = Counters::of(&world.client);
    assert_eq!([kernel.get("TcpExtTCPSynRetrans"), kernel.get("TcpRetransSegs")], [1, 1]);
    for point in POINTS {
        counted.only(point, "client", &[("syn_retransmissions", 1), ("retransmitted_segments", 1)]);
        let labels = [("point", point), ("kind", "syn")];
        assert_eq!(counted.labelled("retransmitted_segments", &labels), 1);
        counted.only(point, "server", &[]);
        one_connection(&counted, point);
    }
    counted.complete();
}

#[test]
fn a_syn_lost_before_the_points_cannot_be_known() {
    let rule = rules::first(|packet| packet.direction == ToServer && packet.has(flags::SYN), Action::Drop);
    let world = Gateway::plan().client_side(rule).build();
    let watch = Watch::start(&world);
    connect_and_close(&world);
    let counted = watch.at_the_end();
    assert_eq!(Counters::of(&world.client).get("TcpExtTCPSynRetrans"), 1);
    counted.nothing_wrong();
    for point in POINTS {
        one_connection(&counted, point);
    }
    counted.complete();
}

#[test]
fn a_syn_ack_lost_beyond_the_points_is_sent_again() {
    let rule = rules::first(|packet| packet.direction == ToClient && packet.has(flags::SYN), Action::Drop);
    let world = Gateway::plan().client_side(rule).build();
    let watch = Watch::start(&world);
    connect_and_close(&world);
    let counted = watch.at_the_end();
    // The client's timer and the server's run at the same time: which of them is first decides how many there are.
    let log = world.client_box().log();
    let syns = came(&log, ToServer, flags::SYN) - 1;
    let answers = came(&log, ToClient, flags::SYN | flags::ACK) - 1;
    assert!(answers >= 1, "it was lost");
    let kernels = [&world.client, &world.server].map(|end| Counters::of(end).get("TcpRetransSegs") as u64);
    assert_eq!(kernels, [syns, answers]);
    for point in POINTS {
        assert_eq!(counted.tcp(point, "client", "syn_retransmissions"), syns);
        assert_eq!(counted.tcp(point, "server", "syn_ack_retransmissions"), answers);
        for (from, count) in [("client", syns), ("server", answers)] {
            assert_eq!(counted.sent_again(point, from), count, "{:?}", counted.anomalies(point, from));
            let more = ["gaps", "unknown_segments", "duplicate_segments", "out_of_order_segments"];
            assert!(more.iter().all(|series| counted.tcp(point, from, series) == 0));
        }
        one_connection(&counted, point);
    }
    counted.complete();
}
