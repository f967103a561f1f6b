//! Where an established flow probably stands: a bucket of one cache line holds hints to the slots of eight flows.
//!
//! The kernel's hash map knows for certain, and costs as much as all the rest of a healthy segment. A hint is a guess that
//! is checked against the flow itself, under its lock; one that is missing, old or overwritten costs a question to the hash
//! map and nothing else, so nobody needs a lock to write one.

use crate::flow::FlowKey;

/// Hints of a bucket.
pub const WAYS: usize = 8;
/// Hints, 0 where there is none: number of the slot in the lower bits, of the key's hash the rest.
pub type Bucket = [u64; WAYS];
/// Bits of a slot's number.
const SLOT_BITS: u32 = 24;
const SLOT: u64 = (1 << SLOT_BITS) - 1;
/// A hint is never 0.
const THERE: u64 = 1 << 63;
/// Slots that hints can name.
pub const MAX_SLOTS: u32 = 1 << SLOT_BITS;

/// A number by which a flow's bucket is found, and its hint known there. `seed` is a secret: who sends packets cannot choose
/// two keys with the same.
#[inline(always)]
pub fn hash(key: &FlowKey, seed: u64) -> u64 {
    let mix = |h: u64, w: u64| {
        let h = (h ^ w).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        h ^ h >> 32
    };
    let pair = |high: u32, low: u32| (high as u64) << 32 | low as u64;
    let words = match key {
        FlowKey::V4(k) => mix(mix(seed, pair(k.low, k.high)), pair(k.ports, k.scope)),
        FlowKey::V6(k) => {
            let (a, b) = (&k.low.0, &k.high.0);
            let low = mix(mix(seed, pair(a[0], a[1])), pair(a[2], a[3]));
            let high = mix(mix(low, pair(b[0], b[1])), pair(b[2], b[3]));
            mix(high, pair(k.ports, k.scope))
        }
    };
    // Once more: ports stand in the last word's upper half, and of a product those bits reach the upper half alone.
    mix(words, 0)
}

/// Which of so many buckets, a power of two.
#[inline(always)]
pub const fn place(hash: u64, buckets: u32) -> u32 {
    hash as u32 & SLOT as u32 & buckets.wrapping_sub(1)
}

/// The hint that a flow stands in this slot.
#[inline(always)]
pub const fn hint(hash: u64, slot: u32) -> u64 {
    hash & !SLOT | THERE | slot as u64
}

/// The slot that a bucket has a hint to.
///
/// # Safety
/// `bucket` must be valid for reads; others may write to it.
#[inline(always)]
pub unsafe fn find(bucket: *const Bucket, hash: u64) -> Option<u32> {
    let wanted = hint(hash, 0);
    for way in 0..WAYS {
        // SAFETY: as the caller promises; each hint is a word, valid by itself.
        let slot = unsafe { bucket.cast::<u64>().add(way).read_volatile() } ^ wanted;
        if slot <= SLOT {
            return Some(slot as u32);
        }
    }
    None
}

/// Writes a hint: over an old one of the same key, else where there is none, else over another's.
///
/// # Safety
/// `bucket` must be valid for reads and writes; others may write to it, too.
#[inline(always)]
pub unsafe fn note(bucket: *mut Bucket, hash: u64, slot: u32) {
    let (hint, known) = (hint(hash, slot), hint(hash, 0));
    let words: *mut u64 = bucket.cast();
    let mut to = (hash >> SLOT_BITS) as usize % WAYS;
    for way in 0..WAYS {
        // SAFETY: as for `find`.
        let there = unsafe { words.add(way).read_volatile() };
        if there & !SLOT == known || there == 0 {
            to = way;
            break;
        }
    }
    // SAFETY: as the caller promises.
    unsafe { words.add(to).write_volatile(hint) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{FlowKey4, FlowKey6};

    fn key(ports: u32) -> FlowKey {
        FlowKey::V4(FlowKey4 { low: 1, high: 2, ports, scope: 0 })
    }

    #[test]
    fn what_was_noted_is_found_and_the_last_counts() {
        let mut bucket = Bucket::default();
        let hash = hash(&key(7), 1);
        // SAFETY: the bucket is this test's.
        let find = |bucket: &Bucket, hash| unsafe { find(bucket, hash) };
        // SAFETY: as above.
        let mut note = |hash, slot| unsafe { note(&mut bucket, hash, slot) };
        note(hash, 0);
        note(hash, MAX_SLOTS - 1);
        assert_eq!(find(&bucket, hash), Some(MAX_SLOTS - 1));
        assert_eq!(bucket.iter().filter(|hint| **hint != 0).count(), 1);
    }

    #[test]
    fn a_full_bucket_gives_one_hint_up() {
        let mut bucket = Bucket::default();
        let hashes: Vec<u64> = (0..9).map(|ports| hash(&key(ports), 5)).collect();
        for (slot, hash) in (0..).zip(&hashes) {
            // SAFETY: the bucket is this test's.
            unsafe { note(&mut bucket, *hash, slot) };
        }
        // SAFETY: as above.
        let found: Vec<u32> = hashes.iter().filter_map(|hash| unsafe { find(&bucket, *hash) }).collect();
        assert_eq!((found.len(), found.last()), (8, Some(&8)));
    }

    #[test]
    fn keys_and_seeds_are_told_apart() {
        let six = |ports| FlowKey::V6(FlowKey6 { ports, ..FlowKey6::default() });
        let keys: Vec<FlowKey> =
            (0..1_000).flat_map(|ports| [key(ports << 16), key(ports), six(ports)]).collect();
        let mut seen: Vec<u64> =
            keys.iter().flat_map(|k| [hash(k, 1), hash(k, 2)].map(|h| hint(h, 0))).collect();
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all - 2, "ports 0 stand there twice, under two seeds");
        let mut buckets = [0; 64];
        keys.iter().for_each(|k| buckets[place(hash(k, 3), 64) as usize] += 1);
        assert!(buckets.iter().all(|n| (20..80).contains(n)), "{buckets:?}");
    }
}
