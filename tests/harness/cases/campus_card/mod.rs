//! Campus card: top-ups that never arrive, and no device that says so.
//!
//! ```text
//! provider ──outside── firewall ──inside── router ──front── WAF ──behind── card server
//! ```
//!
//! The provider POSTs top-ups, one on each connection. The firewall reorders some requests of several segments, the WAF
//! swallows those, and the card server never sees them. Everything is real TCP between real kernels; emulated is why
//! the two devices do it: the firewall throws a seeded coin, the WAF reads TCP_INFO.

mod firewall;
mod waf;

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use fastrand::Rng;

use super::rack::{Rack, silent};
use super::{Point, http, interfaces};
use crate::impair::{Impair, Log};
use crate::netns::NetNs;
use crate::tcp::{Dial, Service};
use waf::Waf;

/// Where the top-ups go.
pub const CARD_SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 78, 3, 2), 80);
/// The one address of the provider.
pub const PROVIDER: Ipv4Addr = Ipv4Addr::new(10, 78, 1, 2);
/// What a configuration may call the service at [`CARD_SERVER`].
pub const SERVICE: &str = "campus-card";
/// The shortest and the longest request, head included.
pub const REQUEST_BYTES: [usize; 2] = [600, 10_180];

/// The client's port of the first payment.
const FIRST_PORT: u16 = 20_000;
/// The longest request that is one segment.
const ONE_SEGMENT: usize = 1_448;

/// What may differ between one such world and the next.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides sizes and which connections are reordered.
    pub seed: u64,
    /// The share of connections that the firewall reorders where there is something to reorder, 0 to 1.
    pub reordering: f64,
    /// The round trip to the provider.
    pub round_trip: Duration,
    /// How many payments the provider has under way at a time.
    pub parallel: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { seed: 1, reordering: 0.4, round_trip: Duration::from_millis(20), parallel: 8 }
    }
}

/// One top-up and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The provider's port: with the addresses, the five-tuple. No two payments of a world have the same.
    pub port: u16,
    /// The whole request, head and body.
    pub request_bytes: usize,
    /// The firewall's record: segments of it left in another order than they were sent in.
    pub reordered: bool,
    /// The WAF's record: it took the request, and kept it.
    pub swallowed: bool,
    /// The card server's record: the whole request reached it.
    pub arrived: bool,
    /// The provider's record: the answer came, with status 200. Otherwise the connection ended without a byte of it.
    pub answered: bool,
}

/// The world of the case.
pub struct CampusCard {
    options: Options,
    payments: AtomicUsize,
    provider: NetNs,
    firewall: Impair,
    waf: Waf,
    card_server: CardServer,
    rack: Rack,
    others: [NetNs; 3],
}

impl CampusCard {
    /// Builds it; everybody is ready when this returns.
    #[track_caller]
    pub fn new(options: Options) -> Self {
        let rack = Rack::new(&["outside", "inside", "front", "behind"]);
        let [provider, router, proxy, server] = ["provider", "router", "waf", "card"].map(silent);
        let inspected = silent("firewall");
        rack.plug("outside", "provider", &provider, "eth0", "02:00:00:01:01:02");
        rack.plug("outside", "uplink", &inspected, "client", "02:00:00:01:99:01");
        rack.plug("inside", "firewall", &inspected, "server", "02:00:00:01:99:02");
        rack.plug("inside", "core", &router, "in", "02:00:00:01:01:01");
        rack.plug("front", "router", &router, "out", "02:00:00:01:02:01");
        rack.plug("front", "dmz", &proxy, "front", "02:00:00:01:02:02");
        rack.plug("behind", "waf", &proxy, "behind", "02:00:00:01:03:01");
        rack.plug("behind", "cards", &server, "eth0", "02:00:00:01:03:02");
        address_everybody(&provider, &router, &proxy, &server);
        inspected.ip("link set client arp off promisc on\nlink set server arp off promisc on\n");
        let rule = firewall::rule(options.seed, options.reordering, options.round_trip);
        let firewall = Impair::start(inspected, "client", "server", rule);
        let card_server = CardServer::start(&server);
        let waf = Waf::start(&proxy, CARD_SERVER);
        let others = [router, proxy, server];
        Self { options, payments: AtomicUsize::new(0), provider, firewall, waf, card_server, rack, others }
    }

    /// Along the way of a request: outside the firewall, inside it, in front of the WAF, behind it.
    pub fn points(&self) -> [Point<'_>; 4] {
        [("outside", "uplink"), ("inside", "core"), ("front", "dmz"), ("behind", "cards")]
            .map(|(name, interface)| self.rack.point(name, interface))
    }

    /// The configuration of an agent that watches all four points and knows the service by its name.
    pub fn configuration(&self) -> String {
        let (address, port) = (CARD_SERVER.ip(), CARD_SERVER.port());
        interfaces(&self.points())
            + &format!("services:\n  - name: {SERVICE}\n    prefixes: [{address}]\n    ports: [{port}]\n")
    }

