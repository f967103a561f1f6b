//! Real connections over a veth pair: the agent's counts against those of the host that sent them.

use std::time::Duration;

use agent_ebpf::anomaly::Anomaly;
use agent_ebpf::counter::Series as _;
use harness::agent::{Agent, Launch, Metrics, left_attached};
use harness::tcp::{self, Dial, Serve, Server};
use harness::topology::{RIGHT, Version};
use harness::truth::Counters;
use harness::{Pair, eventually};
use nix::sys::signal::Signal;

use crate::release::Release;
use crate::verified;

/// On a virtual machine without hardware's help, everything takes its time.
const DEADLINE: Duration = Duration::from_secs(60);
/// Connections of each IP version, and what each sends and gets back.
const CONNECTIONS: u64 = 20;
const LENGTH: u64 = 50_000;

/// What the agent has to have counted; segments are what the left host says of itself, which speaks to nobody else.
fn wrong(metrics: &Metrics, left: &Counters) -> Vec<String> {
    let tcp =
        |series: &str, labels: &[(&str, &str)]| metrics.sum(&format!("fivetuple_tcp_{series}_total"), labels);
    let segments = ["TcpOutSegs", "TcpInSegs"].map(|name| left.get(name) as f64);
    let (all, payload) = ((2 * CONNECTIONS) as f64, (2 * CONNECTIONS * LENGTH) as f64);
    let anomalies: f64 = Anomaly::ALL.iter().map(|row| tcp(row.series(), &[])).sum();
    let packets = |what: &str| metrics.sum(&format!("fivetuple_packets_{what}_total"), &[("point", "eth0")]);
    let rows = [
        ("segments of the client", tcp("segments", &[("from", "client")]), segments[0]),
        ("segments of the server", tcp("segments", &[("from", "server")]), segments[1]),
        ("payload of the client", tcp("payload_bytes", &[("from", "client")]), payload),
        ("payload of the server", tcp("payload_bytes", &[("from", "server")]), payload),
        ("connections opened", tcp("connections_opened", &[("by", "syn")]), all + 1.0),
        ("connections opened in all", tcp("connections_opened", &[]), all + 1.0),
        ("connections established", tcp("connections_established", &[]), all),
        ("connections closed by the client", tcp("connections_closed", &[("close", "fin_client")]), all),
        ("connections refused", tcp("resets", &[("cause", "refused")]), 1.0),
        ("anomalies in all", anomalies, 1.0),
        (
            "packets neither counted nor skipped",
            packets("seen") - packets("counted") - packets("skipped"),
            0.0,
        ),
        ("losses of the agent's own", metrics.sum("fivetuple_tracking_losses_total", &[]), 0.0),
    ];
    let unequal = rows.iter().filter(|(_, got, due)| got != due);
    unequal.map(|(what, got, due)| format!("{what}: {got}, not {due}")).collect()
}

fn converse(pair: &Pair) {
    for version in [Version::V4, Version::V6] {
        let server = Server::start(&pair.right, (RIGHT.ip(version), 443), Serve::Echo);
        for _ in 0..CONNECTIONS {
            let mut conn = tcp::connect(&pair.left, server.address());
            tcp::echo(&mut conn, LENGTH);
            conn.half_close();
            assert_eq!(conn.receive_to_end(), 0);
        }
    }
    let refused = Dial::default().try_connect(&pair.left, (RIGHT.v4, 444));
    assert!(refused.is_err(), "nobody listens there");
}

/// How a hook is attached, as the agent says.
fn mode(agent: &Agent<'_>, hook: &str) -> Option<&'static str> {
    let metrics = agent.metrics();
    let attached = |mode: &&str| metrics.sum("fivetuple_attached", &[("hook", hook), ("mode", mode)]) == 1.0;
    ["xdp", "tcx", "clsact"].into_iter().find(attached)
}

/// Watches a host that others talk to, by XDP or by tc alone; what is attached is gone afterwards.
fn watched(ingress: &'static str) -> verified::Counts {
    let release = Release::running();
    let tc = if release < Release::TCX { "clsact" } else { "tcx" };
    let pair = Pair::new().patient();
    let watch = format!("interfaces:\n  - name: eth0\n    ingress: {ingress}\n");
    let agent = Launch::configuration(watch).start(&pair.right);
    let hooks = [if ingress == "xdp" { "xdp" } else { tc }, tc];
    assert_eq!(["ingress", "egress"].map(|hook| mode(&agent, hook)), hooks.map(Some));
    let counts = verified::of(agent.pid());

    converse(&pair);
    let left = eventually(DEADLINE, "the agent's counts", || {
        let (metrics, left) = (agent.metrics(), Counters::of(&pair.left));
        let wrong = wrong(&metrics, &left);
        if wrong.is_empty() { Ok(left) } else { Err(wrong.join("\n")) }
    });
    println!(
        "{} by {} and {}: {} segments in, {} out, {} connections, each count right",
        release,
        hooks[0],
        hooks[1],
        left.get("TcpOutSegs"),
        left.get("TcpInSegs"),
        2 * CONNECTIONS + 1
    );

    agent.signal(Signal::SIGTERM);
    let (status, log) = agent.wait();
    assert!(status.success(), "{status}\n{}", log.join("\n"));
    // Where there is no tcx the qdisc stays, as a stranger may hang a filter there at any moment.
    let stays = (tc == "clsact").then(|| "eth0: qdisc clsact".to_owned());
    assert_eq!(left_attached(&pair.right), Vec::from_iter(stays));
    counts
}

#[test]
fn by_xdp_and_tc_everything_is_counted_and_verification_has_not_become_dearer() {
    let counts = watched("xdp");
    verified::judge(Release::running(), &counts);
}

#[test]
fn by_tc_alone_everything_is_counted() {
    watched("tc");
}
