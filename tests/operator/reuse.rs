//! A five-tuple taken again: who held TIME-WAIT, how the SYN was answered, and the time between to the microsecond.

use std::time::{Duration, Instant};

use harness::agent::{Agent, run_to_end};
use harness::impair::flags::{ACK, PSH, RST, SYN};
use harness::tcp::{self, Dial, Serve, Server};
use harness::topology::{CLIENT, SERVER, Version};
use harness::{Gateway, eventually};
use serde_json::Value;

use crate::hand::{By, Hand, Passed, quiet};
use crate::watch::{
    DEADLINE, Labels, POINTS, configuration, eventually_exactly, exactly, services, silence_until, watch,
    watch_by_both_hooks,
};

const HOLDERS: [&str; 5] = ["syn_sender", "syn_receiver", "both", "nobody", "open"];
const OUTCOMES: [&str; 4] = ["accepted", "challenged", "refused", "ignored"];
const REUSES: &str = "five_tuple_reuses_total";

/// The bounds of a sum of gaps, from the test's own clock: a packet passed the gateway between its sending and its
/// arrival.
#[derive(Default)]
struct Gaps {
    least: Duration,
    most: Duration,
    count: u32,
}

impl Gaps {
    fn add(&mut self, closed: Passed, syn: Passed) {
        self.least += syn.sent - closed.arrived;
        self.most += syn.arrived - closed.sent;
        self.count += 1;
    }

    /// The histogram has exactly these gaps at each point.
    #[track_caller]
    fn check(&self, agent: &Agent, of: Labels) {
        let metrics = agent.metrics();
        for point in POINTS {
            let labels = [of, &[("point", point)]].concat();
            let get = |what: &str| metrics.sum(&format!("fivetuple_tcp_reuse_gap_seconds_{what}"), &labels);
            assert_eq!(get("count"), f64::from(self.count), "gaps at {point} of {of:?}");
            let sum = get("sum");
            let bounds = self.least.as_secs_f64()..=self.most.as_secs_f64();
            assert!(bounds.contains(&sum), "gaps at {point} of {of:?}: {sum} s is not in {bounds:?}");
        }
    }
}

/// A connection that ends as the holder's name says; when it ended.
#[track_caller]
fn first_connection(hand: &mut Hand, holder: &str) -> Option<Passed> {
    hand.renumber((1_000, 5_000));
    hand.handshake();
    hand.exchange();
    match holder {
        "syn_sender" => Some(hand.close(By::Client)),
        "syn_receiver" => Some(hand.close(By::Server)),
        "both" => Some(hand.close_crossing()),
        "nobody" => Some(hand.reset(By::Server)),
        "open" => None,
        other => panic!("nobody is called {other}"),
    }
}

/// A SYN with another number, and its answer; when the SYN passed.
#[track_caller]
fn second_connection(hand: &mut Hand, outcome: &str) -> Passed {
    let (client, server) = hand.numbers();
    let new = (client.wrapping_sub(1_000_000), 90_000_000);
    hand.renumber(new);
    let syn = hand.syn();
    match outcome {
        "accepted" => {
            hand.say(By::Server, SYN | ACK, 0);
            hand.say(By::Client, ACK, 0);
            hand.exchange();
        }
        "challenged" => {
            hand.pass(By::Server, ACK, |frame| frame.seq(server).ack(client));
        }
        "refused" => {
            hand.pass(By::Server, RST | ACK, |frame| frame.seq(0));
        }
        "ignored" => {
            hand.renumber(new);
            hand.syn();
            hand.renumber(new);
            hand.syn();
        }
        other => panic!("no SYN is answered like {other}"),
    }
    syn
}

/// Every way a connection can have ended, and every way its reuse can be answered; then gaps and their limits.
#[test]
fn each_reuse_by_hand_is_counted_once_and_its_gap_measured() {
    let world = Gateway::new();
    quiet(&world);
    let names = ["matrix", "matrix6", "gaps", "no-reuse", "late", "short", "never", "lost"];
    let services = services(names.into_iter().zip(1_000..));
    let agent = watch_by_both_hooks(&world, &services);
    matrix(&world, &agent, Version::V4, ("matrix", 1_000));
    matrix(&world, &agent, Version::V6, ("matrix6", 1_001));
    refused_ones_collided(&world, &agent);
    gaps(&world, &agent);
    repeats_are_no_reuse(&world, &agent);
    lost_answers_make_no_second_reuse(&world, &agent);
    // The window is the operator's: what comes after it is no reuse.
    agent.rewrite_configuration(&configuration(&format!("limits:\n  time_wait: 1s\n{services}")));
    assert_eq!(agent.reload().status, 200);
    beyond_the_window(&world, &agent);
    agent.rewrite_configuration(&configuration(&format!("limits:\n  handshake_timeout: 1s\n{services}")));
    assert_eq!(agent.reload().status, 200);
    never_answered(&world, &agent);
    agent.stop();
}

