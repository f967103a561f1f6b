//! The TCP actors behave as they are named, seen from the wire and from the kernel.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use harness::impair::{Direction, flags, rules};
use harness::tcp::{self, DEADLINE, Dial, Serve, Server};
use harness::topology::{LEFT, RIGHT};
use harness::truth::{Counters, Nft};
use harness::{NetNs, Pair, eventually};

use Direction::{ToClient, ToServer};

fn served(serve: Serve) -> (Pair, Server) {
    let pair = Pair::impaired(rules::clean()).patient();
    let server = Server::start(&pair.right, (RIGHT.v4, 80), serve);
    (pair, server)
}

/// How many connections wait out their time there.
fn in_time_wait(namespace: &NetNs) -> usize {
    namespace.exec("ss -Htan state time-wait").lines().count()
}

/// Waits until one end holds TIME-WAIT and the other has forgotten the connection.
#[track_caller]
fn eventually_in_time_wait(holder: &NetNs, other: &NetNs) {
    eventually(DEADLINE, "TIME-WAIT at one end", || {
        let left = (in_time_wait(holder), other.exec("ss -Htan state connected"));
        let states = format!("{}\n{}", holder.exec("ss -Htane"), left.1);
        if left.0 == 1 && left.1.is_empty() { Ok(()) } else { Err(states) }
    });
}

#[test]
fn tcp_info_agrees_with_the_wire() {
    let (pair, server) = served(Serve::Answer { request: 800, response: 10_000 });
    let mut conn = tcp::connect(&pair.left, server.address());
    for _ in 0..3 {
        conn.send(800);
        conn.receive(10_000);
    }
    let info = eventually(DEADLINE, "the last acknowledgment", || {
        let info = conn.info();
        let out = pair.middle().with_log(|log| log.arrived(ToServer).count());
        (info.segs_out as usize == out).then_some(info)
    });
    let log = pair.middle().log();
    let data = |direction| log.arrived(direction).filter(|(_, tcp)| tcp.payload > 0).count();
    assert_eq!((info.data_segs_out as usize, info.data_segs_in as usize), (data(ToServer), data(ToClient)));
    assert_eq!((info.bytes_sent, info.bytes_received, info.bytes_acked), (2400, 30_000, 2401));
    assert_eq!((info.state, info.total_retrans), (1, 0));
}

#[test]
fn a_zero_window_server_closes_its_window_until_told() {
    let (pair, server) = served(Serve::ZeroWindow);
    let mut conn = tcp::connect(&pair.left, server.address());
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            conn.send(500_000);
            conn.half_close();
            conn.receive_to_end();
        });
        let closed = || {
            pair.middle()
                .with_log(|log| log.departed(ToClient).any(|tcp| tcp.window == 0 && tcp.has(flags::ACK)))
        };
        eventually(DEADLINE, "a window of 0", closed);
        eventually(DEADLINE, "a zero-window probe", || {
            pair.middle().with_log(|log| {
                let zero = log
                    .departures
                    .iter()
                    .position(|left| left.tcp.as_ref().is_some_and(|tcp| tcp.window == 0));
                let after = &log.departures[zero.unwrap_or(log.departures.len())..];
                after.iter().any(|left| left.direction == ToServer)
            })
        });
        assert_eq!(server.finished(), []);
        server.open_window();
        sending.join().unwrap();
    });
    assert_eq!(eventually(DEADLINE, "the server's end", || server.finished().pop()), Ok(500_000));
}

