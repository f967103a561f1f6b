//! `upgrade`: another revision of the agent takes over, and the earlier one again, while much passes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use harness::agent::{Agent, Launch, binary};
use harness::truth::Counters;
use harness::{Bpffs, Gateway};
use nix::sys::signal::Signal;

use crate::passed::{POINTS, Passed, closed_in_time, connections, sum, take_off};
use crate::short::{ASKED, Stops, keep_connecting};
use crate::stream::{self, Sent};
use crate::{Found, Options};

/// Packets a second, of connections that stay open all the time.
const PACKETS: u32 = 50_000;
/// The part of them that must come about, or the machine is too slow to say anything.
const RATE: f64 = 0.95;
/// Short connections a second beside them.
const SHORT: u32 = 200;
/// How long each agent counts.
const TURN: Duration = Duration::from_secs(5);
const CONFIGURATION: &str = "interfaces: [{name: outside}, {name: inside}]\n";

/// Goes there and back again.
pub fn run(options: &Options) -> Result<Found> {
    let earlier = options.earlier.clone().context("`cargo xtask soak` builds the earlier revision")?;
    let world = Gateway::plan().patient().build();
    let bpffs = Bpffs::new();
    let passed = Passed::watch(&world);
    let ends = [&world.client, &world.server];
    let before = ends.map(Counters::of);
    let launch =
        |program: &std::path::Path| bpffs.pin(Launch::configuration(CONFIGURATION)).copy(program).alone();
    let first = launch(&earlier).start(&world.gateway);
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut found = Found::default();
    let (agent, sent) = thread::scope(|scope| -> Result<_> {
        let stops = Stops(&stop);
        let streamed = scope.spawn(|| stream::play(&world, PACKETS, &stop));
        let shorts = scope.spawn(|| keep_connecting(&world, 1_000, SHORT, &stop, &made));
        count_for_a_turn();
        let mut agent = first;
        for (what, program) in [("upgrade", binary()), ("rollback", earlier.clone())] {
            // As a service manager does it: the one ends, and then the other begins.
            agent.signal(Signal::SIGTERM);
            let asked = Instant::now();
            agent.wait();
            agent = launch(&program).start(&world.gateway);
            found.tell(format!("upgrade/{what} took"), "s", asked.elapsed().as_secs_f64());
            count_for_a_turn();
            // By now its log is read, too.
            went_on(&mut found, &agent, what);
        }
        drop(stops);
        shorts.join().expect("a client that does not panic")?;
        Ok((agent, streamed.join().expect("a stream that does not panic")))
    })?;
    let made = made.load(Ordering::Relaxed) as f64;
    closed_in_time(&agent, made + f64::from(sent.connections));
    passed.eventually_quiet();
    let resets = |end: usize| {
        let since = Counters::of(ends[end]).since(&before[end]);
        (since.get("TcpEstabResets") + since.get("TcpOutRsts"), since.get("TcpRetransSegs"))
    };
    let (client, server) = (resets(0), resets(1));
    found.exactly("upgrade/resets, by the kernels", "resets", (client.0 + server.0) as f64, 0.0);
    counts(&mut found, &agent, &passed, &sent, made, client.1 + server.1);
    take_off(&mut found, agent, &bpffs, &world);
    Ok(found)
}

fn count_for_a_turn() {
    let began = Instant::now();
    while began.elapsed() < TURN {
        thread::park_timeout(TURN.saturating_sub(began.elapsed()));
    }
}

/// Whether the agent said that it goes on with what the one before it has counted.
fn went_on(found: &mut Found, agent: &Agent<'_>, what: &str) {
    let log = agent.log();
    let words = ["went on with the tables", "migrated"];
    let said = log.iter().any(|line| words.iter().any(|words| line.contains(words)));
    found.must(said, || format!("the {what} does not say that it goes on: {log:?}"));
}

/// Nothing lost, and nothing twice; the short connections are `made`, and their kernels sent `again` segments again.
fn counts(found: &mut Found, agent: &Agent<'_>, passed: &Passed<'_>, sent: &Sent, made: f64, again: i64) {
    let rate = sent.segments as f64 / sent.took.as_secs_f64();
    found.tell("upgrade/packets", "packets/s", rate);
    found.must(rate >= RATE * f64::from(PACKETS), || format!("only {rate:.0} packets a second came about"));
    found.tell("upgrade/sent again, by the kernels", "segments", again as f64);
    let opened = made + f64::from(sent.connections);
    let metrics = agent.metrics();
    let payload = (again == 0).then_some(sent.payload as f64 + made * ASKED as f64);
    for point in POINTS {
        connections(found, ("upgrade", point), &metrics, opened, payload);
        let gaps = sum(&metrics, "gaps", point, &[]);
        found.exactly(format!("upgrade/{point}/gaps"), "segments", gaps, 0.0);
    }
    passed.compare(found, "upgrade", &metrics);
}
