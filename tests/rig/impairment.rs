//! The box does exactly what its log says, and the kernels on both sides of it say the same.

use std::time::Duration;

use harness::eventually;
use harness::impair::rules::{self, Random};
use harness::impair::{Action, Direction, Log, Packet, Rule, TcpFacts, flags};
use harness::raw::Frame;
use harness::tcp::{self, Conn, DEADLINE, Serve, Server};
use harness::topology::{CLIENT, LEFT, RIGHT, SERVER};
use harness::truth::{Capture, Counters};
use harness::{Gateway, NetNs, Pair};

use Direction::{ToClient, ToServer};

/// Late answers make a round trip in which a rule's work is over before any timer of the sender has a say.
fn late_answers(mut rule: Rule) -> Rule {
    Rule::from(move |packet: &Packet| match packet.direction {
        ToClient => vec![Action::Delay(Duration::from_millis(20))],
        ToServer => rule.decide(packet),
    })
}

/// A world with this box on the client's side, and `length` bytes sent through it by a client that then closes.
fn transfer(rule: Rule, length: u64) -> (Gateway, Conn) {
    let world = Gateway::plan().client_side(rule).patient().build();
    let server = Server::start(&world.server, (SERVER.v4, 443), Serve::Sink);
    let mut conn = tcp::connect(&world.client, server.address());
    conn.send(length);
    conn.half_close();
    conn.receive_to_end();
    assert_eq!(eventually(DEADLINE, "the server's end", || server.finished().pop()), Ok(length));
    (world, conn)
}

/// The sequence numbers of the data segments that left towards the server, in order.
fn data_order(world: &Gateway) -> Vec<u32> {
    let log = world.client_box().log();
    log.departed(ToServer).filter(|tcp| tcp.payload > 0).map(|tcp| tcp.seq).collect()
}

#[test]
fn a_clean_box_forwards_20_mb_without_one_retransmission() {
    let world = Gateway::plan().client_side(rules::clean()).server_side(rules::clean()).patient().build();
    let server = Server::start(&world.server, (SERVER.v4, 443), Serve::Sink);
    let mut conn = tcp::connect(&world.client, server.address());
    conn.send(20_000_000);
    conn.half_close();
    conn.receive_to_end();
    // The acknowledgment of the last FIN is on its way.
    eventually(DEADLINE, "both boxes to be done", || {
        let fins = |log: &Log| log.departed(ToServer).filter(|tcp| tcp.has(flags::ACK)).count();
        world.client_box().with_log(fins) == world.server_box().with_log(fins)
    });
    assert_eq!(conn.info().total_retrans, 0);
    assert_eq!(Counters::of(&world.client).get("TcpRetransSegs"), 0);
    for log in [world.client_box().log(), world.server_box().log()] {
        assert_eq!((log.sent_again(ToServer), log.below_highest(ToServer)), (0, 0));
        assert_eq!(log.arrivals.len(), log.departures.len());
        let bytes: u64 = log.arrived(ToServer).map(|(_, tcp)| u64::from(tcp.payload)).sum();
        assert_eq!(bytes, 20_000_000);
        assert!(log.arrived(ToServer).all(|(_, tcp)| tcp.payload <= 1448), "no super-packets");
    }
}

#[test]
fn a_box_carries_super_packets_and_unfinished_checksums() {
    let world = Gateway::plan().client_side(rules::clean()).offloads(true).build();
    for address in [SERVER.v4.into(), std::net::IpAddr::from(SERVER.v6)] {
        let server = Server::start(&world.server, (address, 443), Serve::Echo);
        let mut conn = tcp::connect(&world.client, server.address());
        tcp::echo(&mut conn, 2_000_000);
    }
    let longest = world.client_box().log().arrived(ToServer).map(|(_, tcp)| tcp.payload).max();
    assert!(longest > Some(10_000), "the longest segment was {longest:?}");
}

