//! The scenarios: what the network does, and what the two hosts do in it.

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use harness::impair::rules::{self, Random};
use harness::impair::{Action, Direction, Packet, Rule, flags};
use harness::tcp::{DEADLINE, Dial, Serve, Server, connect};
use harness::topology::{CLIENT, SERVER, Version};
use harness::{Gateway, NetNs};

use Direction::{ToClient, ToServer};

/// One of them.
pub struct Scenario {
    /// Its directory.
    pub name: &'static str,
    /// The box between client and gateway, and the one between gateway and server.
    pub boxes: fn() -> [Rule; 2],
    /// What the hosts do, until they have closed.
    pub traffic: fn(&Gateway),
}

/// All of them.
pub const SCENARIOS: [Scenario; 8] = [
    Scenario { name: "clean", boxes: || [delay(), delay()], traffic: |world| transfers(world, Version::V4) },
    Scenario {
        name: "loss",
        boxes: || [bad(1).loss(0.03).into(), bad(2).loss(0.03).into()],
        traffic: |world| transfers(world, Version::V4),
    },
    Scenario {
        name: "reorder_duplicate",
        boxes: || [shuffling(3).into(), shuffling(4).into()],
        traffic: |world| transfers(world, Version::V4),
    },
    Scenario {
        name: "mixed_v6",
        boxes: || [shuffling(5).loss(0.02).into(), shuffling(6).loss(0.02).into()],
        traffic: |world| transfers(world, Version::V6),
    },
    Scenario { name: "syn_loss", boxes: || [handshakes_lost(7), handshakes_lost(8)], traffic: short_ones },
    Scenario { name: "zero_window", boxes: || [delay(), delay()], traffic: zero_window },
    Scenario { name: "resets", boxes: || [delay(), delay()], traffic: resets },
    Scenario { name: "reuse", boxes: || [delay(), delay()], traffic: reuse },
];

/// A quarter of the round trip, on each of the two wires and in each direction.
const DELAY: Duration = Duration::from_millis(5);

fn delay() -> Rule {
    rules::delay(DELAY)
}

/// Like [`delay`], and what is asked for happens to data.
fn bad(seed: u64) -> Random {
    Random::seeded(seed).delay(ToServer, DELAY).delay(ToClient, DELAY).data_only()
}

fn shuffling(seed: u64) -> Random {
    bad(seed).reordering(0.02, 3, 2 * DELAY).duplication(0.01)
}

/// A quarter of all SYNs and SYN-ACKs is lost, nothing else.
fn handshakes_lost(seed: u64) -> Rule {
    let mut random = fastrand::Rng::with_seed(seed);
    Rule::from(move |packet: &Packet| {
        let lost = packet.has(flags::SYN) && random.f64() < 0.25;
        vec![if lost { Action::Drop } else { Action::Delay(DELAY) }]
    })
}

fn at(version: Version, port: u16) -> SocketAddr {
    SocketAddr::new(SERVER.ip(version), port)
}

/// Two connections at once, data in both directions.
fn transfers(world: &Gateway, version: Version) {
    let server =
        Server::start(&world.server, at(version, 443), Serve::Answer { request: 700, response: 5000 });
    let sink =
        Server::start(&world.server, at(version, 80), Serve::Answer { request: 150_000, response: 300 });
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut conn = connect(&world.client, server.address());
            for _ in 0..30 {
                conn.send(700);
                conn.receive(5000);
            }
        });
        scope.spawn(|| {
            let mut conn = connect(&world.client, sink.address());
            conn.send(150_000);
            conn.receive(300);
        });
    });
    ended(&[&server, &sink], 2);
}

/// Ten short connections at once.
fn short_ones(world: &Gateway) {
    let serve = Serve::Answer { request: 200, response: 1500 };
    let server = Server::start(&world.server, at(Version::V4, 443), serve);
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let mut conn =
                    Dial::default().deadline(4 * DEADLINE).connect(&world.client, server.address());
                conn.send(200);
                conn.receive(1500);
            });
        }
    });
    ended(&[&server], 10);
}

