//! Bank G: payments that are reset because a five-tuple came back too soon, and the three changes that ended it.
//!
//! ```text
//!                                     ┌─ proxy 0 ─┐
//! merchants ──front── balancer ──leg1─┤           ├─leg2── back end
//!                                     └─ proxy 1 ─┘
//! ```
//!
//! Each merchant makes one payment after the other from a small range of ports, and recycles each port at once: FIN,
//! then RST. The proxies open leg 2 with the address and port that they see in leg 1, and hold its five-tuple in
//! TIME-WAIT. A payment whose five-tuple is held by its proxy is reset.
//!
//! Real: every connection, segment, FIN and RST, between real kernels; how the balancer rewrites and chooses; how
//! soon a five-tuple comes back. Emulated: the proxies' TIME-WAIT, a table of their own instead of the kernel's.
//! Chosen: how fast merchants pay, and from how many ports. A day of the case is a stage of some seconds here, and
//! the same merchants pay at the same times in each.

mod balancer;
mod merchants;
mod proxy;
mod rewrite;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::rack::{Rack, silent};
use super::{Point, interfaces};
use crate::eventually::eventually;
use crate::netns::NetNs;
use crate::tcp::{DEADLINE, Serve, Server};
use crate::truth::Nft;
use balancer::{Balancer, Choice};
use proxy::Proxy;

pub use merchants::Payment;
pub use proxy::Opening;

/// Where merchants pay: the balancer's address in front.
pub const VIP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 79, 1, 1), 8583);
/// The balancer's own address behind, from which it connects when it does not keep the client's.
pub const BALANCER: Ipv4Addr = Ipv4Addr::new(10, 79, 2, 1);
/// Where the proxies accept leg 1.
pub const PROXIES: [SocketAddrV4; 2] = [
    SocketAddrV4::new(Ipv4Addr::new(10, 79, 2, 10), 8583),
    SocketAddrV4::new(Ipv4Addr::new(10, 79, 2, 11), 8583),
];
/// The back end: the server of every leg 2.
pub const BANK: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 79, 3, 2), 8583);
/// The service names of a configuration: what merchants connect to, leg 1, and leg 2.
pub const SERVICES: [&str; 3] = ["bank-g", "bank-g-leg1", "bank-g-leg2"];
/// Bytes of a payment.
pub const REQUEST_BYTES: u64 = 400;
/// Bytes of its answer.
pub const RESPONSE_BYTES: u64 = 250;

const PROXY_MACS: [[u8; 6]; 2] = [[2, 0, 0, 2, 2, 10], [2, 0, 0, 2, 2, 11]];
const MERCHANTS_MAC: [u8; 6] = [2, 0, 0, 2, 1, 10];

/// The days of the case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The balancer connects from few ports of its own, to the proxy with the fewest connections.
    OwnPorts,
    /// It keeps the client's address and port.
    ClientPorts,
    /// It also takes the proxies in turn.
    RoundRobin,
    /// TIME-WAIT on the proxies is also made short.
    ShortTimeWait,
}

impl Stage {
    /// All, in order: each keeps the changes of those before.
    pub const ALL: [Self; 4] = [Self::OwnPorts, Self::ClientPorts, Self::RoundRobin, Self::ShortTimeWait];
}

/// What may differ between one such world and the next.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides the merchants' intervals and the balancer's ports.
    pub seed: u64,
    /// How many merchants there are; each pays from an address of its own.
    pub merchants: u8,
    /// Payments of each merchant in a stage.
    pub payments: usize,
    /// From how many ports a merchant pays, in turn.
    pub ports: u16,
    /// How many source ports the balancer has of its own.
    pub own_ports: u16,
    /// From one payment of a merchant to its next, on average.
    pub interval: Duration,
    /// TIME-WAIT of the proxies, before it is made short and after.
    pub time_wait: [Duration; 2],
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            merchants: 4,
            payments: 100,
            ports: 24,
            own_ports: 96,
            interval: Duration::from_millis(60),
            time_wait: [Duration::from_secs(1), Duration::from_millis(100)],
        }
    }
}

