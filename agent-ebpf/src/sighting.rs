//! Where and when a segment is seen: what [`crate::observe`] is told beside the segment and its flow.

use crate::{flow::Closed, label::Direction, time::Nanos};
use bytemuck::{Pod, Zeroable};

/// Limits that the operator sets, nanoseconds; may change while flows live.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Settings {
    /// A silence this long before an RST makes its cause `idle`.
    pub idle: u64,
    /// How long a closed five-tuple counts as in TIME-WAIT.
    pub time_wait: u64,
    /// 1: no connection is followed that is new, as there is no room left and trying costs time (not the operator's doing,
    /// but the daemon's while it sees a flood).
    pub full: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { idle: 30_000_000_000, time_wait: 60_000_000_000, full: 0 }
    }
}

/// Where and when a segment was seen, and what the tables know beside the flow itself.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    /// Which half it belongs to, 0 or 1.
    pub dir: usize,
    /// The key's [`crate::flow::FlowKey::tag`].
    pub tag: u32,
    /// The hook.
    pub direction: Direction,
    /// When.
    pub now: Nanos,
    /// The services of the lower and the higher end point as servers; 0 for none. Looked up only where the segment
    /// may open a flow.
    pub services: [u16; 2],
    /// The connection that had the five-tuple before, where the flow table has forgotten it.
    pub prior: Option<Closed>,
    /// Of an RST the TTL that is usual for its sender's SYN-ACKs ([`crate::hops`]), 0 for none.
    pub usual_ttl: u8,
    /// Limits.
    pub settings: Settings,
}

impl Sighting {
    /// A sighting of which nothing but the hook is known yet.
    #[inline(always)]
    pub const fn blank(direction: Direction) -> Self {
        let settings = Settings { idle: 0, time_wait: 0, full: 0 };
        Self {
            dir: 0,
            tag: 0,
            direction,
            now: Nanos(0),
            services: [0; 2],
            prior: None,
            usual_ttl: 0,
            settings,
        }
    }
}