#[test]
fn one_dropped_segment_is_sent_again_once() {
    let (world, conn) = transfer(late_answers(rules::data(ToServer, 3, Action::Drop)), 14_480);
    let log = world.client_box().log();
    let dropped: Vec<&TcpFacts> =
        log.arrived(ToServer).filter(|(arrival, _)| arrival.dropped()).map(|(_, tcp)| tcp).collect();
    assert_eq!(dropped.len(), 1);
    let same = log.arrived(ToServer).filter(|(_, tcp)| tcp.seq == dropped[0].seq && tcp.payload > 0).count();
    assert_eq!(same, 2, "the lost one and its repetition");
    assert_eq!(log.sent_again(ToServer), 1);
    assert_eq!(log.below_highest(ToServer), 1);
    assert_eq!(Counters::of(&world.client).get("TcpRetransSegs"), 1);
    assert_eq!(conn.info().total_retrans, 1);
}

#[test]
fn two_swapped_segments_are_out_of_order_and_not_sent_again() {
    let (world, _conn) = transfer(late_answers(rules::swap(ToServer, 4)), 14_480);
    let order = data_order(&world);
    let mut sorted = order.clone();
    sorted.sort_unstable();
    sorted.swap(3, 4);
    assert_eq!(order, sorted);
    let log = world.client_box().log();
    assert_eq!((log.sent_again(ToServer), log.below_highest(ToServer)), (0, 1));
    assert_eq!(Counters::of(&world.client).get("TcpRetransSegs"), 0);
    assert_eq!(Counters::of(&world.server).get("TcpExtTCPOFOQueue"), 1);
}

#[test]
fn a_duplicated_segment_arrives_twice_and_is_answered_by_dsack() {
    let (world, _conn) = transfer(late_answers(rules::data(ToServer, 7, Action::Duplicate)), 14_480);
    let log = world.client_box().log();
    assert_eq!((log.duplicated(ToServer), log.sent_again(ToServer), log.below_highest(ToServer)), (1, 0, 1));
    let data: Vec<_> = log.departed(ToServer).filter(|tcp| tcp.payload > 0).collect();
    assert_eq!(data[6], data[7], "the very same packet, its IP identification included");
    assert_eq!(Counters::of(&world.client).get("TcpRetransSegs"), 0);
    assert_eq!(Counters::of(&world.server).get("TcpExtTCPDSACKOldSent"), 1);
}

#[test]
fn a_delay_is_a_round_trip_that_the_kernel_measures() {
    let (_world, conn) = transfer(rules::delay(Duration::from_millis(15)), 100_000);
    let smallest = Duration::from_micros(conn.info().min_rtt.into());
    assert!(smallest >= Duration::from_millis(30), "the smallest round trip was {smallest:?}");
}

#[test]
fn what_is_held_at_the_end_is_let_go_when_its_time_is_up() {
    let hold = Action::HoldUntilAfter(5, Duration::from_millis(50));
    let pair = Pair::impaired(rules::first(|packet| packet.data == 1, hold));
    let server = Server::start(&pair.right, (RIGHT.v4, 80), Serve::Echo);
    let mut conn = tcp::connect(&pair.left, server.address());
    tcp::echo(&mut conn, 100);
    // The client may have sent it again meanwhile; the box let go of the first one all the same.
    let log = eventually(DEADLINE, "the held frame to leave", || {
        let log = pair.middle().log();
        let held = log.arrivals.iter().find(|arrival| arrival.data == 1)?.index;
        log.departures.iter().any(|departure| departure.arrival == Some(held)).then_some(log)
    });
    let held = log.arrivals.iter().find(|arrival| arrival.data == 1).expect("data was sent");
    let left =
        log.departures.iter().find(|departure| departure.arrival == Some(held.index)).expect("it was let go");
    assert!(left.at - held.at >= Duration::from_millis(50));
}

