//! A packet's way, in order: parse, find the flow, observe, judge, count, record. The same in the kernel and on the
//! host; only the tables ([`World`]) differ.
//!
//! Several processors may be here with packets of one flow. A flow changes only under its lock ([`World::with`]), so
//! its counts are exact and its state is one that some order of the packets gives. Totals are per processor and need
//! no lock. An entry that was given to another connection between look-up and lock is known by its tag and looked up again.
//! How a flow goes from table to table: [`moving`]; what is
//! told of it: [`records`].

mod moving;
mod records;

use crate::{
    anomaly::{Anomaly, AnomalySet, Cause, detect},
    close::{End, closer, end},
    counter::COUNTERS,
    facts::Facts,
    flow::{Closed, Flow, FlowKey, FlowKey4, scope},
    health::Health,
    histogram::Histogram,
    hops::{self, Hops},
    label::{Direction, Side},
    layout::{Config, HealthCounts, SERVICE_TEXT, Totals, health_index, totals_index},
    observe::{Before, Settings, Sighting, before, count_only, observe},
    open::{client_of, service_of},
    phase::Phase,
    quick::{self, Plain},
    scoreboard::Scoreboard,
    seq::SeqNum,
    time::Nanos,
    traffic::{Close, Served, Traffic},
    wire::{Addr, Frame, Segment},
    words,
};
use bytemuck::Pod;
use core::ptr::NonNull;
use moving::{confirm, settle, unconfirmed};
use records::{quote, record_anomaly, record_end};

/// The tables and the clock around the pipeline.
pub trait World {
    /// The time of this packet.
    fn now(&self) -> Nanos;
    /// The same a few milliseconds late, where that is cheaper.
    fn coarse_now(&self) -> Nanos;
    /// Fixed configuration.
    fn config(&self) -> Config;
    /// Limits.
    fn settings(&self) -> Settings;
    /// The number of the point on an interface.
    fn point(&self, ifindex: u32) -> Option<u8>;
    /// The place where an established flow probably is, if that is known at once; whose it is the caller has to see.
    fn likely(&self, key: &FlowKey) -> Option<*mut Flow>;
    /// An established flow, for certain; costs more.
    fn flow(&self, key: &FlowKey) -> Option<*mut Flow>;
    /// A flow not seen to be a conversation yet.
    fn half_open(&self, key: &FlowKey) -> Option<*mut Flow>;
    /// Makes a half-open flow, blank but for its tag, or finds the one another processor has just made; `None` when the table is full.
    fn create(&self, key: &FlowKey) -> Option<*mut Flow>;
    /// A place in the flow table, found or made: with its tag and `Flow::MOVED`, and nothing else that means anything; `None`
    /// when that table is full.
    fn reserve(&self, key: &FlowKey) -> Option<*mut Flow>;
    /// Room for a flow on its way there; nothing else uses it meanwhile. Its contents mean nothing.
    fn moving(&self) -> Option<*mut Flow>;
    /// Drops what the half-open table has of a flow that stands in the flow table.
    fn abandon(&self, key: &FlowKey);
    /// A flow's scoreboard, made if need be; `None` when there is no room.
    fn score(&self, key: &FlowKey, make: bool) -> Option<*mut Scoreboard>;
    /// What is remembered of the connection that had this key.
    fn closed(&self, key: &FlowKey) -> Option<Closed>;
    /// Remembers a closed connection; false when there is no room.
    fn remember(&self, key: &FlowKey, closed: &Closed) -> bool;
    /// The number of the service at an end point, 0 for none.
    fn service(&self, addr: &Addr, port: u16) -> u16;
    /// A place of the table of TTLs ([`hops`]).
    fn hops(&self, place: u32) -> Option<*mut u64>;
    /// Takes a flow's lock. Nothing of the world may be asked until [`World::unlock`].
    fn lock(&self, entry: *mut Flow);
    /// Lets it go.
    fn unlock(&self, entry: *mut Flow);
    /// This processor's totals.
    fn totals(&self, index: u32) -> Option<*mut Totals>;
    /// This processor's self-counters.
    fn health(&self, index: u32) -> Option<*mut HealthCounts>;
    /// Working memory for this packet; nothing else uses it meanwhile. Its contents mean nothing.
    fn scratch(&self) -> Option<*mut Scratch>;
    /// The same for segments that go the short way ([`quick`]), of which `scratch` does not tell; `None` where all go the
    /// long one.
    fn plain(&self) -> Option<*mut Plain>;
    /// Puts a record on the ring; false when it is full.
    fn submit<T: Pod>(&self, fill: impl FnOnce(*mut T)) -> bool;
}

