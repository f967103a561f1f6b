//! Tables whose entries do not move, as the pipeline keeps pointers to them while a packet is through.
//!
//! Addresses in a capture are anybody's choice: the hash has a random seed.

use agent_ebpf::flow::{FlowKey, FlowKey4, FlowKey6};
use bytemuck::Pod;
use foldhash::fast::RandomState;
use std::{
    cell::{RefCell, UnsafeCell},
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
};

/// Entries of both families, each in a map of its own with a key no longer than need be.
pub(super) struct Table<T> {
    v4: RefCell<Entries<FlowKey4, T>>,
    v6: RefCell<Entries<FlowKey6, T>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { v4: RefCell::default(), v6: RefCell::default() }
    }
}

impl<T: Pod> Table<T> {
    pub(super) fn get(&self, key: &FlowKey) -> Option<*mut T> {
        match key {
            FlowKey::V4(key) => self.v4.borrow().get(key),
            FlowKey::V6(key) => self.v6.borrow().get(key),
        }
    }

    /// Finds the entry, or makes it where there is none and room for it (IPv4, IPv6).
    pub(super) fn make(&self, key: &FlowKey, value: impl FnOnce() -> T, room: [usize; 2]) -> Option<*mut T> {
        match key {
            FlowKey::V4(key) => self.v4.borrow_mut().make(key, value, room[0]),
            FlowKey::V6(key) => self.v6.borrow_mut().make(key, value, room[1]),
        }
    }

    pub(super) fn remove(&self, key: &FlowKey) {
        match key {
            FlowKey::V4(key) => self.v4.borrow_mut().remove(key),
            FlowKey::V6(key) => self.v6.borrow_mut().remove(key),
        }
    }

    pub(super) fn iter(&mut self) -> impl Iterator<Item = (FlowKey, &T)> {
        let v4 = self.v4.get_mut().iter().map(|(key, value)| (FlowKey::V4(*key), value));
        v4.chain(self.v6.get_mut().iter().map(|(key, value)| (FlowKey::V6(*key), value)))
    }

    /// Takes out the entries that are `over`.
    pub(super) fn take(&mut self, mut over: impl FnMut(&FlowKey, &T) -> bool) -> Vec<(FlowKey, T)> {
        let mut taken = Vec::new();
        self.v4.get_mut().take(|key, value| {
            let key = FlowKey::V4(*key);
            if over(&key, value) {
                taken.push((key, *value));
                return true;
            }
            false
        });
        self.v6.get_mut().take(|key, value| {
            let key = FlowKey::V6(*key);
            if over(&key, value) {
                taken.push((key, *value));
                return true;
            }
            false
        });
        taken
    }
}

/// Where each key's entry stands.
struct Entries<K, T> {
    places: HashMap<K, u32, RandomState>,
    slots: Slots<T>,
}

impl<K, T> Default for Entries<K, T> {
    fn default() -> Self {
        Self { places: HashMap::default(), slots: Slots { blocks: Vec::new(), free: Vec::new() } }
    }
}

impl<K: Hash + Eq + Copy, T: Pod> Entries<K, T> {
    fn get(&self, key: &K) -> Option<*mut T> {
        self.places.get(key).map(|place| self.slots.at(*place))
    }

    fn make(&mut self, key: &K, value: impl FnOnce() -> T, room: usize) -> Option<*mut T> {
        let full = self.places.len() >= room;
        match self.places.entry(*key) {
            Entry::Occupied(place) => Some(self.slots.at(*place.get())),
            Entry::Vacant(_) if full => None,
            Entry::Vacant(place) => {
                let slot = self.slots.next();
                place.insert(slot);
                let entry = self.slots.at(slot);
                // SAFETY: inside its block, and free until now: nothing else points to it.
                unsafe { entry.write(value()) };
                Some(entry)
            }
        }
    }

    fn remove(&mut self, key: &K) {
        self.slots.free.extend(self.places.remove(key));
    }

    fn iter(&mut self) -> impl Iterator<Item = (&K, &T)> {
        // SAFETY: through `&mut self` nothing else points to an entry, and each stands in a slot of its own.
        self.places.iter().map(|(key, place)| (key, unsafe { &*self.slots.at(*place) }))
    }

    fn take(&mut self, mut over: impl FnMut(&K, &T) -> bool) {
        self.places.retain(|key, place| {
            // SAFETY: as for `iter`.
            let over = over(key, unsafe { &*self.slots.at(*place) });
            if over {
                self.slots.free.push(*place);
            }
            !over
        });
    }
}

/// Entries in one block.
const BLOCK: usize = 1_024;

/// Memory of the entries, in blocks that stay where they are.
struct Slots<T> {
    blocks: Vec<Box<[Slot<T>]>>,
    free: Vec<u32>,
}

/// A flow's halves lie in cache lines of their own when the flow begins with one.
#[repr(align(64))]
struct Slot<T>(UnsafeCell<T>);

impl<T: Pod> Slots<T> {
    fn at(&self, place: u32) -> *mut T {
        self.blocks[place as usize / BLOCK][place as usize % BLOCK].0.get()
    }

    /// A free place, with more memory if need be.
    fn next(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            let first = (self.blocks.len() * BLOCK) as u32;
            self.blocks.push((0..BLOCK).map(|_| Slot(UnsafeCell::new(T::zeroed()))).collect());
            self.free.extend((first + 1..first + BLOCK as u32).rev());
            first
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> FlowKey {
        FlowKey::V4(FlowKey4 { ports: n, ..FlowKey4::default() })
    }

    #[test]
    fn entries_stay_where_they_are_and_their_places_are_used_again() {
        let mut table = Table::<u64>::default();
        let room = [usize::MAX; 2];
        let first = table.make(&key(0), || 7, room).unwrap();
        for n in 1..5_000 {
            table.make(&key(n), || u64::from(n), room).unwrap();
        }
        assert_eq!((table.get(&key(0)), table.make(&key(0), || 8, room)), (Some(first), Some(first)));
        table.remove(&key(0));
        assert_eq!(table.get(&key(0)), None);
        assert_eq!(table.make(&key(9_000), || 9, room), Some(first), "its place is free");
        let mut taken = table.take(|_, n| *n < 3);
        taken.sort_by_key(|(_, n)| *n);
        assert_eq!(taken, [(key(1), 1), (key(2), 2)]);
        assert_eq!(table.iter().map(|(_, n)| n).sum::<u64>(), (3..5_000).sum::<u64>() + 9);
    }

    #[test]
    fn each_family_has_room_of_its_own() {
        let table = Table::<u64>::default();
        let six = |n| FlowKey::V6(FlowKey6 { ports: n, ..FlowKey6::default() });
        assert!(table.make(&key(1), || 1, [1, 1]).is_some() && table.make(&key(2), || 2, [1, 1]).is_none());
        assert!(table.make(&six(1), || 1, [1, 1]).is_some() && table.make(&six(2), || 2, [1, 1]).is_none());
        assert!(table.make(&key(1), || 1, [1, 1]).is_some(), "it is there already");
    }
}