/// The server reads nothing until its window has been closed for a while.
fn zero_window(world: &Gateway) {
    let server = Server::start(&world.server, at(Version::V4, 443), Serve::ZeroWindow);
    let mut conn = connect(&world.client, server.address());
    thread::scope(|scope| {
        scope.spawn(|| conn.send(60_000));
        let closed = || {
            world.client_box().with_log(|log| {
                let probed = log.arrived(ToClient).filter(|(_, tcp)| tcp.window == 0).count();
                if probed >= 3 { Ok(()) } else { Err(format!("{probed} segments with window 0 so far")) }
            })
        };
        harness::eventually(DEADLINE, "three segments with window 0", closed);
        server.open_window();
    });
    drop(conn);
    ended(&[&server], 1);
}

/// Every way to reset a connection that both ends' kernels have.
fn resets(world: &Gateway) {
    let refused = Dial::default().try_connect(&world.client, at(Version::V4, 9));
    assert!(refused.is_err(), "nobody listens there");
    let echo = Server::start(&world.server, at(Version::V4, 443), Serve::Echo);
    let resetting = Server::start(&world.server, at(Version::V4, 444), Serve::Reset(100));
    let source = Server::start(&world.server, at(Version::V4, 445), Serve::Source(20_000));
    for _ in 0..3 {
        // SO_LINGER 0, after an answer.
        let mut conn = connect(&world.client, echo.address());
        conn.send(100);
        conn.receive(100);
        conn.reset();
        // Before any data.
        connect(&world.client, echo.address()).reset();
        // By the server, instead of an answer.
        let mut conn = connect(&world.client, resetting.address());
        conn.send(100);
        conn.expect_reset();
        // Closed with data that nobody has read, and more of it still coming.
        let mut conn = connect(&world.client, source.address());
        conn.receive(1000);
        drop(conn);
    }
    harness::eventually(DEADLINE, "the servers' ends", || {
        let ends = [&echo, &resetting, &source].map(|server| server.finished().len());
        if ends == [6, 3, 3] { Ok(()) } else { Err(format!("{ends:?} so far")) }
    });
}

/// The same client port again, soon after each kind of close.
fn reuse(world: &Gateway) {
    let echo = Server::start(&world.server, at(Version::V4, 443), Serve::Echo);
    let first = Server::start(&world.server, at(Version::V4, 444), Serve::CloseFirst(100));
    let from = |port| SocketAddr::new(IpAddr::V4(CLIENT.v4), port);
    let mut closed = 0;
    for port in 40_000..40_004 {
        for _ in 0..2 {
            // The client resets: nobody waits.
            let mut conn = Dial::default().from(from(port)).connect(&world.client, echo.address());
            conn.send(100);
            conn.receive(100);
            conn.reset();
            closed += 1;
            harness::eventually(DEADLINE, "the server's end", || match echo.finished().len() {
                ends if ends == closed => Ok(()),
                ends => Err(format!("{ends} so far")),
            });
        }
        for _ in 0..2 {
            // The server closes first: it holds TIME-WAIT when the SYN comes.
            let mut conn = Dial::default().from(from(port)).connect(&world.client, first.address());
            conn.send(100);
            conn.receive_to_end();
            drop(conn);
            // Only when its last ACK has come is the client's port free again.
            quiet(&[&world.client]);
        }
    }
    ended(&[&first], 8);
}

/// Waits until the servers have seen so many connections end well, all together.
fn ended(servers: &[&Server], connections: usize) {
    harness::eventually(4 * DEADLINE, "the servers' ends", || {
        let ends: Vec<_> = servers.iter().flat_map(|server| server.finished()).collect();
        let failed: Vec<_> = ends.iter().filter_map(|end| end.as_ref().err()).collect();
        assert!(failed.is_empty(), "{failed:?}");
        if ends.len() == connections { Ok(()) } else { Err(format!("{} so far", ends.len())) }
    });
}

/// Waits until no connection is open on these hosts: everything has been sent and acknowledged.
pub fn quiet(hosts: &[&NetNs]) {
    for host in hosts {
        harness::eventually(4 * DEADLINE, "no open connection", || {
            let open = host.exec("ss -H -t -n state connected exclude time-wait");
            if open.is_empty() { Ok(()) } else { Err(open) }
        });
    }
}
