//! Values as they stand in lines, written without memory of their own.

use agent_ebpf::{time::Nanos, wire::Addr};
use serde::{Serialize, Serializer};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Seconds since 1970, nine decimals, as text: a JSON number would lose the last ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(pub Nanos);

/// A duration in nanoseconds, written as seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub i64);

/// An address as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub Addr);

/// VLAN identifiers, packed as in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlans(pub u32);

const SECOND: u64 = 1_000_000_000;

impl Seconds {
    /// From `earlier` to `later`; below 0 where the capture's clock went back.
    pub const fn between(earlier: Nanos, later: Nanos) -> Self {
        Self(later.0.wrapping_sub(earlier.0).cast_signed())
    }
}

impl Serialize for Epoch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}.{:09}", self.0.0 / SECOND, self.0.0 % SECOND))
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0 as f64 / SECOND as f64)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let octets = self.0.octets();
        match octets {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => {
                serializer.collect_str(&Ipv4Addr::new(a, b, c, d))
            }
            _ => serializer.collect_str(&Ipv6Addr::from(octets)),
        }
    }
}

impl Serialize for Vlans {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tags = [self.0 & 0xfff, self.0 >> 12 & 0xfff];
        serializer.collect_seq(tags.into_iter().filter(|id| *id > 0))
    }
}
