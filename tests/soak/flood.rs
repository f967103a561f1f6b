//! `flood`: as many SYNs as one processor can send, beside connections that are followed.
//!
//! First from addresses and ports at random, then as a scan: every port of many hosts, one after the other.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use harness::agent::{Agent, Launch, Metrics};
use harness::impair::flags::SYN;
use harness::raw::{Frame, RawPort};
use harness::tcp::{Conn, Dial, Serve, Server};
use harness::topology::{CLIENT, INSIDE, OUTSIDE, SERVER};
use harness::truth::{Counters, Nft};
use harness::{Gateway, eventually};

use crate::held::Held;
use crate::passed::{POINTS, Passed, sum};
use crate::short::Stops;
use crate::{Found, Options};

/// SYNs at random.
const RANDOM: u32 = 3_000_000;
/// Hosts that are scanned, each at all ports but 0.
const HOSTS: u32 = 256;
/// Connections that are followed.
const LIVE: u16 = 1_000;
/// Of those, the ones that lose a segment inside of the gateway meanwhile, each one.
const LOSING: u16 = 50;
/// Bytes that each of them says in a turn, and hears again.
const TURN: u64 = 100;
/// From one turn to the next: a server of the rig ends a connection that says nothing for 20 s.
const PAUSE: Duration = Duration::from_secs(1);
/// How long until the flood is told.
const PROMPT: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(60);
/// What the agent may have of resident memory, MiB.
const MEMORY: f64 = 40.0;
/// What it may use of a processor.
const PROCESSOR: f64 = 0.25;

const CONFIGURATION: &str = "interfaces: [{name: outside}, {name: inside}]
services: [{name: card, prefixes: [10.77.2.2], ports: [443]}]
tables: {half_open: 65_536}
";

/// Floods.
pub fn run(_: &Options) -> Result<Found> {
    // A veth hands a packet to the processor that sent it: no queue between them that could lose one.
    let world = Gateway::plan().patient().many_cpus().build();
    // The scanned hosts are behind the server, and nobody answers there.
    world.gateway.ip(&format!("route add 10.78.0.0/16 via {} dev {}", SERVER.v4, INSIDE.interface));
    let deaf = "chain comes {\n type filter hook prerouting priority -400;\n tcp dport != 443 drop\n}";
    let _deaf = Nft::load(&world.server, "deaf", deaf);
    let passed = Passed::watch(&world);
    let agent = Launch::configuration(CONFIGURATION).alone().start(&world.gateway);
    let server = Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
    let dial = |port| Dial::default().from((CLIENT.v4, port)).connect(&world.client, server.address());
    let mut live: Vec<_> = (20_000..20_000 + LIVE).map(dial).collect();
    turn(&mut live);
    let ends = [&world.client, &world.server];
    let before = ends.map(Counters::of);
    // The first data segment of some, on its way from one point to the other.
    let losses = format!(
        "counter lost {{\n}}\nset met {{\n type inet_service\n flags dynamic\n size {LOSING}\n}}\n\
         chain between {{\n type filter hook forward priority 0;\n tcp dport 443 tcp sport 20000-{} \
         tcp flags & psh == psh tcp sport != @met add @met {{ tcp sport }} counter name lost drop\n}}",
        20_000 + LOSING - 1
    );
    let losses = Nft::load(&world.gateway, "losses", &losses);
    let (over, mut found) = (AtomicBool::new(false), Found::default());
    let gateway = Flooded { world: &world, agent: &agent };
    let turns = thread::scope(|scope| -> Result<_> {
        let over = Stops(&over);
        let turns = scope.spawn(|| keep_talking(&mut live, over.0));
        gateway.flood(&mut found, "random", RANDOM, |n| {
            // Each from an address and a port that no other has, in no order.
            let n = n.wrapping_mul(0x9e37_79b1);
            ((Ipv4Addr::from(0x0b00_0000 | (n >> 8)), 1_024 + (n & 0xff) as u16), (SERVER.v4, 9))
        })?;
        gateway.flood(&mut found, "scan", HOSTS * 65_535, |n| {
            let host = Ipv4Addr::from(0x0a4e_0000 | (n / 65_535));
            ((CLIENT.v4, 40_000), (host, 1 + (n % 65_535) as u16))
        })?;
        over.0.store(true, Ordering::Relaxed);
        Ok(1 + turns.join().expect("connections that are not cut off"))
    })?;
    passed.eventually_quiet();

    let [lost, again] = [losses.counter("lost").0 as f64, ends_sent_again(ends, &before)];
    found.exactly("flood/live/lost inside of the gateway", "segments", lost, f64::from(LOSING));
    found.exactly("flood/live/sent again, by the kernels", "segments", again, lost);
    let metrics = agent.metrics();
    let said = f64::from(turns) * f64::from(LIVE) * TURN as f64;
    for point in POINTS {
        let name = |what: &str| format!("flood/live/{point}/{what}");
        let count =
            |family, labels: &[_]| sum(&metrics, family, point, &[&[("svc", "card")], labels].concat());
        let opened = count("connections_opened", &[("by", "syn")]);
        found.exactly(name("opened"), "connections", opened, f64::from(LIVE));
        found.exactly(name("closed"), "connections", count("connections_closed", &[]), 0.0);
        // Where the first copy was not seen the second one is the first.
        let twice = if point == "outside" { lost } else { 0.0 };
        let repeats = count("retransmitted_segments", &[]);
        found.exactly(name("sent again"), "segments", repeats, twice);
        let payload = count("payload_bytes", &[("from", "client")]);
        found.exactly(name("payload of the client"), "bytes", payload, said + twice * TURN as f64);
        found.exactly(
            name("payload of the server"),
            "bytes",
            count("payload_bytes", &[("from", "server")]),
            said,
        );
    }
    passed.compare(&mut found, "flood", &metrics);
    drop(live);
    agent.stop();
    Ok(found)
}

