//! Namespaces and topologies.

use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};

use harness::raw::RawPort;
use harness::tcp::{self, DEADLINE, Serve, Server};
use harness::topology::{CLIENT, OUTSIDE, RIGHT, SERVER, Version};
use harness::{Gateway, NetNs, Pair, netns};

#[test]
fn a_namespace_is_isolated_and_vanishes_also_when_the_test_panics() {
    let (one, two) = (NetNs::new("one"), NetNs::new("two"));
    let address: SocketAddr = "127.0.0.1:7000".parse().unwrap();
    let (_first, _second) =
        (one.run(|| TcpListener::bind(address).unwrap()), two.run(|| TcpListener::bind(address).unwrap()));
    assert!(one.exec("ip -o link").lines().all(|line| line.contains("lo:")), "only loopback is there");
    assert_eq!(one.run(|| 42), 42, "values come back out of a namespace");

    let mut name = String::new();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let doomed = NetNs::new("doomed");
        name = doomed.name().to_owned();
        assert!(netns::existing().contains(&name));
        doomed.run(|| panic!("on purpose"));
    }));
    assert!(panicked.is_err(), "a panic inside a namespace is a panic of the test");
    assert!(!netns::existing().contains(&name), "{name} was left behind");
    let name = one.name().to_owned();
    drop(one);
    assert!(!netns::existing().contains(&name), "{name} was left behind");
}

#[test]
fn a_command_inside_sees_the_file_system_outside() {
    let namespace = NetNs::new("files");
    let outside = std::fs::read_link("/proc/self/ns/mnt").unwrap();
    assert_eq!(namespace.exec("readlink /proc/self/ns/mnt").trim(), outside.to_str().unwrap());
    let network = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_ne!(namespace.exec("readlink /proc/self/ns/net").trim(), network.to_str().unwrap());
}

#[test]
fn a_sysctl_is_set_inside_only() {
    let (one, two) = (NetNs::new("one"), NetNs::new("two"));
    one.sysctl("net/ipv4/tcp_retries2", 3);
    assert_eq!(one.exec("cat /proc/sys/net/ipv4/tcp_retries2").trim(), "3");
    assert_eq!(two.exec("cat /proc/sys/net/ipv4/tcp_retries2").trim(), "15");
}

#[test]
fn the_gateway_forwards_both_ip_versions_and_is_no_endpoint() {
    let world = Gateway::new();
    for version in [Version::V4, Version::V6] {
        let server = Server::start(&world.server, (SERVER.ip(version), 443), Serve::Echo);
        let mut conn = tcp::connect(&world.client, server.address());
        tcp::echo(&mut conn, 300_000);
        assert_eq!(conn.local().ip(), CLIENT.ip(version), "nobody translates addresses");
    }
    assert_eq!(world.gateway.exec("ss -Htan"), "", "the gateway has no connection of its own");
}

#[test]
fn a_gateway_with_offloads_carries_super_packets() {
    let world = Gateway::plan().offloads(true).build();
    let server = Server::start(&world.server, (SERVER.v4, 443), Serve::Sink);
    let mut ear = RawPort::open(&world.gateway, OUTSIDE.interface);
    let mut conn = tcp::connect(&world.client, server.address());
    conn.send(5_000_000);
    conn.half_close();
    conn.receive_to_end();
    assert!(ear.receive(DEADLINE, |frame| frame.len() > 10_000).is_some());
}

#[test]
fn a_pair_is_two_hosts_on_one_wire() {
    let pair = Pair::new();
    let server = Server::start(&pair.right, (RIGHT.v6, 80), Serve::Source(100_000));
    let mut conn = tcp::connect(&pair.left, server.address());
    assert_eq!(conn.receive_to_end(), 100_000);
}
