//! A bond, the interfaces it is made of, and a VLAN over it: what passes them is counted once, also when the bond fails over.
//!
//! Debian's kernels have them (`cargo xtask test --kernel …`); where a kernel has no bonds the tests say so and end.

use std::net::Ipv4Addr;

use harness::agent::{Agent, Launch};
use harness::tcp::{self, Serve, Server};
use harness::topology::{LEFT, Port, RIGHT, be_patient};
use harness::{NetNs, Pair, eventually};
use serde_json::Value;

use crate::traffic::{DEADLINE, LENGTH, Passed, connections, end};

/// Two wires from host to host; on either, a bond of which one carries the traffic and the other waits.
const BOND: &str = "link add bond0 type bond mode active-backup miimon 20";
const MEMBERS: [&str; 2] = ["eth0", "eth1"];

/// Bonds have the hardware address of the member that they got first.
const fn on(interface: &'static str, port: Port) -> Port {
    Port { interface, ..port }
}

/// The addresses of the VLAN over the bond.
fn tagged(port: Port) -> Port {
    let [a, b, _, host] = port.v4.octets();
    let mut v6 = port.v6.segments();
    v6[3] = 4;
    Port { interface: "bond0.7", v4: Ipv4Addr::new(a, b, 4, host), v6: v6.into(), ..port }
}

/// Two hosts with bonds and a VLAN over each; none where the kernel has no bonds.
fn bonded() -> Option<Pair> {
    let pair = Pair::new();
    let mut probe = pair.left.cmd("ip");
    let output = probe.args(["link", "add", "none", "type", "bond"]).output().expect("ip is there");
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("Unknown device type") {
        println!("this kernel has no bonds: those of Debian have (cargo xtask test --kernel …)");
        return None;
    }
    assert!(output.status.success(), "{said}");
    pair.left.ip("link del none");
    pair.left.ip(&format!("link add eth1 type veth peer name eth1 netns {}", pair.right.name()));
    for (host, port, peer) in [(&pair.left, LEFT, RIGHT), (&pair.right, RIGHT, LEFT)] {
        host.ip(BOND);
        for member in MEMBERS {
            host.offloads(member, false);
            host.steer(member, 0);
            host.ip(&format!("link set {member} down\nlink set {member} master bond0\n"));
        }
        host.ip(&on("bond0", port).setup(&peer, &[]));
        host.offloads("bond0", false);
        host.ip("link add link bond0 name bond0.7 type vlan id 7");
        host.ip(&tagged(port).setup(&tagged(peer), &[]));
        be_patient(host, &on("bond0", port), None, &peer);
        be_patient(host, &tagged(port), None, &tagged(peer));
    }
    for host in [&pair.left, &pair.right] {
        carried_by(host, "eth0");
    }
    Some(pair)
}

/// Waits until this member carries a host's traffic.
#[track_caller]
fn carried_by(host: &NetNs, member: &str) {
    eventually(DEADLINE, "the bond to use its member", || {
        let links: Value = serde_json::from_str(&host.exec("ip -j -d link show bond0")).expect("it is JSON");
        let active = &links[0]["linkinfo"]["info_data"]["active_slave"];
        if active == member { Ok(()) } else { Err(format!("{active}, not {member}")) }
    });
}

/// The points that an agent watches.
fn points(agent: &Agent) -> Vec<String> {
    let metrics = agent.metrics();
    let all =
        metrics.matching("fivetuple_attached", &[("hook", "ingress")]).filter(|(_, value)| *value == 1.0);
    all.filter_map(|(labels, _)| labels.get("point").cloned()).collect()
}

#[test]
fn what_passes_a_bond_its_members_and_a_vlan_is_counted_once_and_through_a_fail_over() {
    let Some(pair) = bonded() else { return };
    let agent = Launch::default().start(&pair.right);
    assert_eq!(points(&agent), ["bond0"]);
    let ready = agent.get("/-/ready?verbose");
    for name in ["eth0", "eth1", "bond0.7"] {
        let why = format!("{name} is not watched: all that passes it is seen at bond0");
        assert!(ready.contains(&why), "{why} is not in {ready}");
    }

    let server = Server::start(&pair.right, (RIGHT.v4, 500), Serve::Echo);
    let mut through = tcp::connect(&pair.left, server.address());
    tcp::echo(&mut through, LENGTH);
    let mut passed = Passed { connections: 1, payload: 2 * LENGTH, refused: 0 };
    let mut converse = || {
        for to in [RIGHT.v4.into(), tagged(RIGHT).v4.into(), tagged(RIGHT).v6.into()] {
            let more = connections(&pair, to, 5);
            passed.connections += more.connections;
            passed.payload += more.payload;
        }
    };
    converse();
    pair.left.ip("link set eth0 down");
    for host in [&pair.left, &pair.right] {
        carried_by(host, "eth1");
    }
    tcp::echo(&mut through, LENGTH);
    through.half_close();
    assert_eq!(through.receive_to_end(), 0);
    converse();
    let left = passed.is_counted("bond0", &agent, &pair.left);
    println!(
        "by a bond that failed over: {} segments in, {} out, {} connections, each count right",
        left.get("TcpOutSegs"),
        left.get("TcpInSegs"),
        passed.connections
    );
    assert_eq!(end(agent, &pair.right), Vec::<String>::new());
}

/// Who names two of them gets both, each with what passes it, and is told.
#[test]
fn who_names_a_bond_and_a_vlan_over_it_gets_both() {
    let Some(pair) = bonded() else { return };
    let agent = Launch::interfaces(&["bond0", "bond0.7"]).start(&pair.right);
    assert_eq!(points(&agent), ["bond0", "bond0.7"]);
    assert_eq!(
        agent.metrics().get("fivetuple_watched_twice", &[("interface", "bond0.7"), ("at", "bond0")]),
        1.0
    );
    connections(&pair, RIGHT.v4.into(), 3);
    connections(&pair, tagged(RIGHT).v4.into(), 4);
    eventually(DEADLINE, "what passed each to be counted", || {
        let metrics = agent.metrics();
        let opened = |point| metrics.sum("fivetuple_tcp_connections_opened_total", &[("point", point)]);
        let there = [opened("bond0"), opened("bond0.7")];
        if there == [7.0, 4.0] { Ok(()) } else { Err(format!("{there:?}")) }
    });
    assert_eq!(end(agent, &pair.right), Vec::<String>::new());
}
