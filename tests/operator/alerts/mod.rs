//! Alerts as an operator gets them: a fault on the wire is at the webhook behind a real Alertmanager within seconds, once,
//! with evidence; receivers may be bad, configurations wrong, and the agent may be restarted.

mod faults;
mod receivers;
mod reloads;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use harness::agent::{Agent, Launch};
use harness::hook::Hook;
use harness::{Gateway, NetNs, eventually};
use serde_json::Value;

use crate::watch::{DEADLINE, configuration, services};

/// How soon after the crossing of a rule it must have been told.
const PROMPT: Duration = Duration::from_secs(3);

/// The services of these tests.
const SERVICES: [(&str, u16); 4] = [("card", 443), ("bank", 444), ("shop", 445), ("bulk", 446)];

/// What a receiver was told.
#[derive(Clone, Debug)]
struct Told {
    at: Instant,
    rule: String,
    svc: String,
    status: String,
    labels: Value,
    annotations: Value,
}

impl Told {
    fn of(at: Instant, alert: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let labels = &alert["labels"];
        Self {
            at,
            rule: text(&labels["alertname"]),
            svc: text(&labels["svc"]),
            status: text(&alert["status"]),
            labels: labels.clone(),
            annotations: alert["annotations"].clone(),
        }
    }
}

/// A real Alertmanager that tells a hook at once.
#[track_caller]
fn alertmanager<'a>(namespace: &'a NetNs, hook: &Hook, storage: &tempfile::TempDir) -> Agent<'a> {
    let route = "route:\n  receiver: hook\n  group_by: [alertname, svc]\n  group_wait: 0s\n  group_interval: 1s\n  \
                 repeat_interval: 1h\n";
    let receiver = format!(
        "receivers:\n  - name: hook\n    webhook_configs: [{{url: '{}', send_resolved: true}}]\n",
        hook.url()
    );
    Launch::configuration(format!("{route}{receiver}"))
        .program("/usr/bin/prometheus-alertmanager")
        .argument(format!("--storage.path={}", storage.path().display()))
        .argument("--cluster.listen-address=")
        .start(namespace)
}

/// What came through an Alertmanager.
fn through_alertmanager(hook: &Hook) -> Vec<Told> {
    let of = |post: &harness::hook::Post| {
        let alerts = post.body["alerts"].as_array().cloned().unwrap_or_default();
        alerts.iter().map(|alert| Told::of(post.at, alert)).collect::<Vec<_>>()
    };
    hook.posts().iter().flat_map(of).collect()
}

/// What came from the agent itself.
fn directly(hook: &Hook) -> Vec<Told> {
    hook.posts().iter().map(|post| Told::of(post.at, &post.body)).collect()
}

/// Waits until an alert of a service was told, and returns it.
#[track_caller]
fn eventually_told(told: impl Fn() -> Vec<Told>, rule: &str, svc: &str, status: &str) -> Told {
    eventually(DEADLINE, &format!("{rule} of {svc} to be {status}"), || {
        let all = told();
        let found = all.iter().find(|t| (&*t.rule, &*t.svc, &*t.status) == (rule, svc, status)).cloned();
        found.ok_or_else(|| {
            let short: Vec<_> = all.iter().map(|t| (&*t.rule, &*t.svc, &*t.status)).collect();
            format!("{short:?}")
        })
    })
}

/// How often it was told what.
fn counts(told: &[Told], rule: &str) -> BTreeMap<String, usize> {
    let mut out = BTreeMap::new();
    for one in told.iter().filter(|one| one.rule == rule) {
        *out.entry(one.status.clone()).or_default() += 1;
    }
    out
}

/// A configuration with the services of these tests and this key `alerts`.
fn with_alerts(alerts: &str) -> String {
    configuration(&format!("{}limits: {{stall: 1s}}\nalerts:\n{alerts}", services(SERVICES)))
}

/// The accounts of a receiver: produced, sent, dropped, queued. They must agree.
#[track_caller]
fn accounts(agent: &Agent, sink: &str) -> [f64; 4] {
    let metrics = agent.metrics();
    let get = |name: &str| metrics.get(&format!("fivetuple_alerts_{name}"), &[("sink", sink)]);
    let all = ["produced_total", "sent_total", "dropped_total", "queued"].map(get);
    assert_eq!(all[0], all[1] + all[2] + all[3], "{sink}: {all:?}");
    all
}

#[track_caller]
fn within(what: &str, crossed: Instant, told: &Told) {
    let late = told.at.saturating_duration_since(crossed);
    eprintln!("{what}: at the webhook {:.2} s after the rule was crossed", late.as_secs_f64());
    assert!(late <= PROMPT, "{what}: {late:?}");
}

/// The agent on the gateway with this key `alerts`.
#[track_caller]
fn watch<'a>(world: &'a Gateway, alerts: &str) -> Agent<'a> {
    Launch::configuration(with_alerts(alerts)).start(&world.gateway)
}
