//! Both legs of a proxy, and the client behind an address translation: what of the second leg was in the way is told at the
//! point where the client has its own address, however many others have ended since.

use std::net::SocketAddr;

use harness::agent::{Agent, Launch};
use harness::impair::flags::{ACK, FIN, PSH, RST, SYN};
use harness::raw::{Frame, RawPort};
use harness::topology::{CLIENT, INSIDE, OUTSIDE, SERVER, Version};
use harness::truth::Nft;
use harness::{Gateway, eventually};

use crate::hand::{By, Hand, quiet};
use crate::watch::{DEADLINE, configuration};

/// Port of the client, and of its translated address.
const PORT: u16 = 40_000;
/// Who is behind the proxy.
const BANK: ([u8; 4], u16) = ([10, 77, 9, 9], 9_000);
/// More ends than the agent looks at to learn the ways through proxies.
const OTHERS: u16 = 6_000;

/// The gateway gives out the proxy's address as its own, and its own as the client's.
const TRANSLATION: &str = "chain arriving {
 type nat hook prerouting priority -100;
 iifname outside tcp dport 443 dnat ip to 10.77.2.2
}
chain leaving {
 type nat hook postrouting priority 100;
 oifname inside snat ip to 10.77.2.1
}";

/// The wire of second legs: all that passes it comes in at one interface, as from a mirror.
struct Behind<'a> {
    agent: &'a Agent<'a>,
    port: RawPort,
    sent: u32,
}

impl Behind<'_> {
    fn send(&mut self, from: SocketAddr, to: SocketAddr, flags: u8, (seq, ack): (u32, u32), payload: usize) {
        let frame = Frame::new(from, to).flags(flags).seq(seq).ack(ack).payload(vec![b'x'; payload]);
        self.port.send(&frame.build());
        self.sent += 1;
    }

    /// Waits until the agent has seen all of it.
    #[track_caller]
    fn seen(&self) {
        eventually(DEADLINE, "all to be seen behind the proxy", || {
            let labels = [("point", "behind")];
            let there = self.agent.metrics().sum("fivetuple_tcp_segments_total", &labels);
            if there == f64::from(self.sent) { Ok(()) } else { Err(format!("{there} of {}", self.sent)) }
        });
    }

    /// The proxy's leg of a payment, which it closes.
    #[track_caller]
    fn payment(&mut self) {
        let (proxy, bank) = ((INSIDE.v4, PORT).into(), BANK.into());
        for (is_proxy, flags, numbers, payload) in [
            (true, SYN, (9_000, 0), 0),
            (false, SYN | ACK, (70_000, 9_001), 0),
            (true, PSH | ACK, (9_001, 70_001), 100),
            (false, PSH | ACK, (70_001, 9_101), 200),
            (true, FIN | ACK, (9_101, 70_201), 0),
            (false, FIN | ACK, (70_201, 9_102), 0),
            (true, ACK, (9_102, 70_202), 0),
        ] {
            let (from, to) = if is_proxy { (proxy, bank) } else { (bank, proxy) };
            self.send(from, to, flags, numbers, payload);
        }
        self.seen();
    }

    /// Many that are refused.
    #[track_caller]
    fn others(&mut self) {
        for n in 0..OTHERS {
            let client = ([10, 77, 8, 8], 1_024 + n).into();
            self.send(client, BANK.into(), SYN, (1_000, 0), 0);
            self.send(BANK.into(), client, RST | ACK, (0, 1_001), 0);
        }
        self.seen();
    }
}

#[test]
fn a_leg_in_time_wait_is_shown_where_the_client_has_its_own_address() {
    let world = Gateway::new();
    quiet(&world);
    let _nat = Nft::load(&world.gateway, "nat", TRANSLATION);
    world.gateway.ip(&format!("link add behind type veth peer name leg2 netns {}", world.server.name()));
    world.gateway.ip("link set behind up");
    world.server.ip("link set leg2 up");
    // The proxy is known under another address outside, and so is another service there: each has an alert of its own.
    let services = [("given-out", OUTSIDE.v4), ("proxy", SERVER.v4)]
        .map(|(name, at)| format!("  - name: {name}\n    prefixes: [{at}]\n    ports: [443]\n"));
    let text = configuration(&format!("  - name: behind\nservices:\n{}", services.concat()));
    let agent = Launch::configuration(text).start(&world.gateway);
    let mut behind = Behind { agent: &agent, port: RawPort::open(&world.server, "leg2"), sent: 0 };
    let mut hand = Hand::new(&world, Version::V4, PORT, 443).translated();

    hand.handshake();
    hand.say(By::Client, PSH | ACK, 100);
    behind.payment();
    hand.say(By::Server, PSH | ACK, 200);
    hand.close(By::Client);
    behind.others();
    // The client is fast, and the proxy cannot open its second leg.
    hand.renumber((500_000, 77_000_000));
    hand.handshake();
    hand.say(By::Client, PSH | ACK, 100);
    hand.reset(By::Server);

    for (svc, point, client) in [("given-out", "outside", CLIENT.v4), ("proxy", "inside", INSIDE.v4)] {
        let alert = eventually(DEADLINE, &format!("an alert of {svc}"), || {
            let all = agent.get_json("/api/v1/alerts");
            let rows = all["alerts"].as_array().expect("a list").clone();
            let is_it = |row: &&serde_json::Value| {
                row["rule"] == "FivetupleLegTimeWait"
                    && row["labels"]["svc"] == svc
                    && !row["alert"].is_null()
            };
            rows.iter().find(is_it).cloned().ok_or_else(|| format!("{all:#}"))
        });
        let evidence = &alert["alert"]["evidence"][0];
        assert_eq!(evidence["second_leg"]["state"], "time_wait", "{alert:#}");
        let connection = &evidence["connection"];
        assert_eq!(
            (&connection["point"], &connection["client"]),
            (&point.into(), &client.to_string().into())
        );
    }
    agent.stop();
}
