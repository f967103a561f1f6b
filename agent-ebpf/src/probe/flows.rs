//! The table of established flows: a hash map from key to slot, which decides; slots; and hints to them, which nearly always
//! spare the question ([`agent_ebpf::index`]).
//!
//! A slot is taken from a stack of free ones, and the flow of whoever had it before is known by its tag, which is read again
//! under the flow's lock. Each family has functions of its own: the kernel's verifier would follow both in each.

use crate::{
    lock::{enter, leave, lock, unlock},
    maps::*,
    world::put,
};
use agent_ebpf::{
    flow::{Flow, FlowKey, FlowKey4, FlowKey6},
    index,
    layout::{AT_ONCE, Read, Row, STEP, Take},
    wire::Addr,
};
use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{bpf_map_pop_elem, bpf_map_push_elem},
};
use core::ptr::NonNull;

macro_rules! family {
    ($name:ident, $key:ident, $any:ident, $place:literal, $flows:ident, $slots:ident, $keys:ident, $free:ident, $index:ident,
     $half_open:ident) => {
        pub mod $name {
            use super::*;

            /// The slot that the index has for a key.
            #[inline(always)]
            pub fn likely(key: &$key) -> Option<*mut Flow> {
                let i = INDEX.load();
                let hash = index::hash(&FlowKey::$any(*key), i.seed);
                let bucket = $index.get_ptr(index::place(hash, i.buckets[$place]))?;
                // SAFETY: the pointer is to a map value.
                $slots.get_ptr_mut(unsafe { index::find(bucket, hash) }?)
            }

            #[inline(always)]
            fn hint(key: &$key, number: u32) {
                let i = INDEX.load();
                let hash = index::hash(&FlowKey::$any(*key), i.seed);
                if let Some(bucket) = $index.get_ptr_mut(index::place(hash, i.buckets[$place])) {
                    // SAFETY: the pointer is to a map value.
                    unsafe { index::note(bucket, hash, number) };
                }
            }

            /// The slot of a key's flow, for certain.
            #[inline(never)]
            pub fn find(key: &$key) -> Option<NonNull<Flow>> {
                let tag = FlowKey::$any(*key).tag();
                // SAFETY: a word is whole.
                let number = *unsafe { $flows.get(key) }?;
                let slot = $slots.get_ptr_mut(number)?;
                // SAFETY: the pointer is to a map value.
                if unsafe { Flow::tag_of(slot) } != tag {
                    return None;
                }
                hint(key, number);
                NonNull::new(slot)
            }

            /// The same, made if need be: with its tag and `Flow::MOVED`, and whatever else stood there.
            #[inline(never)]
            pub fn reserve(key: &$key) -> Option<NonNull<Flow>> {
                let mut number = 0u32;
                // SAFETY: there is room for a number. The library's wrapper returns what a BPF function cannot.
                if unsafe { bpf_map_pop_elem((&raw const $free).cast_mut().cast(), (&raw mut number).cast()) }
                    != 0
                {
                    return find(key);
                }
                let slot = $slots.get_ptr_mut(number)?;
                let whose = $keys.get_ptr_mut(number)?;
                let high = HIGH.get_ptr_mut(0)?;
                // The kernel's lock is enough: nobody goes the short way on a flow that is blank, or marked.
                lock(slot);
                // SAFETY: the slot is nobody's; who knows it from before finds another tag, or none, under this lock.
                // What else stands in it nobody reads until the mark goes, and then all of it is written.
                unsafe {
                    // The mark first: who finds the tag by an old hint sees it.
                    (&raw mut (*slot).bits).write_volatile(Flow::MOVED);
                    (&raw mut (*slot).tag).write_volatile(FlowKey::$any(*key).tag());
                }
                unlock(slot);
                // SAFETY: as above; and this processor's own.
                unsafe {
                    *whose = *key;
                    if (*high)[$place] <= number {
                        (*high)[$place] = number + 1;
                    }
                }
                if put(&$flows, key, &number, BPF_NOEXIST) {
                    hint(key, number);
                    return NonNull::new(slot);
                }
                // Another processor has made it.
                lock(slot);
                // SAFETY: under its lock, and marked.
                unsafe { (*slot).wipe(0) };
                unlock(slot);
                // SAFETY: the number lives.
                unsafe {
                    bpf_map_push_elem((&raw const $free).cast_mut().cast(), (&raw const number).cast(), 0)
                };
                find(key)
            }

            /// Copies the next flows with their keys, up to one that somebody does not let go; how many rows there are by then.
            #[inline(never)]
            pub fn read(what: &Read) -> u32 {
                // Opaque: the verifier must see it checked.
                let row = core::hint::black_box(what.row);
                let Some(rows) = ROWS.get_ptr_mut(0) else { return 0 };
                if row > AT_ONCE - STEP {
                    return row;
                }
                let rows: *mut Row = rows.cast();
                for i in 0..STEP {
                    let number = what.first + i;
                    let (Some(slot), Some(key)) = ($slots.get_ptr_mut(number), $keys.get_ptr(number)) else {
                        return row + i;
                    };
                    // SAFETY: the flow is read under its lock, and a key that is being written meanwhile is not its tag's;
                    // the row is one of the map's.
                    unsafe {
                        if !enter(slot) {
                            return row + i;
                        }
                        let row = rows.add((row + i) as usize);
                        (*row).flow.tag = 0;
                        lock(slot);
                        if (*slot).tag != 0 {
                            (*slot).copy_to(&raw mut (*row).flow);
                        }
                        unlock(slot);
                        leave(slot);
                        (&raw mut (*row).key).cast::<$key>().write(*key);
                    }
                }
                row + STEP
            }

            /// Lets go of a key's flow if it still is what `was` says and nobody holds it; 1 if so.
            #[inline(never)]
            pub fn take(key: &$key, was: &Take) -> u32 {
                // SAFETY: a word is whole.
                let known = unsafe { $flows.get(key) };
                let Some(&number) = known else { return 0 };
                let Some(slot) = $slots.get_ptr_mut(number) else { return 0 };
                if !enter(slot) {
                    return 0;
                }
                let wiped = wipe(slot, was);
                leave(slot);
                if !wiped {
                    return 0;
                }
                // Until here nobody could put the key in again: it was there.
                let _ = $flows.remove(key);
                // SAFETY: the number lives.
                unsafe {
                    bpf_map_push_elem((&raw const $free).cast_mut().cast(), (&raw const number).cast(), 0)
                };
                1
            }

            /// The same of one that is not established.
            #[inline(never)]
            pub fn take_half_open(key: &$key, was: &Take) -> u32 {
                let Some(entry) = $half_open.get_ptr_mut(key) else { return 0 };
                if !wipe(entry, was) {
                    return 0;
                }
                // Who has found the entry meanwhile finds nobody's tag in it.
                let _ = $half_open.remove(key);
                1
            }
        }
    };
}

