//! How much of an address is shown to anybody: all of it, unless the operator wants only its network to leave the host.

use crate::api::EndPoint;
use ipnet::IpNet;
use std::net::IpAddr;

/// Lengths of the networks that are shown in the place of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Of IPv4; 32 for whole addresses.
    pub ipv4_prefix: u8,
    /// Of IPv6; 128 for whole addresses.
    pub ipv6_prefix: u8,
}

impl Default for Shown {
    fn default() -> Self {
        Self { ipv4_prefix: 32, ipv6_prefix: 128 }
    }
}

impl Shown {
    /// What is shown of an address.
    pub fn address(self, address: IpAddr) -> IpAddr {
        let length = if address.is_ipv4() { self.ipv4_prefix } else { self.ipv6_prefix };
        // A length that no address has shows nothing of it.
        IpNet::new(address, length).map_or_else(
            |_| if address.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() },
            |net| net.network(),
        )
    }

    /// What is shown of an end.
    pub fn end(self, end: EndPoint) -> EndPoint {
        EndPoint { address: self.address(end.address), ..end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_the_prefix_is_nothing() {
        let shown = Shown { ipv4_prefix: 20, ipv6_prefix: 48 };
        let of = |text: &str| shown.address(text.parse().unwrap()).to_string();
        assert_eq!(of("192.0.255.255"), "192.0.240.0");
        assert_eq!(of("2001:db8:1:2::3"), "2001:db8:1::");
        let address: IpAddr = "192.0.2.7".parse().unwrap();
        assert_eq!(Shown::default().address(address), address);
        let nothing = Shown { ipv4_prefix: 0, ipv6_prefix: 0 };
        assert_eq!(nothing.address(address).to_string(), "0.0.0.0");
    }
}
