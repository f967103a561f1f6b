//! Two ends, the way between them with its impairments, and the point where packets are watched.

use std::collections::BTreeMap;

use crate::end::{End, MSS, Out, Probe};

const MS: u64 = 1_000;
/// A conversation that has not ended by then never will, microseconds.
const END_OF_TIME: u64 = 600_000 * MS;

/// What a sender's IPv4 identifications do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// One more for each packet of the connection (Linux `ip_select_ident_segs`).
    Connection,
    /// One more for each packet of the host, with others between.
    Host,
    /// Always 0 (Linux where fragmentation is forbidden and no connection is known).
    Zero,
    /// Any (OpenBSD, and Windows for some).
    Random,
}

/// Habits of an end.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    pub ids: Ids,
    /// Microseconds of one tick of the timestamps' clock; none without timestamps.
    pub clock: Option<u64>,
    pub sack: bool,
    pub probe: Probe,
    pub offload: u64,
    pub ack_every: u64,
}

/// What the network does to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    Lose,
    /// Microseconds later than the others, which overtake it.
    Delay(u64),
    /// Comes twice, the second so much later.
    Copy(u64),
}

/// Where, to which packet of that part of the way, what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Impair {
    /// Whose packets.
    pub from: usize,
    /// After the point instead of before it.
    pub after: bool,
    /// Counted after the first exchange, from 0.
    pub nth: u64,
    pub harm: Harm,
}

/// A part of the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    /// This end sends so many bytes, after so long a pause.
    Bytes(usize, u64, u64),
    /// This end sends a keepalive after so long a pause, with a byte or without.
    KeepAlive(usize, u64, bool),
    /// This end stops to read, and goes on so much later.
    Stall(usize, u64),
}

/// One conversation, all of it.
#[derive(Clone, Debug)]
pub struct Case {
    pub isn: [u32; 2],
    pub first_id: [u16; 2],
    pub v6: bool,
    pub profiles: [Profile; 2],
    /// Microseconds from the client to the point, and from the point to the server.
    pub way: [u64; 2],
    pub says: Vec<Say>,
    /// Who closes first.
    pub closer: usize,
    pub impairs: Vec<Impair>,
    /// Segments that may come to the point as one, put together by its host (GRO).
    pub merge: u64,
}

/// A packet as it was made, with the truth about it.
#[derive(Clone, Debug)]
pub struct Packet {
    pub from: usize,
    pub out: Out,
    pub id: u16,
    pub ts: Option<(u32, u32)>,
    /// Which of the connection's packets, in the order they were made.
    pub made: u64,
}

/// A packet at the point.
#[derive(Clone, Debug)]
pub struct Passed {
    pub at: u64,
    pub packet: Packet,
    /// The network's copy of one that passed before.
    pub copy: bool,
}

enum Event {
    AtPoint(Packet),
    AtEnd(Packet),
    Say,
    Read(usize),
}

/// The conversation under way.
pub struct World<'a> {
    case: &'a Case,
    now: u64,
    ends: [End; 2],
    events: BTreeMap<(u64, u64), Event>,
    order: u64,
    ids: [u16; 2],
    random: fastrand::Rng,
    /// Packets so far on each part of the way: by sender, then before and after.
    count: [[u64; 2]; 2],
    /// From the end of the first exchange on the way harms packets.
    harmful: bool,
    last_ts: [u32; 2],
    made: u64,
    said: usize,
    /// What the end that listens must have before the next part.
    awaited: Option<(usize, u64)>,
    written: [u64; 2],
    passed: Vec<Passed>,
}

/// Plays the conversation, and says what passed the point; none if it did not come to its end.
pub fn play(case: &Case) -> Option<Vec<Passed>> {
    let end = |side: usize| {
        let p = &case.profiles[side];
        let sack = case.profiles.iter().all(|p| p.sack);
        End::new(side == 0, sack, p.probe, p.offload, p.ack_every)
    };
    let mut world = World {
        case,
        now: 0,
        ends: [end(0), end(1)],
        events: BTreeMap::new(),
        order: 0,
        ids: case.first_id,
        random: fastrand::Rng::with_seed(case.first_id[0].into()),
        count: [[0; 2]; 2],
        harmful: false,
        last_ts: [0; 2],
        made: 0,
        said: 0,
        awaited: None,
        written: [1; 2],
        passed: Vec::new(),
    };
    world.run().then(|| merged(world.passed, case.merge))
}

