//! A real Prometheus scrapes the agent: what it stores is what happened, and nothing in the format makes it complain.

use std::collections::BTreeMap;

use harness::agent::{Agent, Launch, Metrics};
use harness::tcp::{self, Dial, Serve, Server};
use harness::topology::{CLIENT, SERVER};
use harness::truth::Counters;
use harness::{Gateway, NetNs, command, eventually};
use serde_json::Value;

use crate::watch::{DEADLINE, POINTS, eventually_exactly, services, watch};

/// A sample's name and labels without those that Prometheus adds; `le` as a number, whose spelling is its own.
type Samples = BTreeMap<(String, BTreeMap<String, String>), f64>;

#[test]
fn prometheus_stores_what_happened() {
    let world = Gateway::plan().patient().build();
    let agent = watch(&world, &services([("card", 443)]));
    every_series_is_there_before_any_traffic(&agent.metrics());
    promtool_finds_no_fault(&world.gateway, &agent);

    let storage = tempfile::tempdir().expect("a temporary directory can be made");
    let scrape = format!(
        "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: fivetuple\n    static_configs:\n      \
         - targets: [\"{}\"]\n",
        agent.web()
    );
    let prometheus = Launch::configuration(scrape)
        .program("/usr/bin/prometheus")
        .argument(format!("--storage.tsdb.path={}", storage.path().display()))
        .start(&world.gateway);
    eventually(DEADLINE, "a first scrape", || answers(&prometheus, "up").values().any(|up| *up == 1.0));

    let echo = Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
    for _ in 0..4 {
        let mut conn = tcp::connect(&world.client, echo.address());
        tcp::echo(&mut conn, 3_000);
        conn.reset();
    }
    for port in 30_000..30_007 {
        let refused = Dial::default().from((CLIENT.v4, port)).try_connect(&world.client, (SERVER.v4, 81));
        assert!(refused.is_err(), "nobody listens");
    }
    let sent = [&world.client, &world.server].map(|end| Counters::of(end).get("TcpOutRsts"));
    assert_eq!(sent, [4, 7]);
    let (abort, refused) = ([("cause", "abort"), ("svc", "card")], [("cause", "refused"), ("svc", "other")]);
    eventually_exactly(&agent, "resets_total", &[], &[(&abort, 4), (&refused, 7)]);
    promtool_finds_no_fault(&world.gateway, &agent);

    for (query, truth) in [
        ("sum by (point) (fivetuple_tcp_resets_total{cause=\"refused\",from=\"server\",svc=\"other\"})", 7.0),
        ("sum by (point) (fivetuple_tcp_resets_total{cause=\"abort\",from=\"client\",svc=\"card\"})", 4.0),
        ("sum by (point) (fivetuple_tcp_handshake_rtt_seconds_count)", 4.0),
    ] {
        eventually(DEADLINE, query, || {
            let got: Vec<_> = answers(&prometheus, query).into_values().collect();
            if got == [truth; POINTS.len()] { Ok(()) } else { Err(format!("{got:?} instead of {truth}")) }
        });
    }
    // The traffic is over: each series that there is has arrived, with its value.
    eventually(DEADLINE, "the last scrape to have what is exposed", || {
        let exposed = of_agent(&agent.metrics());
        let stored = answers(&prometheus, "{__name__=~\"fivetuple_tcp_.+\"}");
        let differing: Vec<_> =
            exposed.iter().filter(|(series, value)| stored.get(*series) != Some(value)).collect();
        if stored.len() == exposed.len() && differing.is_empty() {
            return Ok(());
        }
        Err(format!("{} series stored, {} exposed; not alike: {differing:?}", stored.len(), exposed.len()))
    });
    // Killed: its guard would take the agent's programs for its own.
    drop(prometheus);
    agent.stop();
}

#[track_caller]
fn every_series_is_there_before_any_traffic(metrics: &Metrics) {
    // Two points, the service and the rest, two sides.
    let each = 2 * 2 * 2;
    for (family, combinations) in [
        ("resets_total", 9 * 2),
        ("five_tuple_reuses_total", 5 * 4),
        ("syn_retransmissions_total", 1),
        ("unanswered_requests_total", 1),
        ("zero_windows_total", 1),
        ("out_of_order_segments_total", 1),
    ] {
        let family = format!("fivetuple_tcp_{family}");
        assert_eq!(metrics.count(&family, &[]), each * combinations, "{family}");
        assert_eq!(metrics.sum(&family, &[]), 0.0, "{family}");
    }
    for histogram in ["reuse_gap", "handshake_rtt"] {
        let name = format!("fivetuple_tcp_{histogram}_seconds");
        assert_eq!(metrics.count(&format!("{name}_count"), &[]), 4, "{name}");
        assert_eq!(metrics.sum(&format!("{name}_count"), &[]), 0.0, "{name}");
        assert_eq!(metrics.count(&format!("{name}_bucket"), &[("le", "+Inf")]), 4, "{name}");
    }
    for what in ["submitted", "received", "lost"] {
        assert_eq!(metrics.get(&format!("fivetuple_ring_{what}_total"), &[]), 0.0);
    }
    let help_is_there = |name: &&str| name.starts_with("fivetuple_tcp_") && !name.contains("_seconds_");
    for name in metrics.names().iter().filter(|name| help_is_there(name)) {
        assert!(metrics.type_of(name).is_some(), "{name} has no type");
    }
}

/// In the text format, asked for or not.
#[track_caller]
fn promtool_finds_no_fault(gateway: &NetNs, agent: &Agent) {
    for accept in ["*/*", "text/plain;version=0.0.4"] {
        let text = gateway.exec(&format!("curl -sSf -H Accept:{accept} http://{}/metrics", agent.web()));
        assert!(!text.contains("# EOF"), "{accept} asks for the text format");
        let mut promtool = gateway.cmd("promtool");
        promtool.args(["check", "metrics"]);
        command::run(promtool, &text);
    }
}

fn of_agent(metrics: &Metrics) -> Samples {
    let names = metrics.names().into_iter().filter(|name| name.starts_with("fivetuple_tcp_"));
    let samples = names.flat_map(|name| {
        metrics.matching(name, &[]).map(|(labels, value)| ((name.to_owned(), plain(labels.clone())), value))
    });
    samples.collect()
}

/// What Prometheus answers to an instant query.
#[track_caller]
fn answers(prometheus: &Agent, query: &str) -> Samples {
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let answer = prometheus.get_json(&format!("/api/v1/query?query={encoded}"));
    let results = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{query}: {answer}"));
    results.iter().map(sample).collect()
}

fn sample(result: &Value) -> ((String, BTreeMap<String, String>), f64) {
    let text = |value: &Value| value.as_str().expect("Prometheus writes text").to_owned();
    let metric = result["metric"].as_object().expect("a sample has labels");
    let mut labels: BTreeMap<_, _> = metric.iter().map(|(key, value)| (key.clone(), text(value))).collect();
    labels.remove("instance");
    labels.remove("job");
    let name = labels.remove("__name__").unwrap_or_default();
    let value = text(&result["value"][1]).parse().expect("a value is a number");
    ((name, plain(labels)), value)
}

fn plain(mut labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    if let Some(bound) = labels.get_mut("le") {
        *bound = bound.parse::<f64>().expect("a bound is a number").to_string();
    }
    labels
}
