//! The sweep beside the ring: when it comes, and what becomes of what it finds.

use super::{Monitor, keep};
use crate::{
    aggregate::{events, rows::nanos, snapshot::Totals},
    pins::Pins,
    source::{maps::add, sweep},
    sys, why,
};
use agent_ebpf::record::Record;
use anyhow::Result;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};
use tracing::error;

/// How often the tables are swept, at most and at least. Flows that have ended stay until then: on a gateway with
/// thousands of new connections a second they would fill the table.
const OFTEN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));
/// How often closed connections that are out of their TIME-WAIT window are forgotten: it is a large table, and a
/// window of a minute.
const FORGET: Duration = Duration::from_secs(10);
/// A sweep may take this part of the time at most: with large tables it comes less often.
const SHARE: u32 = 20;
/// The same while a table of flows is more than half full: room comes first.
const SHARE_CROWDED: u32 = 2;
/// Places of the tables of flows among the entries of a sweep.
const FLOWS: [usize; 4] = [0, 1, 4, 5];

impl Monitor {
    /// Sweeps until `stop`.
    pub(super) fn keep_sweeping(&self, stop: &AtomicBool) {
        let mut pause = OFTEN.1;
        let (mut sweep_at, mut forget_at) = (Instant::now(), Instant::now());
        while !stop.load(Ordering::Relaxed) {
            if Instant::now() < sweep_at {
                thread::park_timeout((sweep_at - Instant::now()).min(super::DRAIN));
                continue;
            }
            let began = Instant::now();
            let forget = began >= forget_at;
            if forget {
                forget_at = began + FORGET;
            }
            if let Err(e) = self.sweep(pause, forget) {
                error!(error = %e, "cannot sweep the tables; old flows stay until this works");
            }
            if let Err(e) = self.prove_legs() {
                error!(
                    error = why::text(&e),
                    "cannot look for the second legs of connections that were reset"
                );
            }
            let share = if self.is_crowded() { SHARE_CROWDED } else { SHARE };
            let limits = self.in_force().watch.limits.clone();
            let shortest = limits.handshake_timeout.min(limits.flow_idle_timeout).min(limits.stall);
            pause = (shortest / 4).clamp(OFTEN.0, OFTEN.1).max(began.elapsed() * share);
            sweep_at = Instant::now() + pause;
        }
    }

    /// Whether a table of flows was more than half full after the last sweep.
    fn is_crowded(&self) -> bool {
        let entries = self.records().swept.entries;
        FLOWS.iter().any(|place| 2 * entries[*place] > self.capacities[*place].1)
    }

    /// Sweeps the tables; `pause` is the time from sweep to sweep. What is kept is not held meanwhile: the ring is read and
    /// scrapes are answered.
    fn sweep(&self, pause: Duration, forget: bool) -> Result<()> {
        let (limits, room, names) = {
            let in_force = self.in_force();
            (in_force.watch.limits.clone(), in_force.room as usize, in_force.names.clone())
        };
        let mut own = vec![Totals::default(); self.interfaces.len() * room];
        let (now, clock) = (SystemTime::now(), sys::monotonic());
        let journal = self.pins.as_ref().map(Pins::journal);
        let mut swept = sweep::sweep(&self.maps, &mut own, room, &limits, clock, forget, journal)?;
        let records = &mut *self.records();
        for (to, from) in records.own.totals.iter_mut().zip(&own) {
            add(&mut to.0, &from.0);
        }
        records.own.add_closed_full(&swept.closed_full);
        if let Some(pins) = &self.pins {
            pins.save_sweep(&mut records.own)?;
        }
        if !forget {
            for place in [2, 6] {
                swept.entries[place] = records.swept.entries[place];
            }
        }
        for end in swept.ended.drain(..) {
            records.inside.take(&events::sight(&end), clock);
            keep(&Record::End(end), (now, clock), &names, &mut records.events, &mut records.log);
        }
        for last in swept.settled.drain(..) {
            records.inside.take(&last, clock);
            records.events.settle(&last);
        }
        // The last point tells a sweep after the first at the latest, and one to spare.
        records.inside.settle(clock, nanos(sweep::LINGER + 2 * pause));
        records.log.flush();
        records.swept = swept;
        Ok(())
    }
}
