//! What passed the gateway, as its netfilter counted beside the hooks: behind the queues, which lose packets where more
//! comes than a processor can take, and without offloads, so that a packet is a segment.

use std::thread;
use std::time::{Duration, Instant};

use harness::agent::{Agent, Metrics, left_attached};
use harness::truth::Nft;
use harness::{Bpffs, Gateway, eventually};
use nix::sys::signal::Signal;

use crate::Found;

/// The points of the agent.
pub const POINTS: [&str; 2] = ["outside", "inside"];
const SIDES: [&str; 2] = ["client", "server"];
/// How long what is still on its way may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// The counters of a gateway.
pub struct Passed<'a>(Nft<'a>);

impl<'a> Passed<'a> {
    /// Begins to count: before the agent does, and before anything comes.
    pub fn watch(world: &'a Gateway) -> Self {
        let body = "counter outside_client {\n}\ncounter outside_server {\n}\ncounter inside_client {\n}\n\
                    counter inside_server {\n}\n\
                    chain comes {\n type filter hook prerouting priority -400;\n \
                    iifname outside meta l4proto tcp counter name outside_client\n \
                    iifname inside meta l4proto tcp counter name inside_server\n}\n\
                    chain goes {\n type filter hook postrouting priority 400;\n \
                    oifname outside meta l4proto tcp counter name outside_server\n \
                    oifname inside meta l4proto tcp counter name inside_client\n}";
        Self(Nft::load(&world.gateway, "passed", body))
    }

    /// Segments of one side at one point, so far.
    fn segments(&self, point: &str, side: &str) -> f64 {
        self.0.counter(&format!("{point}_{side}")).0 as f64
    }

    fn all(&self) -> [f64; 4] {
        let [outside, inside] = POINTS.map(|point| SIDES.map(|side| self.segments(point, side)));
        [outside[0], outside[1], inside[0], inside[1]]
    }

    /// Waits until nothing passes any more.
    pub fn eventually_quiet(&self) {
        let mut last = [-1.0; 4];
        eventually(DEADLINE, "the last packet", || {
            let now = self.all();
            std::mem::replace(&mut last, now) == now
        });
    }

    /// Whether the agent has counted each segment once; nothing may pass meanwhile.
    pub fn compare(&self, found: &mut Found, soak: &str, metrics: &Metrics) {
        for point in POINTS {
            for side in SIDES {
                let counted = sum(metrics, "segments", point, &[("from", side)]);
                let name = format!("{soak}/{point}/segments of the {side}");
                found.exactly(name, "segments", counted, self.segments(point, side));
            }
        }
    }
}

/// What the agent says of a point: the sum of a family's series with these labels.
pub fn sum(metrics: &Metrics, family: &str, point: &str, labels: &[(&str, &str)]) -> f64 {
    metrics.sum(&format!("fivetuple_tcp_{family}_total"), &[&[("point", point)], labels].concat())
}

/// Waits until so many connections have ended at both points, or for as long as they may take: what is missing then is told
/// with all the rest.
pub fn closed_in_time(agent: &Agent, connections: f64) {
    let until = Instant::now() + DEADLINE;
    let closed = |metrics: &Metrics| {
        POINTS.iter().all(|point| sum(metrics, "connections_closed", point, &[]) >= connections)
    };
    while !closed(&agent.metrics()) && Instant::now() < until {
        thread::park_timeout(LOOK);
    }
}

/// Whether the agent has counted each connection once, of `opened`, at a point; and what the clients sent, where the truth of
/// that is known.
pub fn connections(
    found: &mut Found,
    (soak, point): (&str, &str),
    metrics: &Metrics,
    opened: f64,
    payload: Option<f64>,
) {
    let name = |what: &str| format!("{soak}/{point}/{what}");
    let count = |family, labels: &[_]| sum(metrics, family, point, labels);
    found.exactly(name("opened"), "connections", count("connections_opened", &[("by", "syn")]), opened);
    let late = count("connections_opened", &[("by", "joined_late")]);
    found.exactly(name("joined late"), "connections", late, 0.0);
    found.exactly(name("closed"), "connections", count("connections_closed", &[]), opened);
    let bytes = count("payload_bytes", &[("from", "client")]);
    match payload {
        Some(truth) => found.exactly(name("payload of clients"), "bytes", bytes, truth),
        None => found.tell(name("payload of clients"), "bytes", bytes),
    }
}

/// Ends an agent with pins, and takes off what it left: nothing may stay.
pub fn take_off(found: &mut Found, agent: Agent<'_>, bpffs: &Bpffs, world: &Gateway) {
    agent.signal(Signal::SIGTERM);
    agent.wait();
    let output = bpffs.run_to_end(&world.gateway, &["detach"]);
    let left = left_attached(&world.gateway);
    found.must(output.status.success() && left.is_empty(), || format!("{left:?} stays attached"));
}
