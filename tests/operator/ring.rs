//! The agent stands still while a hundred thousand things are noted: evidence is lost and said to be, no count is. And
//! what is noted now and then does not wait for what comes next.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use harness::agent::{Agent, Launch};
use harness::impair::flags::{RST, SYN};
use harness::raw::{Frame, RawPort};
use harness::tcp::Dial;
use harness::topology::{CLIENT, OUTSIDE, SERVER};
use harness::truth::{Counters, Nft};
use harness::{Gateway, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::watch::{DEADLINE, configuration, exactly};

/// Each connection that is refused makes two records at each of two points.
const REFUSED: u16 = 25_000;
/// So many SYNs at a time: what waits for a processor is bounded.
const BATCH: u16 = 250;

fn ring(agent: &Agent) -> [f64; 3] {
    let metrics = agent.metrics();
    ["submitted", "received", "lost"].map(|what| metrics.get(&format!("fivetuple_ring_{what}_total"), &[]))
}

#[test]
fn a_full_ring_loses_records_and_counts_each() {
    let world = Gateway::new();
    let tables = "tables:\n  ring_bytes: 4096\n  half_open: 65536\n";
    let agent = Launch::configuration(configuration(tables)).alone().start(&world.gateway);
    // A witness beside the agent, on the same host.
    let witness = Nft::load(
        &world.gateway,
        "witness",
        &format!(
            "counter resets {{\n}}\nchain forward {{\n type filter hook forward priority 0;\n \
             tcp flags & rst == {RST:#x} counter name resets\n}}"
        ),
    );
    agent.signal(Signal::SIGSTOP);
    let port = RawPort::open(&world.client, CLIENT.interface);
    for first in (0..REFUSED).step_by(BATCH.into()) {
        for n in first..first + BATCH {
            let syn = Frame::new((CLIENT.v4, 10_000 + n), (SERVER.v4, 81)).macs(CLIENT.mac, OUTSIDE.mac);
            port.send(&syn.flags(SYN).seq(n.into()).build());
        }
        let sent = u64::from(first + BATCH);
        eventually(DEADLINE, "nobody to listen", || witness.counter("resets").0 == sent);
    }
    assert_eq!(Counters::of(&world.server).get("TcpOutRsts"), i64::from(REFUSED));

    let goes_on = Instant::now();
    agent.signal(Signal::SIGCONT);
    let [submitted, received, lost] = ring(&agent);
    let recovered = goes_on.elapsed();
    assert_eq!(submitted, received + lost, "at the first scrape");
    assert_eq!(submitted, f64::from(REFUSED) * 4.0, "the RST and the end, at two points");
    assert!(lost > 0.0 && received > 0.0, "4 KiB hold a few of {submitted} records, not {received}");
    println!("{submitted} records, {lost} lost; the ring was empty again after {recovered:?}");
    assert!(recovered < Duration::from_secs(1), "{recovered:?}");
    let labels = [("from", "server"), ("cause", "refused"), ("origin", "endpoint")];
    exactly(&agent, "resets_total", &[], &[(&labels, REFUSED.into())]);
    eventually(DEADLINE, "the loss to be an alert", || {
        let listed = agent.get_json("/api/v1/alerts");
        let fires = |row: &Value| row["rule"] == "FivetupleRingLost" && row["state"] == "firing";
        if listed["alerts"].as_array().is_some_and(|rows| rows.iter().any(fires)) {
            Ok(())
        } else {
            Err(listed)
        }
    });

    // The agent sees again what comes now.
    let again = Dial::default().from((CLIENT.v4, 9_000)).try_connect(&world.client, (SERVER.v4, 81));
    assert!(again.is_err());
    eventually(DEADLINE, "the events of what came now", || {
        let listed = agent.get_json("/api/v1/events?port=9000");
        if listed["events"].as_array().is_some_and(|events| events.len() == 4) { Ok(()) } else { Err(listed) }
    });
    assert_eq!(ring(&agent), [submitted + 4.0, received + 4.0, lost]);
    agent.stop();
}

/// Connections that each of two clients has refused at a time, and how long it is silent then.
const BURSTS: [(u16, Duration); 6] = [
    (1, Duration::from_millis(700)),
    (60, Duration::from_millis(20)),
    (1, Duration::from_millis(230)),
    (60, Duration::ZERO),
    (1, Duration::from_millis(650)),
    (2, Duration::from_millis(1_100)),
];

/// The programs wake nobody, so no wake-up can be lost: the ring is looked at ten times a second. What a scrape would show
/// it also fetches; the connection log shows when a record was read by itself.
#[test]
fn what_two_processors_note_now_and_then_is_read_within_two_looks() {
    let world = Gateway::plan().many_cpus().build();
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let path = directory.path().join("connections.jsonl");
    let text = configuration(&format!("connection_log: {{path: {}}}\n", path.display()));
    let agent = Launch::configuration(text).start(&world.gateway);
    let refused = Mutex::new(HashMap::new());
    let expected = 2 * 2 * BURSTS.iter().map(|(count, _)| usize::from(*count)).sum::<usize>();
    let read = thread::scope(|scope| {
        for first in [10_000, 20_000] {
            let (world, refused) = (&world, &refused);
            scope.spawn(move || {
                let mut ports = first..;
                for (count, silence) in BURSTS {
                    for port in ports.by_ref().take(count.into()) {
                        let from = Dial::default().from((CLIENT.v4, port));
                        assert!(from.try_connect(&world.client, (SERVER.v4, 81)).is_err(), "nobody listens");
                        refused.lock().expect("no thread fails").insert(u64::from(port), Instant::now());
                    }
                    thread::park_timeout(silence);
                }
            });
        }
        let mut file = File::open(&path).expect("the agent has made it");
        let (mut line, mut read) = (Vec::new(), Vec::new());
        let until = Instant::now() + DEADLINE;
        while read.len() < expected {
            assert!(Instant::now() < until, "{} of {expected} lines after {DEADLINE:?}", read.len());
            let mut more = Vec::new();
            file.read_to_end(&mut more).expect("it can be read");
            let now = Instant::now();
            for byte in more {
                line.push(byte);
                if byte == b'\n' {
                    let entry: Value = serde_json::from_slice(&line).expect("a line is an object");
                    read.push((entry["client_port"].as_u64().expect("a number"), now));
                    line.clear();
                }
            }
            // More often than others wait: this is what is measured.
            thread::park_timeout(Duration::from_millis(1));
        }
        read
    });
    let refused = refused.into_inner().expect("no thread fails");
    let mut waited: Vec<_> =
        read.iter().map(|(port, at)| at.saturating_duration_since(refused[port])).collect();
    waited.sort();
    let [half, worst] = [waited[waited.len() / 2], waited[waited.len() - 1]];
    println!("{} records waited to be read: half of them {half:?} at most, all {worst:?}", waited.len());
    // A machine that has no processor for the agent just then is no lost wake-up: that would take the whole silence.
    assert!(half <= Duration::from_millis(150) && worst < Duration::from_millis(600), "{half:?}, {worst:?}");
    let [submitted, received, lost] = ring(&agent);
    assert_eq!((submitted, lost), (received, 0.0));
    agent.stop();
}
