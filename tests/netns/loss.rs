//! Random loss beyond the points: what they say was sent again is what the sender's kernel says.

use harness::Gateway;
use harness::impair::rules::Random;
use harness::impair::{Direction, Packet, Rule};
use harness::tcp::{self, Serve, Server};
use harness::topology::Version;
use harness::truth::Counters;

use Direction::{ToClient, ToServer};

use crate::watch::{POINTS, SIDES, Watch, server_ip};

/// How much goes each way; more of it where a packet carries more.
const LENGTH: [u64; 2] = [3_000_000, 20_000_000];

/// Loses segments that go this way, none of the others.
fn one_way(direction: Direction, seed: u64, share: f64) -> Rule {
    let mut random = Rule::from(Random::seeded(seed).loss(share));
    Rule::from(
        move |packet: &Packet| {
            if packet.direction == direction { random.decide(packet) } else { Vec::new() }
        },
    )
}

/// Each direction loses behind both points, so all that its sender sends again passes both of them.
fn against_the_kernel(version: Version, offloads: bool, share: f64) {
    let world = Gateway::plan()
        .client_side(one_way(ToClient, 11, share))
        .server_side(one_way(ToServer, 12, share))
        .offloads(offloads)
        .build();
    let length = LENGTH[usize::from(offloads)];
    let watch = Watch::start(&world);
    let server = Server::start(&world.server, (server_ip(version), 443), Serve::Echo);
    let mut conn = tcp::connect(&world.client, server.address());
    tcp::echo(&mut conn, length);
    conn.half_close();
    assert_eq!(conn.receive_to_end(), 0);
    drop(conn);
    let counted = watch.at_the_end();

    counted.complete();
    for (from, sender) in SIDES.into_iter().zip([&world.client, &world.server]) {
        let kernel = u64::try_from(Counters::of(sender).get("TcpRetransSegs")).expect("a count");
        for point in POINTS {
            let ours = counted.sent_again(point, from);
            let anomalies = counted.anomalies(point, from);
            let tolerance = (kernel / 100).max(3);
            assert!(
                ours.abs_diff(kernel) <= tolerance,
                "{point}: {ours} sent again by the {from}, its kernel says {kernel}; {anomalies:?}"
            );
            // Nothing is lost, overtaken or copied on the way to the points.
            for series in ["gaps", "late_fill_segments", "out_of_order_segments", "duplicate_segments"] {
                let events = || watch.agent.get("/api/v1/events?anomaly=duplicate&limit=5");
                let count = counted.tcp(point, from, series);
                assert_eq!(count, 0, "{point} {from} {series}; {anomalies:?}; {}", events());
            }
            assert_eq!(counted.tcp(point, from, "unknown_segments"), 0, "{point} {from}; {anomalies:?}");
        }
    }
    let lost = world.server_box().log().dropped(ToServer);
    // One in a thousand of a few hundred super-packets may be none.
    let sure = share >= 0.01;
    assert!(if sure { lost > 0 } else { share > 0.0 || lost == 0 }, "{lost} segments were lost at {share}");
}

#[test]
fn no_loss() {
    against_the_kernel(Version::V4, false, 0.0);
}

#[test]
fn one_in_a_thousand_lost() {
    against_the_kernel(Version::V4, false, 0.001);
}

#[test]
fn one_percent_lost() {
    against_the_kernel(Version::V4, false, 0.01);
}

#[test]
fn five_percent_lost() {
    against_the_kernel(Version::V4, false, 0.05);
}

#[test]
fn no_loss_of_super_packets() {
    against_the_kernel(Version::V4, true, 0.0);
}

#[test]
fn one_in_a_thousand_super_packets_lost() {
    against_the_kernel(Version::V4, true, 0.001);
}

#[test]
fn one_percent_of_super_packets_lost() {
    against_the_kernel(Version::V4, true, 0.01);
}

#[test]
fn five_percent_of_super_packets_lost() {
    against_the_kernel(Version::V4, true, 0.05);
}

#[test]
fn one_percent_lost_over_ipv6() {
    against_the_kernel(Version::V6, false, 0.01);
}

#[test]
fn five_percent_lost_over_ipv6() {
    against_the_kernel(Version::V6, false, 0.05);
}

#[test]
fn one_percent_of_super_packets_lost_over_ipv6() {
    against_the_kernel(Version::V6, true, 0.01);
}
