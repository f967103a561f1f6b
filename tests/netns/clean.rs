//! A healthy transfer: nothing is wrong, and every segment and byte is counted, as the peers' kernels count them.

use harness::Gateway;
use harness::eventually;
use harness::tcp::{self, DEADLINE, Serve, Server};
use harness::topology::Version;
use harness::truth::{Counters, Nft};

use crate::watch::{POINTS, Watch, server_ip};

const LENGTH: u64 = 4_000_000;

/// What arrives at a host from the wire, counted by its nftables: wire packets where nothing is merged.
#[track_caller]
fn witness(namespace: &harness::NetNs) -> Nft<'_> {
    let body = "counter arrived {\n}\nchain arriving {\n type filter hook input priority 0;\n \
                iifname eth0 meta l4proto tcp counter name arrived\n}";
    Nft::load(namespace, "witness", body)
}

fn both_ways(version: Version, offloads: bool) {
    let world = Gateway::plan().offloads(offloads).patient().build();
    for end in [&world.client, &world.server] {
        // All of it fits: nobody ever has to close the window.
        end.sysctl("net/ipv4/tcp_rmem", "4096 16777216 16777216");
    }
    let witnesses = [witness(&world.server), witness(&world.client)];
    let watch = Watch::start(&world);
    let server = Server::start(&world.server, (server_ip(version), 443), Serve::Echo);
    let mut conn = tcp::connect(&world.client, server.address());
    tcp::echo(&mut conn, LENGTH);
    let info = conn.info();
    assert_eq!((info.bytes_sent, info.bytes_received, info.total_retrans), (LENGTH, LENGTH, 0));
    conn.half_close();
    assert_eq!(conn.receive_to_end(), 0);
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
        let packets: u64 = ["ingress", "egress"]
            .iter()
            .map(|hook| {
                counted.exactly("fivetuple_packets_counted_total", &[("point", point), ("hook", hook)])
            })
            .sum();
        let segments = counted.labelled("segments", &[("point", point)]);
        if offloads {
            assert!(
                packets * 2 < segments,
                "{packets} packets were hardly super-packets of {segments} segments"
            );
        } else {
            assert_eq!(packets, segments);
        }
    }
    drop(server);
    watch.agent.stop();
}

#[test]
fn a_clean_transfer_is_counted_to_the_segment() {
    both_ways(Version::V4, false);
}

#[test]
fn a_clean_transfer_over_ipv6_is_counted_to_the_segment() {
    both_ways(Version::V6, false);
}

#[test]
fn super_packets_are_counted_as_the_segments_they_stand_for() {
    both_ways(Version::V4, true);
}

#[test]
fn super_packets_over_ipv6_are_counted_as_the_segments_they_stand_for() {
    both_ways(Version::V6, true);
}
