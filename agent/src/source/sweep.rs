//! The sweep: ends what fell silent, lets go of what has ended, and counts what is open.
//!
//! A connection that ends with a packet is counted by the programs; one that just falls silent is counted here,
//! by the same rules and in the same places.

use super::{
    closed::{self, Part, Turn},
    maps::{Family, Key, Maps, fd},
};
use crate::{
    aggregate::{
        rows::{Sight, is_open, nanos},
        snapshot::{OpenFlows, Totals},
    },
    config::Limits,
    pins::journal::Journal,
    sys::{
        self,
        map::{self, BPF_F_LOCK},
    },
};
use agent_ebpf::{
    anomaly::{Anomaly, Outcome, reuse},
    close::{End, closer, end, how_ended},
    flow::{Closed, Flow, FlowKey, FlowKey4, FlowKey6},
    label::Side,
    layout::maps as names,
    phase::Phase,
    record::{EndRecord, Head, Tag},
    scoreboard::{Counts, Scoreboard},
    time::Nanos,
    traffic::{Close, Traffic},
};
use std::{collections::HashSet, io, time::Duration};

/// How long an ended flow stays, so that the segments that were still on their way find it.
pub const LINGER: Duration = Duration::from_secs(1);
/// How much longer than its window a closed five-tuple stays.
pub(super) const CLOSED_MARGIN: Duration = Duration::from_secs(10);

/// The tables whose entries a sweep counts, in its order: map, and name in the metrics.
pub const TABLES: [(&str, &str); 8] = [
    (names::FLOWS4, "flows4"),
    (names::HALF_OPEN4, "half_open4"),
    (names::CLOSED4, "closed4"),
    (names::SCORES4, "scores4"),
    (names::FLOWS6, "flows6"),
    (names::HALF_OPEN6, "half_open6"),
    (names::CLOSED6, "closed6"),
    (names::SCORES6, "scores6"),
];

/// What a sweep found and did.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Open flows of each point and service.
    pub open: Vec<OpenFlows>,
    /// Entries of each of [`TABLES`]; of the closed ones only what `closed` has come to.
    pub entries: [u64; 8],
    /// How far the closed ones of either family have been looked through.
    pub closed: [Turn; 2],
    /// Closed connections of each point that found no room, so that a reuse of their five-tuples goes unnoticed.
    pub closed_full: Vec<u64>,
    /// Processor time that it took to let go of flows: as much as it would take later.
    pub letting_go: Duration,
    /// And to look through closed ones.
    pub forgetting: Duration,
}

/// What a sweep tells of a connection, as it comes to it.
#[derive(Debug)]
pub enum Told<'a> {
    /// It is open.
    Open(FlowKey, &'a Flow),
    /// It ended by silence.
    Ended(EndRecord),
    /// It had ended and was let go, with what came after its end.
    Settled(Sight),
}

/// What is let go of at once: as much as a sweep keeps.
const AT_ONCE: usize = 1024;

/// What is to be done with a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Keep,
    /// It has been counted already.
    Drop,
    /// Nothing more will be heard of it.
    End(Close),
}

/// Decides it; `linger` is how long an ended flow stays, `opening` how long one that is being opened may be silent.
pub(super) fn fate(flow: &Flow, now: Nanos, limits: &Limits, linger: Duration, opening: Duration) -> Fate {
    let silence = now.since(flow.last_seen());
    if !flow.has(Flow::USED) {
        return Fate::Keep;
    }
    // What moved on and was put back here since is counted where it stands now.
    if flow.has(Flow::ENDED) || flow.has(Flow::MOVED) {
        return if silence > nanos(linger) { Fate::Drop } else { Fate::Keep };
    }
    let lasting = flow.has(Flow::CONFIRMED) && flow.phase >= Phase::Established as u8 && flow.first_fin == 0;
    let limit = match flow.phase < Phase::Established as u8 {
        _ if lasting => limits.flow_idle_timeout,
        true => opening,
        false => limits.handshake_timeout,
    };
    if silence > nanos(limit) { Fate::End(how_ended(flow)) } else { Fate::Keep }
}