#[test]
fn a_keepalive_client_sends_keepalives() {
    let (pair, server) = served(Serve::Echo);
    let second = Duration::from_secs(1);
    let mut conn = Dial::default().keepalive(second, second, 9).connect(&pair.left, server.address());
    tcp::echo(&mut conn, 100);
    let keepalives = eventually(DEADLINE, "two keepalives", || {
        pair.middle().with_log(|log| {
            let sent = log.arrived(ToServer).filter(|(_, tcp)| tcp.payload == 0 && tcp.length() == 0);
            let highest = log.arrived(ToServer).map(|(_, tcp)| tcp.end()).max()?;
            let below: Vec<_> =
                sent.filter(|(_, tcp)| tcp.seq.wrapping_add(1) == highest).map(|(at, _)| at.at).collect();
            (below.len() >= 2).then_some(below)
        })
    });
    let apart = keepalives[1] - keepalives[0];
    assert!(apart >= Duration::from_millis(900), "{apart:?}");
    assert_eq!(pair.middle().log().sent_again(ToServer), 0, "a keepalive is no repetition");
}

#[test]
fn a_server_that_resets_is_counted_by_kernel_and_nftables() {
    let (pair, server) = served(Serve::Reset(10));
    let nft = Nft::load(
        &pair.right,
        "witness",
        "counter resets {\n}\nchain out {\n type filter hook output priority 0;\n tcp flags & rst == rst counter name resets\n}",
    );
    let before = Counters::of(&pair.right);
    let mut conn = tcp::connect(&pair.left, server.address());
    conn.send(10);
    conn.expect_reset();
    assert_eq!(nft.counter("resets").0, 1);
    assert_eq!(Counters::of(&pair.right).since(&before).get("TcpOutRsts"), 1);
    assert_eq!(Counters::of(&pair.left).get("TcpEstabResets"), 1);
}

#[test]
fn who_closes_first_holds_time_wait() {
    let (pair, server) = served(Serve::CloseFirst(10));
    let mut conn = tcp::connect(&pair.left, server.address());
    conn.send(10);
    conn.receive_to_end();
    conn.close();
    eventually_in_time_wait(&pair.right, &pair.left);

    let (pair, server) = served(Serve::Source(10_000));
    let mut conn = tcp::connect(&pair.left, server.address());
    assert_eq!(conn.receive_to_end(), 10_000);
    conn.close();
    eventually_in_time_wait(&pair.right, &pair.left);
}

#[test]
fn a_client_can_half_close_and_still_be_answered() {
    let (pair, server) = served(Serve::Echo);
    let mut conn = tcp::connect(&pair.left, server.address());
    conn.send(1000);
    conn.half_close();
    conn.receive(1000);
    assert_eq!(conn.receive_to_end(), 0);
    drop(conn);
    eventually_in_time_wait(&pair.left, &pair.right);
}

#[test]
fn a_five_tuple_can_come_back_after_a_reset() {
    let (pair, server) = served(Serve::Sink);
    let dial = Dial::default().from((LEFT.v4, 45_000));
    for _ in 0..2 {
        let mut conn = dial.connect(&pair.left, server.address());
        assert_eq!(conn.local(), SocketAddr::from((LEFT.v4, 45_000)));
        conn.send(100);
        // An acknowledgment that came after the reset would be answered by another one.
        eventually(DEADLINE, "the acknowledgment", || conn.info().unacked == 0);
        conn.reset();
    }
    eventually(DEADLINE, "the server to see both resets", || server.finished().len() == 2);
    assert!(server.finished().iter().all(Result::is_err));
    let resets = pair.middle().log().arrived(ToServer).filter(|(_, tcp)| tcp.has(flags::RST)).count();
    assert_eq!((resets, server.accepted()), (2, 2));
    assert_eq!(Counters::of(&pair.left).get("TcpOutRsts"), 2);
    assert_eq!(
        pair.middle().log().sent_again(ToServer),
        0,
        "a new connection is no repetition of the old one"
    );
}

#[test]
fn a_closed_port_refuses() {
    let (pair, server) = served(Serve::Echo);
    drop(server);
    let refused = Dial::default().try_connect(&pair.left, (RIGHT.v4, 80)).expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_silent_world_times_out_by_its_deadline() {
    let pair = Pair::impaired(rules::data(ToClient, 0, harness::impair::Action::Drop));
    let dial = Dial::default().deadline(Duration::from_millis(300));
    let error = dial.try_connect(&pair.left, (RIGHT.v4, 80)).expect_err("nothing comes back");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}