/// Working memory of one packet; a kernel program's stack has no room for it.
#[derive(Clone, Copy, Debug)]
pub struct Scratch {
    segment: Segment,
    key: FlowKey,
    sighting: Sighting,
    facts: Facts,
    closed: Closed,
    found: AnomalySet,
    point: u8,
    direction: Direction,
    /// The flow's entry is in the half-open table.
    waiting: bool,
    /// The services of its ends are known.
    asked: bool,
    /// How the flow ended that had the key before.
    ended: End,
}

/// Before the packet is read.
static BLANK: Scratch = Scratch {
    segment: Segment::blank(),
    key: FlowKey::V4(FlowKey4 { low: 0, high: 0, ports: 0, scope: 0 }),
    sighting: Sighting::blank(Direction::Ingress),
    facts: Facts::blank(Side::Client, 0, 0),
    closed: Closed { at: Nanos(0), next: [SeqNum(0); 2], isn: [SeqNum(0); 2], holder: 0, reserved: 0 },
    found: AnomalySet(0),
    point: 0,
    direction: Direction::Ingress,
    waiting: false,
    asked: false,
    ended: End { close: Close::Silence, served: Served::Unused, unanswered: 0 },
};

impl Scratch {
    /// What a packet that was counted said and did, the key of its connection, and which half of that it belongs to.
    pub const fn judged(&self) -> (&Segment, &Facts, &FlowKey, usize) {
        (&self.segment, &self.facts, &self.key, self.sighting.dir)
    }

    /// The key, of which the caller knows the family.
    #[inline(always)]
    fn key<const V6: bool>(&self) -> &FlowKey {
        // SAFETY: `follow` chose the family by the key, which does not change until the packet is through.
        unsafe { core::hint::assert_unchecked(matches!(self.key, FlowKey::V6(_)) == V6) };
        &self.key
    }
}

/// What became of one look at a flow.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
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

/// Takes one frame of interface `ifindex` all the way.
///
/// The parts below are functions of their own in the kernel, too: each has the stack to itself.
#[inline(always)]
pub fn run<W: World, F: Frame>(w: &W, frame: &F, ifindex: u32, direction: Direction) {
    let point = w.point(ifindex);
    let place = match point {
        Some(p) => p as u32,
        None => w.config().points,
    };
    // There always is: `Config::points` and the table were made together.
    let Some(h) = w.health(health_index(place, direction)) else { return };
    note(h, Health::Seen);
    let Some(point) = point else {
        return note(h, Health::UnknownInterface);
    };
    if let Some(p) = w.plain()
        // SAFETY: ours until this packet is through, by the contract of `plain`; what is asked of it was written before.
        && quickly(w, frame, unsafe { &mut *p }, (point, direction), h)
    {
        return;
    }
    let Some(x) = w.scratch() else {
        return note(h, Health::MapError);
    };
    // SAFETY: ours until this packet is through, by the contract of `scratch`; written whole before it is read.
    let x = unsafe {
        words::copy(&BLANK, x);
        &mut *x
    };
    (x.sighting.direction, x.direction, x.point) = (direction, direction, point);
    match read(frame, &mut x.segment) {
        None => {
            note(h, Health::Counted);
            follow(w, x, h);
            count(w, x);
            if x.facts.text {
                quote(w, frame, x);
            }
        }
        Some(reason) => note(h, reason),
    }
}

/// Why the frame holds no segment, or none if it does.
#[inline(never)]
fn read<F: Frame>(frame: &F, segment: &mut Segment) -> Option<Health> {
    segment.read(frame).err()
}

#[inline(always)]
fn note(h: *mut HealthCounts, what: Health) {
    let place = core::hint::black_box(what as usize);
    if place < Health::COUNT {
        // SAFETY: the pointer is to this processor's own counters, and nothing else holds a reference to them.
        unsafe { (*h)[place] += 1 }
    }
}