#[track_caller]
fn matrix(world: &Gateway, agent: &Agent, version: Version, (svc, service): (&str, u16)) {
    let mut measured = Gaps::default();
    let mut port = 41_000;
    for holder in HOLDERS {
        for outcome in OUTCOMES {
            let mut hand = Hand::new(world, version, port, service);
            port += 1;
            let closed = first_connection(&mut hand, holder);
            let syn = second_connection(&mut hand, outcome);
            if let Some(closed) = closed {
                measured.add(closed, syn);
            }
        }
    }
    let labels: Vec<[_; 3]> = HOLDERS
        .iter()
        .flat_map(|holder| {
            OUTCOMES.map(|outcome| [("from", "client"), ("holder", *holder), ("outcome", outcome)])
        })
        .collect();
    let expected: Vec<_> = labels.iter().map(|labels| (labels.as_slice(), 1)).collect();
    exactly(agent, REUSES, &[("svc", svc)], &expected);
    measured.check(agent, &[("svc", svc)]);
}

/// `fivetuple reuse` has of the matrix those that were refused as collisions, at each point, and says what it cannot.
#[track_caller]
fn refused_ones_collided(world: &Gateway, agent: &Agent) {
    let url = format!("--url=http://{}", agent.web());
    let ask = |arguments: &[&str]| run_to_end(&world.gateway, &[&["reuse", &url], arguments].concat());
    let output = ask(&["--svc=matrix", "--since=1h", "--output=json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("the report is JSON");
    let points = report["points"].as_array().expect("a list of points");
    assert_eq!(points.len(), POINTS.len(), "{report}");
    for at in points {
        let count = |key: &str| at[key].as_u64().expect("a count");
        assert_eq!((count("reuses"), count("collisions")), (20, 4), "{at}");
        assert_eq!(count("collisions_without_gap"), 1, "one was open: {at}");
    }
    let text = ask(&[]);
    let text = String::from_utf8_lossy(&text.stdout);
    assert!(text.contains("8 collided") && text.contains("10.77.1.0/24"), "{text}");
    for (arguments, word) in [
        (&["--svc=matirx"][..], "did you mean matrix"),
        (&["--clients=outsid", "--proxies=inside"], "did you mean outside"),
    ] {
        let output = ask(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(word), "{arguments:?}: {said}");
    }
}

/// From at once to a few seconds, each within what the clock allows; three connections on one five-tuple among them.
#[track_caller]
fn gaps(world: &Gateway, agent: &Agent) {
    let of = [("svc", "gaps")];
    let mut measured = Gaps::default();
    let mut hand = Hand::new(world, Version::V4, 42_000, 1_002);
    hand.handshake();
    hand.exchange();
    let mut closed = hand.close(By::Server);
    for gap in [0, 1, 10, 100, 3_000].map(Duration::from_millis) {
        silence_until(closed.arrived, gap);
        let (client, _) = hand.numbers();
        hand.renumber((client.wrapping_add(70_000), 5_000));
        let syn = hand.syn();
        hand.say(By::Server, SYN | ACK, 0);
        hand.say(By::Client, ACK, 0);
        hand.exchange();
        measured.add(closed, syn);
        measured.check(agent, &of);
        closed = hand.close(By::Server);
    }
    let labels = [("holder", "syn_receiver"), ("outcome", "accepted"), ("from", "client")];
    exactly(agent, REUSES, &of, &[(&labels, 5)]);
    // Each is compared between the points, also those whose five-tuple was taken before the table let go of them.
    let way = [("svc", "gaps"), ("point", POINTS[0]), ("to", POINTS[1])];
    eventually(DEADLINE, "all six connections compared", || {
        let compared = agent.metrics().get("fivetuple_inside_connections_total", &way);
        if compared == 6.0 { Ok(()) } else { Err(compared) }
    });
    for what in ["lost_segments", "reordered_segments", "added_segments", "added_resets"] {
        assert_eq!(agent.metrics().sum(&format!("fivetuple_inside_{what}_total"), &way), 0.0, "{what}");
    }
}

/// The same initial number is the same SYN: on a new five-tuple, on a reused one, and late from a closed connection.
#[track_caller]
fn repeats_are_no_reuse(world: &Gateway, agent: &Agent) {
    let of = [("svc", "no-reuse")];
    let mut hand = Hand::new(world, Version::V4, 43_000, 1_003);
    let start = hand.numbers();
    hand.syn();
    hand.renumber(start);
    hand.handshake();
    hand.exchange();
    hand.close(By::Client);
    let end = hand.numbers();
    hand.renumber(start);
    hand.syn();
    hand.renumber(end);
    hand.pass(By::Server, PSH | ACK, |frame| frame);
    exactly(agent, REUSES, &of, &[]);
    Gaps::default().check(agent, &of);
}

/// A SYN-ACK that does not come to the client: both ends say again what they said, whoever held TIME-WAIT; one reuse, and the
/// new connection's counts begin at nothing.
#[track_caller]
fn lost_answers_make_no_second_reuse(world: &Gateway, agent: &Agent) {
    let of = [("svc", "lost")];
    let mut measured = Gaps::default();
    for (holder, port) in HOLDERS[..4].iter().zip(43_001..) {
        let mut hand = Hand::new(world, Version::V4, port, 1_007);
        let closed = first_connection(&mut hand, holder).expect("it was closed");
        let (client, _) = hand.numbers();
        let new = (client.wrapping_sub(1_000_000), 90_000_000);
        hand.renumber(new);
        measured.add(closed, hand.syn());
        hand.say(By::Server, SYN | ACK, 0);
        hand.renumber(new);
        hand.syn();
        hand.say(By::Server, SYN | ACK, 0);
        hand.say(By::Client, ACK, 0);
        hand.exchange();
        let flows = agent.get_json(&format!("/api/v1/flows?port={port}"));
        let sent = |flow: &Value| flow["from_client"]["segments"].as_u64();
        let all = flows["flows"].as_array().expect("a list of flows");
        assert_eq!(all.iter().map(sent).collect::<Vec<_>>(), [Some(5); 2], "{flows}");
    }
    let labels = HOLDERS[..4]
        .iter()
        .map(|holder| [("holder", *holder), ("outcome", "accepted"), ("from", "client")])
        .collect::<Vec<_>>();
    let expected: Vec<_> = labels.iter().map(|labels| (labels.as_slice(), 1)).collect();
    exactly(agent, REUSES, &of, &expected);
    measured.check(agent, &of);
}

/// What the tables have kept for more than a minute is known to the end of a window that is as long.
#[test]
fn gaps_of_seventy_seconds_are_counted_in_a_window_of_ninety() {
    let world = Gateway::new();
    quiet(&world);
    let agent = watch(&world, &format!("limits:\n  time_wait: 90s\n{}", services([("long", 1_000)])));
    let pairs = HOLDERS[..4].iter().zip(OUTCOMES);
    let mut first: Vec<_> = pairs
        .zip(46_000..)
        .map(|((holder, outcome), port)| {
            let mut hand = Hand::new(&world, Version::V4, port, 1_000);
            let closed = first_connection(&mut hand, holder).expect("it was closed");
            (hand, holder, outcome, closed)
        })
        .collect();
    let mut measured = Gaps::default();
    for (hand, holder, outcome, closed) in &mut first {
        silence_until(closed.arrived, Duration::from_secs(70));
        measured.add(*closed, second_connection(hand, outcome));
        let labels = [("holder", **holder), ("outcome", outcome), ("from", "client")];
        exactly(&agent, REUSES, &labels, &[(&[], 1)]);
    }
    exactly(&agent, REUSES, &[("svc", "long")], &[(&[], 4)]);
    measured.check(&agent, &[("svc", "long")]);
    agent.stop();
}

#[track_caller]
fn beyond_the_window(world: &Gateway, agent: &Agent) {
    let mut late = Hand::new(world, Version::V4, 44_000, 1_004);
    let closed = first_connection(&mut late, "syn_receiver").expect("it was closed");
    silence_until(closed.arrived, Duration::from_millis(1_050));
    second_connection(&mut late, "accepted");
    exactly(agent, REUSES, &[("svc", "late")], &[]);
    Gaps::default().check(agent, &[("svc", "late")]);

    let mut measured = Gaps::default();
    let mut short = Hand::new(world, Version::V4, 44_001, 1_005);
    let closed = first_connection(&mut short, "syn_receiver").expect("it was closed");
    let syn = second_connection(&mut short, "accepted");
    assert!(syn.arrived - closed.sent < Duration::from_secs(1), "the machine is too busy for this test");
    measured.add(closed, syn);
    let labels = [("holder", "syn_receiver"), ("outcome", "accepted")];
    exactly(agent, REUSES, &[("svc", "short")], &[(&labels, 1)]);
    measured.check(agent, &[("svc", "short")]);
}

/// A SYN that nothing follows: that it was ignored is known when the agent gives it up.
#[track_caller]
fn never_answered(world: &Gateway, agent: &Agent) {
    let mut measured = Gaps::default();
    for (port, version) in [(45_000, Version::V4), (45_001, Version::V6)] {
        let mut hand = Hand::new(world, version, port, 1_006);
        let closed = first_connection(&mut hand, "syn_receiver").expect("it was closed");
        let (client, server) = hand.numbers();
        hand.renumber((client.wrapping_sub(1_000_000), server));
        measured.add(closed, hand.syn());
    }
    measured.check(agent, &[("svc", "never")]);
    let labels = [("holder", "syn_receiver"), ("outcome", "ignored"), ("from", "client")];
    eventually_exactly(agent, REUSES, &[("svc", "never")], &[(&labels, 2)]);
}

/// Real kernels on both sides: the client or the server waits, and takes the next connection or refuses it.
#[test]
fn real_kernels_take_a_five_tuple_again() {
    let world = Gateway::plan().patient().build();
    let agent = watch(&world, &services([("client-waits", 81), ("server-waits", 82), ("challenge", 83)]));
    let from = (CLIENT.v4, 50_000);

    let echo = Server::start(&world.server, (SERVER.v4, 81), Serve::Echo);
    let mut longest = Duration::ZERO;
    // Who asks for a port by its number gets it without `tcp_tw_reuse`, too.
    for tw_reuse in [0, 1] {
        world.client.sysctl("net/ipv4/tcp_tw_reuse", tw_reuse);
        let from = (CLIENT.v4, 50_001 + tw_reuse as u16);
        let mut conn = Dial::default().from(from).connect(&world.client, echo.address());
        tcp::echo(&mut conn, 100);
        let closing = Instant::now();
        conn.close();
        // Linux lets its own TIME-WAIT go for a new connection after a second.
        let mut conn = eventually(DEADLINE, "the client to take its port again", || {
            Dial::default().from(from).try_connect(&world.client, echo.address())
        });
        longest += closing.elapsed();
        tcp::echo(&mut conn, 100);
    }
    let labels = [("holder", "syn_sender"), ("outcome", "accepted"), ("from", "client")];
    exactly(&agent, REUSES, &[("svc", "client-waits")], &[(&labels, 2)]);
    let sum = agent
        .metrics()
        .get("fivetuple_tcp_reuse_gap_seconds_sum", &[("svc", "client-waits"), ("point", "outside")]);
    assert!(sum <= longest.as_secs_f64(), "{sum} s between, {longest:?} at most");

    let first = Server::start(&world.server, (SERVER.v4, 82), Serve::CloseFirst(100));
    for _ in 0..3 {
        let mut conn = Dial::default().from(from).connect(&world.client, first.address());
        conn.send(100);
        assert_eq!(conn.receive_to_end(), 0);
        conn.close();
        eventually(DEADLINE, "the server to wait", || {
            !world.server.exec("ss -Htan state time-wait sport = :82").is_empty()
        });
    }
    let labels = [("holder", "syn_receiver"), ("outcome", "accepted"), ("from", "client")];
    exactly(&agent, REUSES, &[("svc", "server-waits")], &[(&labels, 2)]);

    let gone = Server::start(&world.server, (SERVER.v4, 83), Serve::CloseFirst(100));
    let mut conn = Dial::default().from(from).connect(&world.client, gone.address());
    conn.send(100);
    assert_eq!(conn.receive_to_end(), 0);
    conn.close();
    eventually(DEADLINE, "the server to wait", || {
        !world.server.exec("ss -Htan state time-wait sport = :83").is_empty()
    });
    let address = gone.address();
    drop(gone);
    // With nobody listening the kernel answers for the old connection; the client resets that, and asks again.
    let refused = Dial::default().from(from).try_connect(&world.client, address);
    assert_eq!(refused.expect_err("nobody listens").kind(), std::io::ErrorKind::ConnectionRefused);
    let labels = [("holder", "syn_receiver"), ("outcome", "challenged"), ("from", "client")];
    eventually_exactly(&agent, REUSES, &[("svc", "challenge")], &[(&labels, 1)]);
    let client = [("from", "client"), ("cause", "time_wait"), ("origin", "endpoint")];
    let server = [("from", "server"), ("origin", "endpoint")];
    eventually_exactly(&agent, "resets_total", &[("svc", "challenge")], &[(&client, 1), (&server, 1)]);
    agent.stop();
}
