//! Every cause of an RST, who sent it and where it came from: exact at both points, for both IP versions.
//!
//! Played by hand where the order of segments decides; with real kernels where they do it by themselves, against their
//! own counters of RSTs sent.

use std::time::{Duration, Instant};

use harness::agent::Agent;
use harness::impair::Direction::{ToClient, ToServer};
use harness::impair::flags::{ACK, FIN, PSH, RST, SYN};
use harness::impair::{Action, Direction, Packet, rules};
use harness::raw::Frame;
use harness::tcp::{self, Dial, Serve, Server};
use harness::topology::{CLIENT, INSIDE, OUTSIDE, SERVER, Version};
use harness::truth::Counters;
use harness::{Gateway, eventually};

use crate::hand::{By, Hand, quiet};
use crate::watch::{
    DEADLINE, compare, eventually_exactly, exactly, services, silence_until, watch, watch_by_both_hooks,
};

/// What is played, and as what each RST in it is to be counted: its sender and its cause.
struct Case {
    name: &'static str,
    resets: &'static [(&'static str, &'static str)],
    play: fn(&mut Hand),
}

const CASES: &[Case] = &[
    Case {
        name: "refused_by_hand",
        resets: &[("server", "refused")],
        play: |hand| {
            hand.syn();
            hand.reset(By::Server);
        },
    },
    Case {
        name: "half_open_by_the_client_that_only_knocked",
        resets: &[("client", "half_open")],
        play: |hand| {
            hand.syn();
            hand.say(By::Server, SYN | ACK, 0);
            hand.say(By::Client, RST, 0);
        },
    },
    Case {
        name: "half_open_by_the_server_after_the_handshake",
        resets: &[("server", "half_open")],
        play: |hand| {
            hand.handshake();
            hand.reset(By::Server);
        },
    },
    Case {
        name: "after_fin_by_the_client_that_recycles",
        resets: &[("client", "after_fin")],
        play: |hand| {
            hand.handshake();
            hand.exchange();
            hand.close(By::Client);
            hand.say(By::Client, RST, 0);
        },
    },
    Case {
        name: "after_fin_by_the_server_that_gets_data_after_its_close",
        resets: &[("server", "after_fin")],
        play: |hand| {
            hand.handshake();
            hand.exchange();
            hand.say(By::Server, FIN | ACK, 0);
            hand.say(By::Client, PSH | ACK, 100);
            hand.say(By::Server, RST, 0);
        },
    },
    Case {
        name: "timeout_after_three_repeats",
        resets: &[("client", "timeout")],
        play: |hand| {
            hand.handshake();
            hand.exchange();
            let numbers = hand.numbers();
            for _ in 0..4 {
                hand.renumber(numbers);
                hand.say(By::Client, PSH | ACK, 300);
            }
            hand.reset(By::Client);
        },
    },
    Case {
        name: "two_repeats_are_no_timeout",
        resets: &[("client", "abort")],
        play: |hand| {
            hand.handshake();
            hand.exchange();
            let numbers = hand.numbers();
            for _ in 0..3 {
                hand.renumber(numbers);
                hand.say(By::Client, PSH | ACK, 300);
            }
            hand.reset(By::Client);
        },
    },
    Case {
        name: "idle_after_the_configured_silence",
        resets: &[("server", "idle")],
        play: |hand| {
            hand.handshake();
            hand.exchange();
            silence_until(Instant::now(), IDLE + IDLE / 10);
            hand.reset(By::Server);
        },
    },
    Case {
        name: "abort_amid_data",
        resets: &[("client", "abort")],
        play: |hand| {
            hand.handshake();
            hand.exchange();
            hand.say(By::Server, PSH | ACK, 1_000);
            hand.reset(By::Client);
        },
    },
    Case {
        name: "unknown_flow_never_seen_by_the_server",
        resets: &[("server", "unknown_flow")],
        play: |hand| {
            hand.say(By::Server, RST, 0);
        },
    },
    Case {
        name: "unknown_flow_never_seen_by_the_client",
        resets: &[("client", "unknown_flow")],
        play: |hand| {
            hand.say(By::Client, RST, 0);
        },
    },
    Case {
        name: "time_wait_refuses_the_syn",
        resets: &[("server", "time_wait")],
        play: |hand| {
            reuse(hand);
            hand.pass(By::Server, RST | ACK, |frame| frame.seq(0));
        },
    },
    Case {
        name: "time_wait_challenges_and_the_client_resets",
        resets: &[("client", "time_wait")],
        play: |hand| {
            let (client, server) = reuse(hand);
            hand.pass(By::Server, ACK, |frame| frame.seq(server).ack(client));
            hand.pass(By::Client, RST, |frame| frame.seq(client));
        },
    },
    Case {
        name: "after_reuse_within_the_first_exchange",
        resets: &[("server", "after_reuse")],
        play: |hand| {
            reuse(hand);
            hand.say(By::Server, SYN | ACK, 0);
            hand.say(By::Client, ACK, 0);
            hand.say(By::Client, PSH | ACK, 400);
            hand.say(By::Server, ACK, 0);
            hand.reset(By::Server);
        },
    },
    Case {
        name: "a_reuse_that_went_well_for_two_exchanges_is_an_abort",
        resets: &[("server", "abort")],
        play: |hand| {
            reuse(hand);
            hand.say(By::Server, SYN | ACK, 0);
            hand.say(By::Client, ACK, 0);
            hand.exchange();
            hand.exchange();
            hand.reset(By::Server);
        },
    },
    Case {
        name: "challenged_first_and_aborted_by_the_client_after_two_exchanges",
        resets: &[("client", "time_wait"), ("client", "abort")],
        play: |hand| {
            let (client, server) = reuse(hand);
            let (next, _) = hand.numbers();
            hand.pass(By::Server, ACK, |frame| frame.seq(server).ack(client));
            hand.pass(By::Client, RST, |frame| frame.seq(client));
            // The TIME-WAIT is gone (RFC 1337): the same SYN is taken when it is repeated.
            hand.renumber((next.wrapping_sub(1), 78_000_000));
            hand.handshake();
            hand.exchange();
            hand.exchange();
            hand.reset(By::Client);
        },
    },
    Case {
        name: "ignored_first_and_reset_within_the_first_exchange",
        resets: &[("server", "after_reuse")],
        play: |hand| {
            reuse(hand);
            let (next, server) = hand.numbers();
            hand.renumber((next.wrapping_sub(1), server));
            hand.handshake();
            hand.say(By::Client, PSH | ACK, 400);
            hand.reset(By::Server);
        },
    },
    Case {
        name: "met_mid_way_and_aborted",
        resets: &[("server", "abort")],
        play: |hand| {
            hand.exchange();
            hand.reset(By::Server);
        },
    },
    Case {
        name: "both_ends_reset_and_share_the_cause",
        resets: &[("client", "abort"), ("server", "abort")],
        play: |hand| {
            hand.handshake();
            hand.exchange();
            hand.reset(By::Client);
            hand.reset(By::Server);
        },
    },
];

