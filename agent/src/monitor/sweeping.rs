//! The sweep beside the ring: when it comes, and what becomes of what it finds.

use super::{Monitor, Records, keep};
use crate::{
    aggregate::{
        events,
        rows::{Sight, nanos},
        snapshot::Totals,
    },
    pins::Pins,
    source::{
        closed::Part,
        maps::add,
        sweep::{self, How, Told},
    },
    sys, why,
};
use agent_ebpf::{flow::FlowKey, health::Health, record::Record};
use anyhow::{Context as _, Result};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};
use tracing::{error, info, warn};

/// How often the tables are swept, at most and at least. Flows that have ended stay until then: on a gateway with
/// thousands of new connections a second they would fill the table.
const OFTEN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));
/// How often at most closed connections that are out of their TIME-WAIT window are forgotten: it is a large table, and a
/// window of a minute. A full one is looked through in that time, by each sweep a part, which flows must not wait for.
const FORGET: Duration = Duration::from_secs(10);
/// Looking through the flows may take this part of a processor at most, and through the closed five-tuples: with large
/// tables sweeps come less often. What there is to let go of costs as much later.
const SHARE: u32 = 20;
/// The same while a sweep finds a table of flows more than half full: room comes first.
const SHARE_CROWDED: u32 = 2;
/// Places of the tables of the half-open among the entries of a sweep.
const HALF_OPEN: [usize; 2] = [1, 5];
/// Places of the tables of closed five-tuples among the entries of a sweep.
const CLOSED: [usize; 2] = [2, 6];
/// Places of the tables of flows among the entries of a sweep.
const FLOWS: [usize; 4] = [0, 1, 4, 5];

/// How long a connection that is being opened may be silent while there is a flood: longer than a client's first two
/// pauses between SYNs (RFC 6298, 2: 1 s, and then 2 s).
const PATIENCE: Duration = Duration::from_secs(4);
/// How long it must be calm before a flood is over.
const CALM: Duration = Duration::from_secs(5);

/// Whether more connections are asked for than can be followed.
///
/// While it lasts the programs are told to try no more once a table of the half-open is nearly full, and to try again when a
/// quarter of it is free: what is followed goes on, and all else is counted in the totals.
#[derive(Debug, Default)]
pub(super) struct Flood {
    /// Segments that found no room, of all points, when they were last looked at.
    refused: u64,
    /// The last time that some did.
    last: Option<Instant>,
    /// There is one.
    pub(super) on: bool,
    /// Nothing new is followed now.
    pub(super) full: bool,
}

impl Flood {
    /// Takes the counts of a moment: refusals so far, and the fill of the fullest table of half-open, 0 to 1.
    fn look(&mut self, refused: u64, fill: f64, now: Instant) {
        if refused > self.refused {
            self.last = Some(now);
        }
        self.refused = refused;
        self.full = fill >= if self.full { 0.75 } else { 0.97 };
        let calm = self.last.is_none_or(|last| now.duration_since(last) >= CALM);
        self.on = !calm || self.full;
    }
}

/// What a sweep spent, and left.
#[derive(Debug, Default)]
struct Took {
    /// As in [`sweep::Sweep`].
    letting_go: Duration,
    /// As there.
    forgetting: Duration,
    /// There are closed five-tuples that the next one is to look at.
    more: bool,
}

