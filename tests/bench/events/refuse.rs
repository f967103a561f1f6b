//! Connections that are refused, over a wire between two namespaces: each is one SYN, and the other host's own RST.

use harness::Pair;
use harness::impair::flags::SYN;
use harness::raw::{Frame, RawPort};
use harness::topology::{LEFT, RIGHT};

/// Clients' ports of one address.
const PORTS: u32 = 50_000;

/// Sends the SYNs.
pub struct Refused {
    port: RawPort,
    sent: u32,
}

impl Refused {
    /// From the right host; the left one is where to watch.
    pub fn on(pair: &Pair) -> Self {
        // The way back to all the clients there are.
        pair.left.ip(&format!("route add 10.200.0.0/16 via {} dev {}\n", RIGHT.v4, LEFT.interface));
        Self { port: RawPort::open(&pair.right, RIGHT.interface), sent: 0 }
    }

    /// One more, from a five-tuple that was not used before; the client's port.
    pub fn next(&mut self) -> u16 {
        let [high, low] = u16::try_from(self.sent / PORTS).expect("that many addresses").to_be_bytes();
        let port = (10_000 + self.sent % PORTS) as u16;
        self.sent += 1;
        let syn = Frame::new(([10, 200, high, low], port), (LEFT.v4, 81)).macs(RIGHT.mac, LEFT.mac);
        self.port.send(&syn.flags(SYN).seq(9).build());
        port
    }
}
