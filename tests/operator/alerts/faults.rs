//! Faults on the wire: resets, a server that stops answering, a drop to nothing, loss, a client that is not allowed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::agent::Agent;
use harness::hook::{Hook, Mood};
use harness::impair::rules::Random;
use harness::impair::{Packet, Rule};
use harness::tcp::{self, Conn, Dial, Serve, Server};
use harness::topology::{CLIENT, SERVER};
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

/// Changes of the flapping fault.
const CHANGES: u32 = 200;
/// Once in so many changes the fault is gone until the alert is about to be over, and then lasts until it fires.
const CROSSED_EACH: u32 = 20;
/// From one attempt to the next.
const PACE: Duration = Duration::from_millis(25);
/// How long each other change lasts.
const SHORT: Duration = Duration::from_millis(200);

/// A server that comes and goes, and who asks it all the time.
struct Flapping<'a> {
    world: &'a Gateway,
    /// What the last attempt met.
    answered: bool,
    /// How often that became another.
    changes: u32,
    /// The client's last port.
    port: u16,
}

impl Flapping<'_> {
    /// Asks at least three times, until it is over.
    #[track_caller]
    fn ask_until(&mut self, what: &str, over: impl Fn() -> bool) {
        let mut asked = 0;
        let mut next = Instant::now();
        eventually(DEADLINE, what, || {
            if Instant::now() < next {
                return false;
            }
            next = Instant::now() + PACE;
            // No five-tuple comes back: this is about a server and not about ports.
            self.port += 1;
            let conn = Dial::default()
                .from((CLIENT.v4, self.port))
                .try_connect(&self.world.client, (SERVER.v4, 443));
            let answered = conn.map(|mut conn| tcp::echo(&mut conn, 10)).is_ok();
            self.changes += u32::from(answered != self.answered);
            self.answered = answered;
            asked += 1;
            asked >= 3 && over()
        });
    }
}

/// Within the time that all must be well before it is over, however often the threshold is crossed: one page, and over
/// once.
#[test]
fn a_fault_that_comes_and_goes_is_one_page() {
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
      window: 1s
      minimum: 3
      above: 20%
      clear: 1%
      keep_firing: 10s
";
    let agent = watch(&world, &format!("{}{rules}", receivers(&[&manager], &own)));
    let state = || {
        let listed = agent.get_json("/api/v1/alerts");
        let rows = listed["alerts"].as_array().expect("a list");
        let row = rows.iter().find(|row| row["rule"] == "refused");
        row.map(|row| row["state"].as_str().expect("a state").to_owned())
    };
    let up = || Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
    let mut flapping = Flapping { world: &world, answered: true, changes: 0, port: 10_000 };
    let mut server = Some(up());
    flapping.ask_until("the server to be there", || true);
    let began = Instant::now();
    while flapping.changes < CHANGES {
        let crosses = [0, CROSSED_EACH - 1].contains(&(flapping.changes % CROSSED_EACH));
        let since = Instant::now();
        server = if server.is_some() { None } else { Some(up()) };
        let becomes = if server.is_some() { "clearing" } else { "firing" };
        flapping.ask_until(&format!("change {} to be {becomes}", flapping.changes), || {
            if crosses { state().is_some_and(|state| state == becomes) } else { since.elapsed() >= SHORT }
        });
    }
    let page = eventually_told(|| through_alertmanager(&behind), "refused", "card", "firing");
    within("a server that goes away", began + Duration::from_secs(1), &page);
    flapping.ask_until("the alert to be over", || state().is_none_or(|state| state == "inactive"));
    eventually_told(|| through_alertmanager(&behind), "refused", "card", "resolved");
    assert_eq!(flapping.changes, CHANGES);
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
    let refused = Dial::default().try_connect(&world.client, (SERVER.v6, 443));
    assert!(refused.is_err(), "nobody listens");
    eventually(DEADLINE, "the one that was refused to be counted", || count("card") == [2.0; 2]);
    assert_eq!(directly(&own).iter().filter(|told| told.rule == "FivetupleForeignClients").count(), 1);
    agent.stop();
}