impl Monitor {
    /// Sweeps until `stop`.
    pub(super) fn keep_sweeping(&self, stop: &AtomicBool) {
        // Letting go of a flow must not be broken off: Linux 5.10 says of neither end whether it was done.
        sys::block_signals();
        let mut last = Instant::now();
        let (mut sweep_at, mut end_at) = (last, last);
        // The first sweep finds out how many closed five-tuples there are.
        let (mut forget_at, mut turn) = (None, None);
        while !stop.load(Ordering::Relaxed) {
            // However long it is until the next sweep.
            if let Err(e) = self.watch_flood() {
                error!(error = why::text(&e), "cannot tell the programs whether there is room");
            }
            let ending = if Instant::now() < end_at { Vec::new() } else { self.ending() };
            if ending.is_empty() && Instant::now() < sweep_at {
                thread::park_timeout(sweep_at.saturating_duration_since(Instant::now()).min(OFTEN.0));
                continue;
            }
            let (began, spent) = (Instant::now(), sys::thread_time());
            let forget = match forget_at {
                Some(at) if ending.is_empty() => (began >= at).then(|| self.next_part(began - last)),
                _ => Some(Part::whole()),
            };
            let swept = match self.sweep(began - last, forget, &ending) {
                Ok(took) if !ending.is_empty() => self.free(&ending).map(|()| took),
                done => done,
            };
            let took = swept.unwrap_or_else(|e| {
                error!(error = %e, "cannot sweep the tables; old flows stay until this works");
                Took::default()
            });
            end_at = Instant::now() + OFTEN.0;
            if let Err(e) = self.prove_legs() {
                error!(
                    error = why::text(&e),
                    "cannot look for the second legs of connections that were reset"
                );
            }
            let share = if self.records().crowded { SHARE_CROWDED } else { SHARE };
            let limits = self.in_force().watch.limits.clone();
            let shortest = limits.handshake_timeout.min(limits.flow_idle_timeout).min(limits.stall);
            let shortest = if self.records().flood.on { OFTEN.0 } else { shortest };
            last = began;
            // Not the time that has passed: where others keep the processors busy that would make it come less often, and
            // the tables fill.
            let cost = sys::thread_time().saturating_sub(spent + took.letting_go + took.forgetting);
            // What the closed five-tuples cost is paid for by when they are looked at next: if the flows
            // waited for it, too, their tables would be full before the next sweep.
            if forget.is_some() {
                let (since, paid) = turn.get_or_insert((began, Duration::ZERO));
                *paid += took.forgetting;
                if took.more {
                    forget_at = Some(began);
                } else {
                    forget_at = Some(*since + FORGET.max(*paid * SHARE));
                    turn = None;
                }
            }
            sweep_at = Instant::now() + (shortest / 4).clamp(OFTEN.0, OFTEN.1).max(cost * share);
        }
    }

    /// Closed five-tuples that a sweep looks at which comes `since` after the last one: as many of a full table as it takes
    /// to be through in time.
    fn next_part(&self, since: Duration) -> Part {
        let most =
            |place: usize| self.capacities[place].1 as f64 * since.as_secs_f64() / FORGET.as_secs_f64();
        Part { from: self.records().swept.closed, most: CLOSED.map(|place| most(place) as u64 + 1) }
    }

    /// Notices a flood, and its end.
    fn watch_flood(&self) -> Result<()> {
        let health = self.maps.health(self.places)?;
        let refused = super::sum(&health, Health::HalfOpenFull);
        let limits = self.in_force().watch.limits.clone();
        let records = &mut *self.records();
        let fill =
            |place: usize| records.swept.entries[place] as f64 / self.capacities[place].1.max(1) as f64;
        let (fill, was) =
            (HALF_OPEN.map(fill).into_iter().fold(0.0, f64::max), (records.flood.on, records.flood.full));
        records.flood.look(refused, fill, Instant::now());
        let Flood { on, full, .. } = records.flood;
        if full != was.1 {
            self.maps.set_limits(&limits, full)?;
        }
        match (was.0, on) {
            (false, true) => warn!(
                refused,
                "more connections are asked for than tables.half_open has room for: those that are followed go on, of the others only the totals are counted"
            ),
            (true, false) => info!(refused, "the flood of new connections is over"),
            _ => {}
        }
        Ok(())
    }