family!(flows4, FlowKey4, V4, 0, FLOWS4, SLOTS4, KEYS4, FREE4, INDEX4, HALF_OPEN4);
family!(flows6, FlowKey6, V6, 1, FLOWS6, SLOTS6, KEYS6, FREE6, INDEX6, HALF_OPEN6);

/// Makes an entry nobody's if it still is what `was` says; whether it was.
#[inline(always)]
fn wipe(entry: *mut Flow, was: &Take) -> bool {
    lock(entry);
    // SAFETY: under its lock.
    let same = unsafe {
        let flow = &mut *entry;
        let same = flow.tag == was.tag
            && flow.bits as u32 == was.bits
            && flow.half[0].segments == was.segments[0]
            && flow.half[1].segments == was.segments[1];
        if same {
            flow.wipe(0);
        }
        same
    };
    unlock(entry);
    same
}

/// Lets go of the flow that the daemon names; 1 if so.
#[inline(always)]
pub fn take(was: &Take) -> u32 {
    let (k, half_open) = (&was.key, was.table & Take::HALF_OPEN != 0);
    if was.table & Take::V6 == 0 {
        let key = FlowKey4 { low: k[0], high: k[1], ports: k[2], scope: k[3] };
        if half_open { flows4::take_half_open(&key, was) } else { flows4::take(&key, was) }
    } else {
        let (low, high) = (Addr([k[0], k[1], k[2], k[3]]), Addr([k[4], k[5], k[6], k[7]]));
        let key = FlowKey6 { low, high, ports: k[8], scope: k[9] };
        if half_open { flows6::take_half_open(&key, was) } else { flows6::take(&key, was) }
    }
}

/// Copies flows for the daemon; how many rows there are by then.
#[inline(always)]
pub fn read(what: &Read) -> u32 {
    if what.v6 == 0 { flows4::read(what) } else { flows6::read(what) }
}
