//! Bank G: a payment is reset when its proxy holds its five-tuple in TIME-WAIT, and three changes end that.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use harness::agent::Launch;
use harness::cases::BankG;
use harness::cases::bank_g::{BALANCER, BANK, Options, PROXIES, SERVICES, Stage, StageTruth, VIP};
use harness::impair::{TcpFacts, flags};
use harness::script::pcap;
use harness::tcp::{Conn, DEADLINE, Dial, Serve, Server};
use harness::topology::{LEFT, RIGHT};
use harness::truth::Capture;
use harness::{Pair, eventually, netns};

const TIME_WAIT: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(50)];

/// The days of the case, twice as fast and with a merchant less.
fn options() -> Options {
    Options {
        merchants: 3,
        payments: 76,
        own_ports: 60,
        interval: Duration::from_millis(30),
        time_wait: TIME_WAIT,
        ..Options::default()
    }
}

/// What one point saw in a stage: how often each client asked for a connection, and how many RST the servers sent.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    asked: HashMap<SocketAddr, usize>,
    resets: usize,
}

fn seen(capture: &Capture, servers: &[SocketAddrV4]) -> Seen {
    let mut seen = Seen::default();
    let frames = pcap::read(capture.file()).unwrap_or_default();
    for tcp in frames.iter().filter_map(|timed| TcpFacts::parse(&timed.frame)) {
        if servers.iter().any(|server| tcp.source == (*server).into()) {
            seen.resets += usize::from(tcp.has(flags::RST));
        } else if tcp.has(flags::SYN) {
            *seen.asked.entry(tcp.source).or_default() += 1;
        }
    }
    seen
}

fn counted(clients: impl Iterator<Item = SocketAddrV4>) -> HashMap<SocketAddr, usize> {
    let mut counts = HashMap::new();
    for client in clients {
        *counts.entry(client.into()).or_default() += 1;
    }
    counts
}

/// What the points must have seen of a stage.
fn expected(truth: &StageTruth) -> [Seen; 3] {
    let (payments, resets) = (&truth.payments, truth.resets());
    let answered = payments.iter().filter(|payment| payment.answered);
    [
        Seen { asked: counted(payments.iter().map(|payment| payment.client)), resets },
        Seen { asked: counted(payments.iter().map(|payment| payment.seen)), resets },
        // Nothing of a payment that is lost is on leg 2, and what is there has the client's address and port of leg 1.
        Seen { asked: counted(answered.map(|payment| payment.seen)), resets: 0 },
    ]
}

/// The merchants and the proxies tell the same, and TIME-WAIT alone decides.
fn check_records(truth: &StageTruth) {
    assert_eq!(truth.openings.len(), truth.payments.len());
    let mut lost: Vec<_> = truth.payments.iter().filter(|payment| !payment.answered).collect();
    lost.sort_by_key(|payment| (payment.proxy, payment.seen));
    let mut refused: Vec<_> = truth.openings.iter().filter(|opening| opening.refused).collect();
    refused.sort_by_key(|opening| (opening.proxy, opening.client));
    assert!(
        lost.iter().map(|lost| (lost.proxy, lost.seen)).eq(refused.iter().map(|r| (r.proxy, r.client))),
        "each reset is a leg 2 that was refused"
    );
    let time_wait = TIME_WAIT[usize::from(truth.stage == Stage::ShortTimeWait)];
    for opening in &truth.openings {
        assert_eq!(opening.refused, opening.gap.is_some_and(|gap| gap < time_wait), "{opening:?}");
    }
    for payment in &truth.payments {
        match truth.stage {
            Stage::OwnPorts => assert_eq!(*payment.seen.ip(), BALANCER),
            _ => assert_eq!(payment.seen, payment.client, "the balancer keeps address and port"),
        }
    }
    if truth.stage >= Stage::RoundRobin {
        let first = truth.payments.iter().filter(|payment| payment.proxy == 0).count();
        assert_eq!(first * 2, truth.payments.len(), "each proxy in its turn");
    }
}