    /// Sweeps the tables; the sweep before began `since` ago. What is kept is held for each connection by itself: the ring is
    /// read and scrapes are answered meanwhile. All is ended that is at the points `ending`.
    fn sweep(&self, since: Duration, forget: Option<Part>, ending: &[usize]) -> Result<Took> {
        let (limits, room, names, allowed) = {
            let in_force = self.in_force();
            let room = in_force.room as usize;
            (in_force.watch.limits.clone(), room, in_force.names.clone(), in_force.allowed.clone())
        };
        let usual = limits.handshake_timeout;
        let opening = if self.records().flood.on { usual.min(PATIENCE) } else { usual };
        let how = How { forget, opening, journal: self.pins.as_ref().map(Pins::journal), ending };
        let mut own = vec![Totals::default(); self.places * room];
        let (now, clock) = (SystemTime::now(), sys::monotonic());
        let mut met = Vec::new();
        // Of IPv4 and of IPv6.
        let mut gone = [0, 0];
        let mut told = |told: Told<'_>| match told {
            Told::Open(key, flow) => met.extend(allowed.refuses_open(key, flow)),
            Told::Ended(end) => {
                let sight = events::sight(&end);
                gone[family(&sight)] += 1;
                let Records { inside, foreign, events, log, .. } = &mut *self.records();
                inside.take(&sight, clock, true);
                foreign.ended(&allowed, &sight);
                keep(&Record::End(end), (now, clock), &names, events, log);
                // Its flow is gone already.
                events.settle(&sight);
            }
            Told::Settled(last) => {
                gone[family(&last)] += 1;
                let Records { inside, foreign, events, .. } = &mut *self.records();
                inside.take(&last, clock, true);
                foreign.forget(&last);
                events.settle(&last);
            }
        };
        let swept = sweep::sweep(&self.maps, &mut own, room, &limits, clock, how, &mut told);
        let records = &mut *self.records();
        for (to, from) in records.own.totals.iter_mut().zip(&own) {
            add(&mut to.0, &from.0);
        }
        if let Ok(swept) = &swept {
            records.own.add_closed_full(&swept.closed_full);
        }
        // What was told is counted, however far it came.
        if let Some(pins) = &self.pins {
            pins.save_sweep(&mut records.own)?;
        }
        let mut swept = swept?;
        for (turn, place) in swept.closed.iter().zip(CLOSED) {
            if !turn.done {
                swept.entries[place] = records.swept.entries[place];
            }
        }
        let through = swept.closed.iter().all(|turn| turn.done);
        if forget.is_none() {
            // A turn that an error broke off goes on from there.
            swept.closed = records.swept.closed;
        } else if through {
            swept.closed = Default::default();
        }
        records.foreign.open(met);
        // The last point tells a sweep after the first at the latest, and one to spare.
        let patience = nanos(sweep::LINGER + 2 * since);
        let stays = |key, opened| self.maps.has(key, opened);
        records.inside.settle(clock, patience, stays).context("cannot look a flow up")?;
        records.log.flush();
        let found = |place: usize| swept.entries[place] + gone[place / 4];
        records.crowded = FLOWS.iter().any(|place| 2 * found(*place) > self.capacities[*place].1);
        let took = Took {
            letting_go: swept.letting_go,
            forgetting: swept.forgetting,
            more: forget.is_some() && !through,
        };
        records.swept = swept;
        Ok(took)
    }
}

/// The tables that a flow is in: 0 those of IPv4, 1 those of IPv6.
const fn family(sight: &Sight) -> usize {
    match sight.key {
        FlowKey::V4(_) => 0,
        FlowKey::V6(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_begins_at_the_first_refusal_and_ends_when_it_has_been_calm() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut flood = Flood::default();
        let mut look = |refused, fill, seconds| {
            flood.look(refused, fill, at(seconds));
            (flood.on, flood.full)
        };
        assert_eq!(look(0, 0.5, 0), (false, false));
        assert_eq!(look(0, 0.98, 1), (true, true), "nearly full");
        assert_eq!(look(900, 0.80, 2), (true, true), "until a quarter is free");
        assert_eq!(look(1_800, 0.74, 3), (true, false));
        assert_eq!(look(1_801, 0.90, 4), (true, false), "and then until it is nearly full again");
        assert_eq!(look(1_801, 0.10, 8), (true, false));
        assert_eq!(look(1_801, 0.10, 9), (false, false));
        assert_eq!(look(1_802, 0.10, 10), (true, false), "one refusal is enough");
    }
}