/// What a sweep is told beside the limits.
#[derive(Debug, Clone, Copy)]
pub struct How<'a> {
    /// Where closed connections out of their TIME-WAIT window are forgotten.
    pub forget: Option<Part>,
    /// How long a connection that is being opened may be silent.
    pub opening: Duration,
    /// Is told of each flow that is about to be taken, and its end counted.
    pub journal: Option<&'a Journal>,
    /// Points that nothing passes any more: all that is known of their connections is let go.
    pub ending: &'a [usize],
}

impl How<'_> {
    /// All there is to do, by the limits.
    pub fn usual(limits: &Limits) -> Self {
        Self { forget: Some(Part::whole()), opening: limits.handshake_timeout, journal: None, ending: &[] }
    }
}

/// Sweep all tables; `told` hears of each connection. `own` are the agent's own counts, for each point and service (`services`
/// of them to a point).
pub fn sweep(
    maps: &Maps,
    own: &mut [Totals],
    services: usize,
    limits: &Limits,
    now: Nanos,
    how: How<'_>,
    told: &mut dyn FnMut(Told<'_>),
) -> io::Result<Sweep> {
    let out = Sweep {
        open: vec![OpenFlows::default(); own.len()],
        closed_full: vec![0; own.len() / services.max(1)],
        ..Sweep::default()
    };
    let [v4, v6] = maps.high()?;
    let mut pass = Pass { maps, own, services, limits, now, how, told, out };
    pass.family::<FlowKey4>(&maps.v4, v4, 0)?;
    pass.family::<FlowKey6>(&maps.v6, v6, 4)?;
    Ok(pass.out)
}

struct Pass<'a> {
    maps: &'a Maps,
    own: &'a mut [Totals],
    services: usize,
    limits: &'a Limits,
    now: Nanos,
    how: How<'a>,
    told: &'a mut dyn FnMut(Told<'_>),
    out: Sweep,
}