#[test]
fn an_injected_segment_reaches_the_end_it_was_meant_for() {
    let pair = Pair::impaired(rules::clean());
    let server = Server::start(&pair.right, (RIGHT.v4, 80), Serve::Echo);
    let mut conn = tcp::connect(&pair.left, server.address());
    tcp::echo(&mut conn, 100);
    let log = pair.middle().log();
    let last = log.departed(ToClient).last().expect("the server has answered");
    let reset =
        Frame::new(last.source, last.destination).macs(RIGHT.mac, LEFT.mac).flags(flags::RST).seq(last.end());
    pair.middle().inject(ToClient, reset.build());
    conn.expect_reset();
    let injected =
        pair.middle().log().departures.iter().filter(|departure| departure.arrival.is_none()).count();
    assert_eq!(injected, 1);
}

#[test]
fn a_bad_network_does_what_its_log_says() {
    let bad = Random::seeded(7)
        .loss(0.02)
        .duplication(0.02)
        .reordering(0.02, 3, Duration::from_millis(5))
        .delay(ToClient, Duration::from_millis(2));
    let world = Gateway::plan().client_side(bad).build();
    let capture = Capture::start(&world.gateway, "outside", "tcp and src host 10.77.1.2");
    let server = Server::start(&world.server, (SERVER.v4, 443), Serve::Sink);
    let mut conn = tcp::Dial::default().from((CLIENT.v4, 40_000)).connect(&world.client, server.address());
    conn.send(3_000_000);
    conn.half_close();
    assert_eq!(conn.receive_to_end(), 0);
    assert_eq!(eventually(DEADLINE, "the server's end", || server.finished().pop()), Ok(3_000_000));
    let name = conn.local();
    conn.close();
    // Both ends are done when the client is in TIME-WAIT and the server has nothing left.
    eventually(DEADLINE, "both ends to be done", || {
        let open = |ns: &NetNs| ns.exec("ss -Htan state connected exclude time-wait exclude established");
        open(&world.client).is_empty() && open(&world.server).is_empty()
    });
    let expected = world.client_box().with_log(|log| log.departed(ToServer).count());
    capture.eventually_packets(expected, DEADLINE);
    let log = world.client_box().log();
    let seen: Vec<TcpFacts> =
        capture.stop().iter().filter_map(|timed| TcpFacts::parse(&timed.frame)).collect();
    let left: Vec<TcpFacts> = log.departed(ToServer).cloned().collect();
    assert_eq!(seen, left, "tcpdump behind the box sees what the log says has left, in that order");

    assert!(log.dropped(ToServer) > 10 && log.duplicated(ToServer) > 10, "the network of {name} was bad");
    assert!(log.below_highest(ToServer) > log.sent_again(ToServer) - log.dropped(ToServer));
    let sent_again = |direction| i64::try_from(log.sent_again(direction)).expect("a small number");
    assert_eq!(Counters::of(&world.client).get("TcpRetransSegs"), sent_again(ToServer));
    assert_eq!(Counters::of(&world.server).get("TcpRetransSegs"), sent_again(ToClient));
}

#[test]
fn the_same_seed_decides_the_same() {
    let facts = TcpFacts::parse(&Frame::new((CLIENT.v4, 1), (SERVER.v4, 2)).build()).expect("it is TCP");
    let decisions = |seed, mixed: bool| {
        let mut rule = Rule::from(Random::seeded(seed).loss(0.1).duplication(0.1));
        let mut ask = |index, direction| {
            rule.decide(&Packet { index, direction, data: 0, tcp: Some(&facts), frame: &[] })
        };
        let mut answers = Vec::new();
        for index in 0..1000 {
            if mixed {
                ask(index, ToClient);
            }
            answers.push(ask(index, ToServer));
        }
        answers
    };
    assert_eq!(decisions(1, false), decisions(1, true), "the other direction does not matter");
    assert_ne!(decisions(1, false), decisions(2, false));
}