/// What comes at once and in a row becomes one packet, if it is alike but for its numbers (Linux `tcp_gro_receive`,
/// `inet_gro_receive`).
fn merged(passed: Vec<Passed>, most: u64) -> Vec<Passed> {
    let mut out: Vec<Passed> = Vec::new();
    for next in passed {
        if let Some(last) = out.last_mut() {
            let (a, b) = (&last.packet, &next.packet);
            let plain = |p: &Passed| !p.copy && !p.packet.out.syn && !p.packet.out.fin && !p.packet.out.probe;
            let alike = a.from == b.from
                && (a.out.acked, a.out.window, a.ts) == (b.out.acked, b.out.window, b.ts)
                && a.out.resend == b.out.resend
                && a.out.sack.is_empty()
                && b.out.sack.is_empty();
            let segments = a.out.segments + b.out.segments;
            let row = b.out.len > 0
                && a.out.end() == b.out.start
                && a.out.len == a.out.segments * MSS
                && a.id.wrapping_add(a.out.segments as u16) == b.id;
            if plain(last) && plain(&next) && last.at == next.at && alike && row && segments <= most {
                last.packet.out.len += b.out.len;
                last.packet.out.segments = segments;
                continue;
            }
        }
        out.push(next);
    }
    out
}

impl World<'_> {
    fn run(&mut self) -> bool {
        self.act(0, |end, now, out| end.push(now, out));
        loop {
            let timer = (0..2).filter_map(|side| Some((self.ends[side].deadline()?, side))).min();
            let event = self.events.first_key_value().map(|(key, _)| key.0);
            match (event, timer) {
                (Some(at), t) if t.is_none_or(|(due, _)| at <= due) => {
                    let (key, event) = self.events.pop_first().expect("there is one");
                    self.now = key.0;
                    self.happen(event);
                }
                (_, Some((due, side))) => {
                    self.now = self.now.max(due);
                    self.act(side, |end, now, out| end.tick(now, out));
                }
                _ => return self.ends.iter().all(End::done),
            }
            if self.now > END_OF_TIME {
                return false;
            }
            self.talk();
        }
    }

    fn plan(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.events.insert((at, self.order), event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::AtPoint(packet) => self.pass(packet),
            Event::AtEnd(packet) => {
                let to = 1 - packet.from;
                self.last_ts[to] = packet.ts.map_or(0, |ts| ts.0);
                self.act(to, |end, now, out| end.receive(&packet.out, now, out));
            }
            Event::Say => self.say(),
            Event::Read(side) => self.act(side, |end, now, out| end.read(true, now, out)),
        }
    }

    /// Lets an end do something, and sends what it makes.
    fn act(&mut self, side: usize, work: impl FnOnce(&mut End, u64, &mut Vec<Out>)) {
        let mut out = Vec::new();
        work(&mut self.ends[side], self.now, &mut out);
        for made in out {
            let packet = self.make(side, made);
            let before = self.case.way[side];
            self.travel(packet, false, before);
        }
    }

    /// Gives a packet what the IP layer and the clock do.
    fn make(&mut self, from: usize, out: Out) -> Packet {
        let profile = &self.case.profiles[from];
        let segments = out.segments as u16;
        let id = match profile.ids {
            // A SYN-ACK has no connection yet (Linux `ip_build_and_send_pkt`).
            Ids::Connection if out.syn && out.ack => 0,
            Ids::Connection => self.ids[from],
            Ids::Host => self.ids[from].wrapping_add(self.random.u16(..20)),
            Ids::Zero => 0,
            Ids::Random => self.random.u16(..),
        };
        match profile.ids {
            Ids::Connection if out.syn && out.ack => {}
            Ids::Connection | Ids::Host => {
                let first = if profile.ids == Ids::Host { id } else { self.ids[from] };
                self.ids[from] = first.wrapping_add(segments);
            }
            Ids::Zero | Ids::Random => {}
        }
        let both = self.case.profiles.iter().all(|p| p.clock.is_some());
        let ts = profile.clock.filter(|_| both).map(|tick| {
            // Any offset will do (RFC 7323, 5.4); this one wraps on the way.
            ((self.now / tick) as u32).wrapping_sub(50)
        });
        self.made += 1;
        Packet { from, out, id, ts: ts.map(|ts| (ts, self.last_ts[from])), made: self.made }
    }

    /// Sends a packet along one part of the way.
    fn travel(&mut self, packet: Packet, after: bool, way: u64) {
        let from = packet.from;
        let nth = self.count[from][usize::from(after)];
        self.count[from][usize::from(after)] += u64::from(self.harmful);
        let here = |i: &&Impair| i.from == from && i.after == after && i.nth == nth;
        let harm = self.case.impairs.iter().find(here).filter(|_| self.harmful).map(|i| i.harm);
        let wrap = |packet| if after { Event::AtEnd(packet) } else { Event::AtPoint(packet) };
        match harm {
            Some(Harm::Lose) => return,
            Some(Harm::Delay(late)) => return self.plan(self.now + way + late, wrap(packet)),
            Some(Harm::Copy(late)) => self.plan(self.now + way + late, wrap(packet.clone())),
            None => {}
        }
        self.plan(self.now + way, wrap(packet));
    }

    fn pass(&mut self, packet: Packet) {
        let copy = self.passed.iter().any(|p| p.packet.made == packet.made);
        self.passed.push(Passed { at: self.now, packet: packet.clone(), copy });
        let way = self.case.way[1 - packet.from];
        for single in singles(&packet) {
            self.travel(single, true, way);
        }
    }

    /// The conversation goes on when what was said has arrived.
    fn talk(&mut self) {
        let heard = |side: usize, all: u64| self.ends[side].received >= all;
        match self.awaited {
            Some((side, all)) if !heard(side, all) => return,
            None if !self.events_hold_nothing_to_say() => return,
            _ => {}
        }
        self.awaited = None;
        if self.said == self.case.says.len() + 4 {
            return;
        }
        self.said += 1;
        let pause = match self.next_say() {
            Some(Say::Bytes(_, _, pause) | Say::KeepAlive(_, pause, _)) => pause,
            _ => MS,
        };
        self.plan(self.now + pause, Event::Say);
        // Until then nothing is awaited that could come.
        self.awaited = Some((0, u64::MAX));
    }

    fn events_hold_nothing_to_say(&self) -> bool {
        self.said == 0 && self.ends.iter().all(|end| end.received > 0)
    }

    /// After the handshake both ends say something, so that their habits can be learnt; then comes the case's own part.
    fn next_say(&self) -> Option<Say> {
        match self.said {
            1 => Some(Say::Bytes(0, 3 * MSS, 5 * MS)),
            2 => Some(Say::Bytes(1, 3 * MSS, 5 * MS)),
            n => self.case.says.get(n - 3).copied(),
        }
    }

    fn say(&mut self) {
        self.harmful |= self.said > 2;
        match self.next_say() {
            Some(Say::Bytes(from, bytes, _)) => {
                self.written[from] += bytes;
                self.awaited = Some((1 - from, self.written[from]));
                self.ends[from].write(bytes);
                self.act(from, |end, now, out| end.push(now, out));
            }
            Some(Say::KeepAlive(from, _, byte)) => {
                self.awaited = Some((0, 0));
                self.act(from, |end, _, out| end.keep_alive(byte, out));
            }
            Some(Say::Stall(side, time)) => {
                self.awaited = Some((0, 0));
                self.act(side, |end, now, out| end.read(false, now, out));
                self.plan(self.now + time, Event::Read(side));
            }
            None => {
                // The end: first one closes, then the other when it has heard that.
                let first = self.said == self.case.says.len() + 3;
                let side = if first { self.case.closer } else { 1 - self.case.closer };
                let fin = self.written[side] + 1;
                self.awaited = Some((1 - side, fin));
                self.ends[side].close();
                self.act(side, |end, now, out| end.push(now, out));
            }
        }
    }
}

/// The wire segments of a packet.
fn singles(packet: &Packet) -> Vec<Packet> {
    let all = &packet.out;
    let cut = |n: u64| {
        let start = all.start + n * MSS;
        let len = (all.len - n * MSS).min(MSS);
        let out = Out { start, len, segments: 1, ..all.clone() };
        Packet { out, id: packet.id.wrapping_add(n as u16), ..packet.clone() }
    };
    if all.segments == 1 { vec![packet.clone()] } else { (0..all.segments).map(cut).collect() }
}
