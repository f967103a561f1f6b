//! `fivetuple locate` knows how long packets take between two points of an agent, beyond the handshake's.

use std::io;
use std::net::SocketAddrV4;
use std::time::Duration;

use harness::agent::{Launch, run_to_end};
use harness::impair::{Action, Direction, Packet, Rule};
use harness::tcp::{Conn, DEADLINE, Service, connect};
use harness::topology::SERVER;
use harness::{Gateway, eventually};
use serde_json::Value;

const CONNECTIONS: usize = 20;
const REQUEST: usize = 300;
/// What the box adds to a client's packets, and to a server's: without payload, and with.
const DELAYS: [[u64; 2]; 2] = [[4, 40], [9, 70]];

/// A box that takes longer for what has payload.
fn slower_with_payload() -> Rule {
    Rule::from(|packet: &Packet| {
        let payload = packet.tcp.is_some_and(|tcp| tcp.payload > 0);
        let of_side = DELAYS[usize::from(packet.direction == Direction::ToClient)];
        vec![Action::Delay(Duration::from_millis(of_side[usize::from(payload)]))]
    })
}

/// Answers one request, and waits until the client closes.
fn answer(conn: &Conn) -> io::Result<()> {
    let (mut got, mut buffer) = (0, [0; REQUEST]);
    while got < REQUEST {
        got += conn.receive_bytes(&mut buffer)?;
    }
    conn.send_bytes(&[7; 50])?;
    conn.receive_bytes(&mut buffer).map(drop)
}

#[test]
fn the_delays_of_each_side_are_those_that_a_box_adds() {
    let world = Gateway::plan().client_side(slower_with_payload()).patient().build();
    let middle = world.client_box().namespace();
    let address = SocketAddrV4::new(SERVER.v4, 8_080);
    let server = Service::start(&world.server, address, |_| Ok(()), |conn| drop(answer(&conn)));
    let names = "interfaces:\n  - name: client\n    point: before\n  - name: server\n    point: after\n";
    let agent = Launch::configuration(names).start(middle);
    for _ in 0..CONNECTIONS {
        let conn = connect(&world.client, address);
        conn.send_bytes(&[1; REQUEST]).unwrap();
        assert_eq!(conn.receive_bytes(&mut [0; 100]).unwrap(), 50);
        conn.close();
    }
    eventually(DEADLINE, "the ends of all connections at both points", || {
        let list = agent.get_json("/api/v1/connections");
        list["connections"].as_array().unwrap().iter().filter(|c| !c["close"].is_null()).count()
            == 2 * CONNECTIONS
    });
    let url = format!("http://{}", agent.web());
    let points = format!("after={url},before={url}");
    let output = run_to_end(middle, &["locate", "--output", "json", "--points", &points]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let between = &told["between"][0];
    assert_eq!((&between["from"], &between["to"]), (&"before".into(), &"after".into()), "{told:#}");
    // Of a client SYN, ACK, request and FIN, of a server SYN-ACK, answer and FIN.
    for (side, of_each, [without, with]) in [("from_client", 4, DELAYS[0]), ("from_server", 3, DELAYS[1])] {
        let delay = &between[side]["delay"];
        let at = |which: &str| delay[which].as_i64().unwrap() as f64 / 1e6;
        assert_eq!(delay["samples"], of_each * CONNECTIONS, "{side}: {told:#}");
        // A busy machine adds to them; nothing takes from them.
        let [least, most] = [without, with].map(|ms| ms as f64);
        assert!((least - 0.002..most).contains(&at("median_ns")), "{side}: {told:#}");
        assert!(at("p99_ns") >= most - 0.002, "{side}: {told:#}");
        println!("{side}: median {:.3} ms, p99 {:.3} ms", at("median_ns"), at("p99_ns"));
    }
    agent.stop();
    drop(server);
}
