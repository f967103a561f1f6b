//! Entries of a map, one by one and in batches.

use super::{bpf, owned, processors::processors};
use bytemuck::{Pod, Zeroable};
use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

const BPF_MAP_CREATE: i32 = 0;
pub(super) const BPF_MAP_LOOKUP_ELEM: i32 = 1;
pub(super) const BPF_MAP_UPDATE_ELEM: i32 = 2;
const BPF_MAP_DELETE_ELEM: i32 = 3;
const BPF_MAP_GET_NEXT_KEY: i32 = 4;
const BPF_MAP_LOOKUP_AND_DELETE_ELEM: i32 = 21;
const BPF_MAP_LOOKUP_BATCH: i32 = 24;
const BPF_MAP_DELETE_BATCH: i32 = 27;
/// Entries of a batch: beyond this, larger ones gain nothing (measured at a million entries).
const BATCH: usize = 4096;

/// Make the entry only where there is none.
pub const BPF_NOEXIST: u64 = 1;
/// Copy each value under its spin lock, for maps that have one.
pub const BPF_F_LOCK: u64 = 4;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct Element {
    map_fd: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl Element {
    pub(super) fn new<K>(map: BorrowedFd<'_>, key: &K, value: u64, flags: u64) -> Self {
        Self { map_fd: map.as_raw_fd() as u32, reserved: 0, key: &raw const *key as u64, value, flags }
    }
}

/// What a map is made from: the beginning of the attribute of `BPF_MAP_CREATE`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct Create {
    pub map_type: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub map_flags: u32,
}

impl Create {
    pub(super) fn make(mut self) -> io::Result<OwnedFd> {
        bpf(BPF_MAP_CREATE, &mut self).map(owned)
    }
}

/// Make a hash map that takes memory for what is in it only.
pub fn create_hash<K: Pod, V: Pod>(entries: u32) -> io::Result<OwnedFd> {
    const BPF_MAP_TYPE_HASH: u32 = 1;
    const BPF_F_NO_PREALLOC: u32 = 1;
    let (key_size, value_size) = (size_of::<K>() as u32, size_of::<V>() as u32);
    let (map_type, map_flags) = (BPF_MAP_TYPE_HASH, BPF_F_NO_PREALLOC);
    Create { map_type, key_size, value_size, max_entries: entries, map_flags }.make()
}

/// Set an entry of a map.
pub fn update<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K, value: &V, flags: u64) -> io::Result<()> {
    bpf(BPF_MAP_UPDATE_ELEM, &mut Element::new(map, key, &raw const *value as u64, flags)).map(drop)
}

/// Put a value on a stack.
pub fn push<V: Pod>(stack: BorrowedFd<'_>, value: &V) -> io::Result<()> {
    let mut element = Element { key: 0, ..Element::new(stack, &(), &raw const *value as u64, 0) };
    bpf(BPF_MAP_UPDATE_ELEM, &mut element).map(drop)
}

/// Take a value off a stack, if there is one.
pub fn pop<V: Pod>(stack: BorrowedFd<'_>) -> io::Result<Option<V>> {
    let mut value = V::zeroed();
    let mut element = Element { key: 0, ..Element::new(stack, &(), &raw mut value as u64, 0) };
    Ok(absent(bpf(BPF_MAP_LOOKUP_AND_DELETE_ELEM, &mut element))?.then_some(value))
}

/// Delete an entry of a map, if it is there.
pub fn delete<K: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<()> {
    absent(bpf(BPF_MAP_DELETE_ELEM, &mut Element::new(map, key, 0, 0))).map(drop)
}

/// Read an entry of a map under its lock.
pub fn read<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    read_with(map, key, BPF_F_LOCK)
}

/// Read an entry of a map that has no lock.
pub fn read_unlocked<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    read_with(map, key, 0)
}

fn read_with<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K, flags: u64) -> io::Result<Option<V>> {
    let mut value = V::zeroed();
    let found = absent(bpf(BPF_MAP_LOOKUP_ELEM, &mut Element::new(map, key, &raw mut value as u64, flags)))?;
    Ok(found.then_some(value))
}

/// Read an entry of a per-CPU array: its value on each processor.
pub fn read_per_cpu<V: Pod>(map: BorrowedFd<'_>, index: u32) -> io::Result<Vec<V>> {
    const { assert!(size_of::<V>().is_multiple_of(8), "the kernel puts each value on a whole word") };
    let mut values = vec![V::zeroed(); processors()?];
    bpf(BPF_MAP_LOOKUP_ELEM, &mut Element::new(map, &index, values.as_mut_ptr() as u64, 0))?;
    Ok(values)
}