#[test]
fn resets_fall_with_each_change_and_end_with_the_last() {
    let world = BankG::new(options());
    let mut resets = Vec::new();
    for stage in Stage::ALL {
        let captures = world.points().map(|point| Capture::start(point.namespace, point.interface, "tcp"));
        let truth = world.run_stage(stage);
        check_records(&truth);
        let [front, leg1, leg2] = expected(&truth);
        let points = [(front, &[VIP][..]), (leg1, &PROXIES), (leg2, &[BANK])];
        for ((expected, servers), capture) in points.into_iter().zip(captures) {
            eventually(DEADLINE, &format!("what {stage:?} looks like before {servers:?}"), || {
                let seen = seen(&capture, servers);
                if seen == expected {
                    Ok(())
                } else {
                    Err(format!("{} resets, of {}", seen.resets, expected.resets))
                }
            });
            capture.stop();
        }
        resets.push(truth.resets());
    }
    println!("resets by stage, of {} payments each: {resets:?}", 3 * options().payments);
    assert!(resets.is_sorted_by(|before, after| before > after), "each change helps: {resets:?}");
    assert!(resets[2] > 0 && resets[3] == 0, "the last one ends it: {resets:?}");

    let names: Vec<_> = world.namespaces().iter().map(|namespace| namespace.name().to_owned()).collect();
    assert_eq!(names.len(), 6);
    drop(world);
    assert!(names.iter().all(|name| !netns::existing().contains(name)), "something was left behind");
}

/// What the proxies' table stands for: the kernel that closed first refuses the same five-tuple, before a single
/// packet. With timestamps it would let a socket go that is bound to the port; without a TIME-WAIT of its own it
/// refuses nothing.
#[test]
fn a_kernel_that_holds_a_five_tuple_in_time_wait_cannot_open_it() {
    let pair = Pair::new();
    pair.left.sysctl("net/ipv4/tcp_timestamps", 0);
    let server = Server::start(&pair.right, (RIGHT.v4, 80), Serve::Sink);
    let dial = |port| Dial::default().from((LEFT.v4, port)).try_connect(&pair.left, server.address());
    let close_first = |mut conn: Conn| {
        conn.half_close();
        conn.receive_to_end();
    };
    close_first(dial(40_000).expect("the first connection is made"));
    let refused = dial(40_000).expect_err("it is in TIME-WAIT");
    assert_eq!(refused.kind(), ErrorKind::AddrNotAvailable);

    pair.left.sysctl("net/ipv4/tcp_max_tw_buckets", 0);
    for _ in 0..2 {
        close_first(dial(40_001).expect("there is no TIME-WAIT"));
    }
}

#[test]
fn an_agent_at_the_three_points_counts_each_lost_payment_once() {
    let world = BankG::new(options());
    let [front, ..] = world.points();
    let agent = Launch::configuration(world.configuration()).start(front.namespace);
    let truth = world.run_stage(Stage::ClientPorts);
    let (all, resets) = (truth.payments.len(), truth.resets());
    assert!(resets > 0);
    let expected = [
        ("front", SERVICES[0], all, resets),
        ("leg1", SERVICES[1], all, resets),
        ("leg2", SERVICES[2], all - resets, 0),
    ];
    for (point, svc, opened, reset) in expected {
        let labels = [("point", point), ("svc", svc)];
        let cut_off = [&labels[..], &[("result", "reset")]].concat();
        eventually(DEADLINE, &format!("{opened} connections and {reset} resets at {point}"), || {
            let metrics = agent.metrics();
            let seen = [
                metrics.sum("fivetuple_tcp_connections_opened_total", &labels),
                metrics.sum("fivetuple_tcp_connection_results_total", &cut_off),
            ];
            if seen == [opened, reset].map(|count| count as f64) { Ok(()) } else { Err(format!("{seen:?}")) }
        });
    }
    agent.stop();
}
