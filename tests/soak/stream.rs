//! Packets at a pace, of connections that are played by hand: what was sent is known to the byte, whatever a kernel does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::Gateway;
use harness::impair::flags::{ACK, FIN, PSH, SYN};
use harness::raw::{Frame, RawPort};
use harness::topology::{CLIENT, INSIDE, OUTSIDE, SERVER};
use harness::truth::Nft;

/// Where they all go.
const PORT: u16 = 7_000;
/// How many there are; each from a port of its own.
const CONNECTIONS: u16 = 256;
const FIRST: u16 = 40_000;
/// Payload of a data segment, bytes.
const PIECE: u32 = 100;
/// Data segments of a connection to one acknowledgment of the server.
const ACKNOWLEDGED: u32 = 4;
/// Packets are sent so many at a time.
const BURST: u32 = 50;
/// Between two bursts at least, also where the machine stood still: a processor's queue has room for a thousand packets.
const BREATH: Duration = Duration::from_micros(200);
/// First sequence numbers of the client and of the server.
const CLIENT_ISN: u32 = 1_000;
const SERVER_ISN: u32 = 9_000;

/// What was sent.
#[derive(Debug, Default)]
pub struct Sent {
    /// Connections that were opened, and closed by the client.
    pub connections: u32,
    /// Segments of both sides.
    pub segments: u64,
    /// Payload of the clients, bytes.
    pub payload: u64,
    /// How long all of it took.
    pub took: Duration,
}

/// Both ends of the connections.
struct Ends {
    client: RawPort,
    server: RawPort,
    per_second: u32,
    began: Instant,
    sent: Sent,
}

/// Opens the connections, sends on them in turns until `stop`, and closes them.
pub fn play(world: &Gateway, per_second: u32, stop: &AtomicBool) -> Sent {
    let _silent = [Nft::silence(&world.client, PORT), Nft::silence(&world.server, PORT)];
    let mut ends = Ends {
        client: RawPort::open(&world.client, CLIENT.interface),
        server: RawPort::open(&world.server, SERVER.interface),
        per_second,
        began: Instant::now(),
        sent: Sent::default(),
    };
    ends.each(|ends, n| ends.ask(n, SYN, CLIENT_ISN, 0, 0));
    ends.each(|ends, n| ends.answer(n, SYN | ACK, SERVER_ISN, CLIENT_ISN + 1));
    let (mut seq, ack) = (CLIENT_ISN + 1, SERVER_ISN + 1);
    ends.each(|ends, n| ends.ask(n, ACK, seq, ack, 0));
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..ACKNOWLEDGED {
            ends.each(|ends, n| ends.ask(n, PSH | ACK, seq, ack, PIECE));
            seq = seq.wrapping_add(PIECE);
        }
        ends.each(|ends, n| ends.answer(n, ACK, ack, seq));
    }
    ends.each(|ends, n| ends.ask(n, FIN | ACK, seq, ack, 0));
    ends.each(|ends, n| ends.answer(n, FIN | ACK, ack, seq.wrapping_add(1)));
    ends.each(|ends, n| ends.ask(n, ACK, seq.wrapping_add(1), ack + 1, 0));
    Sent { connections: CONNECTIONS.into(), took: ends.began.elapsed(), ..ends.sent }
}

impl Ends {
    /// Of every connection one packet.
    fn each(&mut self, send: impl Fn(&mut Self, u16)) {
        for n in 0..CONNECTIONS {
            send(self, n);
        }
    }

    fn ask(&mut self, n: u16, flags: u8, seq: u32, ack: u32, payload: u32) {
        let frame = Frame::new((CLIENT.v4, FIRST + n), (SERVER.v4, PORT)).macs(CLIENT.mac, OUTSIDE.mac);
        let frame = frame.flags(flags).seq(seq).ack(ack).payload(vec![7; payload as usize]);
        self.client.send(&frame.build());
        self.sent.payload += u64::from(payload);
        self.pace();
    }

    fn answer(&mut self, n: u16, flags: u8, seq: u32, ack: u32) {
        let frame = Frame::new((SERVER.v4, PORT), (CLIENT.v4, FIRST + n)).macs(SERVER.mac, INSIDE.mac);
        self.server.send(&frame.flags(flags).seq(seq).ack(ack).build());
        self.pace();
    }

    /// One more was sent; waits where it was too early.
    fn pace(&mut self) {
        self.sent.segments += 1;
        if self.sent.segments.is_multiple_of(BURST.into()) {
            let due = Duration::from_secs(1).mul_f64(self.sent.segments as f64 / f64::from(self.per_second));
            thread::park_timeout(due.saturating_sub(self.began.elapsed()).max(BREATH));
        }
    }
}
