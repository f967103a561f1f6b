//! One look at a flow, under its lock: the segment is observed, or it is said why not.

use super::{Scratch, World, counts::note};
use crate::{
    before::{Before, before},
    close::end,
    flow::{Closed, Flow},
    health::Health,
    layout::HealthCounts,
    observe::{count_only, observe},
    scoreboard::Scoreboard,
};

/// What became of one look at a flow.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Observed.
    Done,
    /// The flow needs its scoreboard.
    Score,
    /// The flow is on its way to the flow table.
    Moved,
    /// The entry is another connection's by now.
    Gone,
    /// The flow that had the key was ended first.
    Ended,
}

/// One look at the flow, under its lock: enough for all but what belongs on the scoreboard.
#[inline(never)]
pub(super) fn look<W: World>(w: &W, entry: *mut Flow, x: &mut Scratch) -> Step {
    let Some(last) = w.moving() else { return Step::Gone };
    w.lock(entry);
    // SAFETY: the entry is a flow's, and the lock makes this the only reference; `last` is this packet's own.
    let step = unsafe {
        let step = step(&mut *entry, None, x);
        keep_last(&*entry, step, x, last);
        step
    };
    w.unlock(entry);
    step
}

/// Keeps the state in which a flow ended, for its record: once the lock is let go the entry may be another connection's.
///
/// # Safety
/// `last` must be valid for writes of a `Flow`.
#[inline(always)]
unsafe fn keep_last(flow: &Flow, step: Step, x: &Scratch, last: *mut Flow) {
    if step == Step::Ended || x.facts.closed.is_some() {
        // SAFETY: as the caller promises.
        unsafe { flow.copy_to(last) }
    }
}

/// One look with the scoreboard, made if need be; where it cannot be had, the segment is counted and not judged.
#[inline(never)]
pub(super) fn closely<W: World, const V6: bool>(
    w: &W,
    entry: *mut Flow,
    x: &mut Scratch,
    h: *mut HealthCounts,
) -> Step {
    match w.score(x.key::<V6>(), true) {
        Some(score) => look_closely(w, entry, score, x),
        None => {
            note(h, Health::ScoreboardFull);
            w.lock(entry);
            // SAFETY: as for `look`.
            let step = unsafe { unjudged(&mut *entry, x) };
            w.unlock(entry);
            step
        }
    }
}

#[inline(always)]
fn unjudged(flow: &mut Flow, x: &mut Scratch) -> Step {
    if flow.tag != x.sighting.tag {
        return Step::Gone;
    }
    if flow.has(Flow::MOVED) {
        return Step::Moved;
    }
    if !flow.has(Flow::USED) {
        return Step::Gone;
    }
    count_only(flow, &x.segment, &x.sighting, &mut x.facts);
    Step::Done
}

/// One look at the flow and its scoreboard, under the flow's lock.
#[inline(always)]
fn look_closely<W: World>(w: &W, entry: *mut Flow, score: *mut Scoreboard, x: &mut Scratch) -> Step {
    let Some(last) = w.moving() else { return Step::Gone };
    w.lock(entry);
    // SAFETY: as for `look`; the scoreboard is the flow's and under the same lock.
    let step = unsafe {
        let step = step(&mut *entry, Some(&mut *score), x);
        keep_last(&*entry, step, x, last);
        step
    };
    w.unlock(entry);
    step
}

#[inline(always)]
fn step(flow: &mut Flow, score: Option<&mut Scoreboard>, x: &mut Scratch) -> Step {
    if flow.tag != x.sighting.tag {
        return Step::Gone;
    }
    if flow.has(Flow::MOVED) {
        return Step::Moved;
    }
    match before(flow, &x.segment, x.sighting.dir, score.is_some()) {
        Before::Score => Step::Score,
        Before::Raced => Step::Gone,
        Before::End(close) => {
            x.ended = end(flow, close);
            x.facts.svc = flow.svc;
            Step::Ended
        }
        Before::Go => {
            observe(flow, score, &x.segment, &x.sighting, &mut x.facts);
            if x.facts.remember {
                x.closed = Closed::of(flow);
            }
            Step::Done
        }
    }
}
