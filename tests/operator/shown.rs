//! Where only the networks of addresses may leave the host, no whole address does: over HTTP, in the connection log, in
//! the agent's own, as evidence of alerts, as exemplars.

use std::fs;

use harness::agent::Launch;
use harness::hook::{Hook, Mood};
use harness::tcp::{self, Dial, Serve, Server};
use harness::topology::{CLIENT, SERVER, Version};
use harness::{Gateway, command, eventually};
use nix::sys::signal::Signal;

use crate::watch::{DEADLINE, configuration, services};

#[test]
fn no_whole_address_leaves_the_host() {
    let world = Gateway::new();
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let lines = directory.path().join("connections.jsonl");
    let hook = Hook::start(&world.gateway, Mood::Takes);
    let rule =
        "{name: Any, severity: page, kind: count, metric: fivetuple_tcp_resets_total, window: 1m, above: 0}";
    let text = configuration(&format!(
        "addresses: {{ipv4_prefix: 24, ipv6_prefix: 48}}\nconnection_log: {{path: {}}}\nalerts:\n  \
         webhooks: [{{url: '{}'}}]\n  rules:\n    - {rule}\n{}",
        lines.display(),
        hook.url(),
        services([("card", 443)])
    ));
    let agent = Launch::configuration(text).start(&world.gateway);
    let mut open = Vec::new();
    for version in [Version::V4, Version::V6] {
        let server = Server::start(&world.server, (SERVER.ip(version), 443), Serve::Echo);
        let dial = || Dial::default().from((CLIENT.ip(version), 0)).connect(&world.client, server.address());
        let [mut stays, mut ends] = [dial(), dial()];
        tcp::echo(&mut stays, 100);
        tcp::echo(&mut ends, 100);
        ends.reset();
        open.push((server, stays));
    }
    let log = eventually(DEADLINE, "both ends at both points", || {
        let text = fs::read_to_string(&lines).unwrap_or_default();
        if text.lines().count() == 4 { Ok(text) } else { Err(text) }
    });
    let posts = eventually(DEADLINE, "the alert with its evidence", || {
        let posts = hook.posts().iter().map(|post| post.body.to_string()).collect::<String>();
        if posts.contains("10.77.1.0") { Ok(posts) } else { Err(posts) }
    });

    let mut left: Vec<(&str, String)> = vec![("connection log", log), ("webhook", posts)];
    for path in ["flows", "events", "connections", "explain", "reuse", "alerts"] {
        left.push((path, agent.get(&format!("/api/v1/{path}"))));
    }
    let shown = |path: &str| left.iter().any(|(name, text)| *name == path && text.contains("10.77.1.0"));
    assert!(["flows", "events", "connections", "alerts"].iter().all(|path| shown(path)), "{left:?}");
    // Who may not see an address may not guess it, either.
    let asked = |address: &str| {
        let list = agent.get_json(&format!("/api/v1/flows?address={address}"));
        list["flows"].as_array().map(Vec::len)
    };
    assert_eq!(asked(&CLIENT.v4.to_string()), Some(0));
    // The one that is open, at both points; the other's rest stays until a sweep.
    assert!(asked("10.77.1.0/24").is_some_and(|rows| rows >= 2));
    let mut curl = world.gateway.cmd("curl");
    let url = format!("http://{}/metrics", agent.web());
    curl.args(["-sSf", "-H", "Accept: application/openmetrics-text; version=1.0.0", &url]);
    let metrics = command::run(curl, "");
    assert!(metrics.contains("event_id="), "there are exemplars");
    assert!(
        !metrics.contains("10.77.") && !metrics.contains("fd77:"),
        "not even a network is in the metrics"
    );
    agent.signal(Signal::SIGTERM);
    left.push(("agent's log", agent.wait().1.join("\n")));
    for (name, text) in &left {
        for end in [&CLIENT, &SERVER] {
            for whole in [end.v4.to_string(), end.v6.to_string()] {
                assert!(!text.contains(&whole), "{whole} is in {name}: {text}");
            }
        }
    }
}
