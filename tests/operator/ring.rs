//! The agent stands still while thousands of things go wrong: evidence is lost and said to be, no count is.

use harness::impair::flags::RST;
use harness::tcp::Dial;
use harness::topology::{CLIENT, SERVER};
use harness::truth::{Counters, Nft};
use harness::{Gateway, eventually};
use nix::sys::signal::Signal;

use crate::watch::{DEADLINE, exactly, watch};

/// Each refused connection makes two records at each of two points.
const CONNECTIONS: u16 = 2_000;

#[test]
fn a_full_ring_loses_records_and_counts_each() {
    let world = Gateway::new();
    let agent = watch(&world, "tables:\n  ring_bytes: 4096\n");
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
    for port in 10_000..10_000 + CONNECTIONS {
        let refused = Dial::default().from((CLIENT.v4, port)).try_connect(&world.client, (SERVER.v4, 81));
        assert_eq!(refused.expect_err("nobody listens").kind(), std::io::ErrorKind::ConnectionRefused);
    }
    assert_eq!(Counters::of(&world.server).get("TcpOutRsts"), i64::from(CONNECTIONS));
    assert_eq!(witness.counter("resets").0, u64::from(CONNECTIONS));
    agent.signal(Signal::SIGCONT);

    let first = agent.metrics();
    let ring = |metrics: &harness::agent::Metrics| {
        ["submitted", "received", "lost"]
            .map(|what| metrics.get(&format!("fivetuple_ring_{what}_total"), &[]))
    };
    let [submitted, received, lost] = ring(&first);
    assert_eq!(submitted, received + lost, "at the first scrape");
    assert!(lost > 0.0, "4 KiB cannot hold {submitted} records");
    let labels = [("from", "server"), ("cause", "refused"), ("origin", "endpoint")];
    exactly(&agent, "resets_total", &[], &[(&labels, CONNECTIONS.into())]);

    eventually(DEADLINE, "the ring to be drained", || agent.request("GET", "/-/ready").status == 200);
    let [submitted, received, lost_now] = ring(&agent.metrics());
    assert_eq!(submitted, received + lost_now);
    assert_eq!(submitted, f64::from(CONNECTIONS) * 4.0, "the RST and the end, at two points");
    assert!(received > 0.0 && lost_now == lost, "{received} received, {lost_now} lost");

    // The agent sees again what comes now.
    let again = Dial::default().from((CLIENT.v4, 9_000)).try_connect(&world.client, (SERVER.v4, 81));
    assert!(again.is_err());
    eventually(DEADLINE, "the events of what came now", || {
        let listed = agent.get_json("/api/v1/events?port=9000");
        if listed["events"].as_array().is_some_and(|events| events.len() == 4) { Ok(()) } else { Err(listed) }
    });
    let [submitted, received, lost_now] = ring(&agent.metrics());
    assert_eq!((submitted, lost_now), (received + lost, lost));
    agent.stop();
}