/// The configured idle limit; far above what passes between two segments of a hand, even on a busy machine.
const IDLE: Duration = Duration::from_secs(2);

/// A connection that the server closed first, and a SYN on its five-tuple again; the numbers before the SYN.
fn reuse(hand: &mut Hand) -> (u32, u32) {
    hand.handshake();
    hand.exchange();
    hand.close(By::Server);
    let old = hand.numbers();
    hand.renumber((old.0.wrapping_sub(500_000), 77_000_000));
    hand.syn();
    old
}

/// Each case is a service of its own, so that one agent tells them all apart.
#[test]
fn each_cause_by_hand_over_both_ip_versions() {
    let world = Gateway::new();
    quiet(&world);
    let ports = || CASES.iter().zip(1_000..);
    let named = ports().map(|(case, port)| (case.name, port));
    let agent = watch_by_both_hooks(&world, &format!("limits:\n  idle: {IDLE:?}\n{}", services(named)));
    let mut wrong = Vec::new();
    for (case, port) in ports() {
        for version in [Version::V4, Version::V6] {
            (case.play)(&mut Hand::new(&world, version, 40_000, port));
        }
        let labels: Vec<_> = case
            .resets
            .iter()
            .map(|(from, cause)| [("from", *from), ("cause", *cause), ("origin", "endpoint")])
            .collect();
        let expected: Vec<_> = labels.iter().map(|labels| (labels.as_slice(), 2)).collect();
        let told = compare(&agent.metrics(), "resets_total", &[("svc", case.name)], &expected);
        wrong.extend(told.err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    agent.stop();
}

/// Real kernels do what they do by themselves, one agent watches: each part is a service of its own.
#[test]
fn real_kernels_reset_as_often_as_they_say() {
    let world = Gateway::plan().client_side(rules::clean()).server_side(rules::clean()).build();
    let parts = ["refused", "client-abort", "server-abort", "timeout", "ttl", "ttl-of-client", "id", "fits"];
    let agent = watch(&world, &services(parts.into_iter().zip(80..)));
    refused(&world, &agent);
    aborted(&world, &agent);
    // A box injects an RST into a real connection, on behalf of one end; the gateway sees it come from there.
    injected(&world, &agent, ("ttl", 84), ToClient, "middlebox", |f, id| f.ttl(61).ip_id(id.wrapping_add(1)));
    injected(&world, &agent, ("ttl-of-client", 85), ToServer, "middlebox", |f, id| {
        f.ttl(255).ip_id(id.wrapping_add(1))
    });
    injected(&world, &agent, ("id", 86), ToClient, "middlebox", |f, id| f.ip_id(id.wrapping_add(20_000) | 1));
    injected(&world, &agent, ("fits", 87), ToClient, "endpoint", |f, id| f.ip_id(id.wrapping_add(1)));
    timeout(&world, &agent);
    agent.stop();
}

fn refused(world: &Gateway, agent: &Agent) {
    for (version, port) in [(Version::V4, 20_000), (Version::V6, 21_000)] {
        for port in port..port + 10 {
            let from = (CLIENT.ip(version), port);
            let error = Dial::default().from(from).try_connect(&world.client, (SERVER.ip(version), 80));
            assert_eq!(error.expect_err("nobody listens").kind(), std::io::ErrorKind::ConnectionRefused);
        }
    }
    assert_eq!(Counters::of(&world.server).get("TcpOutRsts"), 20);
    let labels = [("from", "server"), ("cause", "refused"), ("origin", "endpoint")];
    exactly(agent, "resets_total", &[("svc", "refused")], &[(&labels, 20)]);
}

fn aborted(world: &Gateway, agent: &Agent) {
    let before = [&world.client, &world.server].map(Counters::of);
    let echo = Server::start(&world.server, (SERVER.v4, 81), Serve::Echo);
    for _ in 0..3 {
        let mut conn = tcp::connect(&world.client, echo.address());
        tcp::echo(&mut conn, 10_000);
        conn.reset();
    }
    let reset = Server::start(&world.server, (SERVER.v4, 82), Serve::Reset(5_000));
    for _ in 0..2 {
        let mut conn = tcp::connect(&world.client, reset.address());
        conn.send(5_000);
        conn.expect_reset();
    }
    eventually(DEADLINE, "the server to have ended all", || {
        echo.finished().len() == 3 && reset.finished().len() == 2
    });
    // A kernel sends more than one where a segment crosses its RST: it answers what it has just forgotten.
    eventually(DEADLINE, "as many as the kernels say", || {
        let grown = |end, before| Counters::of(end).since(before).get("TcpOutRsts") as u32;
        let (client, server) = (grown(&world.client, &before[0]), grown(&world.server, &before[1]));
        assert!(client >= 3 && server >= 2, "{client} and {server} RSTs for 3 and 2 connections");
        let labels = |from| [("from", from), ("cause", "abort"), ("origin", "endpoint")];
        let metrics = agent.metrics();
        compare(&metrics, "resets_total", &[("svc", "client-abort")], &[(&labels("client"), client)])?;
        compare(&metrics, "resets_total", &[("svc", "server-abort")], &[(&labels("server"), server)])
    });
}

fn timeout(world: &Gateway, agent: &Agent) {
    let before = Counters::of(&world.client);
    let server = Server::start(&world.server, (SERVER.v4, 83), Serve::Sink);
    let mut conn = tcp::connect(&world.client, server.address());
    conn.send(100);
    eventually(DEADLINE, "the request to be acknowledged", || conn.info().unacked == 0);
    world.server_box().set_rule(|_: &Packet| vec![Action::Drop]);
    conn.send(800);
    eventually(DEADLINE, "the fourth copy", || {
        let copies = |log: &harness::impair::Log| {
            log.arrived(ToServer).filter(|(arrival, tcp)| arrival.dropped() && tcp.payload == 800).count()
        };
        world.server_box().with_log(copies) >= 4
    });
    conn.reset();
    let labels = [("from", "client"), ("cause", "timeout"), ("origin", "endpoint")];
    eventually_exactly(agent, "resets_total", &[("svc", "timeout")], &[(&labels, 1)]);
    assert_eq!(Counters::of(&world.client).since(&before).get("TcpOutRsts"), 1);
    world.server_box().set_rule(rules::clean());
}

#[track_caller]
fn injected(
    world: &Gateway,
    agent: &Agent,
    (svc, port): (&str, u16),
    towards: Direction,
    origin: &str,
    forge: impl Fn(Frame, u16) -> Frame,
) {
    let ends = || [&world.client, &world.server].map(|end| Counters::of(end).get("TcpOutRsts"));
    let before = ends();
    let server = Server::start(&world.server, (SERVER.v4, port), Serve::Echo);
    let mut conn = tcp::connect(&world.client, server.address());
    for _ in 0..20 {
        tcp::echo(&mut conn, 100);
    }
    let (middle, macs, from) = match towards {
        ToClient => (world.server_box(), (SERVER.mac, INSIDE.mac), "server"),
        ToServer => (world.client_box(), (CLIENT.mac, OUTSIDE.mac), "client"),
    };
    // The client acknowledges the last echo when it likes; after the RST that would be answered with another one.
    eventually(DEADLINE, "all to be acknowledged", || {
        middle.with_log(|log| {
            let (to_server, to_client) = (log.departed(ToServer).last()?, log.departed(ToClient).last()?);
            (to_server.ack == to_client.end() && to_client.ack == to_server.end()).then_some(())
        })
    });
    let last = middle.log().departed(towards).last().cloned().expect("both ends have sent");
    let frame = Frame::new(last.source, last.destination).macs(macs.0, macs.1).flags(RST).seq(last.end());
    let frame = forge(frame.ttl(last.ttl), last.ip_id.expect("it is IPv4"));
    middle.inject(towards, frame.build());
    let labels = [("from", from), ("cause", "abort"), ("origin", origin)];
    eventually_exactly(agent, "resets_total", &[("svc", svc)], &[(&labels, 1)]);
    assert_eq!(ends(), before, "neither end has sent an RST");
    // The end that knows nothing of it closes, and the other one answers that with an RST of its own: none of the next.
    drop(conn);
    drop(server);
    eventually(DEADLINE, "the deceived end to be done", || {
        ends().iter().sum::<i64>() == before.iter().sum::<i64>() + 1
    });
}
