//! Where a capture was taken, seen from the sender of each packet.
//!
//! The same loss looks different at each place. At the sender nothing is missing and nothing is overtaken; at the
//! receiver the first copies of what was lost upstream never came by.

use std::{collections::BTreeSet, fmt};

use serde_json::Value;

use super::{
    compare::{Counts, compare},
    line::{Lines, Packet},
};

/// A capture's place on the way of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// On the host that sent it.
    Sender,
    /// Between the two.
    Middle,
    /// On the host that it went to.
    Receiver,
}

impl Place {
    /// All of them, along the way.
    pub const ALL: [Self; 3] = [Self::Sender, Self::Middle, Self::Receiver];
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sender => "sender",
            Self::Middle => "middle",
            Self::Receiver => "receiver",
        })
    }
}

/// The classes' counts at each place that a capture has, by its name: `c`, `m` or `s`.
pub fn compare_by_place(
    name: &str,
    reference: &Lines,
    candidate: &Lines,
) -> Vec<(Place, Vec<(String, Counts)>)> {
    let letter = name.rsplit('/').next().and_then(|file| file.chars().next());
    let clients: BTreeSet<&str> =
        reference.flows.iter().filter_map(|flow| flow.get("src").and_then(Value::as_str)).collect();
    let place_of = |packet: &Packet| {
        let from_client = packet.src.as_deref().is_some_and(|source| clients.contains(source));
        match letter {
            Some('m') => Place::Middle,
            at if (at == Some('c')) == from_client => Place::Sender,
            _ => Place::Receiver,
        }
    };
    let at = |place| {
        let here = |frame| reference.packets.get(&frame).is_some_and(|packet| place_of(packet) == place);
        let theirs = reference.only(|frame, _| here(frame));
        let counts = || compare(&theirs, &candidate.only(|frame, _| here(frame))).classes;
        (!theirs.packets.is_empty()).then(|| (place, counts()))
    };
    Place::ALL.into_iter().filter_map(at).collect()
}
