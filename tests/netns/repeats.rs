//! One segment is lost, on this side of the points or beyond them: who calls it what, and why it was sent again.

use std::time::Duration;

use harness::impair::rules::{self, Random};
use harness::impair::{Action, Direction, Impair, Packet, Rule};
use harness::tcp::{self, Conn, Serve, Server};
use harness::topology::Version;
use harness::truth::{Capture, Counters, Nft};
use harness::{Gateway, eventually};

use Direction::{ToClient, ToServer};

use crate::watch::{Counted, POINTS, Watch, server_ip};
use crate::witness::{Place, TEN, late_answers, reports, reports_at, upload};

/// The kinds of one class at a point, from the client.
#[track_caller]
fn kind(counted: &Counted, point: &str, class: &str, kind: &str) -> u64 {
    counted.labelled(class, &[("point", point), ("from", "client"), ("kind", kind)])
}

fn sent_again_by_the_client(world: &Gateway) -> i64 {
    Counters::of(&world.client).get("TcpRetransSegs")
}

#[test]
fn a_loss_beyond_the_points_is_a_retransmission() {
    let rule = late_answers(rules::data(ToServer, 3, Action::Drop));
    let world = Gateway::plan().server_side(rule).patient().build();
    let watch = Watch::start(&world);
    drop(upload(&world, TEN));
    let counted = watch.at_the_end();
    assert_eq!(sent_again_by_the_client(&world), 1);
    let server = reports(&world.server_box().log(), Place::ServerSide);
    for point in POINTS {
        counted.only(point, "client", &[("retransmitted_segments", 1)]);
        assert_eq!(kind(&counted, point, "retransmitted_segments", "fast"), 1);
        counted.only(point, "server", &server);
    }
    counted.complete();
}

#[test]
fn a_loss_before_the_points_is_a_gap_and_a_late_fill() {
    let rule = late_answers(rules::data(ToServer, 3, Action::Drop));
    let world = Gateway::plan().client_side(rule).patient().build();
    let watch = Watch::start(&world);
    drop(upload(&world, TEN));
    let counted = watch.at_the_end();
    assert_eq!(sent_again_by_the_client(&world), 1);
    let server = reports(&world.client_box().log(), Place::ClientSide);
    for point in POINTS {
        counted.only(point, "client", &[("gaps", 1), ("late_fill_segments", 1)]);
        assert_eq!(kind(&counted, point, "late_fill_segments", "fast"), 1);
        counted.only(point, "server", &server);
    }
    counted.complete();
}

/// The loss is the gateway's own, so the two points disagree, and each is right.
#[test]
fn a_loss_between_the_points_is_a_retransmission_before_it_and_a_late_fill_behind_it() {
    let world = Gateway::plan().client_side(late_answers(rules::clean())).patient().build();
    let body = "counter lost {\n}\nchain passing {\n type filter hook forward priority 0;\n \
                iifname outside tcp dport 443 meta length > 1000 numgen inc mod 100000 == 3 counter name lost drop\n}";
    let gateway = Nft::load(&world.gateway, "loss", body);
    let watch = Watch::start(&world);
    drop(upload(&world, TEN));
    let counted = watch.at_the_end();
    assert_eq!((gateway.counter("lost").0, sent_again_by_the_client(&world)), (1, 1));
    counted.only("outside", "client", &[("retransmitted_segments", 1)]);
    counted.only("inside", "client", &[("gaps", 1), ("late_fill_segments", 1)]);
    assert_eq!(kind(&counted, "outside", "retransmitted_segments", "fast"), 1);
    assert_eq!(kind(&counted, "inside", "late_fill_segments", "fast"), 1);
    let server = reports(&world.client_box().log(), Place::ClientSide);
    for point in POINTS {
        counted.only(point, "server", &server);
    }
    counted.complete();
}

/// Plays a scene until the client's kernel does what the scene is about: so many probes, timeouts and segments sent again,
/// none of them late. On a machine that stands still for a second its timers fire otherwise, and what the points see is
/// another story.
#[track_caller]
fn until_the_kernel_does(
    what: [i64; 3],
    seen_by: fn(&Gateway) -> &Impair,
    scene: impl Fn() -> (Gateway, Counted),
) -> (Gateway, Counted) {
    let mut seen = Vec::new();
    for _ in 0..6 {
        let (world, counted) = scene();
        let kernel = Counters::of(&world.client);
        let kernel =
            ["TcpExtTCPLossProbes", "TcpExtTCPTimeouts", "TcpRetransSegs"].map(|name| kernel.get(name));
        let log = seen_by(&world).log();
        let sent: Vec<_> = log.arrived(ToServer).filter(|(a, _)| a.data > 0).map(|(a, _)| a.at).collect();
        let pause = sent.windows(2).map(|two| two[1] - two[0]).max().unwrap_or_default();
        if kernel == what && pause < PUNCTUAL {
            return (world, counted);
        }
        seen.push((kernel, pause));
    }
    panic!(
        "probes, timeouts, segments sent again by the client's kernel, and its longest pause, each time: {seen:?}"
    );
}

