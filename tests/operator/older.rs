//! Kernels that lack something the agent would use: it does without, or says what is missing and what to do.

use std::process::Output;

use harness::agent::{Launch, Without, binary, left_attached};
use harness::tcp::{self, Serve, Server};
use harness::topology::SERVER;
use harness::{Gateway, NetNs, Pair};
use nix::sys::signal::Signal;

use crate::bad_input::refused;
use crate::watch::{POINTS, configuration, eventually_exactly};

fn lacking_bpf(namespace: &NetNs, arguments: &[&str]) -> Output {
    let mut command = namespace.cmd(binary().to_str().expect("the path is text"));
    Without::Bpf.apply(command.args(arguments));
    command.output().expect("the binary is there")
}

#[test]
fn without_the_bpf_system_call_it_says_so_and_ends() {
    let pair = Pair::new();
    for verb in [&["run", "--web.listen-address=127.0.0.1:0"][..], &["check"]] {
        let output = lacking_bpf(&pair.left, &[verb, &["--interface=eth0"]].concat());
        refused(
            &pair.left,
            &output,
            1,
            &["this kernel has no bpf system call", "run a kernel with CONFIG_BPF_SYSCALL=y"],
        );
    }
}

/// As before Linux 6.6: the programs hang on clsact, count the same, and go when the agent goes. What a killed agent
/// left there the next one replaces, or everything would be counted twice.
#[test]
fn without_tcx_it_counts_by_clsact_and_leaves_no_program() {
    let world = Gateway::plan().patient().build();
    let launch = || Launch::configuration(configuration("")).without(Without::Tcx);
    let killed = launch().start(&world.gateway);
    drop(killed);
    assert_ne!(left_attached(&world.gateway), Vec::<String>::new(), "clsact outlives a killed agent");

    let agent = launch().start(&world.gateway);
    let metrics = agent.metrics();
    for point in POINTS {
        for hook in ["ingress", "egress"] {
            let mode = |mode| [("point", point), ("hook", hook), ("mode", mode)];
            let attached = ["clsact", "tcx"].map(|name| metrics.get("fivetuple_attached", &mode(name)));
            assert_eq!(attached, [1.0, 0.0], "{point} {hook}");
        }
    }
    let server = Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
    let mut conn = tcp::connect(&world.client, server.address());
    tcp::echo(&mut conn, 30_000);
    conn.half_close();
    assert_eq!(conn.receive_to_end(), 0);
    drop(conn);
    let sides: [&[(&str, &str)]; 2] = [&[("from", "client")], &[("from", "server")]];
    eventually_exactly(&agent, "payload_bytes_total", &[], &[(sides[0], 30_000), (sides[1], 30_000)]);
    let fin: &[(&str, &str)] = &[("close", "fin_client")];
    eventually_exactly(&agent, "connections_closed_total", &[], &[(fin, 1)]);
    agent.signal(Signal::SIGTERM);
    let (status, log) = agent.wait();
    assert_eq!(status.code(), Some(0), "{log:?}");
    // The qdisc stays: a stranger may hang a filter there at any moment, and deleting it would take that off, too.
    let left: Vec<String> = POINTS.iter().map(|point| format!("{point}: qdisc clsact")).collect();
    assert_eq!(left_attached(&world.gateway), left);
}