/// Segments that both ends have sent again since then.
fn ends_sent_again(ends: [&harness::NetNs; 2], before: &[Counters; 2]) -> f64 {
    let again = |(end, before)| Counters::of(end).since(before).get("TcpRetransSegs");
    ends.into_iter().zip(before).map(again).sum::<i64>() as f64
}

/// Each of the connections says something and hears it again.
fn turn(live: &mut [Conn]) {
    live.iter_mut().for_each(|conn| conn.send(TURN));
    live.iter_mut().for_each(|conn| conn.receive(TURN));
}

/// Turns until it is over; how many.
fn keep_talking(live: &mut [Conn], over: &AtomicBool) -> u32 {
    let (began, mut turns) = (Instant::now(), 0);
    while !over.load(Ordering::Relaxed) {
        turn(live);
        turns += 1;
        thread::park_timeout((PAUSE * turns).saturating_sub(began.elapsed()));
    }
    turns
}

/// A gateway that is flooded.
struct Flooded<'a> {
    world: &'a Gateway,
    agent: &'a Agent<'a>,
}

impl Flooded<'_> {
    /// One flood; `syn` says from where to where the nth SYN goes.
    fn flood(
        &self,
        found: &mut Found,
        kind: &str,
        syns: u32,
        syn: impl Fn(u32) -> ((Ipv4Addr, u16), (Ipv4Addr, u16)) + Sync,
    ) -> Result<()> {
        let Self { world, agent } = self;
        let (calm, held) = (agent.metrics(), Held::by(agent.pid())?);
        let began = Instant::now();
        let (sent, told) = thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let port = RawPort::open(&world.client, CLIENT.interface);
                for n in 0..syns {
                    let (from, to) = syn(n);
                    port.send(&Frame::new(from, to).macs(CLIENT.mac, OUTSIDE.mac).flags(SYN).seq(n).build());
                }
                began.elapsed()
            });
            let told = scope.spawn(|| {
                eventually(DEADLINE, "the flood to be told", || {
                    agent.metrics().get("fivetuple_flood", &[]) == 1.0
                });
                began.elapsed()
            });
            (sender.join().expect("a sender that does not panic"), told.join().expect("it is told"))
        });
        let metrics = self.counted(syns, &calm);
        let took = began.elapsed();
        let name = |what: &str| format!("flood/{kind}/{what}");
        let grown = |value: &dyn Fn(&Metrics) -> f64| value(&metrics) - value(&calm);
        for point in POINTS {
            let name = |what: &str| name(&format!("{point}/{what}"));
            let here = [("svc", "other")];
            let seen = grown(&|m| sum(m, "segments", point, &here));
            found.exactly(name("SYNs"), "segments", seen, f64::from(syns));
            let opened = grown(&|m| sum(m, "connections_opened", point, &[("svc", "other"), ("by", "syn")]));
            let labels = [("point", point), ("reason", "half_open_full")];
            let refused = grown(&|m| m.sum("fivetuple_tracking_losses_total", &labels));
            found.tell(name("opened"), "connections", opened);
            found.exactly(name("opened or refused"), "connections", opened + refused, seen);
        }
        found.tell(name("rate"), "SYNs/s", f64::from(syns) / sent.as_secs_f64());
        found.tell(name("told after"), "s", told.as_secs_f64());
        found.must(told < PROMPT, || format!("the {kind} flood was told after {told:?} only"));
        found.exactly(name("series"), "series", metrics.len() as f64, calm.len() as f64);
        let share = grown(&|m| m.get("process_cpu_seconds_total", &[])) / took.as_secs_f64();
        found.tell(name("agent's processor"), "of one", share);
        found.must(share <= PROCESSOR, || format!("{kind}: the agent takes {share:.2} of a processor"));
        let resident = metrics.get("process_resident_memory_bytes", &[]) / 1_048_576.0;
        found.tell(name("agent's resident memory"), "MiB", resident);
        found.must(resident <= MEMORY, || format!("{kind}: the agent has {resident:.1} MiB"));
        let now = Held::by(agent.pid())?;
        found.exactly(name("maps' memory"), "bytes", now.map_bytes() as f64, held.map_bytes() as f64);
        let records = grown(&|m| m.get("fivetuple_ring_submitted_total", &[]));
        found.tell(name("records on the ring"), "records", records);
        let firing =
            |m: &Metrics| m.matching("fivetuple_alert_state", &[]).filter(|(_, state)| *state >= 2.0).count();
        found.tell(name("alerts that fire"), "alerts", firing(&metrics) as f64);
        eventually(DEADLINE, "the flood to be over", || agent.metrics().get("fivetuple_flood", &[]) == 0.0);
        found.tell(name("over after"), "s", began.elapsed().saturating_sub(sent).as_secs_f64());
        Ok(())
    }

    /// What the agent says once all SYNs have passed.
    fn counted(&self, syns: u32, calm: &Metrics) -> Metrics {
        let seen = |m: &Metrics, point| sum(m, "segments", point, &[("svc", "other")]);
        eventually(DEADLINE, "the last SYN", || {
            let metrics = self.agent.metrics();
            let all = POINTS.iter().all(|point| seen(&metrics, point) - seen(calm, point) >= f64::from(syns));
            all.then_some(metrics)
        })
    }
}
