//! Real connections over a veth pair: the agent's counts against those of the host that sent them.

use std::env;
use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use agent_ebpf::anomaly::Anomaly;
use agent_ebpf::counter::Series as _;
use harness::agent::{Agent, Launch, Metrics, binary, left_attached};
use harness::tcp::{self, Dial, Serve, Server};
use harness::topology::{RIGHT, Version};
use harness::truth::Counters;
use harness::{NetNs, Pair, eventually};
use nix::sys::signal::Signal;

use crate::release::Release;
use crate::verified;

/// On a virtual machine without hardware's help, everything takes its time.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// Connections of each IP version, and what each sends and gets back.
const CONNECTIONS: u64 = 20;
pub const LENGTH: u64 = 50_000;

/// What passed a point.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passed {
    /// Connections that were answered; the client closed each of them first.
    pub connections: u64,
    /// Payload of either side, bytes.
    pub payload: u64,
    /// Connections that were refused.
    pub refused: u64,
}

impl Passed {
    /// What the agent has counted otherwise; segments are what the left host says of itself, which speaks to nobody else.
    fn wrong(self, point: &str, metrics: &Metrics, left: &Counters) -> Vec<String> {
        let tcp = |series: &str, labels: &[(&str, &str)]| {
            metrics.sum(&format!("fivetuple_tcp_{series}_total"), labels)
        };
        let segments = ["TcpOutSegs", "TcpInSegs"].map(|name| left.get(name) as f64);
        let [all, refused] = [self.connections, self.refused].map(|n| n as f64);
        let payload = self.payload as f64;
        let anomalies: f64 = Anomaly::ALL.iter().map(|row| tcp(row.series(), &[])).sum();
        let packets =
            |what: &str| metrics.sum(&format!("fivetuple_packets_{what}_total"), &[("point", point)]);
        let rows = [
            ("segments of the client", tcp("segments", &[("from", "client")]), segments[0]),
            ("segments of the server", tcp("segments", &[("from", "server")]), segments[1]),
            ("payload of the client", tcp("payload_bytes", &[("from", "client")]), payload),
            ("payload of the server", tcp("payload_bytes", &[("from", "server")]), payload),
            ("connections opened", tcp("connections_opened", &[("by", "syn")]), all + refused),
            ("connections opened in all", tcp("connections_opened", &[]), all + refused),
            ("connections established", tcp("connections_established", &[]), all),
            ("connections closed by the client", tcp("connections_closed", &[("close", "fin_client")]), all),
            ("connections refused", tcp("resets", &[("cause", "refused")]), refused),
            ("anomalies in all", anomalies, refused),
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

    /// Waits until the agent has counted this and nothing else; what the left host says of itself then.
    #[track_caller]
    pub fn is_counted(self, point: &str, agent: &Agent, left: &NetNs) -> Counters {
        eventually(DEADLINE, "the agent's counts", || {
            let (metrics, left) = (agent.metrics(), Counters::of(left));
            let wrong = self.wrong(point, &metrics, &left);
            if wrong.is_empty() { Ok(left) } else { Err(wrong.join("\n")) }
        })
    }
}

/// Connections to a server of their own at an address of the right host, each closed by the client.
#[track_caller]
pub fn connections(pair: &Pair, to: IpAddr, count: u64) -> Passed {
    let server = Server::start(&pair.right, (to, 443), Serve::Echo);
    for _ in 0..count {
        let mut conn = tcp::connect(&pair.left, server.address());
        tcp::echo(&mut conn, LENGTH);
        conn.half_close();
        assert_eq!(conn.receive_to_end(), 0);
    }
    Passed { connections: count, payload: count * LENGTH, refused: 0 }
}

fn converse(pair: &Pair) -> Passed {
    for version in [Version::V4, Version::V6] {
        connections(pair, RIGHT.ip(version), CONNECTIONS);
    }
    let refused = Dial::default().try_connect(&pair.left, (RIGHT.v4, 444));
    assert!(refused.is_err(), "nobody listens there");
    Passed { connections: 2 * CONNECTIONS, payload: 2 * CONNECTIONS * LENGTH, refused: 1 }
}

/// How a hook is attached, as the agent says.
fn mode(agent: &Agent<'_>, hook: &str) -> Option<&'static str> {
    let metrics = agent.metrics();
    let attached = |mode: &&str| metrics.sum("fivetuple_attached", &[("hook", hook), ("mode", mode)]) == 1.0;
    ["xdp", "tcx", "clsact"].into_iter().find(attached)
}

/// Ends an agent by SIGTERM; what is attached on its host then. The qdisc is not told of where there is no tcx: it stays, as
/// a stranger may hang a filter there at any moment.
#[track_caller]
pub fn end(agent: Agent, host: &NetNs) -> Vec<String> {
    agent.signal(Signal::SIGTERM);
    let (status, log) = agent.wait();
    assert!(status.success(), "{status}\n{}", log.join("\n"));
    let stays = |line: &String| Release::running() < Release::TCX && line.ends_with(": qdisc clsact");
    left_attached(host).into_iter().filter(|line| !stays(line)).collect()
}

/// Watches a host that others talk to, by XDP or by tc alone; what is attached is gone afterwards.
fn watched(ingress: &'static str, launch: Launch) -> verified::Counts {
    let release = Release::running();
    let tc = if release < Release::TCX { "clsact" } else { "tcx" };
    let pair = Pair::new().patient();
    let agent = launch.start(&pair.right);
    let hooks = [if ingress == "xdp" { "xdp" } else { tc }, tc];
    assert_eq!(["ingress", "egress"].map(|hook| mode(&agent, hook)), hooks.map(Some));
    let counts = verified::of(agent.pid());
    let passed = converse(&pair);
    let left = passed.is_counted("eth0", &agent, &pair.left);
    println!(
        "{} by {} and {}: {} segments in, {} out, {} connections, each count right",
        release,
        hooks[0],
        hooks[1],
        left.get("TcpOutSegs"),
        left.get("TcpInSegs"),
        passed.connections + passed.refused
    );
    assert_eq!(end(agent, &pair.right), Vec::<String>::new());
    counts
}

#[test]
fn by_xdp_and_tc_everything_is_counted_and_verification_has_not_become_dearer() {
    let launch = Launch::configuration("interfaces:\n  - name: eth0\n    ingress: xdp\n");
    let counts = watched("xdp", launch);
    verified::judge(Release::running(), &counts);
}

/// An ordinary user with the unit's three capabilities, on a kernel that does not describe its types. The machines with
/// other kernels are locked down besides, as far as that goes.
#[test]
fn by_tc_alone_by_an_ordinary_user_and_without_the_kernel_s_types_everything_is_counted() {
    // The build may be in a folder of root's.
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("it is ours");
    let program = directory.path().join("fivetuple");
    fs::copy(binary(), &program).expect("the agent can be copied");
    let rights = "-all,+net_admin,+perfmon,+bpf";
    // By its path: the machines' shell has a program of this name in itself, which can do less.
    let path = env::var_os("PATH").expect("there are programs");
    let mut places = env::split_paths(&path).map(|folder| folder.join("setpriv"));
    let setpriv = places.find(|place| place.exists()).expect("setpriv is there");
    // The unit's LimitMEMLOCK=infinity: tables count against it before Linux 5.11 only, and not everybody may raise it.
    let script = format!(
        "mount -t tmpfs none /sys/kernel/btf && {{ ulimit -l unlimited || true; }} && exec {} --clear-groups \
         --no-new-privs --reuid=65534 --regid=65534 --bounding-set={rights} --inh-caps={rights} \
         --ambient-caps={rights} \"$0\" \"$@\"",
        setpriv.display()
    );
    let launch = Launch::interfaces(&["eth0"]).copy(program);
    watched("tc", launch.under(&["unshare", "--mount", "sh", "-c", &script]));
}
