//! The agent's life as an operator lives it: services, reloads, lists, events, logs, and an end that leaves a stranger's
//! program where it was.

use harness::agent::{Agent, Launch, left_attached, run_to_end};
use harness::tcp::{self, Dial, Serve, Server};
use harness::topology::{CLIENT, SERVER};
use harness::{Gateway, NetNs, command, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::foreign::{Hook, attach};
use crate::watch::{DEADLINE, configuration, eventually_exactly, services};

const RELOADED: &str = "fivetuple_config_last_reload_successful";

#[test]
fn a_day_in_the_life() {
    let world = Gateway::plan().patient().build();
    let _stranger = attach(&world.gateway, "inside", Hook::TcxEgress);
    let before = left_attached(&world.gateway);
    assert_eq!(before.len(), 1, "{before:?}");
    let first = configuration(&services([("card", 443)]));
    let agent = Launch::configuration(first.clone()).argument("--log.format=json").start(&world.gateway);

    let card = Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
    let rest = Server::start(&world.server, (SERVER.v6, 444), Serve::Echo);
    let mut to_card = Dial::default().from((CLIENT.v4, 30_000)).connect(&world.client, card.address());
    tcp::echo(&mut to_card, 2_000);
    let mut to_rest = Dial::default().from((CLIENT.v6, 31_000)).connect(&world.client, rest.address());
    tcp::echo(&mut to_rest, 500);
    traffic_is_counted_for_its_service(&agent, "card", 2_000);
    traffic_is_counted_for_its_service(&agent, "other", 500);
    flows_are_listed(&world.gateway, &agent);

    to_card.reset();
    let labels = [("cause", "abort"), ("from", "client"), ("origin", "endpoint")];
    eventually_exactly(&agent, "resets_total", &[("svc", "card")], &[(&labels, 1)]);
    events_resolve(&world.gateway, &agent);

    reloads(&agent, &first);
    // The service that the reload brought counts what comes after it.
    let late = Server::start(&world.server, (SERVER.v4, 445), Serve::Echo);
    let mut to_late = tcp::connect(&world.client, late.address());
    tcp::echo(&mut to_late, 700);
    traffic_is_counted_for_its_service(&agent, "late", 700);

    agent.signal(Signal::SIGTERM);
    let (status, log) = agent.wait();
    assert_eq!(status.code(), Some(0), "{log:?}");
    assert_eq!(left_attached(&world.gateway), before, "the stranger's program, and nothing else");
    for line in &log {
        let entry: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for key in ["ts", "level", "msg"] {
            assert!(entry[key].is_string(), "no {key} in {line}");
        }
    }
    assert!(log.iter().any(|line| line.contains("every program is detached")), "{log:?}");
}

/// The verifier takes seconds for the programs, minutes on a busy machine: nobody waits for that who wants the end.
#[test]
fn an_end_while_it_starts_is_an_end() {
    let world = Gateway::new();
    let agent = Launch::configuration(configuration("")).spawn(&world.gateway);
    eventually(DEADLINE, "the agent to start", || {
        agent.log().iter().any(|line| line.contains("msg=starting"))
    });
    agent.signal(Signal::SIGTERM);
    let (status, log) = agent.wait();
    assert_eq!(status.code(), Some(0), "{log:?}");
    assert!(log.iter().any(|line| line.contains("ending before anything was attached")), "{log:?}");
    assert_eq!(left_attached(&world.gateway), Vec::<String>::new());
}

/// Each byte went one way and came back, and passed two points.
#[track_caller]
fn traffic_is_counted_for_its_service(agent: &Agent, svc: &str, bytes: u32) {
    let each = |from| [("svc", svc), ("from", from)];
    eventually_exactly(
        agent,
        "payload_bytes_total",
        &[("svc", svc)],
        &[(&each("client"), bytes), (&each("server"), bytes)],
    );
}

#[track_caller]
fn flows_are_listed(gateway: &NetNs, agent: &Agent) {
    let url = format!("--url=http://{}", agent.web());
    let list = |arguments: &[&str]| {
        let output = run_to_end(gateway, &[&["flows", &url], arguments].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        text
    };
    let table = list(&[]);
    for word in ["POINT", "outside", "inside", "card", "other", "10.77.2.2:443", "10.77.1.2:30000", "4 flows"]
    {
        assert!(table.contains(word), "{word:?} is not in\n{table}");
    }
    for (filter, flows) in [
        (&["--svc=card"][..], 2),
        (&["--svc=other"], 2),
        (&["--address=10.77.2.0/24"], 2),
        (&["--address=fd77::/16"], 2),
        (&["--address=192.0.2.0/24"], 0),
        (&["--port=31000"], 2),
        (&["--anomaly=reset"], 0),
        (&["--svc=card", "--limit=1"], 1),
    ] {
        let text = list(&[filter, &["--output=json"]].concat());
        let listed: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let rows = listed["flows"].as_array().expect("a list of flows");
        assert_eq!(rows.len(), flows, "{filter:?}: {text}");
        for row in rows.iter().filter(|_| filter.contains(&"--svc=card")) {
            assert_eq!((&row["client"]["port"], &row["server"]["port"]), (&30_000.into(), &443.into()));
            assert_eq!((&row["phase"], &row["svc"]), (&"established".into(), &"card".into()));
            assert_eq!(row["from_client"]["bytes"], 2_000);
        }
    }
    for (filter, word) in [("--svc=crad", "card"), ("--anomaly=rest", "reset"), ("--address=10.77", "10.77")]
    {
        let output = run_to_end(gateway, &["flows", &url, filter]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(word), "{filter}: {said}");
    }
}

/// What an exemplar names, the event list has.
#[track_caller]
fn events_resolve(gateway: &NetNs, agent: &Agent) {
    let id = eventually(DEADLINE, "the event of the reset at each point", || {
        let listed = agent.get_json("/api/v1/events?svc=card&anomaly=reset");
        let resets =
            listed["events"].as_array().into_iter().flatten().filter(|event| event["type"] == "anomaly");
        let ids: Vec<_> = resets.filter_map(|event| event["id"].as_u64()).collect();
        if let [id, _] = ids[..] { Ok(id) } else { Err(listed) }
    });
    let listed = agent.get_json(&format!("/api/v1/events?id={id}"));
    let event = &listed["events"][0];
    assert_eq!(listed["events"].as_array().map(Vec::len), Some(1));
    assert_eq!((&event["type"], &event["cause"]), (&"anomaly".into(), &"abort".into()), "{event}");
    assert_eq!((&event["origin"], &event["from"]), (&"endpoint".into(), &"client".into()));
    assert_eq!((&event["client"]["port"], &event["server"]["port"]), (&30_000.into(), &443.into()));
    let mut curl = gateway.cmd("curl");
    let url = format!("http://{}/metrics", agent.web());
    curl.args(["-sSf", "-H", "Accept: application/openmetrics-text; version=1.0.0", &url]);
    let text = command::run(curl, "");
    let named = text.lines().find(|line| line.contains("_resets_total{") && line.contains("event_id="));
    let named = named.unwrap_or_else(|| panic!("no exemplar of a reset in\n{text}"));
    let digits =
        named.split("event_id=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("it was found");
    let listed = agent.get_json(&format!("/api/v1/events?id={digits}"));
    assert_eq!(listed["events"][0]["cause"], "abort", "{named}: {listed}");
    assert!(!text.contains("10.77."), "no address is ever in the metrics");
}

#[track_caller]
fn reloads(agent: &Agent, first: &str) {
    assert_eq!(agent.metrics().get(RELOADED, &[]), 1.0);
    agent.rewrite_configuration(&first.replace("services", "servcies"));
    agent.signal(Signal::SIGHUP);
    eventually(DEADLINE, "the bad file to be noticed", || agent.metrics().get(RELOADED, &[]) == 0.0);
    assert!(agent.log().iter().any(|line| line.contains("did you mean services?")), "{:?}", agent.log());
    let refused = agent.reload();
    assert!(refused.status >= 400 && refused.body.contains("did you mean services?"), "{refused:?}");
    assert_eq!(agent.request("GET", "/-/ready").status, 200, "the old one stays in force");
    assert_eq!(agent.get_json("/api/v1/flows?svc=other")["flows"].as_array().map(Vec::len), Some(2));

    let second = format!(
        "{first}  - name: late\n    prefixes: [{}]\n    ports: [445]\nlimits:\n  idle: 10s\n",
        SERVER.v4
    );
    agent.rewrite_configuration(&second);
    agent.signal(Signal::SIGHUP);
    eventually(DEADLINE, "the good file to be in force", || agent.metrics().get(RELOADED, &[]) == 1.0);
    assert_eq!(agent.metrics().count("fivetuple_tcp_resets_total", &[("svc", "late")]), 2 * 2 * 9 * 2);
}
