//! What sets failed payments apart, told on the campus card; and that nothing is told where nothing is to be told.

use harness::agent::{Launch, run_to_end};
use harness::cases::CampusCard;
use harness::cases::campus_card::{Options, SERVICE};
use harness::eventually;
use harness::netns::NetNs;
use harness::tcp::DEADLINE;
use harness::truth::Capture;

fn fivetuple(namespace: &NetNs, arguments: &[&str]) -> String {
    let output = run_to_end(namespace, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("what is printed is text")
}

#[test]
fn several_segments_reordered_come_first_and_unanswered_requests_are_counted_exactly() {
    let world = CampusCard::new(Options { seed: 5, ..Options::default() });
    let points = world.points();
    let namespace = points[0].namespace;
    let inside = Capture::start(namespace, points[1].interface, "tcp");
    let agent = Launch::configuration(world.configuration() + "    http: true\n").start(namespace);
    let payments = world.run(120);
    let lost = payments.iter().filter(|payment| !payment.answered).count();
    eventually(DEADLINE, "the ends of all connections", || {
        let list = agent.get_json(&format!("/api/v1/connections?svc={SERVICE}"));
        let ended = |c: &&serde_json::Value| !c["close"].is_null();
        list["connections"].as_array().unwrap().iter().filter(ended).count() == 4 * payments.len() - lost
    });
    for (point, unanswered) in [("outside", lost), ("inside", lost), ("front", lost), ("behind", 0)] {
        let labels = [("point", point), ("svc", SERVICE), ("from", "client")];
        let counted = agent.metrics().get("fivetuple_tcp_unanswered_requests_total", &labels);
        assert_eq!(counted, unanswered as f64, "{point}");
        let results = |result| {
            let labels = [("point", point), ("svc", SERVICE), ("from", "client"), ("result", result)];
            agent.metrics().get("fivetuple_tcp_connection_results_total", &labels)
        };
        let want = (payments.len() - lost) as f64;
        assert_eq!((results("unanswered"), results("answered")), (unanswered as f64, want), "{point}");
    }
    // Which URL, which size, no status: where the request's first segment was overtaken, too.
    let list = agent.get_json(&format!("/api/v1/connections?svc={SERVICE}"));
    let list = list["connections"].as_array().unwrap();
    for (payment, point) in
        payments.iter().flat_map(|payment| ["outside", "inside", "front"].map(|p| (payment, p)))
    {
        let here = |c: &&serde_json::Value| c["point"] == point && c["client"]["port"] == payment.port;
        let c = list.iter().find(here).unwrap();
        let (http, path) = (&c["http"], format!("/top-up/{}", payment.port));
        assert_eq!((&http["method"], &http["path"]), (&"POST".into(), &path.into()), "{c:#}");
        let status = if payment.answered { 200.into() } else { serde_json::Value::Null };
        assert_eq!((&http["status"], &c["tls"]), (&status, &false.into()), "{c:#}");
        assert_eq!(c["request"]["bytes"], payment.request_bytes, "{c:#}");
        assert!(
            http["request_length"].as_u64().unwrap() < payment.request_bytes as u64,
            "the head is no part of it"
        );
    }
    let url = format!("http://{}", agent.web());
    let told = fivetuple(namespace, &["explain", "--svc", SERVICE, "--url", &url]);
    let cause = format!(
        "what sets failed connections apart is: request in several segments, reordered. Of those {lost} of {lost} (100 %) \
         failed, of the others 0 of {} (0 %).",
        payments.len() - lost
    );
    assert!(told.contains(&cause), "{cause} is not in {told}");
    println!("{told}");
    agent.stop();
    let file = inside.file().to_path_buf();
    let told = fivetuple(namespace, &["explain", file.to_str().unwrap()]);
    assert!(told.contains(&cause), "{told}");
    inside.stop();
}

#[test]
fn without_reordering_and_loss_nothing_is_said_to_be_set_apart() {
    let world = CampusCard::new(Options { reordering: 0.0, ..Options::default() });
    let points = world.points();
    let namespace = points[0].namespace;
    let captures = [0, 1].map(|i| Capture::start(namespace, points[i].interface, "tcp"));
    let payments = world.run(40);
    for capture in &captures {
        // Three segments to open, the request, its answer, and what closes: whoever has ten for each has all that counts.
        capture.eventually_packets(10 * payments.len(), DEADLINE);
    }
    let files = captures.each_ref().map(|capture| capture.file().display().to_string());
    let points = format!("outside={},inside={}", files[0], files[1]);
    let told = fivetuple(namespace, &["locate", "--points", &points]);
    assert!(told.starts_with("Nothing sets the points apart"), "{told}");
    let told = fivetuple(namespace, &["explain", &files[1]]);
    assert!(told.contains("none of 40 connections failed"), "{told}");
    captures.into_iter().for_each(|capture| drop(capture.stop()));
}
