//! A healthy transfer: nothing is wrong, and every segment and byte is counted, as the peers' kernels count them.

use harness::Gateway;
use harness::eventually;
use harness::tcp::{self, DEADLINE, Serve, Server};
use harness::topology::Version;
use harness::truth::{Counters, Nft};

use crate::watch::{Hook, POINTS, Watch, server_ip};

const LENGTH: u64 = 4_000_000;
/// At a time: a veth hands a native XDP program at most 256 packets that wait, and drops the others.
const PIECE: u64 = 100_000;

/// What arrives at a host from the wire, counted by its nftables: wire packets where nothing is merged.
#[track_caller]
fn witness(namespace: &harness::NetNs) -> Nft<'_> {
    let body = "counter arrived {\n}\nchain arriving {\n type filter hook input priority 0;\n \
                iifname eth0 meta l4proto tcp counter name arrived\n}";
    Nft::load(namespace, "witness", body)
}

fn both_ways(version: Version, offloads: bool, hook: Hook) {
    let world = Gateway::plan().offloads(offloads).patient().build();
    for end in [&world.client, &world.server] {
        // All of it fits: nobody ever has to close the window.
        end.sysctl("net/ipv4/tcp_rmem", "4096 16777216 16777216");
    }
    let witnesses = [witness(&world.server), witness(&world.client)];
    let watch = Watch::configured(&world, hook, "");
    let server = Server::start(&world.server, (server_ip(version), 443), Serve::Echo);
    let mut conn = tcp::connect(&world.client, server.address());
    for _ in 0..LENGTH / PIECE {
        tcp::echo(&mut conn, PIECE);
    }
    conn.half_close();
    assert_eq!(conn.receive_to_end(), 0);
    let info = conn.info();
    // SYN and FIN take a number each; its own SYN the kernel does not count among what came.
    assert_eq!((info.bytes_acked, info.bytes_received, info.total_retrans), (LENGTH + 2, LENGTH + 1, 0));
    assert_eq!(eventually(DEADLINE, "the server's end", || server.finished().pop()), Ok(LENGTH));
    drop(conn);
    let counted = watch.at_the_end();

    counted.nothing_wrong();
    counted.complete();
    let address_bytes = if version == Version::V4 { 20 } else { 40 };
    for (from, sender, witness) in
        [("client", &world.client, &witnesses[0]), ("server", &world.server, &witnesses[1])]
    {
        let kernel = Counters::of(sender);
        assert_eq!(kernel.get("TcpRetransSegs"), 0);
        let segments = u64::try_from(kernel.get("TcpOutSegs")).expect("a count");
        let socket = if from == "client" { info.segs_out } else { info.segs_in };
        assert_eq!(u64::from(socket), segments, "what ss says of the {from}'s segments");
        // Each segment has a timestamp and no other option, but the SYN has the others as well.
        let bytes = LENGTH + segments * (address_bytes + 32) + 8;
        for point in POINTS {
            assert_eq!(counted.tcp(point, from, "segments"), segments, "segments at {point} from the {from}");
            assert_eq!(
                counted.tcp(point, from, "payload_bytes"),
                LENGTH,
                "payload at {point} from the {from}"
            );
            assert_eq!(counted.tcp(point, from, "bytes"), bytes, "bytes at {point} from the {from}");
        }
        if !offloads {
            assert_eq!(witness.counter("arrived"), (segments, bytes), "what the other end's nftables saw");
        }
    }
    for point in POINTS {
        let by = |label, value| [("point", point), (label, value)];
        assert_eq!(counted.labelled("connections_opened", &by("by", "syn")), 1);
        assert_eq!(counted.labelled("connections_opened", &by("by", "joined_late")), 0);
        assert_eq!(counted.labelled("connections_established", &[("point", point)]), 1);
        assert_eq!(counted.labelled("connections_closed", &by("close", "fin_client")), 1);
        assert_eq!(counted.labelled("connections_closed", &[("point", point)]), 1);
        let packets = ["ingress", "egress"].map(|direction| {
            counted.exactly("fivetuple_packets_counted_total", &[("point", point), ("hook", direction)])
        });
        // Who sends what comes in at this point.
        let from = if point == "outside" { ["client", "server"] } else { ["server", "client"] };
        let segments = from.map(|from| counted.tcp(point, from, "segments"));
        for (place, (packets, segments)) in packets.into_iter().zip(segments).enumerate() {
            // XDP comes before packets are merged, and keeps the other end of a veth from sending merged ones.
            if !offloads || hook == Hook::Xdp && place == 0 {
                assert_eq!(packets, segments, "{point}");
            } else {
                assert!(packets * 2 < segments, "{point}: {packets} packets were hardly super-packets");
            }
        }
    }
    drop(server);
    watch.agent.stop();
}

#[test]
fn a_clean_transfer_is_counted_to_the_segment() {
    both_ways(Version::V4, false, Hook::Tc);
}

#[test]
fn a_clean_transfer_over_ipv6_is_counted_to_the_segment() {
    both_ways(Version::V6, false, Hook::Tc);
}

#[test]
fn super_packets_are_counted_as_the_segments_they_stand_for() {
    both_ways(Version::V4, true, Hook::Tc);
}

#[test]
fn super_packets_over_ipv6_are_counted_as_the_segments_they_stand_for() {
    both_ways(Version::V6, true, Hook::Tc);
}

#[test]
fn xdp_counts_the_segments_that_tc_counts() {
    both_ways(Version::V4, false, Hook::Xdp);
}

#[test]
fn xdp_counts_the_segments_of_tc_s_super_packets() {
    both_ways(Version::V4, true, Hook::Xdp);
}