impl Pass<'_> {
    fn family<K: Key>(&mut self, family: &Family, high: u32, first: usize) -> io::Result<()> {
        let (mut gone, maps) = (HashSet::new(), self.maps);
        for (i, half_open) in [(0, false), (1, true)] {
            let (mut over, mut entries, mut done) = (Vec::with_capacity(AT_ONCE), 0, Ok(0));
            let mut visit = |key: &K, flow: &Flow| {
                if done.is_err() {
                    return;
                }
                entries += 1;
                match self.fate(key, flow) {
                    Fate::Keep => self.open(*key, flow),
                    Fate::Drop | Fate::End(_) => over.push((*key, *flow)),
                }
                if over.len() == AT_ONCE {
                    done = self.let_go(family, half_open, over.drain(..), &mut gone);
                    entries -= done.as_ref().unwrap_or(&0);
                }
            };
            if half_open {
                map::for_each(fd(&family.half_open), BPF_F_LOCK, visit)?;
            } else {
                maps.reader.for_each(high, &mut visit)?;
            }
            done?;
            entries -= self.let_go(family, half_open, over.drain(..), &mut gone)?;
            self.out.entries[first + i] = entries;
        }
        let mut stale = Vec::new();
        map::for_each(fd(&family.scores), 0, |key: &K, _: &Scoreboard| {
            self.out.entries[first + 3] += 1;
            stale.extend(gone.contains(key).then_some(*key));
        })?;
        self.out.entries[first + 3] -= stale.len() as u64;
        map::delete_all(fd(&family.scores), &stale)?;
        self.closed::<K>(family, first)
    }

    /// Lets go of flows, unless something came since they were read; how many are gone. One by one: a SYN may take an ended
    /// flow's five-tuple, and with it its entry, at any moment.
    fn let_go<K: Key>(
        &mut self,
        family: &Family,
        half_open: bool,
        over: impl Iterator<Item = (K, Flow)>,
        gone: &mut HashSet<K>,
    ) -> io::Result<u64> {
        let (mut n, began) = (0, sys::thread_time());
        for (key, flow) in over {
            let moved = flow.has(Flow::MOVED);
            if let Some(journal) = self.how.journal.filter(|_| !moved && !flow.has(Flow::ENDED)) {
                journal.note(&key, &flow, half_open)?;
            }
            if self.maps.let_go(key.any(), &flow, half_open)? {
                self.gone(family, key, flow)?;
                n += 1;
                // The scoreboard of one that moved on is in use.
                gone.extend((!moved).then_some(key));
            }
        }
        self.out.letting_go += sys::thread_time().saturating_sub(began);
        Ok(n)
    }

    fn is_ending<K: Key>(&self, key: &K) -> bool {
        self.how.ending.contains(&usize::from(key.any().point()))
    }

    fn fate<K: Key>(&self, key: &K, flow: &Flow) -> Fate {
        if !self.is_ending(key) {
            return fate(flow, self.now, self.limits, LINGER, self.how.opening);
        }
        let is_over = !flow.has(Flow::USED) || flow.has(Flow::ENDED) || flow.has(Flow::MOVED);
        if is_over { Fate::Drop } else { Fate::End(how_ended(flow)) }
    }

    fn open<K: Key>(&mut self, key: K, flow: &Flow) {
        let at = usize::from(key.any().point()) * self.services + usize::from(flow.svc);
        if let Some(count) = self.out.open.get_mut(at).filter(|_| is_open(flow) && !flow.has(Flow::MOVED)) {
            count.open += 1;
            (self.told)(Told::Open(key.any(), flow));
            count.stalled += u64::from(flow.stalled(self.now, nanos(self.limits.stall)));
        }
    }

    /// A flow is out of its table: its end is counted if that is still to be done.
    fn gone<K: Key>(&mut self, family: &Family, key: K, mut flow: Flow) -> io::Result<()> {
        let Fate::End(close) = self.fate(&key, &flow) else {
            if !flow.has(Flow::MOVED) {
                let counts = Self::counts(family, key, &flow)?;
                (self.told)(Told::Settled(Sight { key: key.any(), flow, counts }));
            }
            return Ok(());
        };
        let end = end(&mut flow, close);
        self.count(key, &flow, end);
        // Told all the same where it cannot be remembered: it is counted.
        let counts = Self::counts(family, key, &flow);
        let told = counts.as_ref().copied().unwrap_or_default();
        (self.told)(Told::Ended(EndRecord { head: head(key.any(), &flow, self.now), counts: told, flow }));
        counts?;
        if flow.closed() && !self.is_ending(&key) {
            match map::update(fd(&family.closed), &key, &Closed::of(&flow), 0) {
                Err(e) if e.raw_os_error() == Some(libc::E2BIG) => {
                    if let Some(count) = self.out.closed_full.get_mut(usize::from(key.any().point())) {
                        *count += 1;
                    }
                }
                done => done?,
            }
        }
        Ok(())
    }

    /// What the scoreboard of a flow counted.
    fn counts<K: Key>(family: &Family, key: K, flow: &Flow) -> io::Result<[Counts; 2]> {
        if !flow.has(Flow::SCORED) {
            return Ok(Default::default());
        }
        let score = map::read_unlocked::<K, Scoreboard>(fd(&family.scores), &key)?;
        Ok(score.map_or_else(Default::default, |s| [s.half[0].counts, s.half[1].counts]))
    }

    fn count<K: Key>(&mut self, key: K, flow: &Flow, end: End) {
        count(self.own, self.services, key.any(), flow, end);
    }

    /// Let go of five-tuples whose TIME-WAIT is over.
    fn closed<K: Key>(&mut self, family: &Family, first: usize) -> io::Result<()> {
        let Some(Part { from, most }) = self.how.forget else { return Ok(()) };
        let (began, i) = (sys::thread_time(), first / 4);
        let limit = nanos(self.limits.time_wait + CLOSED_MARGIN);
        let is_over = |key: &K, closed: &Closed| self.now.since(closed.at) > limit || self.is_ending(key);
        let turn = closed::go_on(fd(&family.closed), from[i], most[i], is_over)?;
        self.out.entries[first + 2] = turn.found;
        self.out.closed[i] = turn;
        self.out.forgetting += sys::thread_time().saturating_sub(began);
        Ok(())
    }
}

fn count(own: &mut [Totals], services: usize, key: FlowKey, flow: &Flow, end: End) {
    let at = usize::from(key.point()) * services + usize::from(flow.svc);
    if let Some(totals) = own.get_mut(at) {
        count_end(&mut totals.0, flow, end);
    }
}

