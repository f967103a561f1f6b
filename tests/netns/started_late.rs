//! The agent starts in the middle of a connection: what it did not see it does not invent.

use std::sync::atomic::{AtomicBool, Ordering};

use harness::Gateway;
use harness::impair::{Action, Direction, Packet, Rule, rules};
use harness::tcp::{self, Serve, Server};
use harness::topology::Version;
use harness::truth::Counters;

use Direction::ToServer;

use crate::watch::{Counted, POINTS, SIDES, Watch, server_ip};
use crate::witness::{Place, TEN, late_answers, reports};

/// Says on its drop that sending is to end.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[track_caller]
fn joined_late(counted: &Counted) {
    for point in POINTS {
        assert_eq!(counted.labelled("connections_opened", &[("point", point), ("by", "joined_late")]), 1);
        assert_eq!(counted.labelled("connections_opened", &[("point", point)]), 1);
        assert_eq!(counted.labelled("connections_established", &[("point", point)]), 0);
        assert_eq!(counted.labelled("connections_closed", &[("point", point)]), 1);
    }
}

#[test]
fn between_two_exchanges() {
    let world = Gateway::plan().patient().build();
    for end in [&world.client, &world.server] {
        end.sysctl("net/ipv4/tcp_rmem", "4096 16777216 16777216");
    }
    let server = Server::start(&world.server, (server_ip(Version::V4), 443), Serve::Echo);
    let mut conn = tcp::connect(&world.client, server.address());
    tcp::echo(&mut conn, 500_000);
    harness::eventually(tcp::DEADLINE, "all to be acknowledged", || conn.info().unacked == 0);
    let watch = Watch::start(&world);
    let before = [&world.client, &world.server].map(Counters::of);
    tcp::echo(&mut conn, 1_000_000);
    drop(conn);
    let counted = watch.at_the_end();
    counted.nothing_wrong();
    joined_late(&counted);
    for point in POINTS {
        for ((from, end), before) in SIDES.into_iter().zip([&world.client, &world.server]).zip(&before) {
            let kernel = Counters::of(end).since(before);
            let segments =
                u64::try_from(kernel.get("TcpOutSegs") + kernel.get("TcpRetransSegs")).expect("a count");
            assert_eq!(counted.tcp(point, from, "segments"), segments, "from the {from} at {point}");
            assert_eq!(counted.tcp(point, from, "payload_bytes"), 1_000_000);
        }
    }
    counted.complete();
}

#[test]
fn while_both_send() {
    let world = Gateway::plan().patient().build();
    for end in [&world.client, &world.server] {
        end.sysctl("net/ipv4/tcp_rmem", "4096 67108864 67108864");
    }
    let server = Server::start(&world.server, (server_ip(Version::V4), 443), Serve::Echo);
    let mut conn = tcp::connect(&world.client, server.address());
    let running = AtomicBool::new(true);
    let watch = std::thread::scope(|scope| {
        scope.spawn(|| {
            while running.load(Ordering::Relaxed) {
                tcp::echo(&mut conn, 300_000);
            }
        });
        // Ends the sending also where the agent does not start.
        let _stop = Stop(&running);
        let watch = Watch::start(&world);
        watch.eventually("a megabyte to pass", |counted| {
            let bytes = counted.tcp("inside", "client", "payload_bytes");
            if bytes > 1_000_000 { Ok(()) } else { Err(bytes.to_string()) }
        });
        watch
    });
    drop(conn);
    let counted = watch.at_the_end();
    let again = [&world.client, &world.server].map(|end| Counters::of(end).get("TcpRetransSegs"));
    assert_eq!(again, [0, 0]);
    counted.nothing_wrong();
    joined_late(&counted);
    counted.complete();
}

/// A loss after the start is judged as in a connection that was known from its beginning.
#[test]
fn and_a_loss_after_that() {
    let world = Gateway::plan().server_side(rules::clean()).patient().build();
    let serve = Serve::Answer { request: TEN, response: 100 };
    let server = Server::start(&world.server, (server_ip(Version::V4), 443), serve);
    let mut conn = tcp::connect(&world.client, server.address());
    for _ in 0..2 {
        conn.send(TEN);
        conn.receive(100);
    }
    harness::eventually(tcp::DEADLINE, "all to be acknowledged", || conn.info().unacked == 0);
    let watch = Watch::start(&world);
    // The box counts data segments from its own start.
    let mut one = true;
    world.server_box().set_rule(late_answers(Rule::from(move |packet: &Packet| {
        let drop = one && packet.direction == ToServer && packet.data >= 25;
        one &= !drop;
        if drop { vec![Action::Drop] } else { Vec::new() }
    })));
    conn.send(TEN);
    conn.receive(100);
    conn.half_close();
    conn.receive_to_end();
    drop(conn);
    let counted = watch.at_the_end();
    assert_eq!(Counters::of(&world.client).get("TcpRetransSegs"), 1);
    let server = reports(&world.server_box().log(), Place::ServerSide);
    for point in POINTS {
        counted.only(point, "client", &[("retransmitted_segments", 1)]);
        counted.only(point, "server", &server);
    }
    joined_late(&counted);
    counted.complete();
}
