//! Which connections of many are kept: the same ones at every point and by every agent.

use crate::{api::EndPoint, connection::Connection};
use std::{fmt, net::IpAddr};

/// A share of connections, from none to all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(u64);

/// All of them.
const ALL: u64 = 1 << 32;

impl Rate {
    /// Every connection.
    pub const EVERY: Self = Self(ALL);

    /// Of a number from 0 to 1; none for any other.
    pub fn new(share: f64) -> Option<Self> {
        (0.0..=1.0).contains(&share).then(|| Self((share * ALL as f64).round() as u64))
    }

    /// Whether the connection is among those. It follows from the five-tuple and the client's initial sequence number
    /// alone, which all points on its way see alike unless something between rewrites them.
    pub fn keeps(self, connection: &Connection) -> bool {
        let isn = connection.from_client.isn.unwrap_or_default();
        let parts = [end(connection.client), end(connection.server)];
        let hash = fnv(parts.as_flattened().iter().copied().chain(isn.to_be_bytes()));
        (mix(hash) >> 32) < self.0
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.0 as f64 / ALL as f64).fmt(f)
    }
}

fn end(end: EndPoint) -> [u8; 18] {
    let address = match end.address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(&address.octets());
    bytes[16..].copy_from_slice(&end.port.to_be_bytes());
    bytes
}

/// FNV-1a: it is the same on every machine and in every version.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Spreads what differs in the last bytes over all bits (the end of MurmurHash3).
fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::tests::answered;

    fn kept(share: f64, point: &str) -> Vec<u32> {
        let rate = Rate::new(share).unwrap();
        let isns = (0..10_000).filter(|isn| {
            let mut connection = answered(point, u64::from(*isn) + point.len() as u64);
            connection.from_client.isn = Some(*isn);
            rate.keeps(&connection)
        });
        isns.collect()
    }

    #[test]
    fn every_point_keeps_the_same_ones() {
        let outside = kept(0.1, "outside");
        assert_eq!(outside, kept(0.1, "dmz"));
        assert!((900..1_100).contains(&outside.len()), "{}", outside.len());
        let more = kept(0.3, "outside");
        assert!(outside.iter().all(|isn| more.contains(isn)), "a larger share has the smaller one in it");
        assert_eq!((kept(0.0, "a").len(), kept(1.0, "a").len()), (0, 10_000));
    }

    #[test]
    fn a_share_is_from_0_to_1() {
        assert_eq!(Rate::new(1.0), Some(Rate::EVERY));
        assert_eq!(Rate::new(0.25).map(|rate| rate.to_string()), Some("0.25".to_owned()));
        for wrong in [-0.1, 1.1, f64::NAN] {
            assert_eq!(Rate::new(wrong), None);
        }
    }
}