/// Count an end as `agent_ebpf::pipeline` counts one.
pub(crate) fn count_end(totals: &mut [u64], flow: &Flow, end: End) {
    totals[Traffic::Closed.place(closer(end.close), end.close as usize)] += 1;
    totals[Traffic::Served.place(Side::Client, end.served as usize)] += 1;
    if end.unanswered > 0 {
        totals[Anomaly::UnansweredRequest.place(Side::Client, 0)] += 1;
    }
    let holder = flow.holder.checked_sub(1).and_then(reuse::Holder::from_code);
    if let Some(holder) = holder.filter(|_| flow.outcome == 0) {
        // The SYN was never answered, and not repeated either.
        totals[Anomaly::Reuse.place(Side::Client, reuse::sub(holder, Outcome::Ignored))] += 1;
    }
}

/// Whom an end is about.
pub(super) fn head(key: FlowKey, flow: &Flow, now: Nanos) -> Head {
    let ends = key.end_points();
    let client = usize::from(flow.client & 1);
    Head {
        tag: Tag::End as u32,
        vlans: key.vlans(),
        at: now,
        client: ends[client].0,
        server: ends[1 - client].0,
        client_port: ends[client].1,
        server_port: ends[1 - client].1,
        svc: flow.svc,
        point: key.point(),
        direction: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_ebpf::{half::Half, traffic::Served};

    const SECOND: u64 = 1_000_000_000;

    fn flow(phase: Phase, bits: u16) -> Flow {
        let half = Half { last_seen: Nanos(100 * SECOND), ..Half::default() };
        Flow { phase: phase as u8, bits: Flow::USED | bits, half: [half, Half::default()], ..Flow::default() }
    }

    #[test]
    fn silence_ends_what_is_open_and_drops_what_has_ended() {
        let limits = Limits::default();
        let at = |seconds: u64, f: &Flow| {
            fate(f, Nanos((100 + seconds) * SECOND), &limits, LINGER, limits.handshake_timeout)
        };
        let syn = flow(Phase::SynSent, 0);
        assert_eq!((at(75, &syn), at(76, &syn)), (Fate::Keep, Fate::End(Close::HandshakeSilence)));
        let established = flow(Phase::Established, Flow::CONFIRMED);
        assert_eq!(at(3600, &established), Fate::Keep);
        assert_eq!(at(3601, &established), Fate::End(Close::Silence));
        let closing = Flow { first_fin: 1, ..flow(Phase::Closing, 0) };
        assert_eq!(at(76, &closing), Fate::End(Close::HalfFinClient));
        let ended = flow(Phase::Closed, Flow::ENDED);
        assert_eq!((at(1, &ended), at(2, &ended)), (Fate::Keep, Fate::Drop));
        let scan = flow(Phase::Established, 0);
        assert_eq!(at(76, &scan), Fate::End(Close::Silence), "never seen to be a conversation");
        let moved = flow(Phase::Established, Flow::CONFIRMED | Flow::MOVED);
        assert_eq!((at(1, &moved), at(2, &moved)), (Fate::Keep, Fate::Drop));
        assert_eq!(at(9999, &Flow::default()), Fate::Keep, "made in this instant");
    }

    #[test]
    fn an_end_by_silence_is_counted_where_the_programs_count_ends() {
        let mut own = vec![Totals::default(); 4];
        let key = FlowKey4 { scope: 1 << 24, ..FlowKey4::default() };
        let bits = Flow::PENDING;
        let mut flow =
            Flow { svc: 1, holder: reuse::Holder::Open as u8 + 1, request_bytes: 7, bits, ..Flow::default() };
        let end = end(&mut flow, Close::HandshakeSilence);
        count(&mut own, 2, FlowKey::V4(key), &flow, end);
        let counted: Vec<usize> = (0..own[3].0.len()).filter(|i| own[3].0[*i] == 1).collect();
        let mut want = [
            Anomaly::UnansweredRequest.place(Side::Client, 0),
            Anomaly::Reuse.place(Side::Client, reuse::sub(reuse::Holder::Open, Outcome::Ignored)),
            Traffic::Closed.place(Side::Client, Close::HandshakeSilence as usize),
            Traffic::Served.place(Side::Client, Served::TimedOut as usize),
        ];
        want.sort_unstable();
        assert_eq!(counted, want);
        assert_eq!(own[0], Totals::default());
    }
}
