//! fivetuple's TCP core: what an observer on the way can know of every connection, judged segment by segment.
//!
//! The same files run in the kernel (the programs under `src/probe`), in the daemon, and in replay, so all agree by
//! construction. Absent, on purpose: no clock (time is an argument), no allocation, no I/O, no panic.
//!
//! Reading order, the path of a packet: [`wire`] (bytes to meaning) → [`flow`] (whose is it) → [`observe`] (facts, and
//! the next state; [`sequence`] judges, [`open`] and [`close`] are a connection's two ends) → [`anomaly`] (the table of
//! what is worth telling) → [`pipeline`] (all of it in order; [`quick`] is the short way of what is healthy) →
//! [`record`] (bytes for the ring).
#![cfg_attr(not(test), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod anomaly;
pub mod before;
pub mod close;
pub mod counter;
#[cfg(feature = "bench")]
pub mod drive;
pub mod facts;
pub mod flow;
pub mod half;
pub mod health;
pub mod histogram;
pub mod hops;
pub mod index;
pub mod label;
pub mod layout;
#[cfg(target_arch = "bpf")]
mod object;
pub mod observe;
pub mod open;
pub mod phase;
pub mod pipeline;
pub mod quick;
pub mod record;
pub mod scoreboard;
pub mod seq;
pub mod sequence;
pub mod sighting;
pub mod time;
pub mod traffic;
pub mod wire;
mod words;

#[cfg(test)]
mod close_tests;
#[cfg(test)]
mod evidence_tests;
#[cfg(test)]
mod reuse_tests;
#[cfg(test)]
mod rtt_tests;
#[cfg(test)]
mod talk;
#[cfg(test)]
mod text_tests;

/// A plain segment for unit tests: an ACK of a client at 10.0.0.1:40000 to 10.0.0.2:443.
#[cfg(test)]
pub(crate) fn test_segment() -> wire::Segment {
    wire::Segment {
        src: wire::Addr::v4([10, 0, 0, 1]),
        dst: wire::Addr::v4([10, 0, 0, 2]),
        sport: 40_000,
        dport: 443,
        ttl: 64,
        flags: wire::Flags(wire::Flags::ACK),
        seq: seq::SeqNum(1),
        ack: seq::SeqNum(1),
        window: 1_000,
        bytes: 40,
        ..wire::Segment::blank()
    }
}
