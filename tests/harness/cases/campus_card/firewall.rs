//! The firewall: on some connections the first segment of a request takes longer than those behind it.
//!
//! It is a box in the wire that inspects what it carries. A segment under inspection is overtaken by one or more of the
//! same request, never lost and never copied; what follows is a hole at the next point, and a duplicate ACK for each
//! segment that overtook.

use std::collections::HashMap;
use std::time::Duration;

use fastrand::Rng;

use crate::cases::http;
use crate::impair::rules::hold;
use crate::impair::{Action, Direction, Log, Packet, Rule, TcpFacts, flags};

/// A firewall that reorders on this share of the connections (0 to 1), chosen by the client's port and the seed.
///
/// `delay` is how long answers take, for the round trip of a provider far away: with none at all, a sender takes every
/// segment that is a moment late for lost.
pub(super) fn rule(seed: u64, share: f64, delay: Duration) -> Rule {
    // Where the request of each client's port will begin.
    let mut expected: HashMap<u16, u32> = HashMap::new();
    Rule::from(move |packet: &Packet| {
        let Some(tcp) = packet.tcp else { return Vec::new() };
        if packet.direction == Direction::ToClient {
            return vec![Action::Delay(delay)];
        }
        let port = tcp.source.port();
        if tcp.has(flags::SYN) {
            expected.insert(port, tcp.end());
        }
        if tcp.payload == 0 || expected.get(&port) != Some(&tcp.seq) {
            return Vec::new();
        }
        expected.remove(&port);
        let mut coin = Rng::with_seed(seed.wrapping_mul(65_537).wrapping_add(port.into()));
        match following(tcp, packet.frame) {
            0 => Vec::new(),
            _ if coin.f64() >= share => Vec::new(),
            most => vec![hold(coin.u32(1..=most))],
        }
    })
}

/// How many segments of the same request are behind this first one.
fn following(first: &TcpFacts, frame: &[u8]) -> u32 {
    let start = &frame[frame.len() - first.payload as usize..];
    let rest = http::length(start).unwrap_or(0).saturating_sub(start.len());
    u32::try_from(rest.div_ceil(start.len())).expect("a request is short")
}

/// Whether anything that this client's port sent left the box behind what it was sent before.
pub(super) fn reordered(log: &Log, port: u16) -> bool {
    let segments =
        log.departed(Direction::ToServer).filter(|tcp| tcp.source.port() == port && tcp.payload > 0);
    let starts: Vec<u32> = segments.map(|tcp| tcp.seq).collect();
    !starts.is_sorted_by(|a, b| b.wrapping_sub(*a).cast_signed() >= 0)
}
