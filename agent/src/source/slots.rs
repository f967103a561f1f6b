//! The tables of established flows: one of keys, and slots that the flows stand in.

use crate::sys::map;
use agent_ebpf::{
    index::MAX_SLOTS,
    layout::{Index, maps as names},
};
use aya::{Ebpf, maps::Map};
use std::{
    hash::{BuildHasher as _, RandomState},
    io,
    os::fd::{AsFd as _, BorrowedFd},
};

/// Flows to a bucket of hints, at most, where there are as many as there is room for.
const TO_A_BUCKET: u32 = 4;

/// Maps of the slots of nobody, of IPv4 and of IPv6.
const FREE: [&str; 2] = [names::FREE4, names::FREE6];

/// Entries of every map that holds established flows; `flows` are those of IPv4 and of IPv6, [`MAX_SLOTS`] at most.
pub fn capacities([v4, v6]: [u32; 2]) -> [(&'static str, u32); 10] {
    let [index4, index6] = buckets([v4, v6]);
    [
        (names::FLOWS4, v4),
        (names::SLOTS4, v4),
        (names::KEYS4, v4),
        (names::FREE4, v4),
        (names::INDEX4, index4),
        (names::FLOWS6, v6),
        (names::SLOTS6, v6),
        (names::KEYS6, v6),
        (names::FREE6, v6),
        (names::INDEX6, index6),
    ]
}

fn buckets(flows: [u32; 2]) -> [u32; 2] {
    flows.map(|n| n.min(MAX_SLOTS).div_ceil(TO_A_BUCKET).next_power_of_two())
}

/// What the programs are told of the index of these flows, with a secret of its own.
pub fn index(flows: [u32; 2]) -> Index {
    Index { seed: RandomState::new().hash_one(flows), buckets: buckets(flows) }
}

/// Give the kernel's programs all slots of tables that are new.
pub fn free_all(ebpf: &Ebpf, flows: [u32; 2]) -> io::Result<()> {
    for (name, slots) in FREE.into_iter().zip(flows) {
        let Some(Map::Stack(free)) = ebpf.map(name) else { continue };
        free_slots(free.fd().as_fd(), slots)?;
    }
    Ok(())
}

/// The lowest is the first to be taken, so that what is in use stands together.
fn free_slots(free: BorrowedFd<'_>, slots: u32) -> io::Result<()> {
    (0..slots).rev().try_for_each(|slot| map::push(free, &slot))
}
