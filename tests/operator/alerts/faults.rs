//! Faults on the wire: resets, a server that stops answering, a drop to nothing, loss, a client that is not allowed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::agent::Agent;
use harness::hook::{Hook, Mood};
use harness::impair::rules::Random;
use harness::impair::{Packet, Rule};
use harness::tcp::{self, Conn, Serve, Server};
use harness::topology::SERVER;
use harness::{Gateway, eventually};

use super::{alertmanager, counts, directly, eventually_told, through_alertmanager, watch, within};
use crate::watch::{DEADLINE, silence_until};

const RULES: &str = "
  rules:
    - {name: silent, severity: page, kind: value, metric: fivetuple_tcp_stalled_requests, above: 9}
    - name: gone
      severity: page
      kind: drop_to_zero
      metric: fivetuple_tcp_connections_opened_total
      where: {svc: shop}
      window: 5s
    - name: lossy
      severity: watch
      kind: ratio
      metric:
        - fivetuple_tcp_retransmitted_segments_total
        - fivetuple_tcp_late_fill_segments_total
        - fivetuple_tcp_spurious_segments_total
      of: {metric: fivetuple_tcp_segments_total}
      window: 20s
      minimum: 200
      above: 2%
      clear: 1%
";

/// Where it is told: Alertmanagers, and a hook of the agent's own.
fn receivers(managers: &[&Agent], hook: &Hook) -> String {
    let managers: String =
        managers.iter().map(|manager| format!("    - url: http://{}\n", manager.web())).collect();
    format!("  alertmanagers:\n{managers}  webhooks: [{{url: '{}'}}]", hook.url())
}

#[test]
fn each_fault_is_at_the_webhook_in_time_with_evidence_and_over_once() {
    let lossy = Arc::new(AtomicBool::new(false));
    let world = Gateway::plan().server_side(loses_while(lossy.clone())).build();
    let storage = tempfile::tempdir().expect("a temporary directory can be made");
    let (behind, own) = (Hook::start(&world.gateway, Mood::Takes), Hook::start(&world.gateway, Mood::Takes));
    let manager = alertmanager(&world.gateway, &behind, &storage);
    let others = tempfile::tempdir().expect("a temporary directory can be made");
    let behind_other = Hook::start(&world.gateway, Mood::Takes);
    let other = alertmanager(&world.gateway, &behind_other, &others);
    let agent = watch(&world, &format!("{}{RULES}", receivers(&[&manager, &other], &own)));

    let (crossed, _server) = resets(&world);
    let page = eventually_told(|| through_alertmanager(&behind), "FivetupleSuccessRate", "card", "firing");
    within("resets", crossed, &page);
    assert_eq!((&page.labels["severity"], &page.labels["urgency"]), (&"critical".into(), &"page".into()));
    says(&page, &["10.77.1.2:", " -> 10.77.2.2:443 at ", ": reset; reset by the server: abort, endpoint"]);

    let (crossed, waiting, _sink) = stops_answering(&world);
    let page = eventually_told(|| through_alertmanager(&behind), "silent", "bank", "firing");
    within("a server that stops answering", crossed, &page);
    says(&page, &[" -> 10.77.2.2:444 at ", ": open", "request of 500 B unanswered"]);
    drop(waiting);
    eventually_told(|| through_alertmanager(&behind), "silent", "bank", "resolved");

    let (crossed, echo) = drops_to_nothing(&world);
    let page = eventually_told(|| through_alertmanager(&behind), "gone", "shop", "firing");
    within("drop to nothing", crossed, &page);
    says(&page, &[" -> 10.77.2.2:445 at ", ": answered"]);
    let mut conn = tcp::connect(&world.client, echo.address());
    tcp::echo(&mut conn, 100);
    eventually_told(|| through_alertmanager(&behind), "gone", "shop", "resolved");

    lossy.store(true, Ordering::Relaxed);
    let crossed = loses(&world, &agent);
    let watched = eventually_told(|| through_alertmanager(&behind), "lossy", "bulk", "firing");
    within("loss", crossed, &watched);
    assert_eq!(
        (&watched.labels["severity"], &watched.labels["urgency"]),
        (&"warning".into(), &"watch".into())
    );
    says(&watched, &[" -> 10.77.2.2:446 at ", " of the client"]);

    for rule in ["silent", "gone"] {
        let managers = [&behind, &behind_other].map(through_alertmanager);
        let [first, second] = managers;
        for (told, whose) in [(first, "Alertmanager"), (second, "other one"), (directly(&own), "agent")] {
            let counts = counts(&told, rule);
            assert_eq!((counts["firing"], counts["resolved"]), (1, 1), "{rule} by the {whose}");
        }
    }
    let listed = agent.get_json("/api/v1/alerts");
    let listed = listed["alerts"].as_array().expect("a list");
    let row = listed.iter().find(|row| row["rule"] == "FivetupleSuccessRate").expect("it fires still");
    assert_eq!((&row["state"], &row["labels"]["svc"]), (&"firing".into(), &"card".into()));
    assert_eq!(row["alert"]["evidence"][0]["connection"]["result"], "reset");
    let state = |rule| agent.metrics().get("fivetuple_alert_state", &[("rule", rule), ("svc", "card")]);
    assert_eq!((state("FivetupleSuccessRate"), state("FivetupleRefused")), (2.0, 0.0));
    drop((manager, other));
    agent.stop();
}

