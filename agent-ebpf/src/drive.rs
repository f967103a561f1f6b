//! What the benches' driver program is told: how to change the packet from one repeat of a test run to the next.
//!
//! `BPF_PROG_TEST_RUN` repeats one packet. The driver (`src/bench/`) runs in its place, changes the packet, which the
//! next repeat finds as it was left, and goes on to the program under test by a tail call.

use bytemuck::{Pod, Zeroable};

/// Places of [`Plan`]s: each hook has its own.
pub const XDP: u32 = 0;
/// The driver's at tc.
pub const TC: u32 = 1;

/// Where the program under test stands in the table of tail calls.
pub const SLOTS: u32 = 5;

/// Flow numbers in one entry of the list, a power of two.
pub const ROW: u32 = 4096;
/// Entries of the list, a power of two.
pub const ROWS: u32 = 512;

/// Flows that differ in their port alone; the next ones have the next address.
pub const PORTS: u32 = 1 << 14;

/// Most numbers that are counted on.
pub const ADDS: usize = 4;

/// [`Plan::flows`]: all packets are of one flow.
pub const ONE: u32 = 0;
/// [`Plan::flows`]: flow [`Plan::first`], then the next.
pub const COUNTED: u32 = 1;
/// [`Plan::flows`]: flows as they stand in the list, from place [`Plan::first`] on.
pub const LISTED: u32 = 2;

/// A 32-bit number of the packet that grows with each repeat.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Add {
    /// Where it stands in the packet.
    pub at: u32,
    /// By how much, before every even repeat (the first is 0) and before every odd one.
    pub by: [u32; 2],
}

/// What the driver does at one hook.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Plan {
    /// Packets driven so far.
    pub done: u32,
    /// Slot of the program under test.
    pub target: u32,
    /// [`ONE`], [`COUNTED`] or [`LISTED`].
    pub flows: u32,
    /// First flow, or first place in the list.
    pub first: u32,
    /// Where the last four bytes of the flow's address stand in the packet.
    pub address_at: u32,
    /// Where its port stands.
    pub port_at: u32,
    /// Those bytes of flow 0's address, as a number.
    pub address: u32,
    /// How many of `adds` there are.
    pub count: u32,
    /// The numbers that grow.
    pub adds: [Add; ADDS],
    /// Keeps the hooks' plans out of each other's cache lines.
    pub reserved: [u32; 12],
}
const _: () = assert!(size_of::<Plan>() == 128);

/// The last four bytes of a flow's address, and its port, where flow 0 has `address`.
#[inline(always)]
pub const fn end_point(address: u32, flow: u32) -> (u32, u16) {
    (address.wrapping_add(flow / PORTS), (PORTS | (flow % PORTS)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_have_end_points_of_their_own() {
        assert_eq!(end_point(7, 0), (7, 16_384));
        assert_eq!(end_point(7, PORTS - 1), (7, 32_767));
        assert_eq!(end_point(7, PORTS), (8, 16_384));
    }
}
