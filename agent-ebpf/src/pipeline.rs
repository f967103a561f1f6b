//! A packet's way, in order: parse, find the flow, observe, judge, count, record. The same in the kernel and on the
//! host; only the tables ([`World`]) differ.
//!
//! Several processors may be here with packets of one flow. A flow changes only under its lock ([`World::with`]), so
//! its counts are exact and its state is one that some order of the packets gives. Totals are per processor and need
//! no lock. A flow that moves from the half-open to the flow table is frozen first (`Flow::MOVED`); whoever meets the
//! frozen one finishes the move, which is harmless to do twice. An entry that was given to another connection between
//! look-up and lock is known by its tag and looked up again.

use crate::{
    anomaly::{Anomaly, detect},
    close::{closer, end},
    counter::COUNTERS,
    facts::Facts,
    flow::{Closed, Flow, FlowKey},
    health::Health,
    histogram::Histogram,
    label::{Direction, Side},
    layout::{Config, HealthCounts, Totals, health_index, totals_index},
    observe::{Before, Settings, Sighting, before, observe},
    open::infer_client,
    phase::Phase,
    record::{AnomalyRecord, EndRecord, Head, Tag},
    scoreboard::Scoreboard,
    time::Nanos,
    traffic::{Close, Traffic},
    wire::{Addr, Frame, Segment},
};
use bytemuck::Pod;

/// The tables and the clock around the pipeline.
pub trait World {
    /// A flow's entry in a table.
    type Entry: Copy;
    /// A scoreboard's entry.
    type Score: Copy;

    /// The time of this packet.
    fn now(&self) -> Nanos;
    /// Fixed configuration.
    fn config(&self) -> Config;
    /// Limits.
    fn settings(&self) -> Settings;
    /// The number of the point on an interface.
    fn point(&self, ifindex: u32) -> Option<u8>;
    /// An established flow.
    fn flow(&self, key: &FlowKey) -> Option<Self::Entry>;
    /// A flow not seen to be a conversation yet.
    fn half_open(&self, key: &FlowKey) -> Option<Self::Entry>;
    /// Makes a blank half-open flow, or finds the one another processor has just made; `None` when the table is full.
    fn create(&self, key: &FlowKey) -> Option<Self::Entry>;
    /// Moves a frozen half-open flow to the flow table, or finds it moved; `None` when that table is full.
    fn promote(&self, key: &FlowKey, frozen: Self::Entry) -> Option<Self::Entry>;
    /// A flow's scoreboard, made if need be; `None` when there is no room.
    fn score(&self, key: &FlowKey, make: bool) -> Option<Self::Score>;
    /// What is remembered of the connection that had this key.
    fn closed(&self, key: &FlowKey) -> Option<Closed>;
    /// Remembers a closed connection.
    fn remember(&self, key: &FlowKey, closed: &Closed);
    /// The number of the service at an end point, 0 for none.
    fn service(&self, addr: &Addr, port: u16) -> u16;
    /// Works on a flow under its lock.
    fn with<R>(
        &self,
        entry: Self::Entry,
        score: Option<Self::Score>,
        work: impl FnOnce(&mut Flow, Option<&mut Scoreboard>) -> R,
    ) -> R;
    /// Counts of a half pair from a scoreboard, for the record of an end.
    fn counts(&self, score: Self::Score, to: &mut EndRecord);
    /// This processor's totals.
    fn totals(&self, index: u32) -> Option<*mut Totals>;
    /// This processor's self-counters.
    fn health(&self, index: u32) -> Option<*mut HealthCounts>;
    /// Working memory for this packet; nothing else uses it meanwhile. Its contents mean nothing.
    fn scratch(&self) -> Option<*mut Scratch>;
    /// Puts a record on the ring; false when it is full.
    fn submit<T: Pod>(&self, fill: impl FnOnce(*mut T)) -> bool;
}