#[track_caller]
fn says(told: &super::Told, words: &[&str]) {
    let evidence = told.annotations["evidence"].as_str().unwrap_or_else(|| panic!("no evidence: {told:?}"));
    for word in words {
        assert!(evidence.contains(word), "{word:?} is not in\n{evidence}");
    }
    for note in ["summary", "description", "runbook_url"] {
        assert!(told.annotations[note].is_string(), "no {note} in {told:?}");
    }
}

fn loses_while(lossy: Arc<AtomicBool>) -> Rule {
    let mut random = Rule::from(Random::seeded(5).loss(0.08).data_only());
    Rule::from(
        move |packet: &Packet| {
            if lossy.load(Ordering::Relaxed) { random.decide(packet) } else { Vec::new() }
        },
    )
}

/// Twenty, which the rule asks for at least; crossed with the last.
fn resets(world: &Gateway) -> (Instant, Server) {
    let server = Server::start(&world.server, (SERVER.v4, 443), Serve::Reset(100));
    for _ in 0..20 {
        let mut conn = tcp::connect(&world.client, server.address());
        conn.send(100);
        conn.expect_reset();
    }
    (Instant::now(), server)
}

/// Ten requests without an answer; crossed when the last is older than the stall limit.
fn stops_answering(world: &Gateway) -> (Instant, Vec<Conn>, Server) {
    let server = Server::start(&world.server, (SERVER.v4, 444), Serve::Sink);
    let ask = |_| {
        let mut conn = tcp::connect(&world.client, server.address());
        conn.send(500);
        conn
    };
    let waiting = (0..10).map(ask).collect();
    (Instant::now() + Duration::from_secs(1), waiting, server)
}

/// Thirty connections, and then none; crossed when the last is older than the window.
fn drops_to_nothing(world: &Gateway) -> (Instant, Server) {
    let server = Server::start(&world.server, (SERVER.v4, 445), Serve::Echo);
    let mut last = Instant::now();
    for _ in 0..30 {
        let mut conn = tcp::connect(&world.client, server.address());
        last = Instant::now();
        tcp::echo(&mut conn, 100);
    }
    (last + Duration::from_secs(5), server)
}

/// Sends until the agent's own figures are above the threshold; crossed then, at the latest.
fn loses(world: &Gateway, agent: &Agent) -> Instant {
    let server = Server::start(&world.server, (SERVER.v4, 446), Serve::Echo);
    eventually(DEADLINE, "enough to be lost", || {
        let mut conn = tcp::connect(&world.client, server.address());
        tcp::echo(&mut conn, 100_000);
        drop(conn);
        let metrics = agent.metrics();
        let at = |point| {
            let sum = |name| {
                metrics.sum(
                    &format!("fivetuple_tcp_{name}_segments_total"),
                    &[("svc", "bulk"), ("point", point)],
                )
            };
            let again = sum("retransmitted") + sum("late_fill") + sum("spurious");
            let all = metrics.sum("fivetuple_tcp_segments_total", &[("svc", "bulk"), ("point", point)]);
            all >= 200.0 && again / all > 0.02
        };
        at("outside") || at("inside")
    });
    Instant::now()
}

