//! Closed windows and idle connections: what is sent then carries nothing, and nobody sends it again.

use std::time::Duration;

use harness::impair::{Action, Direction, Packet, Rule, TcpFacts, flags, rules};
use harness::tcp::{self, DEADLINE, Dial, Serve, Server};
use harness::topology::Version;
use harness::truth::Counters;
use harness::{Gateway, eventually};

use Direction::{ToClient, ToServer};

use crate::watch::{POINTS, Watch, server_ip};
use crate::witness::{Place, passed};

/// What carries no sequence space and begins one before the highest end of its half, with the window that the other side
/// had told last.
fn below_the_end(passed: &[(Direction, &TcpFacts)], from: Direction) -> Vec<u16> {
    let (mut highest, mut window) = (None, 0);
    let mut found = Vec::new();
    for (direction, tcp) in passed {
        if *direction != from {
            window = tcp.window;
            continue;
        }
        if tcp.length() == 0 && highest == Some(tcp.seq.wrapping_add(1)) && !tcp.has(flags::RST) {
            found.push(window);
        }
        if highest.is_none_or(|end: u32| tcp.end().wrapping_sub(end).cast_signed() > 0) {
            highest = Some(tcp.end());
        }
    }
    found
}

#[test]
fn keepalives_are_keepalives() {
    let world = Gateway::plan().server_side(rules::clean()).patient().build();
    let watch = Watch::start(&world);
    let server = Server::start(&world.server, (server_ip(Version::V4), 443), Serve::Echo);
    let second = Duration::from_secs(1);
    let mut conn = Dial::default().keepalive(second, second, 9).connect(&world.client, server.address());
    tcp::echo(&mut conn, 100);
    // An answer that crosses the FIN would be a duplicate ACK (RFC 5681, 2).
    eventually(DEADLINE, "two keepalives and their answers", || {
        let log = world.server_box().log();
        let passed = passed(&log, Place::ServerSide);
        below_the_end(&passed, ToServer).len() >= 2 && matches!(passed.last(), Some((ToClient, _)))
    });
    conn.half_close();
    conn.receive_to_end();
    drop(conn);
    let counted = watch.at_the_end();
    let sent = u64::try_from(Counters::of(&world.client).get("TcpExtTCPKeepAlive")).expect("a count");
    let log = world.server_box().log();
    assert_eq!(below_the_end(&passed(&log, Place::ServerSide), ToServer).len() as u64, sent);
    for point in POINTS {
        counted.only(point, "client", &[("keepalives", sent)]);
        counted.only(point, "server", &[]);
    }
    counted.complete();
}

/// The server has vanished: the client's kernel asks three times, and gives up with an RST (`tcp_keepalive_timer`).
#[test]
fn keepalives_that_nobody_answers_end_in_a_timeout() {
    let world = Gateway::plan().server_side(rules::clean()).patient().build();
    let watch = Watch::start(&world);
    let server = Server::start(&world.server, (server_ip(Version::V4), 443), Serve::Echo);
    let second = Duration::from_secs(1);
    let mut conn = Dial::default().keepalive(second, second, 3).connect(&world.client, server.address());
    tcp::echo(&mut conn, 100);
    world.server_box().set_rule(Rule::from(|packet: &Packet| {
        if packet.direction == ToClient { vec![Action::Drop] } else { Vec::new() }
    }));
    let labels = [("from", "client"), ("cause", "timeout"), ("origin", "endpoint")];
    let counted = watch.eventually("the client's RST at both points", |counted| {
        let resets = counted.labelled("resets", &labels);
        if resets == 2 { Ok(()) } else { Err(format!("{resets} resets")) }
    });
    for point in POINTS {
        counted.only(point, "client", &[("keepalives", 3), ("resets", 1)]);
    }
    assert_eq!(Counters::of(&world.client).get("TcpExtTCPKeepAlive"), 3);
}

#[test]
fn a_closed_window_and_its_probes_are_counted() {
    let world = Gateway::plan().server_side(rules::clean()).build();
    let watch = Watch::start(&world);
    let server = Server::start(&world.server, (server_ip(Version::V4), 443), Serve::ZeroWindow);
    let mut conn = tcp::connect(&world.client, server.address());
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            conn.send(500_000);
            conn.half_close();
            conn.receive_to_end();
        });
        eventually(DEADLINE, "two probes", || Counters::of(&world.client).get("TcpExtTCPWinProbe") >= 2);
        server.open_window();
        sending.join().expect("sending does not panic");
    });
    drop(conn);
    let counted = watch.at_the_end();
    let log = world.server_box().log();
    let passed = passed(&log, Place::ServerSide);
    let closed = passed.iter().filter(|(direction, tcp)| {
        *direction == ToClient && tcp.window == 0 && tcp.flags & (flags::SYN | flags::FIN | flags::RST) == 0
    });
    let closed = closed.count() as u64;
    assert!(closed > 0);
    let probes = below_the_end(&passed, ToServer).into_iter().filter(|window| *window == 0).count() as u64;
    assert!(probes >= 2);
    for point in POINTS {
        assert_eq!(
            counted.tcp(point, "server", "zero_windows"),
            closed,
            "{:?}",
            counted.anomalies(point, "server")
        );
        let client = counted.anomalies(point, "client");
        assert_eq!(counted.tcp(point, "client", "zero_window_probes"), probes, "{client:?}");
        assert_eq!(counted.tcp(point, "client", "keepalives"), 0, "{client:?}");
        let again = u64::try_from(Counters::of(&world.client).get("TcpRetransSegs")).expect("a count");
        assert_eq!(counted.sent_again(point, "client"), again, "{client:?}");
    }
    counted.complete();
}