/// Working memory of one packet; a kernel program's stack has no room for it.
#[derive(Clone, Copy, Debug)]
pub struct Scratch {
    segment: Segment,
    sighting: Sighting,
    facts: Facts,
    closed: Closed,
}

/// What became of one look at a flow.
enum Step {
    /// The flow needs its scoreboard.
    Score,
    /// The entry is frozen: the flow stands, or will stand, in the flow table.
    Moved,
    /// The entry is another connection's by now.
    Gone,
    /// The flow that had the key was ended first.
    Ended(Close, u32, u16),
    /// Observed.
    Done,
}

/// How often a packet looks at its flow: scoreboard, move, end of the old, observe; and once for a lost race.
const LOOKS: u32 = 5;

/// Takes one frame of interface `ifindex` all the way.
#[inline(always)]
pub fn run<W: World, F: Frame>(w: &W, frame: &F, ifindex: u32, direction: Direction) {
    let Some(point) = w.point(ifindex) else {
        let h = w.health(health_index(w.config().points, direction));
        note(h, Health::Seen);
        note(h, Health::UnknownInterface);
        return;
    };
    let h = w.health(health_index(point as u32, direction));
    note(h, Health::Seen);
    let Some(scratch) = w.scratch() else {
        note(h, Health::MapError);
        return;
    };
    // SAFETY: ours until this packet is through, by the contract of `scratch`; each part is written before it is read.
    let scratch = unsafe {
        (&raw mut (*scratch).segment).write(Segment::blank());
        (&raw mut (*scratch).sighting).write(Sighting::blank(direction));
        (&raw mut (*scratch).facts).write(Facts::blank(Side::Client, 0, 0));
        (&raw mut (*scratch).closed).write(Closed::default());
        &mut *scratch
    };
    match scratch.segment.read(frame) {
        Ok(()) => {
            note(h, Health::Counted);
            let Scratch { segment, sighting, facts, closed } = scratch;
            Passage { w, s: segment, point, direction, h }.run(sighting, facts, closed);
        }
        Err(reason) => note(h, reason),
    }
}

#[inline(always)]
fn note(h: Option<*mut HealthCounts>, what: Health) {
    if let Some(h) = h {
        // SAFETY: the pointer is to this processor's own counters, and nothing else holds a reference to them.
        unsafe { (*h)[what as usize] += 1 }
    }
}

#[inline(always)]
fn add(t: *mut Totals, place: usize, n: u64) {
    if place < COUNTERS {
        // SAFETY: as for `note`; the place is inside.
        unsafe { *t.cast::<u64>().add(place) += n }
    }
}

/// One segment on its way.
struct Passage<'a, W: World> {
    w: &'a W,
    s: &'a Segment,
    point: u8,
    direction: Direction,
    h: Option<*mut HealthCounts>,
}

