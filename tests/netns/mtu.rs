//! Frames of up to 9,000 bytes, also where the MTU changes under the programs: XDP takes what does not fit a page.

use harness::Gateway;
use harness::tcp::{self, Serve, Server};
use harness::topology::SERVER;
use harness::truth::Counters;

use crate::watch::{Hook, POINTS, Watch};

/// Both ways at each MTU.
const LENGTH: u64 = 500_000;
/// At a time: see `clean.rs`.
const PIECE: u64 = 50_000;

#[test]
fn segments_of_any_mtu_are_counted_by_xdp_while_it_changes() {
    let world = Gateway::plan().patient().build();
    let all = |mtu: u16| {
        for (end, interface) in [
            (&world.client, "eth0"),
            (&world.gateway, "outside"),
            (&world.gateway, "inside"),
            (&world.server, "eth0"),
        ] {
            end.ip(&format!("link set {interface} mtu {mtu}"));
        }
    };
    all(9_000);
    let watch = Watch::configured(&world, Hook::Xdp, "");
    let attached = harness::agent::left_attached(&world.gateway);
    let server = Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
    let mut before = 0;
    for (round, mtu) in (1..).zip([9_000, 1_500, 3_500, 9_000]) {
        all(mtu);
        let mut conn = tcp::connect(&world.client, server.address());
        for _ in 0..LENGTH / PIECE {
            tcp::echo(&mut conn, PIECE);
        }
        conn.half_close();
        assert_eq!(conn.receive_to_end(), 0);
        drop(conn);
        let counted = watch.at_the_end();
        counted.nothing_wrong();
        counted.complete();
        let [client, server] = [&world.client, &world.server]
            .map(|end| u64::try_from(Counters::of(end).get("TcpOutSegs")).expect("a count"));
        for point in POINTS {
            for (from, segments) in [("client", client), ("server", server)] {
                assert_eq!(counted.tcp(point, from, "segments"), segments, "{mtu}: {point} {from}");
                assert_eq!(
                    counted.tcp(point, from, "payload_bytes"),
                    round * LENGTH,
                    "{mtu}: {point} {from}"
                );
            }
        }
        // Most of them are full, also where each acknowledges a piece.
        let mean = LENGTH / (client - before);
        assert!(mean > u64::from(mtu) * 4 / 10 && mean < mtu.into(), "{mean} bytes in a segment at {mtu}");
        before = client;
    }
    assert_eq!(harness::agent::left_attached(&world.gateway), attached, "the same programs");
    watch.agent.stop();
}