/// What happened in a stage: the merchants' record and the proxies'.
#[derive(Clone, Debug)]
pub struct StageTruth {
    /// Which stage.
    pub stage: Stage,
    /// Every payment, merchant by merchant, in the order in which they were made.
    pub payments: Vec<Payment>,
    /// Every leg 2 that a proxy wanted to open, proxy by proxy, in order.
    pub openings: Vec<Opening>,
}

impl StageTruth {
    /// Payments with an answer.
    pub fn answered(&self) -> usize {
        self.payments.iter().filter(|payment| payment.answered).count()
    }

    /// Payments that were reset.
    pub fn resets(&self) -> usize {
        self.payments.len() - self.answered()
    }

    /// For each leg 2 that was refused, the time since its five-tuple was closed.
    pub fn refused_gaps(&self) -> Vec<Duration> {
        self.openings.iter().filter(|opening| opening.refused).filter_map(|opening| opening.gap).collect()
    }
}

/// The world of the case.
pub struct BankG {
    options: Options,
    merchants: NetNs,
    balancer: Balancer,
    proxies: [Proxy; 2],
    _bank: Server,
    rack: Rack,
    others: [NetNs; 3],
}

impl BankG {
    /// Builds it; everybody is ready when this returns.
    #[track_caller]
    pub fn new(options: Options) -> Self {
        let rack = Rack::new(&["front", "leg1", "leg2"]);
        let [merchants, between, one, two, bank] =
            ["merchants", "balancer", "proxy0", "proxy1", "bank"].map(silent);
        rack.plug("front", "merchants", &merchants, "eth0", "02:00:00:02:01:0a");
        rack.plug("front", "vip", &between, "front", "02:00:00:02:99:01");
        rack.plug("leg1", "balancer", &between, "back", "02:00:00:02:99:02");
        for (number, proxy) in [&one, &two].into_iter().enumerate() {
            let host = 10 + number;
            rack.plug(
                "leg1",
                &format!("leg1-{number}"),
                proxy,
                "leg1",
                &format!("02:00:00:02:02:{host:02x}"),
            );
            rack.plug(
                "leg2",
                &format!("leg2-{number}"),
                proxy,
                "leg2",
                &format!("02:00:00:02:03:{host:02x}"),
            );
        }
        rack.plug("leg2", "bank", &bank, "eth0", "02:00:00:02:03:02");
        between.ip("link set front arp off promisc on\nlink set back arp off promisc on\n");
        address_merchants(&merchants, options.merchants);
        address_proxy(&one, 10);
        address_proxy(&two, 11);
        address_bank(&bank);
        let balancer = Balancer::start(between, options.seed, options.own_ports, MERCHANTS_MAC);
        let _bank =
            Server::start(&bank, BANK, Serve::Answer { request: REQUEST_BYTES, response: RESPONSE_BYTES });
        let proxies =
            [(&one, 0), (&two, 1)].map(|(host, number)| Proxy::start(host, number, options.time_wait[0]));
        Self { options, merchants, balancer, proxies, _bank, rack, others: [one, two, bank] }
    }

    /// Along the way of a payment: in front of the balancer, between balancer and proxies, behind the proxies.
    pub fn points(&self) -> [Point<'_>; 3] {
        [("front", "vip"), ("leg1", "balancer"), ("leg2", "bank")]
            .map(|(name, interface)| self.rack.point(name, interface))
    }

    /// The configuration of an agent that watches all three points and knows the services by their names.
    pub fn configuration(&self) -> String {
        let prefixes = [vec![VIP], PROXIES.to_vec(), vec![BANK]].map(|servers| {
            servers.iter().map(|server| server.ip().to_string()).collect::<Vec<_>>().join(", ")
        });
        let services = SERVICES.iter().zip(prefixes).map(|(name, prefixes)| {
            format!("  - name: {name}\n    prefixes: [{prefixes}]\n    ports: [{}]\n", VIP.port())
        });
        interfaces(&self.points()) + "services:\n" + &services.collect::<String>()
    }

