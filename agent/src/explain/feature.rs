//! What may tell connections apart: one row each.
//!
//! A feature's value must be there before the outcome, or beside it. How a connection closed, and what its server sent,
//! is the outcome itself. Where an outcome decides a feature's value, the value counts as unknown there.

use crate::{api::EndPoint, connection::Connection, flows};
use agent_ebpf::{
    anomaly::{Anomaly, Outcome},
    traffic::Served,
};
use ipnet::IpNet;
use std::net::IpAddr;

/// Something that may tell connections apart.
pub struct Feature {
    /// What it is called.
    pub name: &'static str,
    /// How it is said that it holds; `{}` stands for a value.
    pub holds: &'static str,
    /// How it is said that it does not.
    pub fails: &'static str,
    /// What it is of a connection, none where that is not known.
    pub value: Value,
}

/// How a feature is read off a connection.
pub enum Value {
    /// Holds or not.
    Fact(fn(&Connection) -> Option<bool>),
    /// One of several words.
    Word(fn(&Connection) -> Option<String>),
    /// A number of which large ones may matter, and how it is written.
    AtLeast(fn(&Connection) -> Option<f64>, fn(f64) -> String),
    /// A number of which small ones may matter; beyond all where there is none to compare.
    AtMost(fn(&Connection) -> Option<f64>, fn(f64) -> String),
}

/// [`FEATURES`]' rows that the one on both together is made of.
pub const SEVERAL: &str = "request segments";
/// The other one.
pub const REORDERED: &str = "reordering";
/// The one on both together.
pub const SEVERAL_REORDERED: &str = "several segments, reordered";

/// All of them. Of two that hold for the same connections the upper one is named first.
pub const FEATURES: &[Feature] = &[
    Feature {
        name: SEVERAL_REORDERED,
        holds: "request in several segments, reordered",
        fails: "request in one segment, or in order",
        value: Value::Fact(|c| Some(c.request?.segments > 1 && reordered(c))),
    },
    Feature {
        name: SEVERAL,
        holds: "request in several segments",
        fails: "request in one segment",
        value: Value::Fact(|c| Some(c.request?.segments > 1)),
    },
    Feature {
        name: REORDERED,
        holds: "client's segments reordered",
        fails: "client's segments in order",
        // Without a request there is nothing to reorder.
        value: Value::Fact(|c| c.request.map(|_| reordered(c))),
    },
    Feature {
        name: "request size",
        holds: "request of {} B or more",
        fails: "request of less than {} B",
        value: Value::AtLeast(|c| Some(f64::from(c.request?.bytes)), |bytes| format!("{bytes:.0}")),
    },
    Feature {
        name: "retransmissions",
        holds: "client sent segments again",
        fails: "client sent nothing again",
        value: Value::Fact(|c| {
            let again = c.from_client.retransmissions() + c.from_client.count(Anomaly::SynRetransmission);
            // Repeats are what a timeout is told by.
            (c.result != Some(Served::TimedOut)).then_some(again > 0)
        }),
    },
    Feature {
        name: "five-tuple reuse",
        holds: "five-tuple used shortly before",
        fails: "five-tuple not used shortly before",
        // The connection before one that was met mid-way is unknown.
        value: Value::Fact(|c| (!c.inferred).then_some(c.reuse.is_some())),
    },
    Feature {
        name: "reuse gap",
        holds: "five-tuple back within {}",
        fails: "five-tuple not back within {}",
        value: Value::AtMost(gap, flows::seconds),
    },
    Feature {
        name: "reuse answer",
        holds: "five-tuple's reuse {}",
        fails: "five-tuple's reuse not {}",
        // The other answers are the failure itself.
        value: Value::Word(|c| {
            let outcome = c.reuse.as_ref()?.outcome.clone()?;
            [Outcome::Accepted, Outcome::Challenged].iter().any(|o| o.name() == outcome).then_some(outcome)
        }),
    },
    Feature {
        name: "client's network",
        holds: "client in {}",
        fails: "client not in {}",
        value: Value::Word(|c| Some(network(c.client))),
    },
    Feature {
        name: "server",
        holds: "server {}",
        fails: "server other than {}",
        value: Value::Word(|c| Some(c.server.to_string())),
    },
    Feature {
        name: "service",
        holds: "service {}",
        fails: "service other than {}",
        value: Value::Word(|c| Some(c.svc.clone())),
    },
    Feature {
        name: "point",
        holds: "seen at {}",
        fails: "not seen at {}",
        value: Value::Word(|c| Some(c.point.clone())),
    },
    Feature {
        name: "hour of day",
        holds: "began in the hour from {} UTC",
        fails: "began outside the hour from {} UTC",
        value: Value::Word(|c| Some(format!("{:02}:00", c.times.opened_ns / 3_600_000_000_000 % 24))),
    },
    Feature {
        name: "client's TTL",
        holds: "client's TTL {} here",
        fails: "client's TTL other than {} here",
        value: Value::Word(|c| c.from_client.ttl.map(|ttl| ttl.to_string())),
    },
    Feature {
        name: "client's MSS",
        holds: "client's MSS {}",
        fails: "client's MSS other than {}",
        value: Value::Word(|c| c.from_client.mss.map(|mss| mss.to_string())),
    },
    Feature {
        name: "timestamps",
        holds: "client with timestamps",
        fails: "client without timestamps",
        value: Value::Fact(|c| (c.from_client.segments > 0).then_some(c.from_client.ts_val.is_some())),
    },
    Feature {
        name: "TLS",
        holds: "client speaks TLS",
        fails: "client does not speak TLS",
        value: Value::Fact(|c| c.tls),
    },
    Feature {
        name: "HTTP method",
        holds: "HTTP method {}",
        fails: "HTTP method other than {}",
        value: Value::Word(|c| c.http.as_ref()?.method.clone()),
    },
    Feature {
        name: "HTTP path",
        holds: "HTTP path {}",
        fails: "HTTP path other than {}",
        value: Value::Word(|c| c.http.as_ref()?.path.clone()),
    },
    Feature {
        name: "VLAN",
        holds: "VLAN {}",
        fails: "VLAN other than {}",
        value: Value::Word(|c| {
            let tags: Vec<String> = c.vlans.iter().map(ToString::to_string).collect();
            Some(if tags.is_empty() { "none".to_owned() } else { tags.join(".") })
        }),
    },
    Feature {
        name: "met mid-way",
        holds: "met mid-way",
        fails: "met with its SYN",
        value: Value::Fact(|c| Some(c.inferred)),
    },
];

