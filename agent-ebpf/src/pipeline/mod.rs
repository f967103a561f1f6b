//! A packet's way, in order: parse, find the flow, observe, judge, count, record. The same in the kernel and on the
//! host; only the tables ([`World`]) differ.
//!
//! Several processors may be here with packets of one flow. A flow changes only under its lock ([`World::lock`]), so
//! its counts are exact and its state is one that some order of the packets gives. Totals are per processor and need
//! no lock. An entry that was given to another connection between look-up and lock is known by its tag and looked up again.
//! How a flow is looked at: [`look`]; how it goes from table to table: [`moving`]; what is counted: [`counts`]; what is told
//! of it: [`records`].

mod counts;
mod look;
mod moving;
mod records;
mod world;

use crate::{
    anomaly::{AnomalySet, Cause},
    close::End,
    facts::Facts,
    flow::{Closed, Flow, FlowKey, FlowKey4, scope},
    health::Health,
    histogram::Histogram,
    hops::{self, Hops},
    label::{Direction, Side},
    layout::{HealthCounts, SERVICE_TEXT, health_index, totals_index},
    open::{client_of, service_of},
    phase::Phase,
    quick::{self, Plain},
    seq::SeqNum,
    sighting::Sighting,
    time::Nanos,
    traffic::{Close, Served},
    wire::{Frame, Segment, tcp},
    words,
};
use core::ptr::NonNull;
use counts::{add_traffic, count, ended, measure, note, note_of};
use look::{Step, closely, look};
use moving::{confirm, settle, unconfirmed};
use records::{quote, record_end};
pub use world::World;

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
            follow(w, frame, x, h);
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

/// A segment's way from its key to its facts.
#[inline(always)]
fn follow<W: World, F: Frame>(w: &W, frame: &F, x: &mut Scratch, h: *mut HealthCounts) {
    x.sighting.dir = x.key.set(x.point, &x.segment);
    x.sighting.tag = x.key.tag();
    x.sighting.now = w.now();
    x.sighting.settings = w.settings();
    // Each family by itself from here on: the kernel's verifier would follow the tables of both in every combination.
    match x.key {
        FlowKey::V4(_) => follow_in::<W, F, false>(w, frame, x, h),
        FlowKey::V6(_) => follow_in::<W, F, true>(w, frame, x, h),
    }
}

#[inline(never)]
fn follow_in<W: World, F: Frame, const V6: bool>(w: &W, frame: &F, x: &mut Scratch, h: *mut HealthCounts) {
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
    // Once in a connection's life: what its client says first. Data on a SYN may be of the next connection.
    // SAFETY: the entry is a flow's.
    let may_begin = || unsafe { Flow::may_begin(entry, x.sighting.dir) };
    if x.segment.payload > 0 && (x.segment.flags.syn() || may_begin()) {
        x.segment.first = tcp::first(frame, x.segment.payload_at - 1);
    }
    if !x.waiting && !w.enter(entry) {
        return lose(x, h);
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
        if !x.waiting {
            w.leave(entry);
        }
        let Some(e) = w.flow(x.key::<V6>()) else { return lose(x, h) };
        entry = e;
        settle::<W, V6>(w, x, entry);
        x.waiting = false;
        if !w.enter(entry) {
            return lose(x, h);
        }
        step = closely::<W, V6>(w, entry, x, h);
    }
    if !x.waiting {
        w.leave(entry);
    }
    if step != Step::Done {
        return lose(x, h);
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

/// A segment that cannot be judged, for what others are doing with its flow.
#[inline(never)]
fn lose(x: &mut Scratch, h: *mut HealthCounts) {
    note(h, Health::LostRace);
    stranger(x);
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

/// The short way; true if the segment was taken whole. In the entry program itself, which spares a call.
#[inline(always)]
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
