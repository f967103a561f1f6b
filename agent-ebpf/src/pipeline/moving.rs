//! A flow's way from the half-open to the flow table, with other processors at work on it.
//!
//! It has its place in the flow table first, and then both are marked (`Flow::MOVED`); whoever meets a marked one finishes
//! the move, which is harmless to do twice. Where there is no place nothing is marked, and the flow is followed where it
//! stands.

use super::{Scratch, World, counts::note, meet};
use crate::{flow::Flow, health::Health, layout::HealthCounts};
use core::ptr::NonNull;

/// Gives a flow that was seen to be a conversation its place in the flow table.
#[inline(always)]
pub(super) fn confirm<W: World, const V6: bool>(w: &W, x: &Scratch, entry: *mut Flow, h: *mut HealthCounts) {
    match w.reserve(x.key::<V6>()) {
        Some(place) => settle::<W, V6>(w, x, place),
        None => stay(w, x, entry, h),
    }
}

/// An entry of a flow that the flow table does not have: one half-open, or made for it.
///
/// The flow table is asked again afterwards. Another processor may have promoted the flow since it was asked first; then
/// it has its place there before it goes from the half-open table. What was found or made here is nobody's once that place
/// is filled, and what it is filled with until then.
#[inline(never)]
pub(super) fn unconfirmed<W: World, const V6: bool>(w: &W, x: &mut Scratch) -> Option<NonNull<Flow>> {
    x.waiting = true;
    let entry = match w.half_open(x.key::<V6>()) {
        Some(e) => NonNull::new(e),
        None => meet::<W, V6>(w, x),
    };
    if entry.is_some()
        && let Some(e) = w.flow(x.key::<V6>())
    {
        // SAFETY: the entry is a flow's; the mark goes only once, when the place has been filled.
        if unsafe { !Flow::is_moved(e) } {
            w.abandon(x.key::<V6>());
        }
        x.waiting = false;
        return NonNull::new(e);
    }
    entry
}

/// Fills the flow's place in the flow table with what the half-open table has of it, unless another processor has done so.
///
/// What the half-open table has not any more has been filled in already, or ended by silence in this instant: a place
/// still without content begins anew.
#[inline(never)]
pub(super) fn settle<W: World, const V6: bool>(w: &W, x: &Scratch, place: *mut Flow) {
    let Some(copy) = w.moving() else { return };
    let tag = x.sighting.tag;
    // SAFETY: the room is ours for this packet, by the contract of `moving`, and of a flow's size.
    unsafe { (*copy).wipe(tag) };
    if let Some(left) = w.half_open(x.key::<V6>()) {
        w.lock(left);
        // SAFETY: the entry is a flow's, under its lock; `copy` is another.
        unsafe {
            if (*left).tag == tag {
                (*left).bits |= Flow::MOVED;
                (*left).copy_to(copy);
            }
        }
        w.unlock(left);
    }
    // Nobody goes the short way on a flow that is marked, and the mark goes last.
    w.lock(place);
    // SAFETY: as above; what this lock guards is not read, and not written.
    unsafe {
        if (*place).tag == tag && (*place).has(Flow::MOVED) {
            (*copy).bits &= !Flow::MOVED;
            (*copy).put_in(place);
        }
    }
    w.unlock(place);
    w.abandon(x.key::<V6>());
}

/// A flow that finds no place in the flow table: followed where it stands, and counted once.
#[inline(never)]
fn stay<W: World>(w: &W, x: &Scratch, entry: *mut Flow, h: *mut HealthCounts) {
    w.lock(entry);
    // SAFETY: as for `look`.
    let first = unsafe {
        let first = (*entry).tag == x.sighting.tag && !(*entry).has(Flow::CROWDED);
        if first {
            (*entry).bits |= Flow::CROWDED;
        }
        first
    };
    w.unlock(entry);
    if first {
        note(h, Health::FlowTableFull);
    }
}