fn reordered(connection: &Connection) -> bool {
    connection.from_client.count(Anomaly::OutOfOrder) > 0
}

/// Seconds since the five-tuple's last use: without end where it was not used within its TIME-WAIT window.
fn gap(connection: &Connection) -> Option<f64> {
    match &connection.reuse {
        Some(reuse) => reuse.gap_seconds,
        None => (!connection.inferred).then_some(f64::INFINITY),
    }
}

/// The network that a client is in: as small as what one site usually has.
fn network(client: EndPoint) -> String {
    let length = match client.address {
        IpAddr::V4(_) => 24,
        IpAddr::V6(_) => 64,
    };
    let network = IpNet::new_assert(client.address, length);
    network.trunc().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::Reuse, connection::tests::answered};
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_phrases_take_a_value_where_there_is_one() {
        let names: BTreeSet<_> = FEATURES.iter().map(|f| f.name).collect();
        assert_eq!(names.len(), FEATURES.len());
        for feature in FEATURES {
            let valued = !matches!(feature.value, Value::Fact(_));
            for phrase in [feature.holds, feature.fails] {
                assert_eq!(phrase.contains("{}"), valued, "{phrase}");
            }
        }
    }

    #[test]
    fn what_the_outcome_decides_is_unknown() {
        let fact = |name: &str, c: &Connection| {
            let feature = FEATURES.iter().find(|f| f.name == name).unwrap();
            let Value::Fact(get) = feature.value else { panic!("{name} is no fact") };
            get(c)
        };
        let mut c = answered("inside", 1);
        c.from_client.anomalies.insert(Anomaly::Retransmission.name().to_owned(), 3);
        assert_eq!(fact("retransmissions", &c), Some(true));
        c.result = Some(Served::TimedOut);
        assert_eq!(fact("retransmissions", &c), None);
        c.request = None;
        assert_eq!((fact(SEVERAL, &c), fact(REORDERED, &c), fact(SEVERAL_REORDERED, &c)), (None, None, None));
    }

    #[test]
    fn a_five_tuple_that_did_not_come_back_is_beyond_every_gap() {
        let mut c = answered("inside", 1);
        assert_eq!(gap(&c), Some(f64::INFINITY));
        c.reuse = Some(Reuse { gap_seconds: Some(0.25), ..Reuse::default() });
        assert_eq!(gap(&c), Some(0.25));
        c.reuse = Some(Reuse::default());
        assert_eq!(gap(&c), None, "its close was not seen");
        (c.reuse, c.inferred) = (None, true);
        assert_eq!(gap(&c), None);
    }

    #[test]
    fn clients_are_grouped_by_their_networks() {
        let of = |address: &str| network(EndPoint { address: address.parse().unwrap(), port: 1 });
        assert_eq!(of("192.0.2.77"), "192.0.2.0/24");
        assert_eq!(of("2001:db8:1:2:3::4"), "2001:db8:1:2::/64");
    }
}