/// One connection through the world under watch; the agent has ended when the kernels are asked.
#[track_caller]
fn through(world: Gateway, serve: Serve, talk: impl FnOnce(&mut Conn)) -> (Gateway, Counted) {
    let counted = {
        let watch = Watch::start(&world);
        let server = Server::start(&world.server, (server_ip(Version::V4), 443), serve);
        let mut conn = tcp::connect(&world.client, server.address());
        talk(&mut conn);
        drop(conn);
        watch.at_the_end()
    };
    (world, counted)
}

/// A probe after a longer pause passes for a timeout: after 1 s nobody could tell.
const PUNCTUAL: Duration = Duration::from_millis(900);

/// The kernel sends the last segment again as a probe (RFC 8985, 7), and that one's SACK tells it of the one before.
#[test]
fn a_lost_tail_is_probed_for() {
    let (_, counted) = until_the_kernel_does([1, 0, 2], Gateway::server_box, || {
        let rule = late_answers(Rule::from(|packet: &Packet| {
            let tail = packet.direction == ToServer && matches!(packet.data, 9 | 10);
            if tail { vec![Action::Drop] } else { Vec::new() }
        }));
        let world = Gateway::plan().server_side(rule).patient().build();
        // Patient but for the probe: no timeout comes before it.
        world.client.sysctl("net/ipv4/tcp_early_retrans", 3);
        // The end comes later, or it would be the tail.
        through(world, Serve::Echo, |conn| tcp::echo(conn, TEN))
    });
    for point in POINTS {
        counted.only(point, "client", &[("retransmitted_segments", 2)]);
        assert_eq!(kind(&counted, point, "retransmitted_segments", "probe"), 1);
        assert_eq!(kind(&counted, point, "retransmitted_segments", "fast"), 1);
    }
    counted.complete();
}

#[test]
fn after_a_timeout_all_that_was_lost_is_sent_again_for_it() {
    let (_, counted) = until_the_kernel_does([0, 1, 8], Gateway::server_box, || {
        let rule = late_answers(Rule::from(|packet: &Packet| {
            let lost = packet.direction == ToServer && (3..=10).contains(&packet.data);
            if lost { vec![Action::Drop] } else { Vec::new() }
        }));
        let world = Gateway::plan().server_side(rule).build();
        // No probe: nothing is heard until the timeout (RFC 6298).
        world.client.sysctl("net/ipv4/tcp_early_retrans", 0);
        through(world, Serve::Echo, |conn| tcp::echo(conn, TEN))
    });
    for point in POINTS {
        counted.only(point, "client", &[("retransmitted_segments", 8)]);
        assert_eq!(kind(&counted, point, "retransmitted_segments", "timeout"), 8);
    }
    counted.complete();
}

/// All is delivered and acknowledged, but the acknowledgments do not reach the sender: they pass the points and are lost.
#[test]
fn what_was_acknowledged_already_is_sent_again_without_need() {
    let (world, counted) = until_the_kernel_does([1, 0, 1], Gateway::client_box, || {
        let mut sent = 0;
        let rule = Rule::from(move |packet: &Packet| {
            sent = sent.max(packet.data);
            let deaf = packet.direction == ToClient && (1..=10).contains(&sent);
            // A round trip beside which it does not count what a busy machine takes: the probe waits for two.
            vec![if deaf { Action::Drop } else { Action::Delay(Duration::from_millis(20)) }]
        });
        let world = Gateway::plan().client_side(rule).patient().build();
        // Patient but for the probe: no timeout comes before it.
        world.client.sysctl("net/ipv4/tcp_early_retrans", 3);
        through(world, Serve::Sink, |conn| {
            conn.send(TEN);
            eventually(tcp::DEADLINE, "all to be acknowledged", || conn.info().unacked == 0);
        })
    });
    let log = world.client_box().log();
    let server = reports(&log, Place::ClientSide);
    assert_eq!(server[1], ("duplicate_sacks", 1), "the server got it twice and says so");
    for point in POINTS {
        counted.only(point, "client", &[("spurious_segments", 1), ("unanswered_requests", 1)]);
        assert_eq!(kind(&counted, point, "spurious_segments", "probe"), 1);
        counted.only(point, "server", &server);
    }
    counted.complete();
}

/// Duplicate ACKs of a bad network, to the last one, against what tcpdump saw at each point.
#[test]
fn duplicate_acks_are_what_the_points_saw() {
    let bad = Random::seeded(21).loss(0.02).data_only();
    let world = Gateway::plan().server_side(bad).build();
    let watch = Watch::start(&world);
    let captures = POINTS.map(|point| Capture::start(&world.gateway, point, "tcp"));
    drop(upload(&world, 1_000_000));
    let counted = watch.at_the_end();
    for (point, capture) in POINTS.into_iter().zip(captures) {
        let server = reports_at(capture);
        assert!(server[0].1 > 10, "the network was bad: {server:?}");
        for (series, count) in server {
            assert_eq!(counted.tcp(point, "server", series), count, "{series} at {point}");
        }
    }
    counted.complete();
}
