//! What is around the pipeline: tables and a clock.

use super::Scratch;
use crate::{
    flow::{Closed, Flow, FlowKey},
    layout::{Config, HealthCounts, Totals},
    quick::Plain,
    scoreboard::Scoreboard,
    sighting::Settings,
    time::Nanos,
    wire::Addr,
};
use bytemuck::Pod;

/// The tables and the clock around the pipeline.
pub trait World {
    /// The time of this packet.
    fn now(&self) -> Nanos;
    /// The same a few milliseconds late, where that is cheaper.
    fn coarse_now(&self) -> Nanos;
    /// Fixed configuration.
    fn config(&self) -> Config;
    /// Limits.
    fn settings(&self) -> Settings;
    /// The number of the point on an interface.
    fn point(&self, ifindex: u32) -> Option<u8>;
    /// The place where an established flow probably is, if that is known at once; whose it is the caller has to see.
    fn likely(&self, key: &FlowKey) -> Option<*mut Flow>;
    /// An established flow, for certain; costs more.
    fn flow(&self, key: &FlowKey) -> Option<*mut Flow>;
    /// A flow not seen to be a conversation yet.
    fn half_open(&self, key: &FlowKey) -> Option<*mut Flow>;
    /// Makes a half-open flow, blank but for its tag, or finds the one another processor has just made; `None` when the table is full.
    fn create(&self, key: &FlowKey) -> Option<*mut Flow>;
    /// A place in the flow table, found or made: with its tag and `Flow::MOVED`, and nothing else that means anything; `None`
    /// when that table is full.
    fn reserve(&self, key: &FlowKey) -> Option<*mut Flow>;
    /// Room for a flow on its way there; nothing else uses it meanwhile. Its contents mean nothing.
    fn moving(&self) -> Option<*mut Flow>;
    /// Drops what the half-open table has of a flow that stands in the flow table.
    fn abandon(&self, key: &FlowKey);
    /// A flow's scoreboard, made if need be; `None` when there is no room.
    fn score(&self, key: &FlowKey, make: bool) -> Option<*mut Scoreboard>;
    /// What is remembered of the connection that had this key.
    fn closed(&self, key: &FlowKey) -> Option<Closed>;
    /// Remembers a closed connection; false when there is no room.
    fn remember(&self, key: &FlowKey, closed: &Closed) -> bool;
    /// The number of the service at an end point, 0 for none.
    fn service(&self, addr: &Addr, port: u16) -> u16;
    /// A place of the table of TTLs ([`hops`]).
    fn hops(&self, place: u32) -> Option<*mut u64>;
    /// Keeps the short way off an established flow, until [`World::leave`]; false where who is on it stays too long.
    fn enter(&self, entry: *mut Flow) -> bool;
    /// Lets the short way on again.
    fn leave(&self, entry: *mut Flow);
    /// Takes a flow's lock; of one that the flow table has and that is not [`Flow::MOVED`] only after [`World::enter`]. Nothing
    /// of the world may be asked until [`World::unlock`].
    fn lock(&self, entry: *mut Flow);
    /// Lets it go.
    fn unlock(&self, entry: *mut Flow);
    /// Takes an established flow for the short way, at once or not at all. Nothing of the world may be asked until
    /// [`World::release`].
    fn try_lock(&self, entry: *mut Flow) -> bool;
    /// Lets it go.
    fn release(&self, entry: *mut Flow);
    /// This processor's totals.
    fn totals(&self, index: u32) -> Option<*mut Totals>;
    /// This processor's self-counters.
    fn health(&self, index: u32) -> Option<*mut HealthCounts>;
    /// Working memory for this packet; nothing else uses it meanwhile. Its contents mean nothing.
    fn scratch(&self) -> Option<*mut Scratch>;
    /// The same for segments that go the short way ([`quick`]), of which `scratch` does not tell; `None` where all go the
    /// long one.
    fn plain(&self) -> Option<*mut Plain>;
    /// Puts a record on the ring; false when it is full.
    fn submit<T: Pod>(&self, fill: impl FnOnce(*mut T)) -> bool;
}