impl<W: World> Passage<'_, W> {
    #[inline(always)]
    fn run(&self, at: &mut Sighting, f: &mut Facts, closed: &mut Closed) {
        let (w, s) = (self.w, self.s);
        let (key, dir) = FlowKey::canonical(self.point, s);
        at.dir = dir;
        at.tag = key.tag();
        at.now = w.now();
        at.settings = w.settings();
        let (mut entry, mut waiting) = match w.flow(&key) {
            Some(e) => (e, false),
            None => match w.half_open(&key) {
                Some(e) => (e, true),
                None => match self.meet(&key, at, f) {
                    Some(e) => (e, true),
                    None => return,
                },
            },
        };
        if s.flags.syn() && at.services == [0; 2] {
            at.services = self.services(&key);
        }
        let mut score = None;
        let mut scored = false;
        for _ in 0..LOOKS {
            let step = w.with(entry, score, |flow, sc| {
                if flow.has(Flow::USED) && flow.tag != at.tag {
                    return Step::Gone;
                }
                if waiting && flow.has(Flow::MOVED) {
                    return Step::Moved;
                }
                match before(flow, s, dir, scored) {
                    Before::Score => Step::Score,
                    Before::End(close) => {
                        let svc = flow.svc;
                        Step::Ended(close, end(flow, close), svc)
                    }
                    Before::Go => {
                        observe(flow, sc, s, at, f);
                        if waiting && f.confirmed {
                            flow.bits |= Flow::MOVED;
                        }
                        if f.remember {
                            *closed = Closed::of(flow);
                        }
                        Step::Done
                    }
                }
            });
            match step {
                Step::Score => {
                    scored = true;
                    score = w.score(&key, true);
                    if score.is_none() {
                        note(self.h, Health::ScoreboardFull);
                    }
                }
                Step::Moved => match w.promote(&key, entry) {
                    Some(e) => (entry, waiting) = (e, false),
                    None => {
                        note(self.h, Health::FlowTableFull);
                        return self.pass_by(at, f);
                    }
                },
                Step::Gone => match w.flow(&key) {
                    Some(e) => (entry, waiting) = (e, false),
                    None => match w.create(&key) {
                        Some(e) => (entry, waiting) = (e, true),
                        None => {
                            note(self.h, Health::HalfOpenFull);
                            return self.pass_by(at, f);
                        }
                    },
                },
                Step::Ended(close, unanswered, svc) => self.ended(&key, entry, at, close, unanswered, svc),
                Step::Done => {
                    if f.remember {
                        w.remember(&key, closed);
                    }
                    self.tell(&key, entry, at, f);
                    if waiting && f.confirmed && w.promote(&key, entry).is_none() {
                        note(self.h, Health::FlowTableFull);
                    }
                    return;
                }
            }
        }
        note(self.h, Health::MapError);
        self.pass_by(at, f);
    }

    /// The services of both ends.
    #[inline(always)]
    fn services(&self, key: &FlowKey) -> [u16; 2] {
        let [(low, lport), (high, hport)] = key.end_points();
        [self.w.service(&low, lport), self.w.service(&high, hport)]
    }

    /// A segment without a flow: opens one, unless it belongs to none.
    #[inline(always)]
    fn meet(&self, key: &FlowKey, at: &mut Sighting, f: &mut Facts) -> Option<W::Entry> {
        let (w, s) = (self.w, self.s);
        at.services = self.services(key);
        at.prior = w.closed(key);
        let late = match at.prior {
            Some(p) => at.now.since(p.at) <= at.settings.time_wait,
            None => false,
        };
        if s.flags.rst() {
            self.unknown(at, f);
            f.rst = true;
            if late {
                f.fin_before = true;
                f.phase = Phase::Closed;
            } else {
                f.first_cause = crate::anomaly::Cause::UnknownFlow as u8 + 1;
            }
            self.count(f, at);
            return None;
        }
        if late && !s.flags.syn() {
            // The tail of a connection that has ended and was let go.
            self.pass_by(at, f);
            return None;
        }
        let entry = w.create(key);
        if entry.is_none() {
            note(self.h, Health::HalfOpenFull);
            self.pass_by(at, f);
        }
        entry
    }

    /// Facts of a segment whose flow is not followed: whose it is, and nothing else.
    #[inline(always)]
    fn unknown(&self, at: &Sighting, f: &mut Facts) {
        let client =
            if self.s.flags.syn() { at.dir ^ self.s.flags.ack() as usize } else { infer_client(self.s, at) };
        let side = if client == at.dir { Side::Client } else { Side::Server };
        *f = Facts::blank(side, at.services[1 - (client & 1)], self.s.segments);
    }

    /// Counts a segment whose flow is not followed.
    #[inline(always)]
    fn pass_by(&self, at: &Sighting, f: &mut Facts) {
        self.unknown(at, f);
        self.count(f, at);
    }

    #[inline(always)]
    fn head(&self, at: &Sighting) -> Head {
        Head {
            tag: 0,
            vlans: self.s.vlans,
            at: at.now,
            client: self.s.src,
            server: self.s.dst,
            client_port: self.s.sport,
            server_port: self.s.dport,
            svc: 0,
            point: self.point,
            direction: self.direction as u8,
        }
    }

    /// Totals, and a record of what is wrong.
    #[inline(always)]
    fn count(&self, f: &Facts, at: &Sighting) {
        let (w, s) = (self.w, self.s);
        let Some(t) = w.totals(totals_index(w.config().services, self.point, f.svc, self.direction)) else {
            note(self.h, Health::MapError);
            return;
        };
        add(t, Traffic::Segments.place(f.side, 0), s.segments as u64);
        add(t, Traffic::Bytes.place(f.side, 0), s.bytes as u64);
        add(t, Traffic::PayloadBytes.place(f.side, 0), s.payload as u64);
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
            add(t, Traffic::Closed.place(closer(close), close as usize), 1);
        }
        if !f.notable() {
            return;
        }
        let set = detect(f, |place, n| add(t, place, n as u64));
        if set.to_record() {
            let head = self.head(at);
            // SAFETY: the ring hands out memory of a record's size.
            self.put(
                w.submit(|to: *mut AnomalyRecord| unsafe { to.write(AnomalyRecord::new(s, f, set, head)) }),
            );
        }
    }

    #[inline(always)]
    fn put(&self, stored: bool) {
        note(self.h, Health::RingSubmitted);
        if !stored {
            note(self.h, Health::RingLost);
        }
    }

    /// All that one observed segment gives.
    #[inline(always)]
    fn tell(&self, key: &FlowKey, entry: W::Entry, at: &Sighting, f: &Facts) {
        if f.hairpin {
            note(self.h, Health::Hairpin);
        }
        if f.hole_dropped {
            note(self.h, Health::HolesForgotten);
        }
        self.count(f, at);
        if f.closed.is_some() {
            self.record_end(key, entry, at);
        }
    }

    /// A flow was ended because another connection takes its key.
    #[inline(always)]
    fn ended(&self, key: &FlowKey, entry: W::Entry, at: &Sighting, close: Close, unanswered: u32, svc: u16) {
        let w = self.w;
        if let Some(t) = w.totals(totals_index(w.config().services, self.point, svc, self.direction)) {
            add(t, Traffic::Closed.place(closer(close), close as usize), 1);
            if unanswered > 0 {
                add(t, Anomaly::UnansweredRequest.place(Side::Client, 0), 1);
            }
        }
        self.record_end(key, entry, at);
    }

    /// Puts a flow's end on the ring, with its last state.
    #[inline(always)]
    fn record_end(&self, key: &FlowKey, entry: W::Entry, at: &Sighting) {
        let w = self.w;
        let score = w.score(key, false);
        let head = self.head(at);
        let low_is_source = at.dir == 0;
        self.put(w.submit(|to: *mut EndRecord| {
            // SAFETY: the ring hands out memory of a record's size, for this call alone.
            let to = unsafe { &mut *to };
            to.counts = [Default::default(); 2];
            if let Some(sc) = score {
                w.counts(sc, to);
            }
            w.with(entry, None, |flow, _| {
                // SAFETY: `to.flow` is a flow.
                unsafe { flow.copy_to(&mut to.flow) }
            });
            if !(to.flow.bits & Flow::SCORED != 0) {
                to.counts = [Default::default(); 2];
            }
            let source_is_client = (to.flow.client == 0) == low_is_source;
            let (client, server) =
                if source_is_client { (head.client, head.server) } else { (head.server, head.client) };
            let (cport, sport) = if source_is_client {
                (head.client_port, head.server_port)
            } else {
                (head.server_port, head.client_port)
            };
            to.head = Head {
                tag: Tag::End as u32,
                client,
                server,
                client_port: cport,
                server_port: sport,
                svc: to.flow.svc,
                ..head
            };
        }));
    }
}

#[inline(always)]
fn measure(t: *mut Totals, h: Histogram, nanos: u64) {
    add(t, h.bucket(nanos), 1);
    add(t, h.sum(), nanos);
}
