//! Connections through a NAT that rewrites addresses and ports are joined: nearly all, and none wrongly.

use agent::config::Watch;
use agent::connection::{join, source};
use harness::tcp::{Conn, DEADLINE, Dial, Service};
use harness::topology::{CLIENT, INSIDE, OUTSIDE, SERVER};
use harness::truth::{Capture, Nft};
use harness::{Gateway, eventually};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddrV4;

/// Connections, each from a port of its own.
const CONNECTIONS: u16 = 10_000;
const FIRST_PORT: u16 = 20_000;
/// Bytes of a request.
const REQUEST: usize = 100;

#[test]
fn ten_thousand_connections_through_a_nat_are_joined_and_none_wrongly() {
    let world = Gateway::plan().patient().build();
    // Other addresses, and ports drawn at random.
    let _nat = Nft::load(
        &world.gateway,
        "nat",
        "chain post {\n type nat hook postrouting priority 100;\n oifname inside masquerade random\n}",
    );
    let address = SocketAddrV4::new(SERVER.v4, 8_080);
    let server = Service::start(&world.server, address, |_| Ok(()), |conn| drop(answer(&conn)));
    let captures = [OUTSIDE, INSIDE].map(|port| Capture::start(&world.gateway, port.interface, "tcp"));
    for n in 0..CONNECTIONS {
        let from = SocketAddrV4::new(CLIENT.v4, FIRST_PORT + n);
        let conn = Dial::default().from(from).connect(&world.client, address);
        // The client's port is in what it says: the only thing that the NAT leaves alone.
        let mut request = [0; REQUEST];
        request[..2].copy_from_slice(&from.port().to_be_bytes());
        let done = conn.send_bytes(&request).and_then(|()| read_all(&conn));
        assert_eq!(done.unwrap(), 50, "port {}", from.port());
    }
    let whole = |list: &[agent::connection::Connection]| {
        list.iter().filter(|c| c.close.is_some()).count() == usize::from(CONNECTIONS)
    };
    let watch = Watch::default();
    let points: Vec<_> = captures
        .iter()
        .zip(["outside", "inside"])
        .map(|(capture, name)| {
            eventually(DEADLINE, "all connections in the capture", || {
                let told = source::of_capture(capture.file(), name, &watch, |_| {}).ok()?;
                whole(&told.connections).then_some(told.connections)
            })
        })
        .collect();
    drop(server);
    // The truth: what the capture behind the NAT holds of each connection's request.
    let behind = said(&captures[1]);
    assert_eq!(behind.len(), usize::from(CONNECTIONS));
    let rewritten = behind.iter().filter(|(seen, said)| seen != said).count();
    assert!(rewritten > usize::from(CONNECTIONS) * 9 / 10, "only {rewritten} ports are rewritten");
    let joined = join::by_numbers(&points);
    let (mut right, mut wrong) = (0, 0);
    for one in joined.iter().filter(|one| one.by.is_some()) {
        let (outside, inside) = (&points[0][one.at[0].unwrap()], &points[1][one.at[1].unwrap()]);
        assert_eq!(inside.client.address, INSIDE.v4);
        if behind[&inside.client.port] == outside.client.port { right += 1 } else { wrong += 1 }
    }
    println!("joined right {right}, wrong {wrong}, of {CONNECTIONS}");
    assert!(right >= usize::from(CONNECTIONS) * 999 / 1_000, "{right}");
    assert_eq!(wrong, 0);
    captures.into_iter().for_each(|capture| drop(capture.stop()));
}

/// Answers one request, and closes.
fn answer(conn: &Conn) -> io::Result<()> {
    let (mut got, mut buffer) = (0, [0; REQUEST]);
    while got < REQUEST {
        match conn.receive_bytes(&mut buffer)? {
            0 => return Ok(()),
            more => got += more,
        }
    }
    conn.send_bytes(&[0; 50])
}

fn read_all(conn: &Conn) -> io::Result<usize> {
    let (mut all, mut buffer) = (0, [0; 256]);
    loop {
        match conn.receive_bytes(&mut buffer)? {
            0 => return Ok(all),
            got => all += got,
        }
    }
}

/// By the port that a capture shows, the port that the client says it has.
fn said(capture: &Capture) -> HashMap<u16, u16> {
    let frames = harness::script::pcap::read(capture.file()).unwrap();
    let facts = |frame: &[u8]| {
        let tcp = harness::impair::TcpFacts::parse(frame)?;
        let payload = frame.get(frame.len().checked_sub(REQUEST)?..)?;
        let to_server = tcp.destination.port() == 8_080 && tcp.payload == REQUEST as u32;
        to_server.then(|| (tcp.source.port(), u16::from_be_bytes([payload[0], payload[1]])))
    };
    frames.iter().filter_map(|timed| facts(&timed.frame)).collect()
}
