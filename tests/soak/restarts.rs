//! `restarts`: killed again and again while much passes, beside periods in which nobody is.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use harness::agent::{Agent, Launch, left_attached};
use harness::report::sample::Sample;
use harness::topology::SERVER;
use harness::truth::Counters;
use harness::{Bpffs, Gateway};
use nix::sys::signal::Signal;

use crate::passed::{POINTS, Passed, closed_in_time, connections, sum, take_off};
use crate::short::{ASKED, Stops, keep_connecting};
use crate::{Found, Options};

/// Pairs of periods: one with kills, one without.
const PAIRS: u32 = 20;
/// Kills in each period that has some.
const KILLS: u32 = 5;
/// From one kill to the next.
const LIFE: Duration = Duration::from_secs(2);
/// Short connections a second.
const SHORT: u32 = 200;
/// What should pass of the bulk transfer while the agent is killed, of what passes undisturbed.
const THROUGHPUT: f64 = 0.98;
/// How long a start may take, seconds.
const START: f64 = 1.0;
/// Where the bulk transfer goes.
const BULK: u16 = 443;

/// Room for those that closed within the minute of TIME-WAIT.
const CONFIGURATION: &str = "interfaces: [{name: outside}, {name: inside}]\ntables: {closed: 131_072}\n";

/// Kills.
pub fn run(_: &Options) -> Result<Found> {
    let world = Gateway::plan().patient().build();
    let bpffs = Bpffs::new();
    let passed = Passed::watch(&world);
    let ends = [&world.client, &world.server];
    let before = ends.map(Counters::of);
    let launch = || bpffs.pin(Launch::configuration(CONFIGURATION)).alone();
    let first = launch().start(&world.gateway);
    let attached = left_attached(&world.gateway).len();
    let (stop, made, bulk) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (mut starts, mut calm, mut killed) = (Sample::default(), Sample::default(), Sample::default());
    let agent = thread::scope(|scope| -> Result<_> {
        let (stops, mut agent) = (Stops(&stop), first);
        let shorts = scope.spawn(|| keep_connecting(&world, 1_000, SHORT, &stop, &made));
        let transfer = scope.spawn(|| transfer(&world, &stop, &bulk));
        // With kills and without in turns, so that what else the machine does hits both alike.
        for period in 0..2 * PAIRS {
            let kills = period % 2 == 1;
            let (began, passed) = (Instant::now(), bulk.load(Ordering::Relaxed));
            for life in 1..=KILLS {
                if kills {
                    agent.signal(Signal::SIGKILL);
                    agent.wait();
                    let began = Instant::now();
                    agent = launch().start(&world.gateway);
                    starts.0.push(began.elapsed().as_secs_f64());
                }
                while began.elapsed() < LIFE * life {
                    thread::park_timeout((LIFE * life).saturating_sub(began.elapsed()));
                }
            }
            let bytes = bulk.load(Ordering::Relaxed) - passed;
            let rate = bytes as f64 / began.elapsed().as_secs_f64() / 1e6;
            if kills { &mut killed } else { &mut calm }.0.push(rate);
        }
        drop(stops);
        shorts.join().expect("a client that does not panic")?;
        transfer.join().expect("a transfer that does not panic")?;
        Ok(agent)
    })?;
    let (made, bytes) = (made.load(Ordering::Relaxed), bulk.load(Ordering::Relaxed));
    closed_in_time(&agent, (made + 1) as f64);
    passed.eventually_quiet();
    let mut found = Found::default();
    found.exactly("restarts/kills", "kills", starts.0.len() as f64, f64::from(PAIRS * KILLS));
    let [since_client, since_server] = [0, 1].map(|end| Counters::of(ends[end]).since(&before[end]));
    for (side, since) in [("client", &since_client), ("server", &since_server)] {
        let resets = since.get("TcpEstabResets") + since.get("TcpOutRsts");
        found.exactly(format!("restarts/resets by the {side}"), "resets", resets as f64, 0.0);
    }
    let again = since_client.get("TcpRetransSegs") + since_server.get("TcpRetransSegs");
    found.tell("restarts/sent again, by the kernels", "segments", again as f64);
    let payload = bytes as f64 + made as f64 * ASKED as f64;
    counts(&mut found, &agent, &passed, (made + 1) as f64, (again == 0).then_some(payload));
    pace(&mut found, &starts, &calm, &killed);

    let now = left_attached(&world.gateway).len();
    found.exactly("restarts/programs on interfaces", "programs", now as f64, attached as f64);
    take_off(&mut found, agent, &bpffs, &world);
    Ok(found)
}

/// Nothing lost, and nothing twice; `payload` is what the clients sent, where they sent nothing again.
fn counts(found: &mut Found, agent: &Agent<'_>, passed: &Passed<'_>, opened: f64, payload: Option<f64>) {
    let metrics = agent.metrics();
    for point in POINTS {
        connections(found, ("restarts", point), &metrics, opened, payload);
        let resets = sum(&metrics, "resets", point, &[]);
        found.exactly(format!("restarts/{point}/resets"), "segments", resets, 0.0);
    }
    passed.compare(found, "restarts", &metrics);
}

/// How long a start took, and what passed meanwhile.
fn pace(found: &mut Found, starts: &Sample, calm: &Sample, killed: &Sample) {
    let most = |sample: &Sample| sample.spread().map_or(0.0, |(_, most)| most);
    found.tell("restarts/start, median", "s", starts.median().unwrap_or(0.0));
    found.tell("restarts/start, slowest", "s", most(starts));
    found.must(most(starts) < START, || format!("a start took {:.2} s", most(starts)));
    found.tell("restarts/throughput undisturbed, median", "MB/s", calm.median().unwrap_or(0.0));
    found.tell("restarts/throughput with kills, median", "MB/s", killed.median().unwrap_or(0.0));
    let ratios = killed.ratio(calm);
    let (median, (least, most)) = (ratios.median().unwrap_or(0.0), ratios.spread().unwrap_or((0.0, 0.0)));
    found.tell("restarts/throughput of undisturbed, median", "of 1", median);
    found.tell("restarts/throughput of undisturbed, least", "of 1", least);
    found.tell("restarts/throughput of undisturbed, most", "of 1", most);
    found.must(median >= THROUGHPUT, || format!("throughput is {median:.3} of undisturbed"));
}

/// One connection on which the client sends as fast as it can until `stop`; `taken` are the bytes that the server took.
fn transfer(world: &Gateway, stop: &AtomicBool, taken: &AtomicU64) -> Result<()> {
    let listener = world.server.run(|| TcpListener::bind((SERVER.v4, BULK))).context("cannot listen")?;
    thread::scope(|scope| {
        let server = scope.spawn(|| -> Result<()> {
            let (mut conn, _) = listener.accept()?;
            let mut piece = vec![0; 1 << 16];
            loop {
                match conn.read(&mut piece)? {
                    0 => return Ok(()),
                    n => taken.fetch_add(n as u64, Ordering::Relaxed),
                };
            }
        });
        let mut conn = world.client.run(|| TcpStream::connect((SERVER.v4, BULK)))?;
        let piece = vec![7; 1 << 16];
        while !stop.load(Ordering::Relaxed) {
            conn.write_all(&piece)?;
        }
        drop(conn);
        server.join().expect("a server that does not panic")
    })
}
