//! `fivetuple locate` says where the campus card's requests are reordered and where they vanish: by four captures, by one
//! agent with four points, by four agents, and for one connection.

use harness::agent::{Agent, Launch, run_to_end};
use harness::cases::campus_card::{CARD_SERVER, Options, PROVIDER, Payment, SERVICE};
use harness::cases::{CampusCard, interfaces};
use harness::eventually;
use harness::netns::NetNs;
use harness::tcp::DEADLINE;
use harness::truth::Capture;
use nix::sys::signal::Signal;
use serde_json::Value;

/// Runs `fivetuple locate` in a namespace.
fn locate(namespace: &NetNs, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = ["locate", "--output", "json"].iter().chain(arguments).copied().collect();
    let output = run_to_end(namespace, &arguments);
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{complained}");
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// What the answer must be: the firewall reorders, the WAF swallows, nothing else happens anywhere.
fn assert_told(answer: &Value, payments: &[Payment]) {
    let points: Vec<&str> =
        answer["points"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(points, ["outside", "inside", "front", "behind"], "{answer:#}");
    let between = answer["between"].as_array().unwrap();
    let vanished = payments.iter().filter(|payment| payment.swallowed).count();
    let reordered = payments.iter().filter(|payment| payment.reordered).count();
    assert_eq!(between[0]["from_client"]["reordered_connections"], reordered, "{answer:#}");
    assert_eq!(between[0]["connections"], payments.len());
    assert_eq!((&between[0]["vanished"], &between[1]["vanished"]), (&0.into(), &0.into()));
    assert_eq!(between[1]["from_client"]["reordered"], 0, "{answer:#}");
    for (place, row) in between.iter().enumerate().take(2) {
        for side in ["from_client", "from_server"] {
            for what in ["lost", "duplicated", "resets_made_here"] {
                assert_eq!(row[side][what], 0, "{place} {side} {what}: {answer:#}");
            }
        }
    }
    assert_eq!(between[2]["proxy"], true);
    assert_eq!(between[2]["vanished"], vanished, "{answer:#}");
    assert_eq!(between[2]["vanished_acknowledged"], vanished, "every byte was acknowledged");
    assert_eq!(between[2]["connections"], payments.len() - vanished);
    let said = answer["verdict"].as_str().unwrap();
    for part in [
        format!(
            "Between front and behind {vanished} of {} requests went in and did not come out",
            payments.len()
        ),
        format!("Of the {vanished} that vanish {vanished} had been reordered between outside and inside"),
        format!("of the {} others 0.", payments.len() - vanished),
    ] {
        assert!(said.contains(&part), "{part} is not in {said}");
    }
    println!("{said}");
}

/// Waits until every connection has ended at every point that an agent watches.
fn eventually_ended(agent: &Agent<'_>, connections: usize) {
    eventually(DEADLINE, "the ends of all connections", || {
        let list = agent.get_json("/api/v1/connections");
        list["connections"].as_array().unwrap().iter().filter(|c| !c["close"].is_null()).count()
            == connections
    });
}

/// Ends an agent beside which others hold the same namespace's hooks.
fn end(agent: Agent<'_>) {
    agent.signal(Signal::SIGTERM);
    let (status, log) = agent.wait();
    assert!(status.success(), "{log:#?}");
}

/// The agent keeps the same as metrics, by itself.
fn assert_kept(agent: &Agent<'_>, payments: &[Payment]) {
    let reordered = payments.iter().filter(|payment| payment.reordered).count();
    let of = |name: &str, point: &str, to: &str, more: &[(&'static str, &str)]| {
        let labels = [("point", point), ("to", to), ("svc", SERVICE)];
        agent.metrics().get(name, &[&labels[..], more].concat())
    };
    eventually(DEADLINE, "every connection to be compared", || {
        let compared = |point, to| {
            agent
                .metrics()
                .sum("fivetuple_inside_connections_total", &[("point", point), ("to", to), ("svc", SERVICE)])
        };
        let all = payments.len() as f64;
        compared("outside", "inside") == all && compared("inside", "front") == all
    });
    for (point, to, overtaken) in [("outside", "inside", reordered), ("inside", "front", 0)] {
        let client = [("from", "client")];
        let lost = of("fivetuple_inside_lost_segments_total", point, to, &client);
        assert_eq!(lost, 0.0, "{point} to {to}");
        let connections = of("fivetuple_inside_reordered_segments_total", point, to, &client);
        assert!(if overtaken == 0 { connections == 0.0 } else { connections >= overtaken as f64 });
        let taken = of("fivetuple_inside_seconds_count", point, to, &client);
        assert_eq!(taken, payments.len() as f64);
    }
    // And a built-in rule tells of it.
    let told = || {
        let all = agent.get_json("/api/v1/alerts");
        let rows = all["alerts"].as_array().expect("a list").clone();
        rows.into_iter().find(|row| row["rule"] == "FivetupleReorderedInside").ok_or_else(|| all.to_string())
    };
    let row = eventually(DEADLINE, "an alert", told);
    let evidence = &row["alert"]["evidence"][0];
    assert!(evidence["connection"]["client_verdicts"]["out_of_order"].as_u64() > Some(0), "{row:#}");
}

#[test]
fn four_agents_over_http_say_the_same() {
    let world = CampusCard::new(Options { seed: 11, ..Options::default() });
    let points = world.points();
    let agents = points.map(|point| {
        let (address, port) = (CARD_SERVER.ip(), CARD_SERVER.port());
        let text = interfaces(&[point])
            + &format!("services:\n  - name: {SERVICE}\n    prefixes: [{address}]\n    ports: [{port}]\n");
        Launch::configuration(text).start(point.namespace)
    });
    let payments = world.run(60);
    let answered = payments.iter().filter(|payment| payment.answered).count();
    for (place, agent) in agents.iter().enumerate() {
        eventually_ended(agent, if place == 3 { answered } else { payments.len() });
    }
    let sources: Vec<String> =
        points.iter().zip(&agents).map(|(p, a)| format!("{}=http://{}", p.name, a.web())).collect();
    assert_told(&locate(points[0].namespace, &["--svc", SERVICE, "--points", &sources.join(",")]), &payments);

    // Others ask several agents, too.
    let urls: Vec<String> = agents.iter().map(|agent| format!("http://{}", agent.web())).collect();
    let first_two = urls[..2].join(",");
    let ask = |command: &str, more: &[&str]| {
        let arguments = [&[command, "--svc", SERVICE, "--url", &first_two], more].concat();
        let output = run_to_end(points[0].namespace, &[&arguments[..], &["--url", &urls[2]]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let lost = payments.len() - answered;
    let cause = format!("request in several segments, reordered. Of those {lost} of {lost} (100 %) failed");
    let told = ask("explain", &["--since", "1h"]);
    assert!(told.contains(&cause), "{cause} is not in {told}");
    let told = ask("reuse", &["--output=json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    let counts = |at: &Value| (at["point"].as_str().unwrap().to_owned(), at["connections"].as_u64().unwrap());
    let counted: Vec<_> = told["points"].as_array().unwrap().iter().map(counts).collect();
    let all = payments.len() as u64;
    assert_eq!(counted, ["front", "inside", "outside"].map(|point| (point.to_owned(), all)));

    let [outside, inside, front, behind] = agents;
    let gone = format!("http://{}", behind.web());
    end(behind);
    let points_left = format!("front=http://{},behind={gone}", front.web());
    let output = run_to_end(points[0].namespace, &["locate", "--points", &points_left]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("no agent answers at") && said.contains(&gone), "{said}");
    let output =
        run_to_end(points[0].namespace, &["locate", "--points", &format!("front=http://{}", front.web())]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("name two at least"), "{said}");
    [outside, inside, front].into_iter().for_each(end);
}

#[test]
fn four_captures_and_one_agent_name_the_firewall_and_the_waf() {
    let world = CampusCard::new(Options { seed: 7, ..Options::default() });
    let configuration = world.configuration();
    let namespace = world.points()[0].namespace;
    let captures = world.points().map(|point| Capture::start(point.namespace, point.interface, "tcp"));
    let agent = Launch::configuration(configuration).start(namespace);
    let payments = world.run(100);
    let answered = payments.iter().filter(|payment| payment.answered).count();
    eventually_ended(&agent, 3 * payments.len() + answered);

    let url = format!("http://{}", agent.web());
    assert_kept(&agent, &payments);
    let names = ["behind", "outside", "front", "inside"];
    let points = names.map(|name| format!("{name}={url}")).join(",");
    assert_told(&locate(namespace, &["--svc", SERVICE, "--points", &points]), &payments);

    // One that vanished, by its client's end.
    let lost = payments.iter().find(|payment| payment.swallowed).expect("some vanish");
    let flow = format!("{PROVIDER}:{}-{CARD_SERVER}", lost.port);
    let one = locate(namespace, &[&flow, "--points", &points]);
    let said = one["verdict"].as_str().unwrap();
    assert!(said.contains("Between front and behind 1 of 1 requests went in and did not come out"), "{said}");
    agent.stop();

    // Four captures, in any order.
    let files = captures.map(|capture| {
        let file = capture.file().to_path_buf();
        (capture, file)
    });
    let of = |name: &str| ["outside", "inside", "front", "behind"].iter().position(|n| *n == name).unwrap();
    let points = names.map(|name| format!("{name}={}", files[of(name)].1.display())).join(",");
    assert_told(&locate(namespace, &["--points", &points]), &payments);
    for (capture, _) in files {
        capture.stop();
    }
}