/// The same where the counters are not at hand.
#[inline(never)]
fn note_of<W: World>(w: &W, x: &Scratch, what: Health) {
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
fn measure(t: *mut Totals, h: Histogram, nanos: u64) {
    add(t, h.bucket(nanos), 1);
    add(t, h.sum(), nanos);
}

/// A segment's way from its key to its facts.
#[inline(always)]
fn follow<W: World>(w: &W, x: &mut Scratch, h: *mut HealthCounts) {
    x.sighting.dir = x.key.set(x.point, &x.segment);
    x.sighting.tag = x.key.tag();
    x.sighting.now = w.now();
    x.sighting.settings = w.settings();
    // Each family by itself from here on: the kernel's verifier would follow the tables of both in every combination.
    match x.key {
        FlowKey::V4(_) => follow_in::<W, false>(w, x, h),
        FlowKey::V6(_) => follow_in::<W, true>(w, x, h),
    }
}

#[inline(never)]
fn follow_in<W: World, const V6: bool>(w: &W, x: &mut Scratch, h: *mut HealthCounts) {
    // A SYN seldom has a flow, and there is no hint to what is not there.
    let hinted = if x.segment.flags.syn() { None } else { w.likely(x.key::<V6>()) };
    let found = match hinted {
        // An old hint may lead to a slot that another processor is just giving to this very key, and has not put in the map
        // yet: it is marked.
        // SAFETY: the entry is a flow's.
        Some(e) if unsafe { Flow::tag_of(e) == x.sighting.tag && !Flow::is_moved(e) } => Some(e),
        _ => w.flow(x.key::<V6>()),
    };
    let mut entry = match found {
        Some(e) => e,
        None => match unconfirmed::<W, V6>(w, x) {
            Some(e) => e.as_ptr(),
            None => return,
        },
    };
    if x.segment.flags.syn() && !x.asked {
        services(w, x);
    }
    if x.segment.flags.rst() || (x.segment.flags.syn() && x.segment.flags.ack()) {
        distance(w, x);
    }
    let mut step = look(w, entry, x);
    if step == Step::Ended {
        ended::<W, V6>(w, x);
        forget(x);
        step = look(w, entry, x);
    }
    if step == Step::Score {
        step = closely::<W, V6>(w, entry, x, h);
    }
    if step == Step::Moved || step == Step::Gone {
        let Some(e) = w.flow(x.key::<V6>()) else {
            note(h, Health::LostRace);
            return stranger(x);
        };
        entry = e;
        settle::<W, V6>(w, x, entry);
        x.waiting = false;
        step = closely::<W, V6>(w, entry, x, h);
    }
    if step != Step::Done {
        note(h, Health::LostRace);
        return stranger(x);
    }
    if x.facts.remember && !w.remember(x.key::<V6>(), &x.closed) {
        note(h, Health::ClosedFull);
    }
    if x.facts.hairpin {
        note(h, Health::Hairpin);
    }
    if x.facts.hole_dropped {
        note(h, Health::HolesForgotten);
    }
    if x.facts.closed.is_some() {
        record_end::<W, V6>(w, x);
    }
    if x.waiting && x.facts.confirmed {
        confirm::<W, V6>(w, x, entry, h);
    }
}

/// One look at the flow, under its lock: enough for all but what belongs on the scoreboard.
#[inline(never)]
fn look<W: World>(w: &W, entry: *mut Flow, x: &mut Scratch) -> Step {
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
fn closely<W: World, const V6: bool>(w: &W, entry: *mut Flow, x: &mut Scratch, h: *mut HealthCounts) -> Step {
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

/// The services of both ends; of a SYN or a SYN-ACK only that of the server, which is known by it.
#[inline(never)]
fn services<W: World>(w: &W, x: &mut Scratch) {
    let [(low, lport), (high, hport)] = x.key.end_points();
    let server = if x.segment.flags.syn() { Some(1 - client_of(&x.segment, &x.sighting)) } else { None };
    let asked = |dir: usize| server.is_none() || server == Some(dir);
    x.sighting.services = [
        if asked(0) { w.service(&low, lport) } else { 0 },
        if asked(1) { w.service(&high, hport) } else { 0 },
    ];
    x.asked = true;
}

/// Notes how far away a SYN-ACK's sender is, or recalls how far an RST's should be.
#[inline(never)]
fn distance<W: World>(w: &W, x: &mut Scratch) {
    let (place, known) = hops::place(&x.segment.src, scope(x.point, x.segment.vlans));
    let Some(entry) = w.hops(place) else { return };
    // SAFETY: whole words, each valid by itself, are read and written at once; who writes last is right.
    unsafe {
        let hops = Hops(entry.read_volatile());
        if x.segment.flags.rst() {
            x.sighting.usual_ttl = hops.usual(known);
        } else {
            entry.write_volatile(hops.after(known, x.segment.ttl).0);
        }
    }
}

/// A segment without a flow: opens one, unless it belongs to none; then its facts are whose it is.
#[inline(never)]
fn meet<W: World, const V6: bool>(w: &W, x: &mut Scratch) -> Option<NonNull<Flow>> {
    services(w, x);
    x.sighting.prior = w.closed(x.key::<V6>());
    let late = match &x.sighting.prior {
        Some(p) => x.sighting.now.since(p.at) <= x.sighting.settings.time_wait,
        None => false,
    };
    if x.segment.flags.rst() {
        stranger(x);
        x.facts.rst = true;
        if late {
            x.facts.fin_before = true;
            x.facts.phase = Phase::Closed as u8;
            x.facts.cause = Cause::AfterFin as u8 + 1;
        } else {
            x.facts.cause = Cause::UnknownFlow as u8 + 1;
        }
        return None;
    }
    // What comes late of a connection that has ended and was let go opens nothing.
    if (!late || x.segment.flags.syn()) && x.sighting.settings.full != 0 {
        note_of(w, x, Health::HalfOpenFull);
    } else if !late || x.segment.flags.syn() {
        if let Some(entry) = w.create(x.key::<V6>()) {
            return NonNull::new(entry);
        }
        // Another processor may have made it and moved it on before it could be found.
        if let Some(entry) = w.flow(x.key::<V6>()) {
            x.waiting = false;
            return NonNull::new(entry);
        }
        note_of(w, x, Health::HalfOpenFull);
    }
    stranger(x);
    None
}

/// Facts of nothing.
#[inline(always)]
fn forget(x: &mut Scratch) {
    // SAFETY: they are there to be written.
    unsafe { words::copy(&BLANK.facts, &raw mut x.facts) };
}

/// Facts of a segment whose flow is not followed: whose it is, and nothing else.
#[inline(never)]
fn stranger(x: &mut Scratch) {
    let (s, at) = (&x.segment, &x.sighting);
    let client = client_of(s, at);
    let side = if client == at.dir { Side::Client } else { Side::Server };
    let (svc, segments) = (service_of(client as u8, at) & !SERVICE_TEXT, s.segments);
    forget(x);
    (x.facts.side, x.facts.svc, x.facts.segments) = (side, svc, segments);
}

/// The short way; true if the segment was taken whole.
#[inline(never)]
fn quickly<W: World, F: Frame>(
    w: &W,
    frame: &F,
    p: &mut Plain,
    (point, direction): (u8, Direction),
    h: *mut HealthCounts,
) -> bool {
    if !quick::read(frame, point, p) || !quick::pass(w, frame, p, direction) {
        return false;
    }
    note(h, Health::Counted);
    match w.totals(totals_index(w.config().services, point, p.svc, direction)) {
        Some(t) => {
            let side = if p.side == Side::Client as u8 { Side::Client } else { Side::Server };
            add_traffic(t, side, p.segments, p.bytes, p.payload);
            if p.first_byte > 0 {
                measure(t, Histogram::FirstByte, (p.first_byte - 1) as u64 * 1_000);
            }
        }
        None => note(h, Health::MapError),
    }
    true
}

#[inline(always)]
fn add_traffic(t: *mut Totals, side: Side, segments: u32, bytes: u32, payload: u32) {
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
fn count<W: World>(w: &W, x: &mut Scratch) {
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
fn ended<W: World, const V6: bool>(w: &W, x: &mut Scratch) {
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
