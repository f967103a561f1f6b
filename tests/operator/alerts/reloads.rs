//! Reloads and restarts while an alert fires.

use std::time::Instant;

use harness::agent::{Agent, Launch};
use harness::hook::{Hook, Mood};
use harness::topology::SERVER;
use harness::{Gateway, eventually, tcp};
use serde_json::Value;

use super::{PROMPT, counts, directly, eventually_told, with_alerts};
use crate::watch::{DEADLINE, silence_until};

/// A rule that one refused connection crosses, and that clears a quarter of an hour after the last.
fn rules(hook: &Hook, more: &str) -> String {
    let hook = hook.url();
    format!(
        "  off: [FivetupleDropToZero]\n  webhooks: [{{url: '{hook}'}}]\n{more}  rules:\n    - name: refused\n      severity: page\n      kind: count\n      metric: fivetuple_tcp_resets_total\n      where: {{cause: refused}}\n      window: 15m\n      above: 0\n"
    )
}

fn refuse(world: &Gateway) {
    let refused = tcp::Dial::default().try_connect(&world.client, (SERVER.v4, 443));
    assert!(refused.is_err(), "nobody listens");
}

fn state(agent: &Agent, rule: &str) -> Value {
    let all = agent.get_json("/api/v1/alerts");
    let rows = all["alerts"].as_array().expect("a list");
    rows.iter().find(|row| row["rule"] == rule).map_or(Value::Null, |row| row["state"].clone())
}

#[test]
fn a_wrong_file_leaves_the_rules_and_what_fires_as_they_were() {
    let world = Gateway::new();
    let hook = Hook::start(&world.gateway, Mood::Takes);
    let good = with_alerts(&rules(&hook, ""));
    let agent = Launch::configuration(good.clone()).start(&world.gateway);
    refuse(&world);
    eventually_told(|| directly(&hook), "refused", "card", "firing");
    for (from, to, said) in [
        (
            "fivetuple_tcp_resets_total",
            "fivetuple_tcp_reset_total",
            "did you mean fivetuple_tcp_resets_total?",
        ),
        ("window: 15m", "window: 0s", ".window: 0s is no time at all"),
        ("above: 0", "above: 0\n      clear: 3", ".clear: 3 is on the wrong side"),
    ] {
        agent.rewrite_configuration(&good.replacen(from, to, 1));
        let refused = agent.reload();
        assert!(refused.status == 500 && refused.body.contains(said), "{refused:?}");
        assert!(refused.body.contains("fivetuple.yaml: line "), "{refused:?}");
        assert_eq!(state(&agent, "refused"), "firing");
    }
    // The agent tells of its own configuration, too.
    eventually_told(|| directly(&hook), "FivetupleConfiguration", "", "firing");
    agent.rewrite_configuration(&good.replacen("above: 0", "above: 100", 1));
    assert_eq!(agent.reload().status, 200);
    eventually_told(|| directly(&hook), "FivetupleConfiguration", "", "resolved");
    assert_eq!(
        counts(&directly(&hook), "refused").get("resolved"),
        None,
        "its window has not been watched yet"
    );
    agent.rewrite_configuration(&good.replacen("name: refused", "name: other_name", 1));
    assert_eq!(agent.reload().status, 200);
    eventually_told(|| directly(&hook), "refused", "card", "resolved");
    let counts = counts(&directly(&hook), "refused");
    assert_eq!((counts["firing"], counts["resolved"]), (1, 1));
    agent.stop();
}

#[test]
fn a_restart_tells_nobody_twice() {
    let world = Gateway::new();
    let hook = Hook::start(&world.gateway, Mood::Takes);
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let file = directory.path().join("alerts.json");
    let text = with_alerts(&rules(&hook, &format!("  state_file: {}\n", file.display())));
    let agent = Launch::configuration(text.clone()).start(&world.gateway);
    refuse(&world);
    let first = eventually_told(|| directly(&hook), "refused", "card", "firing");
    eventually(DEADLINE, "the state to be kept", || {
        std::fs::metadata(&file).is_ok_and(|file| file.len() > 2)
    });
    let before = agent.get_json("/api/v1/alerts");
    // Killed: a crash keeps it as well.
    drop(agent);

    let agent = Launch::configuration(text).start(&world.gateway);
    let restarted = Instant::now();
    eventually(DEADLINE, "it to fire again", || state(&agent, "refused") == "firing");
    refuse(&world);
    silence_until(restarted, PROMPT);
    assert_eq!(state(&agent, "refused"), "firing");
    let told = directly(&hook);
    assert_eq!(counts(&told, "refused").get("firing"), Some(&1), "{first:?} and no more: {told:?}");
    let after = agent.get_json("/api/v1/alerts");
    let of = |all: &Value| {
        let rows = all["alerts"].as_array().expect("a list").clone();
        rows.into_iter().find(|row| row["rule"] == "refused").expect("it fires")["alert"].clone()
    };
    assert_eq!(of(&before)["fingerprint"], of(&after)["fingerprint"]);
    assert_eq!(of(&before)["evidence"], of(&after)["evidence"]);
    assert_eq!(of(&before)["starts_at"], of(&after)["starts_at"], "by the same clock");
    agent.stop();
}
