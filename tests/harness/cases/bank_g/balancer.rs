//! The load balancer: rewrites the addresses of every segment on its way, and chooses a proxy for each connection.
//!
//! It carries packets and owns no connection: sequence numbers, options and timestamps pass as they are. How it chooses
//! ports and proxies can be changed while it runs, as an operator would.

use std::collections::{HashMap, VecDeque};
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastrand::Rng;

use super::rewrite::{End, rewrite};
use super::{BALANCER, PROXIES, VIP};
use crate::impair::{Action, Direction, Impair, Packet, TcpFacts, flags};
use crate::netns::NetNs;

/// Its hardware addresses, in front and behind.
pub(super) const MACS: [[u8; 6]; 2] = [[2, 0, 0, 2, 1, 1], [2, 0, 0, 2, 2, 1]];
/// The first of its own source ports.
const FIRST_PORT: u16 = 20_000;
/// So many ports that were given back last are not taken again yet.
const RESTING: usize = 8;

/// How it chooses the proxy of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// The proxy with the fewest open connections; the first one of equals.
    LeastConnections,
    /// Each in its turn.
    RoundRobin,
}

/// A running balancer between the merchants' wire and the proxies'.
pub(super) struct Balancer {
    table: Arc<Mutex<Table>>,
    wire: Impair,
}

impl Balancer {
    /// Starts it between `front` and `back` of the namespace. Connections come from `own_ports` ports of its own
    /// address until told otherwise, to the proxy with the fewest connections.
    #[track_caller]
    pub fn start(namespace: NetNs, seed: u64, own_ports: u16, merchant: [u8; 6]) -> Self {
        let table = Arc::new(Mutex::new(Table {
            merchant,
            own_ports: true,
            choice: Choice::LeastConnections,
            random: Rng::with_seed(seed),
            free: (FIRST_PORT..).take(own_ports.into()).collect(),
            by_client: HashMap::new(),
            by_seen: HashMap::new(),
            open: [0; 2],
            turn: 0,
        }));
        let shared = table.clone();
        let rule = move |packet: &Packet| {
            let sent =
                packet.tcp.and_then(|tcp| lock(&shared).translate(packet.direction, tcp, packet.frame));
            vec![sent.map_or(Action::Drop, Action::Inject)]
        };
        Self { table, wire: Impair::start(namespace, "front", "back", rule) }
    }

    /// Changes how it treats connections from now on.
    pub fn configure(&self, own_ports: bool, choice: Choice) {
        let mut table = lock(&self.table);
        (table.own_ports, table.choice) = (own_ports, choice);
    }

    /// What the proxies took the client's last connection for, and which proxy it went to.
    pub fn translation(&self, client: SocketAddrV4) -> Option<(SocketAddrV4, usize)> {
        lock(&self.table).by_client.get(&client).map(|mapping| (mapping.seen, mapping.proxy))
    }

    /// Its namespace.
    pub fn namespace(&self) -> &NetNs {
        self.wire.namespace()
    }
}

/// One connection.
struct Mapping {
    isn: u32,
    /// The client as the proxy sees it.
    seen: SocketAddrV4,
    proxy: usize,
    /// Who has sent FIN: the client, the proxy.
    finished: [bool; 2],
    open: bool,
}

struct Table {
    merchant: [u8; 6],
    own_ports: bool,
    choice: Choice,
    random: Rng,
    /// Own ports without a connection, in the order in which they were given back.
    free: VecDeque<u16>,
    /// A connection stays here until its client, or what it is seen as, has another: its last segments still pass.
    by_client: HashMap<SocketAddrV4, Mapping>,
    by_seen: HashMap<SocketAddrV4, SocketAddrV4>,
    open: [usize; 2],
    turn: usize,
}

impl Table {
    /// What to send instead of a segment; none when it belongs to no connection.
    fn translate(&mut self, direction: Direction, tcp: &TcpFacts, frame: &[u8]) -> Option<Vec<u8>> {
        let (SocketAddr::V4(source), SocketAddr::V4(destination)) = (tcp.source, tcp.destination) else {
            return None;
        };
        let (client, proxy) = match direction {
            Direction::ToServer if destination == VIP => {
                if tcp.has(flags::SYN) {
                    self.begin(source, tcp.seq);
                }
                (source, self.by_client.get(&source)?.proxy)
            }
            Direction::ToServer => return None,
            Direction::ToClient => {
                let proxy = PROXIES.iter().position(|proxy| *proxy == source)?;
                (*self.by_seen.get(&destination)?, proxy)
            }
        };
        let mapping = self.by_client.get_mut(&client).filter(|mapping| mapping.proxy == proxy)?;
        let inner = [
            End { address: mapping.seen, mac: MACS[1] },
            End { address: PROXIES[proxy], mac: super::PROXY_MACS[proxy] },
        ];
        let outer = [End { address: client, mac: self.merchant }, End { address: VIP, mac: MACS[0] }];
        mapping.finished[direction as usize] |= tcp.has(flags::FIN);
        if tcp.has(flags::RST) || mapping.finished == [true; 2] {
            self.end(client);
        }
        Some(match direction {
            Direction::ToServer => rewrite(frame, inner[0], inner[1]),
            Direction::ToClient => rewrite(frame, outer[1], outer[0]),
        })
    }

    /// A SYN of the client: a new connection, unless it is the same SYN once more.
    fn begin(&mut self, client: SocketAddrV4, isn: u32) {
        if self.by_client.get(&client).is_some_and(|mapping| mapping.open && mapping.isn == isn) {
            return;
        }
        self.end(client);
        let seen = if self.own_ports { self.own_port() } else { client };
        let proxy = match self.choice {
            Choice::LeastConnections => usize::from(self.open[1] < self.open[0]),
            Choice::RoundRobin => {
                self.turn += 1;
                self.turn % 2
            }
        };
        self.open[proxy] += 1;
        if let Some(before) = self.by_seen.insert(seen, client)
            && self.by_client.get(&before).is_some_and(|mapping| mapping.seen == seen)
        {
            self.by_client.remove(&before);
        }
        self.by_client.insert(client, Mapping { isn, seen, proxy, finished: [false; 2], open: true });
    }

    fn own_port(&mut self) -> SocketAddrV4 {
        let rested = self.free.len().saturating_sub(RESTING).max(1);
        let port =
            self.free.remove(self.random.usize(..rested)).expect("there are more ports than connections");
        SocketAddrV4::new(BALANCER, port)
    }

    /// Its connection is over: it counts no more, and its port may be taken again.
    fn end(&mut self, client: SocketAddrV4) {
        let Some(mapping) = self.by_client.get_mut(&client).filter(|mapping| mapping.open) else { return };
        mapping.open = false;
        self.open[mapping.proxy] -= 1;
        if *mapping.seen.ip() == BALANCER {
            self.free.push_back(mapping.seen.port());
        }
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}
