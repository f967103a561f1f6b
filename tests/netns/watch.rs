//! The agent on the gateway, and what it has counted, as numbers to compare.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use agent_ebpf::anomaly::Anomaly;
use agent_ebpf::counter::Series as _;
use harness::agent::{Agent, Launch, Metrics};
use harness::tcp::DEADLINE;
use harness::topology::{SERVER, Version};
use harness::{Gateway, NetNs, eventually};

/// Both points, from the client's side to the server's.
pub const POINTS: [&str; 2] = ["outside", "inside"];
/// Both senders, as the label `from` names them.
pub const SIDES: [&str; 2] = ["client", "server"];

/// How the agent's ingress hook is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// tc for both directions.
    Tc,
    /// XDP for what comes in, tc for what goes out.
    Xdp,
}

/// An agent that watches both interfaces of a gateway.
pub struct Watch<'a> {
    world: &'a Gateway,
    pub agent: Agent<'a>,
}

impl<'a> Watch<'a> {
    /// Starts it as an operator does who only names the interfaces.
    #[track_caller]
    pub fn start(world: &'a Gateway) -> Self {
        Self { world, agent: start(Launch::interfaces(&POINTS), world) }
    }

    /// Starts it with this hook, and more of the configuration file, if there is any.
    #[track_caller]
    pub fn configured(world: &'a Gateway, hook: Hook, more: &str) -> Self {
        let ingress = match hook {
            Hook::Tc => "tc",
            Hook::Xdp => "xdp",
        };
        let mut text = "interfaces:\n".to_owned();
        for point in POINTS {
            writeln!(text, "  - name: {point}\n    ingress: {ingress}").expect("text takes more text");
        }
        let watch = Self { world, agent: start(Launch::configuration(text + more), world) };
        let metrics = watch.agent.metrics();
        for point in POINTS {
            let labels = [("point", point), ("hook", "ingress"), ("mode", "xdp")];
            let attached = metrics.get("fivetuple_attached", &labels);
            assert_eq!(
                attached,
                f64::from(u8::from(hook == Hook::Xdp)),
                "{point} is watched by the hook asked for"
            );
        }
        watch
    }

    /// What it has counted by now.
    #[track_caller]
    pub fn now(&self) -> Counted {
        Counted(self.agent.metrics())
    }

    /// What it has counted when all connections are closed: nothing is under way any more.
    #[track_caller]
    pub fn at_the_end(&self) -> Counted {
        closed(&self.world.client, &self.world.server);
        self.now()
    }

    /// Waits until what it has counted is as told; the closure says what is not.
    #[track_caller]
    pub fn eventually(&self, what: &str, mut is_so: impl FnMut(&Counted) -> Result<(), String>) -> Counted {
        eventually(DEADLINE, what, || {
            let counted = self.now();
            is_so(&counted).map(|()| counted)
        })
    }
}

/// Starts one agent at a time: the kernel's verifier takes seconds of a processor for each, and a dozen tests at once would
/// wait beyond the deadline.
#[track_caller]
fn start(launch: Launch, world: &Gateway) -> Agent<'_> {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    launch.start(&world.gateway)
}

/// Waits until neither end has a connection but those in TIME-WAIT.
#[track_caller]
pub fn closed(client: &NetNs, server: &NetNs) {
    eventually(DEADLINE, "both ends to be done", || {
        let open = [client, server].map(|end| end.exec("ss -Htan state connected exclude time-wait"));
        if open.iter().all(String::is_empty) { Ok(()) } else { Err(open.concat()) }
    });
}

/// The server's address in this version.
pub fn server_ip(version: Version) -> IpAddr {
    SERVER.ip(version)
}

/// What the agent has counted at one moment.
#[derive(Debug)]
pub struct Counted(pub Metrics);

impl Counted {
    /// A counter of TCP at a point, from one side, over all services and kinds.
    #[track_caller]
    pub fn tcp(&self, point: &str, from: &str, series: &str) -> u64 {
        self.labelled(series, &[("point", point), ("from", from)])
    }

    /// A counter of TCP by any labels; one that does not exist is a mistake of the test.
    #[track_caller]
    pub fn labelled(&self, series: &str, labels: &[(&str, &str)]) -> u64 {
        self.exactly(&format!("fivetuple_tcp_{series}_total"), labels)
    }

    /// The sum of the samples of a series, which must be there.
    #[track_caller]
    pub fn exactly(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        assert!(self.0.count(name, labels) > 0, "no {name} with {labels:?}; there are {:?}", self.0.names());
        self.0.sum(name, labels) as u64
    }

    /// Each anomaly that was counted at a point from one side.
    #[track_caller]
    pub fn anomalies(&self, point: &str, from: &str) -> BTreeMap<&'static str, u64> {
        let all = Anomaly::ALL.iter().map(|row| (row.series(), self.tcp(point, from, row.series())));
        all.filter(|(_, count)| *count > 0).collect()
    }

    /// Checks that these anomalies were counted at a point from one side, and no others.
    #[track_caller]
    pub fn only(&self, point: &str, from: &str, expected: &[(&'static str, u64)]) {
        let expected = expected.iter().copied().filter(|(_, count)| *count > 0).collect();
        assert_eq!(self.anomalies(point, from), expected, "anomalies at {point} from the {from}");
    }

    /// Checks that nothing at all was wrong, at either point, from either side.
    #[track_caller]
    pub fn nothing_wrong(&self) {
        for point in POINTS {
            for from in SIDES {
                self.only(point, from, &[]);
            }
        }
    }

    /// Segments sent again, as this point saw them: the sum of the three classes.
    #[track_caller]
    pub fn sent_again(&self, point: &str, from: &str) -> u64 {
        let classes = ["retransmitted_segments", "late_fill_segments", "spurious_segments"];
        classes.iter().map(|class| self.tcp(point, from, class)).sum()
    }

    /// Checks that every packet that a program saw was counted or skipped, that no packet was skipped unless said so, and
    /// that the agent lost nothing of its own.
    #[track_caller]
    pub fn complete(&self) {
        for point in POINTS {
            for hook in ["ingress", "egress"] {
                let at = [("point", point), ("hook", hook)];
                let seen = self.exactly("fivetuple_packets_seen_total", &at);
                let counted = self.exactly("fivetuple_packets_counted_total", &at);
                let skipped = self.exactly("fivetuple_packets_skipped_total", &at);
                assert_eq!(seen, counted + skipped, "{point} {hook}: seen = counted + skipped");
                let losses = self.exactly("fivetuple_tracking_losses_total", &at);
                assert_eq!(losses, 0, "{point} {hook}: nothing was lost track of");
            }
        }
        assert_eq!(self.exactly("fivetuple_ring_lost_total", &[]), 0);
    }
}
