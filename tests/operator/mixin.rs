//! What Prometheus and Grafana are given: each rule's own tests pass, and each query of the dashboard has an answer.

use std::path::{Path, PathBuf};

use harness::agent::{Agent, Launch};
use harness::tcp::{self, Dial, Serve, Server};
use harness::topology::{CLIENT, SERVER};
use harness::{Gateway, command, eventually};
use serde_json::Value;
use std::process::Command;

use crate::watch::{DEADLINE, services, watch};

fn mixin() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../mixin")
}

#[test]
fn every_alert_fires_where_it_must_and_nowhere_else() {
    let folder = mixin();
    let promtool = |arguments: &[&str]| {
        let mut command = Command::new("promtool");
        command.args(arguments).current_dir(&folder);
        command::run(command, "")
    };
    promtool(&["check", "rules", "rules.yml", "alerts.yml"]);
    promtool(&["test", "rules", "tests.yml"]);
    // None without a test, and none without a word on what to do.
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let (alerts, tests) = (read("alerts.yml"), read("tests.yml"));
    let names: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() >= 12, "{names:?}");
    for name in names {
        for what in ["fires", "is silent"] {
            assert!(tests.contains(&format!("- name: {name} {what}\n")), "no test that {name} {what}");
        }
    }
}

/// The queries of the dashboard's panels and annotations, with the panels' titles.
fn queries() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(mixin().join("dashboards/fivetuple.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{}", panel["title"]);
        for target in targets {
            let title = panel["title"].as_str().unwrap().to_owned();
            let query = target["expr"].as_str().unwrap();
            // As Grafana does with everything chosen.
            let query = query.replace("$__rate_interval", "1m");
            let query =
                ["svc", "point", "job"].iter().fold(query, |q, name| q.replace(&format!("${name}"), ".*"));
            assert!(!query.contains('$'), "{query}");
            found.push((title, query));
        }
    }
    found
}

/// How many series a query has an answer for.
fn answered(prometheus: &Agent<'_>, query: &str) -> usize {
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let answer = prometheus.get_json(&format!("/api/v1/query?query={encoded}"));
    assert_eq!(answer["status"], "success", "{query}: {answer}");
    let results = answer["data"]["result"].as_array().unwrap();
    results.iter().filter(|series| series["value"][1] != "NaN").count()
}

#[test]
fn every_panel_of_the_dashboard_shows_something() {
    let world = Gateway::plan().patient().build();
    let agent = watch(&world, &services([("card", 443)]));
    let storage = tempfile::tempdir().expect("a temporary directory can be made");
    let folder = mixin();
    let configuration = format!(
        "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files: [{0}/rules.yml, {0}/alerts.yml]\n\
         scrape_configs:\n  - job_name: fivetuple\n    static_configs:\n      - targets: [\"{1}\"]\n",
        folder.display(),
        agent.web()
    );
    let prometheus = Launch::configuration(configuration)
        .program("/usr/bin/prometheus")
        .argument(format!("--storage.tsdb.path={}", storage.path().display()))
        .start(&world.gateway);
    let echo = Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
    let mut port = 30_000;
    let mut waiting = queries();
    assert!(waiting.len() > 20, "{waiting:?}");
    // Traffic goes on until each query has an answer: rates need two scrapes, and points are compared after the end.
    eventually(DEADLINE, "an answer to every query", || {
        for from in [port, port, port + 1] {
            let mut conn = Dial::default().from((CLIENT.v4, from)).connect(&world.client, echo.address());
            tcp::echo(&mut conn, 3_000);
            conn.reset();
        }
        port += 2;
        waiting.retain(|(_, query)| answered(&prometheus, query) == 0);
        if waiting.is_empty() { Ok(()) } else { Err(format!("{waiting:#?}")) }
    });
    drop(prometheus);
    agent.stop();
}
