//! `fivetuple locate` says where the campus card's requests are reordered and where they vanish: by four captures, by one
//! agent with four points, by four agents, and for one connection.

use harness::agent::{Agent, Launch, run_to_end};
use harness::cases::CampusCard;
use harness::cases::campus_card::{CARD_SERVER, Options, PROVIDER, Payment, SERVICE};
use harness::eventually;
use harness::netns::NetNs;
use harness::tcp::DEADLINE;
use harness::truth::Capture;
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
