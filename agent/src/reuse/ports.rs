//! Who takes source ports again, and how fast.

use super::collisions::{Again, Fate};
use crate::connection::Connection;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

/// So few addresses that make most of the reuses are some hosts, and not the clients of a service.
const FEW: usize = 8;
/// Most of them: so many of 10.
const MOST: usize = 9;

/// The clients of a prefix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Clients {
    /// The prefix: 24 bits of IPv4, 64 of IPv6.
    pub prefix: IpNet,
    /// Different addresses.
    pub addresses: u64,
    /// Their connections.
    pub connections: u64,
    /// Different source ports, each address's counted by itself.
    pub ports: u64,
    /// Connections on a five-tuple taken again.
    pub reuses: u64,
    /// Of those, collisions.
    pub collisions: u64,
    /// The smallest gap, in seconds.
    pub smallest_gap_seconds: Option<f64>,
    /// The median gap, in seconds.
    pub median_gap_seconds: Option<f64>,
}

/// Whether reuse is a matter of many clients or of a few hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// So few hosts make at least nine of ten: a balancer's pool of ports, or single clients.
    pub few: bool,
    /// The addresses that are needed for nine of ten, the busiest first.
    pub addresses: u64,
    /// All addresses with a reuse.
    pub of_addresses: u64,
    /// Connections of those that are needed.
    pub connections: u64,
    /// Their different source ports.
    pub ports: u64,
    /// Collisions were counted for it; otherwise reuses, as there were none.
    pub by_collisions: bool,
}

/// The clients by prefix: who collides most comes first, then who reuses most.
pub fn clients(connections: &[&Connection]) -> Vec<Clients> {
    let mut by_prefix: HashMap<IpNet, Vec<&Connection>> = HashMap::new();
    for connection in connections {
        by_prefix.entry(prefix(connection.client.address)).or_default().push(connection);
    }
    let mut out: Vec<Clients> = by_prefix.into_iter().map(|(net, of)| of_prefix(net, &of)).collect();
    out.sort_by(|a, b| {
        let rank = |c: &Clients| (c.collisions, c.reuses, c.connections);
        rank(b).cmp(&rank(a)).then(a.prefix.cmp(&b.prefix))
    });
    out
}

fn prefix(address: IpAddr) -> IpNet {
    let bits = if address.is_ipv4() { 24 } else { 64 };
    // Both lengths are ones that an address of its kind can have.
    IpNet::new(address, bits).map_or_else(|_| address.into(), |net| net.trunc())
}

fn of_prefix(prefix: IpNet, connections: &[&Connection]) -> Clients {
    let reuses: Vec<_> = connections.iter().filter_map(|c| Again::of(c)).collect();
    let mut gaps: Vec<f64> = reuses.iter().filter_map(|again| again.gap).collect();
    gaps.sort_by(f64::total_cmp);
    let different = |key: fn(&Connection) -> (IpAddr, u16)| {
        connections.iter().map(|c| key(c)).collect::<HashSet<_>>().len() as u64
    };
    Clients {
        prefix,
        addresses: different(|c| (c.client.address, 0)),
        connections: connections.len() as u64,
        ports: different(|c| (c.client.address, c.client.port)),
        reuses: reuses.len() as u64,
        collisions: reuses.iter().filter(|again| again.fate == Fate::Collided).count() as u64,
        smallest_gap_seconds: gaps.first().copied(),
        median_gap_seconds: gaps.get(gaps.len() / 2).copied(),
    }
}

/// Who it is; none without a reuse.
pub fn who(connections: &[&Connection]) -> Option<Who> {
    let reuses: Vec<_> = connections.iter().filter_map(|c| Again::of(c)).collect();
    let by_collisions = reuses.iter().any(|again| again.fate == Fate::Collided);
    let mut counts: HashMap<IpAddr, usize> = HashMap::new();
    for again in reuses.iter().filter(|again| !by_collisions || again.fate == Fate::Collided) {
        *counts.entry(again.connection.client.address).or_default() += 1;
    }
    let all: usize = counts.values().sum();
    let mut busiest: Vec<_> = counts.into_iter().collect();
    busiest.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut sum = 0;
    let needed = 1 + busiest.iter().position(|(_, n)| {
        sum += n;
        sum * 10 >= all * MOST
    })?;
    let needed: HashSet<IpAddr> = busiest.iter().take(needed).map(|(address, _)| *address).collect();
    let theirs = connections.iter().filter(|c| needed.contains(&c.client.address));
    let (mut connections, mut ports) = (0, HashSet::new());
    for connection in theirs {
        connections += 1;
        ports.insert(connection.client);
    }
    Some(Who {
        few: needed.len() <= FEW,
        addresses: needed.len() as u64,
        of_addresses: busiest.len() as u64,
        connections,
        ports: ports.len() as u64,
        by_collisions,
    })
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    #[test]
    fn clients_are_told_by_prefix_and_the_worst_first() {
        let mut connections = Vec::new();
        for (i, gap) in [0.4, 0.1, 0.7].into_iter().enumerate() {
            let mut c = reused(gap, i == 0);
            c.client.port = 40_000 + i as u16 / 2;
            connections.push(c);
        }
        let mut other = fresh(1);
        other.client.address = "2001:db8:1:2:3::4".parse().unwrap();
        connections.push(other);
        let found = clients(&connections.iter().collect::<Vec<_>>());
        let first = Clients {
            prefix: "192.0.2.0/24".parse().unwrap(),
            addresses: 1,
            connections: 3,
            ports: 2,
            reuses: 3,
            collisions: 1,
            smallest_gap_seconds: Some(0.1),
            median_gap_seconds: Some(0.4),
        };
        assert_eq!(found[0], first);
        assert_eq!((found[1].prefix.to_string(), found[1].reuses), ("2001:db8:1:2::/64".to_owned(), 0));
    }

    #[test]
    fn a_pool_of_a_balancer_is_told_from_many_clients() {
        let of = |addresses: u8| {
            let connections: Vec<_> = (0..200_u8)
                .map(|i| {
                    let mut c = reused(0.1, true);
                    c.client.address = [192, 0, 2, i % addresses].into();
                    c.client.port = 40_000 + u16::from(i % 20);
                    c
                })
                .collect();
            who(&connections.iter().collect::<Vec<_>>()).unwrap()
        };
        let pool = of(2);
        assert_eq!((pool.few, pool.addresses, pool.connections, pool.ports), (true, 2, 200, 20));
        let many = of(100);
        assert_eq!((many.few, many.addresses, many.of_addresses), (false, 90, 100));
        assert_eq!(who(&[&fresh(1)]), None);
    }
}
