//! What is counted: this processor's totals, and what the pipeline counts of itself.

use super::{
    Scratch, World,
    records::{record_anomaly, record_end},
};
use crate::{
    anomaly::{Anomaly, detect},
    close::closer,
    counter::COUNTERS,
    health::Health,
    histogram::Histogram,
    label::Side,
    layout::{HealthCounts, Totals, health_index, totals_index},
    traffic::{Close, Served, Traffic},
};

#[inline(always)]
pub(super) fn note(h: *mut HealthCounts, what: Health) {
    let place = core::hint::black_box(what as usize);
    if place < Health::COUNT {
        // SAFETY: the pointer is to this processor's own counters, and nothing else holds a reference to them.
        unsafe { (*h)[place] += 1 }
    }
}

/// The same where the counters are not at hand.
#[inline(never)]
pub(super) fn note_of<W: World>(w: &W, x: &Scratch, what: Health) {
    if let Some(h) = w.health(health_index(x.point as u32, x.direction)) {
        note(h, what);
    }
}

#[inline(always)]
fn add(t: *mut Totals, place: usize, n: u64) {
    // Opaque: the compiler knows the ranges of the enumerations behind it and would drop the check, but the kernel's
    // verifier does not and wants to see it.
    let place = core::hint::black_box(place);
    if place < COUNTERS {
        // SAFETY: as for `note`; the place is inside.
        unsafe { *t.cast::<u64>().add(place) += n }
    }
}

#[inline(always)]
pub(super) fn measure(t: *mut Totals, h: Histogram, nanos: u64) {
    add(t, h.bucket(nanos), 1);
    add(t, h.sum(), nanos);
}

#[inline(always)]
pub(super) fn add_traffic(t: *mut Totals, side: Side, segments: u32, bytes: u32, payload: u32) {
    add(t, Traffic::Segments.place(side, 0), segments as u64);
    add(t, Traffic::Bytes.place(side, 0), bytes as u64);
    add(t, Traffic::PayloadBytes.place(side, 0), payload as u64);
}

#[inline(always)]
fn add_end(t: *mut Totals, close: Close, served: Served) {
    add(t, Traffic::Closed.place(closer(close), close as usize), 1);
    add(t, Traffic::Served.place(Side::Client, served as usize), 1);
}

/// Totals, and a record of what is wrong.
#[inline(never)]
pub(super) fn count<W: World>(w: &W, x: &mut Scratch) {
    let (f, s) = (&x.facts, &x.segment);
    let Some(t) = w.totals(totals_index(w.config().services, x.point, f.svc, x.direction)) else {
        return note_of(w, x, Health::MapError);
    };
    add_traffic(t, f.side, s.segments, s.bytes, s.payload);
    if let Some(by) = f.opened {
        add(t, Traffic::Opened.place(f.side, by as usize), 1);
    }
    if f.gap_measured {
        measure(t, Histogram::ReuseGap, f.gap);
    }
    if let Some(us) = f.handshake_us {
        add(t, Traffic::Established.place(Side::Client, 0), 1);
        measure(t, Histogram::HandshakeRtt, us as u64 * 1_000);
    }
    if let Some(us) = f.first_byte_us {
        measure(t, Histogram::FirstByte, us as u64 * 1_000);
    }
    if let Some(close) = f.closed {
        add_end(t, close, f.served);
    }
    if !f.notable() {
        return;
    }
    let set = &mut x.found;
    detect(f, |a, place, n| {
        set.add(a);
        add(t, place, n as u64);
    });
    if x.found.to_record() {
        record_anomaly(w, x);
    }
}

/// A flow was ended because another connection takes its key.
#[inline(never)]
pub(super) fn ended<W: World, const V6: bool>(w: &W, x: &mut Scratch) {
    let end = x.ended;
    match w.totals(totals_index(w.config().services, x.point, x.facts.svc, x.direction)) {
        Some(t) => {
            add_end(t, end.close, end.served);
            if end.unanswered > 0 {
                add(t, Anomaly::UnansweredRequest.place(Side::Client, 0), 1);
            }
        }
        None => note_of(w, x, Health::MapError),
    }
    record_end::<W, V6>(w, x);
}