/// Give an entry of a per-CPU map this value on every processor.
pub fn fill_per_cpu<V: Pod>(map: BorrowedFd<'_>, index: u32, value: &V) -> io::Result<()> {
    const { assert!(size_of::<V>().is_multiple_of(8), "as for `read_per_cpu`") };
    let values = vec![*value; processors()?];
    bpf(BPF_MAP_UPDATE_ELEM, &mut Element::new(map, &index, values.as_ptr() as u64, 0)).map(drop)
}

/// Visit every key of a map, one by one: for small maps, and those that have no batches.
pub fn walk_keys<K: Pod>(map: BorrowedFd<'_>, mut visit: impl FnMut(&K)) -> io::Result<()> {
    let mut key: Option<K> = None;
    loop {
        let mut next = K::zeroed();
        let mut element = Element {
            map_fd: map.as_raw_fd() as u32,
            reserved: 0,
            key: key.as_ref().map_or(0, |key| &raw const *key as u64),
            value: &raw mut next as u64,
            flags: 0,
        };
        if !absent(bpf(BPF_MAP_GET_NEXT_KEY, &mut element))? {
            return Ok(());
        }
        visit(&next);
        key = Some(next);
    }
}

/// Whether the entry was there.
fn absent(done: io::Result<i32>) -> io::Result<bool> {
    match done {
        Ok(_) => Ok(true),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(e) => Err(e),
    }
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Read entries of an array one behind the other, as many as there is room for and the array has; how many.
pub fn range<V: Pod>(array: BorrowedFd<'_>, first: u32, to: &mut [V], elem_flags: u64) -> io::Result<usize> {
    let before = first.wrapping_sub(1);
    let (mut last, mut keys) = (0u32, vec![0u32; to.len()]);
    let mut batch = Batch {
        in_batch: if first == 0 { 0 } else { &raw const before as u64 },
        out_batch: &raw mut last as u64,
        keys: keys.as_mut_ptr() as u64,
        values: to.as_mut_ptr() as u64,
        count: to.len() as u32,
        map_fd: array.as_raw_fd() as u32,
        elem_flags,
        flags: 0,
    };
    absent(bpf(BPF_MAP_LOOKUP_BATCH, &mut batch))?;
    Ok(batch.count as usize)
}

/// Where a walk through a hash map goes on, as the kernel has it; none at the beginning. It holds as long as the map.
pub type Cursor = Option<[u8; CURSOR]>;
/// The kernel writes a key at most.
const CURSOR: usize = 48;

/// Visit every entry of a hash map. Entries that come or go meanwhile may be visited or not; those that stay
/// are, once.
pub fn for_each<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    elem_flags: u64,
    visit: impl FnMut(&K, &V),
) -> io::Result<()> {
    walk(map, elem_flags, &mut None, u64::MAX, visit).map(drop)
}

/// The same from `here` on, which moves, until `most` entries were visited, or up to a batch more; whether that was the end.
pub fn walk<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    elem_flags: u64,
    here: &mut Cursor,
    most: u64,
    mut visit: impl FnMut(&K, &V),
) -> io::Result<bool> {
    const { assert!(size_of::<K>() <= CURSOR) };
    let mut size = BATCH;
    let (mut keys, mut values) = (vec![K::zeroed(); size], vec![V::zeroed(); size]);
    let (mut next, mut visited) = ([0; CURSOR], 0);
    while visited < most {
        let mut batch = Batch {
            in_batch: here.as_ref().map_or(0, |here| here.as_ptr() as u64),
            out_batch: next.as_mut_ptr() as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: size as u32,
            map_fd: map.as_raw_fd() as u32,
            elem_flags,
            flags: 0,
        };
        let done = bpf(BPF_MAP_LOOKUP_BATCH, &mut batch);
        let end = match &done {
            Ok(_) => false,
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => true,
            // One bucket holds more than the batch.
            Err(e) if e.raw_os_error() == Some(libc::ENOSPC) && size < 1 << 24 => {
                size *= 2;
                keys.resize(size, K::zeroed());
                values.resize(size, V::zeroed());
                continue;
            }
            Err(_) => return done.map(|_| false),
        };
        for (key, value) in keys.iter().zip(&values).take(batch.count as usize) {
            visit(key, value);
        }
        if end {
            *here = None;
            return Ok(true);
        }
        *here = Some(next);
        visited += u64::from(batch.count);
    }
    Ok(false)
}

/// Delete entries of a hash map; those that are gone already are passed over.
pub fn delete_all<K: Pod>(map: BorrowedFd<'_>, keys: &[K]) -> io::Result<()> {
    let mut rest = keys;
    while !rest.is_empty() {
        let mut batch = Batch {
            keys: rest.as_ptr() as u64,
            count: rest.len() as u32,
            map_fd: map.as_raw_fd() as u32,
            ..Batch::zeroed()
        };
        match bpf(BPF_MAP_DELETE_BATCH, &mut batch) {
            Ok(_) => return Ok(()),
            // The kernel stops there and says how many it deleted before.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
                rest = rest.get(batch.count as usize + 1..).unwrap_or_default();
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
