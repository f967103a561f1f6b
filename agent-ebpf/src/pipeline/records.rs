//! What goes on the ring: anomalies, ends, and texts where a service asks for them.

use super::{Scratch, World, counts::note_of};
use crate::{
    flow::Flow,
    health::Health,
    record::{AnomalyRecord, EndRecord, Head, Tag, TextRecord},
    wire::{Frame, QUOTED},
};

/// Puts a segment with an anomaly on the ring.
#[inline(always)]
pub(super) fn record_anomaly<W: World>(w: &W, x: &Scratch) {
    // SAFETY: the ring hands out memory of a record's size.
    let stored =
        w.submit(|to: *mut AnomalyRecord| unsafe { (*to).fill(&x.segment, &x.facts, x.found, head(x)) });
    submitted(w, x, stored);
}

/// Puts the beginning of a request or an answer on the ring.
#[inline(never)]
pub(super) fn quote<W: World, F: Frame>(w: &W, frame: &F, x: &Scratch) {
    let s = &x.segment;
    let stored = w.submit(|to: *mut TextRecord| {
        // SAFETY: the ring hands out memory of a record's size, for this call alone.
        let to = unsafe { &mut *to };
        // Whatever stood there before on the ring; word by word, as `words::copy` says.
        let words: *mut u64 = (&raw mut to.bytes).cast();
        for i in 0..QUOTED / 8 {
            // SAFETY: inside the bytes, which follow whole words in the record.
            unsafe { words.add(i).write_volatile(0) };
        }
        let len = frame.quote(s.payload_at, s.payload, &mut to.bytes);
        to.fill(head(x), x.facts.side, x.facts.svc, len);
    });
    submitted(w, x, stored);
}

#[inline(always)]
fn submitted<W: World>(w: &W, x: &Scratch, stored: bool) {
    note_of(w, x, Health::RingSubmitted);
    if !stored {
        note_of(w, x, Health::RingLost);
    }
}

/// Whom a record is about, with the segment's sender as the client.
#[inline(always)]
fn head(x: &Scratch) -> Head {
    let s = &x.segment;
    Head {
        tag: 0,
        vlans: s.vlans,
        at: x.sighting.now,
        client: s.src,
        server: s.dst,
        client_port: s.sport,
        server_port: s.dport,
        svc: 0,
        point: x.point,
        direction: x.direction as u8,
    }
}

/// Puts a flow's end on the ring, with the state that `look` kept of it.
#[inline(never)]
pub(super) fn record_end<W: World, const V6: bool>(w: &W, x: &Scratch) {
    let Some(last) = w.moving() else { return };
    let score = w.score(x.key::<V6>(), false);
    let stored = w.submit(|to: *mut EndRecord| {
        // SAFETY: the ring hands out memory of a record's size, for this call alone.
        let to = unsafe { &mut *to };
        // SAFETY: this packet's own, and `to.flow` is another.
        unsafe { (*last).copy_to(&mut to.flow) };
        to.counts = match score {
            // SAFETY: the scoreboard is the flow's; counts read while another processor writes are of before or after.
            Some(sc) if to.flow.has(Flow::SCORED) => unsafe { [(*sc).half[0].counts, (*sc).half[1].counts] },
            _ => [Default::default(); 2],
        };
        to.head = head(x);
        to.head.tag = Tag::End as u32;
        to.head.svc = to.flow.svc;
        if to.flow.client as usize != x.sighting.dir {
            to.head.turn();
        }
    });
    submitted(w, x, stored);
}