    /// Makes so many payments more, and says what became of each, in the order of their ports.
    #[track_caller]
    pub fn run(&self, payments: usize) -> Vec<Payment> {
        let first = self.payments.fetch_add(payments, Ordering::Relaxed);
        let numbers = first..first + payments;
        let next = AtomicUsize::new(numbers.start);
        let answers = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..self.options.parallel {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= numbers.end {
                            break;
                        }
                        let paid = self.pay(number);
                        answers.lock().unwrap_or_else(PoisonError::into_inner).push(paid);
                    }
                });
            }
        });
        let mut answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
        answers.sort_unstable();
        let swallowed: HashSet<u16> = self.waf.swallowed().into_iter().collect();
        let received = self.card_server.received();
        let log = self.firewall.log();
        let payment = |(port, request_bytes, answered)| Payment {
            port,
            request_bytes,
            reordered: firewall::reordered(&log, port),
            swallowed: swallowed.contains(&port),
            arrived: received.contains(&(path(port), request_bytes)),
            answered,
        };
        answers.into_iter().map(payment).collect()
    }

    /// All namespaces of the world.
    pub fn namespaces(&self) -> Vec<&NetNs> {
        let others = [&self.provider, self.firewall.namespace(), self.rack.namespace()];
        self.others.iter().chain(others).collect()
    }

    /// What the firewall did, segment by segment.
    pub fn firewall(&self) -> Log {
        self.firewall.log()
    }

    /// One payment: the provider's port, the size of the request, and whether it was answered.
    fn pay(&self, number: usize) -> (u16, usize, bool) {
        let port = FIRST_PORT + u16::try_from(number).expect("a world has no more payments than ports");
        let total = request_bytes(self.options.seed, number);
        let conn =
            Dial::default().from(SocketAddrV4::new(PROVIDER, port)).connect(&self.provider, CARD_SERVER);
        conn.send_bytes(&http::post("card.example", &path(port), total))
            .unwrap_or_else(|error| panic!("the payment from port {port} cannot be sent: {error}"));
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match conn.receive_bytes(&mut buffer) {
                Ok(0) => break,
                Ok(got) => answer.extend_from_slice(&buffer[..got]),
                Err(error) => panic!("the payment from port {port} did not end in order: {error}"),
            }
        }
        let answered = answer.starts_with(b"HTTP/1.1 200 ");
        assert!(answered || answer.is_empty(), "port {port} got half an answer");
        (port, total, answered)
    }
}

fn path(port: u16) -> String {
    format!("/top-up/{port}")
}

/// Half of the requests are one segment, a quarter anything longer, and a quarter the longest there is.
fn request_bytes(seed: u64, number: usize) -> usize {
    let mut random = Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
    let [least, most] = REQUEST_BYTES;
    match random.u8(0..4) {
        0 | 1 => random.usize(least..=ONE_SEGMENT),
        2 => random.usize(ONE_SEGMENT + 1..=most),
        _ => most,
    }
}

/// Addresses, routes and neighbours. The WAF's kernel takes for its own whatever arrives there: it stands in for the
/// card server in front, and for the provider behind.
#[track_caller]
fn address_everybody(provider: &NetNs, router: &NetNs, waf: &NetNs, server: &NetNs) {
    // What the firewall made late was not lost: the provider waits for it, and sends it again only when it must.
    provider.sysctl("net/ipv4/tcp_early_retrans", 0);
    provider.sysctl("net/ipv4/tcp_reordering", 16);
    router.sysctl("net/ipv4/ip_forward", 1);
    provider.ip("addr add 10.78.1.2/24 dev eth0\n\
                 neigh replace 10.78.1.1 lladdr 02:00:00:01:01:01 nud permanent dev eth0\n\
                 route add 10.78.3.0/24 via 10.78.1.1 dev eth0 rto_min 3s\n");
    router.ip("addr add 10.78.1.1/24 dev in\naddr add 10.78.2.1/24 dev out\n\
               neigh replace 10.78.1.2 lladdr 02:00:00:01:01:02 nud permanent dev in\n\
               neigh replace 10.78.2.2 lladdr 02:00:00:01:02:02 nud permanent dev out\n\
               route add 10.78.3.0/24 via 10.78.2.2 dev out\n");
    waf.ip("addr add 10.78.2.2/24 dev front\naddr add 10.78.3.1/24 dev behind\n\
            neigh replace 10.78.2.1 lladdr 02:00:00:01:02:01 nud permanent dev front\n\
            neigh replace 10.78.3.2 lladdr 02:00:00:01:03:02 nud permanent dev behind\n\
            route add 10.78.1.0/24 via 10.78.2.1 dev front\n\
            route add local 0.0.0.0/0 dev lo table 100\n\
            rule add iif front lookup 100\nrule add iif behind lookup 100\n");
    server.ip("addr add 10.78.3.2/24 dev eth0\n\
               neigh replace 10.78.3.1 lladdr 02:00:00:01:03:01 nud permanent dev eth0\n\
               route add 10.78.1.0/24 via 10.78.3.1 dev eth0\n");
}

/// The server of the case, and what it received: path and size of every request.
struct CardServer {
    received: Arc<Mutex<HashSet<(String, usize)>>>,
    _service: Service,
}

impl CardServer {
    #[track_caller]
    fn start(namespace: &NetNs) -> Self {
        let received = Arc::<Mutex<HashSet<(String, usize)>>>::default();
        let note = received.clone();
        let service = Service::start(
            namespace,
            CARD_SERVER,
            |_| Ok(()),
            move |conn| {
                let Ok(Some(request)) = http::read(&conn) else { return };
                let total = request.bytes.len();
                note.lock().unwrap_or_else(PoisonError::into_inner).insert((request.path, total));
                // Whoever does not want the answer any more does not get it.
                let _ = conn.send_bytes(&http::ok(&format!("{{\"received\":{total}}}\n")));
            },
        );
        Self { received, _service: service }
    }

    fn received(&self) -> HashSet<(String, usize)> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