/// A server that comes and goes, twenty times: one page, and over once.
#[test]
fn a_server_that_comes_and_goes_is_one_page() {
    let world = Gateway::new();
    let storage = tempfile::tempdir().expect("a temporary directory can be made");
    let (behind, own) = (Hook::start(&world.gateway, Mood::Takes), Hook::start(&world.gateway, Mood::Takes));
    let manager = alertmanager(&world.gateway, &behind, &storage);
    let rules = "
  built_in: false
  rules:
    - name: refused
      severity: page
      kind: ratio
      metric: fivetuple_tcp_connection_results_total
      where: {result: refused, svc: card}
      of: {metric: fivetuple_tcp_connection_results_total}
      window: 3s
      minimum: 5
      above: 50%
      clear: 1%
      keep_firing: 4s
";
    let agent = watch(&world, &format!("{}{rules}", receivers(&[&manager], &own)));
    let try_for = |time: Duration| {
        let began = Instant::now();
        let mut next = began;
        eventually(DEADLINE, "the time to be over", || {
            if Instant::now() >= next {
                next = Instant::now() + Duration::from_millis(25);
                if let Ok(mut conn) = tcp::Dial::default().try_connect(&world.client, (SERVER.v4, 443)) {
                    tcp::echo(&mut conn, 10);
                }
            }
            began.elapsed() >= time
        });
    };
    let began = Instant::now();
    for _ in 0..10 {
        try_for(Duration::from_secs(1));
        let _echo = Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
        try_for(Duration::from_secs(1));
    }
    let page = eventually_told(|| through_alertmanager(&behind), "refused", "card", "firing");
    assert!(page.at.duration_since(began) < Duration::from_secs(5), "while it was down for the first time");
    let _echo = Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
    try_for(Duration::from_secs(10));
    eventually_told(|| through_alertmanager(&behind), "refused", "card", "resolved");
    for told in [through_alertmanager(&behind), directly(&own)] {
        let counts = counts(&told, "refused");
        assert_eq!((counts["firing"], counts["resolved"]), (1, 1), "{told:?}");
    }
    drop(manager);
    agent.stop();
}

/// While it is open, without waiting for its end; and once, however long that lasts.
#[test]
fn a_client_that_is_not_allowed_is_told_while_it_is_connected() {
    let world = Gateway::new();
    let own = Hook::start(&world.gateway, Mood::Takes);
    let more = format!("  webhooks: [{{url: '{}'}}]\n", own.url());
    let text = super::with_alerts(&more);
    let text =
        text.replacen("    ports: [443]\n", "    ports: [443]\n    allowed_clients: [192.0.2.0/24]\n", 1);
    let agent = harness::agent::Launch::configuration(text).start(&world.gateway);
    let servers = [443, 444].map(|port| Server::start(&world.server, (SERVER.v4, port), Serve::Echo));
    let mut open = servers.each_ref().map(|server| tcp::connect(&world.client, server.address()));
    let crossed = Instant::now();
    open.iter_mut().for_each(|conn| tcp::echo(conn, 100));
    let told = eventually_told(|| directly(&own), "FivetupleForeignClients", "card", "firing");
    // The sweep that finds it, and the look at the figures.
    within("a client that is not allowed", crossed, &told);
    says(&told, &["10.77.1.2:", ": open"]);
    let count = |svc| {
        let metrics = agent.metrics();
        ["outside", "inside"].map(|point| {
            metrics.get("fivetuple_tcp_foreign_connections_total", &[("svc", svc), ("point", point)])
        })
    };
    silence_until(crossed, Duration::from_secs(4));
    assert_eq!((count("card"), count("bank")), ([1.0; 2], [0.0; 2]));
    drop(open);
    let refused = tcp::Dial::default().try_connect(&world.client, (SERVER.v6, 443));
    assert!(refused.is_err(), "nobody listens");
    eventually(DEADLINE, "the one that was refused to be counted", || count("card") == [2.0; 2]);
    assert_eq!(directly(&own).iter().filter(|told| told.rule == "FivetupleForeignClients").count(), 1);
    agent.stop();
}