    /// All namespaces of the world.
    pub fn namespaces(&self) -> Vec<&NetNs> {
        let others = [&self.merchants, self.balancer.namespace(), self.rack.namespace()];
        self.others.iter().chain(others).collect()
    }

    /// Plays a stage from its first payment to its last. It begins when nothing that was closed before is in
    /// TIME-WAIT any more: what a stage is blamed for is its own.
    #[track_caller]
    pub fn run_stage(&self, stage: Stage) -> StageTruth {
        self.rest();
        let choice = if stage < Stage::RoundRobin { Choice::LeastConnections } else { Choice::RoundRobin };
        self.balancer.configure(stage == Stage::OwnPorts, choice);
        for proxy in &self.proxies {
            proxy.set_time_wait(self.options.time_wait[usize::from(stage == Stage::ShortTimeWait)]);
        }
        let payments = merchants::pay_all(&self.merchants, &self.balancer, &self.options);
        self.rest();
        let openings = self.proxies.iter().flat_map(Proxy::take_openings).collect();
        StageTruth { stage, payments, openings }
    }

    #[track_caller]
    fn rest(&self) {
        eventually(self.options.time_wait[0] + DEADLINE, "the proxies to hold nothing in TIME-WAIT", || {
            self.proxies.iter().all(Proxy::is_at_rest)
        });
    }
}

/// The address of a merchant, from 0.
fn merchant_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 79, 1, 10 + number)
}

#[track_caller]
fn address_merchants(host: &NetNs, count: u8) {
    let addresses = (0..count).map(|number| format!("addr add {}/24 dev eth0\n", merchant_address(number)));
    host.ip(&(addresses.collect::<String>()
        + "neigh replace 10.79.1.1 lladdr 02:00:00:02:01:01 nud permanent dev eth0\n"));
}

/// A proxy's kernel takes for its own whatever comes back from the back end: leg 2 is its own under another's address.
#[track_caller]
fn address_proxy(proxy: &NetNs, host: u8) {
    proxy.sysctl("net/ipv4/tcp_max_tw_buckets", 0);
    proxy.ip(&format!(
        "addr add 10.79.2.{host}/24 dev leg1\naddr add 10.79.3.{host}/24 dev leg2\n\
         neigh replace 10.79.2.1 lladdr 02:00:00:02:02:01 nud permanent dev leg1\n\
         neigh replace 10.79.3.2 lladdr 02:00:00:02:03:02 nud permanent dev leg2\n\
         route add 10.79.1.0/24 via 10.79.2.1 dev leg1\n\
         route add local 0.0.0.0/0 dev lo table 100\n\
         rule add iif leg2 lookup 100\n"
    ));
}

/// The back end sees the same clients through both proxies, and answers each connection through the proxy it came from.
#[track_caller]
fn address_bank(bank: &NetNs) {
    bank.sysctl("net/ipv4/tcp_fwmark_accept", 1);
    bank.sysctl("net/ipv4/fwmark_reflect", 1);
    let mut marks = String::from("chain arriving {\n type filter hook prerouting priority 0;\n");
    let mut lines = String::from("addr add 10.79.3.2/24 dev eth0\n");
    for host in [10, 11] {
        let mac = format!("02:00:00:02:03:{host:02x}");
        marks += &format!(" ether saddr {mac} meta mark set {host}\n");
        lines += &format!(
            "neigh replace 10.79.3.{host} lladdr {mac} nud permanent dev eth0\n\
             route add default via 10.79.3.{host} dev eth0 table {host}\n\
             rule add fwmark {host} lookup {host}\n"
        );
    }
    bank.ip(&lines);
    Nft::load(bank, "legs", &(marks + "}"));
}
