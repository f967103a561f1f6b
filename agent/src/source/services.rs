//! Which entries of the kernel's longest-prefix table make the services.

use crate::config::Service;
use agent_ebpf::layout::{SERVICE_PORT_BITS, SERVICE_TEXT, ServiceKey};
use ipnet::{IpNet, Ipv6Net};
use std::net::Ipv6Addr;

/// Bits of a mapped IPv4 address before the address itself (RFC 4291, 2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// One entry: what it matches, how many bits of that count, and the service's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Port and address.
    pub key: ServiceKey,
    /// Bits of the key that must match.
    pub prefix_len: u32,
    /// Number of the service, with [`SERVICE_TEXT`] where its HTTP is to be looked at.
    pub svc: u16,
}

/// All entries of services with their numbers.
pub fn entries<'a>(services: impl IntoIterator<Item = (u16, &'a Service)>) -> Vec<Entry> {
    let mut out = Vec::new();
    for (svc, service) in services {
        let svc = if service.http { svc | SERVICE_TEXT } else { svc };
        // Port 0 stands for any.
        let ports: Vec<u16> = if service.ports.is_empty() {
            vec![0]
        } else {
            service.ports.iter().cloned().flatten().collect()
        };
        for net in service.prefixes.iter().flat_map(|net| six(*net)) {
            for port in &ports {
                let key =
                    ServiceKey { port: port.to_be_bytes(), reserved: [0; 2], addr: net.network().octets() };
                out.push(Entry { key, prefix_len: SERVICE_PORT_BITS + u32::from(net.prefix_len()), svc });
            }
        }
    }
    out
}

/// A network as IPv6 networks that hold the same addresses, IPv4 being mapped.
fn six(net: IpNet) -> Vec<Ipv6Net> {
    let net = match net {
        IpNet::V4(four) => {
            let mapped = four.network().to_ipv6_mapped();
            return Ipv6Net::new(mapped, MAPPED_BITS + four.prefix_len()).into_iter().collect();
        }
        IpNet::V6(six) => six,
    };
    let mapped = u128::from(Ipv6Addr::from_bits(0xffff << 32));
    if net.prefix_len() >= MAPPED_BITS || !net.contains(&Ipv6Addr::from_bits(mapped)) {
        return vec![net];
    }
    // A wide IPv6 network would match every mapped address as well: all of it but those.
    (net.prefix_len()..MAPPED_BITS)
        .filter_map(|bit| {
            let beside = mapped ^ (1 << (127 - bit));
            Some(Ipv6Net::new(Ipv6Addr::from_bits(beside), bit + 1).ok()?.trunc())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(prefixes: &[&str], ports: Vec<std::ops::RangeInclusive<u16>>) -> Service {
        let prefixes = prefixes.iter().map(|p| p.parse().unwrap()).collect();
        Service { name: "a".to_owned(), prefixes, ports, allowed_clients: Vec::new(), http: false }
    }

    #[test]
    fn ports_are_listed_one_by_one_and_every_port_is_0() {
        let listed = service(&["192.0.2.0/24"], vec![443..=443, 8000..=8001]);
        let out = entries([(3, &listed)]);
        let ports: Vec<u16> = out.iter().map(|e| u16::from_be_bytes(e.key.port)).collect();
        assert_eq!(ports, [443, 8000, 8001]);
        assert!(out.iter().all(|e| e.prefix_len == 32 + 96 + 24 && e.svc == 3));
        assert_eq!(out[0].key.addr, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 0]);
        let any = entries([(1, &service(&["2001:db8::/32"], vec![]))]);
        assert_eq!((any.len(), any[0].key.port, any[0].prefix_len), (1, [0, 0], 64));
    }

    #[test]
    fn a_wide_ipv6_network_does_not_hold_ipv4() {
        let matches = |nets: &[Ipv6Net], address: &str| {
            nets.iter().filter(|n| n.contains(&address.parse::<Ipv6Addr>().unwrap())).count()
        };
        let all = six("::/0".parse().unwrap());
        assert_eq!(all.len(), 96);
        for (address, count) in [("2001:db8::1", 1), ("::1", 1), ("ffff::", 1), ("::ffff:192.0.2.1", 0)] {
            assert_eq!(matches(&all, address), count, "{address}");
        }
        assert_eq!(six("2000::/3".parse().unwrap()).len(), 1);
        assert_eq!(matches(&six("0.0.0.0/0".parse().unwrap()), "::ffff:192.0.2.1"), 1);
    }
}
