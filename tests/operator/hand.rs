//! Both ends of a connection played by hand. Each segment is sent by one end and awaited at the other, so the gateway
//! between them has seen every one, in this order, when the next is played.

use std::net::SocketAddr;
use std::time::Instant;

use harness::Gateway;
use harness::impair::flags::{ACK, FIN, PSH, RST, SYN};
use harness::raw::{Frame, RawPort, TcpOption};
use harness::topology::{CLIENT, INSIDE, OUTSIDE, SERVER, Version};
use harness::truth::Nft;

use crate::watch::DEADLINE;

/// Client ports that hands play on; no kernel answers there after [`quiet`].
pub const PORTS: std::ops::RangeInclusive<u16> = 40_000..=49_999;

/// Keeps the kernels of both ends out of what hands play. The tables go with their namespaces.
#[track_caller]
pub fn quiet(world: &Gateway) {
    let range = format!("{}-{}", PORTS.start(), PORTS.end());
    for end in [&world.client, &world.server] {
        let chain = |hook: &str| {
            format!(
                "chain {hook} {{\n type filter hook {hook} priority 0;\n tcp sport {range} drop\n tcp dport {range} drop\n}}\n"
            )
        };
        Nft::load(end, "quiet", &(chain("input") + &chain("output")));
    }
}

/// When a segment passed the gateway: after `sent` and before `arrived`.
#[derive(Clone, Copy, Debug)]
pub struct Passed {
    /// Just before it was sent.
    pub sent: Instant,
    /// When it was seen at the other end.
    pub arrived: Instant,
}

/// One end.
struct End {
    port: RawPort,
    address: SocketAddr,
    /// The other end, as it is known here.
    peer: SocketAddr,
    macs: ([u8; 6], [u8; 6]),
    next: u32,
    /// The IPv4 identification, and the timestamp: both grow by one with each segment.
    ip_id: u16,
}

/// Two ends and the numbers they have reached.
pub struct Hand {
    client: End,
    server: End,
}

/// Who plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The client.
    Client,
    /// The server.
    Server,
}

impl Hand {
    /// A client at this port and the server at its port; call [`quiet`] once before.
    #[track_caller]
    pub fn new(world: &Gateway, version: Version, port: u16, service: u16) -> Self {
        assert!(PORTS.contains(&port), "a kernel would answer on port {port}");
        let ends: [SocketAddr; 2] = [(CLIENT.ip(version), port).into(), (SERVER.ip(version), service).into()];
        let client = End {
            port: RawPort::open(&world.client, CLIENT.interface),
            address: ends[0],
            peer: ends[1],
            macs: (CLIENT.mac, OUTSIDE.mac),
            next: 1_000,
            ip_id: 100,
        };
        let server = End {
            port: RawPort::open(&world.server, SERVER.interface),
            address: ends[1],
            peer: ends[0],
            macs: (SERVER.mac, INSIDE.mac),
            next: 5_000,
            ip_id: 700,
        };
        Self { client, server }
    }

    /// The gateway translates both addresses: each end knows the other under the gateway's own on its side.
    pub fn translated(mut self) -> Self {
        for (end, gateway) in [(&mut self.client, OUTSIDE), (&mut self.server, INSIDE)] {
            end.peer.set_ip(if end.peer.is_ipv4() { gateway.v4.into() } else { gateway.v6.into() });
        }
        self
    }

    fn ends(&mut self, by: By) -> (&mut End, &mut End) {
        match by {
            By::Client => (&mut self.client, &mut self.server),
            By::Server => (&mut self.server, &mut self.client),
        }
    }

    /// The numbers that client and server have reached.
    pub fn numbers(&self) -> (u32, u32) {
        (self.client.next, self.server.next)
    }

    /// Goes on from these numbers: a new connection's initial ones, or those of before.
    pub fn renumber(&mut self, (client, server): (u32, u32)) {
        (self.client.next, self.server.next) = (client, server);
    }

    /// Sends what `edit` makes of the next segment with these flags and awaits it at the other end; moves no number.
    #[track_caller]
    pub fn pass(&mut self, by: By, flags: u8, edit: impl FnOnce(Frame) -> Frame) -> Passed {
        let (from, to) = self.ends(by);
        let ack = if flags & ACK > 0 { to.next } else { 0 };
        let frame = Frame::new(from.address, from.peer)
            .macs(from.macs.0, from.macs.1)
            .flags(flags)
            .seq(from.next)
            .ack(ack)
            .ip_id(from.ip_id);
        let frame = match flags & RST {
            0 => frame.option(TcpOption::Timestamps(from.ip_id.into(), to.ip_id.into())),
            _ => frame,
        };
        from.ip_id += 1;
        let frame = edit(frame);
        let sent = Instant::now();
        from.port.send(&frame.build());
        to.port.receive_tcp(DEADLINE, &format!("{frame:?}"), |tcp| {
            tcp.source == to.peer
                && tcp.destination == to.address
                && (tcp.seq, tcp.ack, tcp.flags) == (frame.seq, frame.ack, frame.flags)
                && tcp.payload as usize == frame.payload.len()
        });
        Passed { sent, arrived: Instant::now() }
    }

    /// Sends the next segment, with so many bytes of payload.
    #[track_caller]
    pub fn say(&mut self, by: By, flags: u8, payload: u32) -> Passed {
        let passed = self.pass(by, flags, |frame| frame.payload(vec![b'x'; payload as usize]));
        let space = payload + u32::from(flags & SYN > 0) + u32::from(flags & FIN > 0);
        let (from, _) = self.ends(by);
        from.next = from.next.wrapping_add(space);
        passed
    }

    /// Sends an RST as a kernel answers with it: at the next number, acknowledging what came.
    #[track_caller]
    pub fn reset(&mut self, by: By) -> Passed {
        self.say(by, RST | ACK, 0)
    }

    /// Sends a SYN.
    #[track_caller]
    pub fn syn(&mut self) -> Passed {
        self.say(By::Client, SYN, 0)
    }

    /// SYN, SYN-ACK, ACK.
    #[track_caller]
    pub fn handshake(&mut self) {
        self.syn();
        self.say(By::Server, SYN | ACK, 0);
        self.say(By::Client, ACK, 0);
    }

    /// A request and its answer.
    #[track_caller]
    pub fn exchange(&mut self) {
        self.say(By::Client, PSH | ACK, 100);
        self.say(By::Server, PSH | ACK, 200);
        self.say(By::Client, ACK, 0);
    }

    /// FIN, FIN, ACK: the one who begins holds TIME-WAIT. Returns when the second FIN passed: the connection is closed
    /// from then on.
    #[track_caller]
    pub fn close(&mut self, first: By) -> Passed {
        let second = if first == By::Client { By::Server } else { By::Client };
        self.say(first, FIN | ACK, 0);
        let closed = self.say(second, FIN | ACK, 0);
        self.say(first, ACK, 0);
        closed
    }

    /// Both send FIN before they have the other's: both hold TIME-WAIT.
    #[track_caller]
    pub fn close_crossing(&mut self) -> Passed {
        let (client, server) = self.numbers();
        self.say(By::Client, FIN | ACK, 0);
        let closed = self.pass(By::Server, FIN | ACK, |frame| frame.ack(client));
        self.renumber((client + 1, server + 1));
        self.say(By::Client, ACK, 0);
        self.say(By::Server, ACK, 0);
        closed
    }
}
