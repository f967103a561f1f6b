//! Receivers that are away, hang, refuse or are slow, under a running agent: what they miss waits for them, the others are
//! told in time, and the packets are counted as ever.

use std::time::{Duration, Instant};

use harness::Gateway;
use harness::eventually;
use harness::hook::{Hook, Mood};
use harness::tcp::{self, Dial, Serve, Server};
use harness::topology::{CLIENT, SERVER};
use nix::sys::signal::Signal;

use super::{PROMPT, accounts, alertmanager, counts, directly, eventually_told, through_alertmanager, watch};
use crate::watch::{DEADLINE, eventually_exactly};

#[test]
fn bad_receivers_lose_nothing_and_hold_up_nobody() {
    let world = Gateway::plan().patient().build();
    let bad = [Mood::Hangs, Mood::Refuses(500), Mood::Refuses(429), Mood::IsSlow(Duration::from_secs(1))];
    let bad = bad.map(|mood| Hook::start(&world.gateway, mood));
    let good = Hook::start(&world.gateway, Mood::Takes);
    let mut sinks: String =
        bad.iter().map(|hook| format!("    - {{url: '{}', timeout: 2s}}\n", hook.url())).collect();
    sinks += &format!("    - {{url: '{}'}}\n", good.url());
    // Nobody is there: of an Alertmanager that is away.
    let alerts = format!(
        "  built_in: false\n  alertmanagers: [{{url: 'http://127.0.0.1:9', name: away}}]\n  webhooks:\n{sinks}  rules:\n    - {{name: refused, severity: page, kind: count, window: 2s, above: 0, metric: fivetuple_tcp_resets_total, where: {{cause: refused}}}}\n"
    );
    let agent = watch(&world, &alerts);

    // Four incidents, each told and taken back.
    let mut refused = 0_u16;
    for incident in 1..=4 {
        let dialled = Dial::default().from((CLIENT.v4, 30_000 + refused));
        assert!(dialled.try_connect(&world.client, (SERVER.v4, 443)).is_err(), "nobody listens");
        refused += 1;
        let crossed = Instant::now();
        eventually(DEADLINE, "the good one to be told", || directly(&good).len() == 2 * incident - 1);
        let late = directly(&good)[2 * incident - 2].at.saturating_duration_since(crossed);
        assert!(late <= PROMPT, "{late:?}");
        eventually(DEADLINE, "the incident to be over", || directly(&good).len() == 2 * incident);
        let asked = Instant::now();
        accounts(&agent, "away");
        assert!(asked.elapsed() < Duration::from_secs(2), "a scrape waits for no receiver");
    }
    let echo = Server::start(&world.server, (SERVER.v4, 444), Serve::Echo);
    let mut conn = tcp::connect(&world.client, echo.address());
    tcp::echo(&mut conn, 1_000);
    eventually_exactly(
        &agent,
        "resets_total",
        &[],
        &[(&[("cause", "refused"), ("svc", "card")], refused.into())],
    );
    let payload = [("svc", "bank"), ("from", "client")];
    eventually_exactly(&agent, "payload_bytes_total", &payload, &[(&[], 1_000)]);

    for hook in &bad {
        let [produced, sent, dropped, queued] = accounts(&agent, &hook.place());
        assert_eq!((produced, sent, dropped, queued), (8.0, 0.0, 0.0, 8.0), "all wait");
        assert_eq!(hook.posts().len(), 0);
    }
    let failures =
        |sink: &str| agent.metrics().get("fivetuple_alerts_send_failures_total", &[("sink", sink)]);
    assert!(failures("away") > 0.0 && failures(&bad[1].place()) > 0.0);
    for hook in &bad {
        hook.becomes(Mood::Takes);
    }
    for hook in &bad {
        eventually(DEADLINE, "what waited to be told", || {
            accounts(&agent, &hook.place()) == [8.0, 8.0, 0.0, 0.0]
        });
        let statuses: Vec<_> = directly(hook).into_iter().map(|told| told.status).collect();
        assert_eq!(statuses, ["firing", "resolved"].repeat(4), "in order, each once");
    }
    eventually_told(|| directly(&bad[0]), "refused", "card", "resolved");
    let [produced, sent, dropped, _] = accounts(&agent, "away");
    assert!(produced >= 8.0 && sent == 0.0 && dropped == 0.0);
    agent.stop();
}

/// It takes connections and answers nobody, as a process does that stands still.
#[test]
fn an_alertmanager_that_stands_still_is_told_when_it_goes_on() {
    let world = Gateway::new();
    let storage = tempfile::tempdir().expect("a temporary directory can be made");
    let (behind, own) = (Hook::start(&world.gateway, Mood::Takes), Hook::start(&world.gateway, Mood::Takes));
    let manager = alertmanager(&world.gateway, &behind, &storage);
    let alerts = format!(
        "  built_in: false\n  alertmanagers: [{{url: 'http://{}', name: am, timeout: 1s}}]\n  webhooks: [{{url: '{}'}}]\n  rules:\n    - {{name: refused, severity: page, kind: count, window: 1h, above: 0, metric: fivetuple_tcp_resets_total, where: {{cause: refused}}}}\n",
        manager.web(),
        own.url()
    );
    let agent = watch(&world, &alerts);
    manager.signal(Signal::SIGSTOP);
    assert!(Dial::default().try_connect(&world.client, (SERVER.v4, 443)).is_err(), "nobody listens");
    let crossed = Instant::now();
    let told = eventually_told(|| directly(&own), "refused", "card", "firing");
    assert!(told.at.saturating_duration_since(crossed) <= PROMPT);
    let failures = || agent.metrics().get("fivetuple_alerts_send_failures_total", &[("sink", "am")]);
    eventually(DEADLINE, "the Alertmanager to be tried twice", || failures() >= 2.0);
    let [produced, sent, dropped, queued] = accounts(&agent, "am");
    assert_eq!((produced, sent, dropped, queued), (1.0, 0.0, 0.0, 1.0));
    manager.signal(Signal::SIGCONT);
    eventually_told(|| through_alertmanager(&behind), "refused", "card", "firing");
    eventually(DEADLINE, "it to be accounted for", || accounts(&agent, "am")[3] == 0.0);
    assert_eq!(counts(&through_alertmanager(&behind), "refused")["firing"], 1, "however often it was sent");
    drop(manager);
    agent.stop();
}
