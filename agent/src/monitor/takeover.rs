//! Going on where an earlier agent stopped: programs, tables, counts and the ring.

use super::{Hooks, Monitor, keep, sum};
use crate::{
    link::{self, Link},
    pins::{Pins, directory::Directory},
    sys, why,
};
use agent_ebpf::health::Health;
use anyhow::Result;
use std::{
    thread,
    time::{Duration, Instant, SystemTime},
};
use tracing::{info, warn};

/// How long a moment is waited for in which no record comes.
const PATIENCE: Duration = Duration::from_secs(2);
/// A processor that has put a record on the ring has counted it by then.
const PAUSE: Duration = Duration::from_millis(1);

impl Monitor {
    /// Attach the programs to every interface, in the place of those of an earlier agent, and go on from its counts.
    pub fn attach(&self) -> Result<()> {
        let links = link::links()?;
        let mut hooks = self.hooks();
        let settled = self.settle(&mut hooks, &links).into_iter().map(|(_, done)| done);
        let attached = settled.collect::<Result<()>>();
        let Some(pins) = &self.pins else { return attached };
        if attached.is_err() && pins.is_fresh() {
            // Nobody would read what the programs count.
            for point in 0..self.places {
                hooks.probe.detach(point);
            }
            pins.abandon()?;
        }
        attached?;
        self.take_over(pins, &mut hooks, &links)
    }

    fn take_over(&self, pins: &Pins, hooks: &mut Hooks, links: &[Link]) -> Result<()> {
        hooks.probe.collect(pins.dropped(), links)?;
        let (now, clock) = (SystemTime::now(), sys::monotonic());
        {
            let names = &self.in_force().names;
            let records = &mut *self.records();
            let (events, log) = (&mut records.events, &mut records.log);
            let kept = |record: &_| keep(record, (now, clock), names, events, log);
            pins.migrate(&mut records.own, &self.maps, kept)?;
            pins.save(&records.own)?;
        }
        self.resume_ring()?;
        if !pins.is_fresh() {
            info!(path = %pins.tables().display(), "went on with the tables of an earlier agent");
        }
        Ok(())
    }

    /// Reads what is on the ring, and takes for received whatever the programs have put there: how many of them the
    /// agent before had read is known to nobody where it was killed.
    fn resume_ring(&self) -> Result<()> {
        let patience = Instant::now() + PATIENCE;
        loop {
            let before = self.submitted()?;
            let (received, _) = self.drain(u64::MAX);
            thread::park_timeout(PAUSE);
            let (again, _) = self.drain(u64::MAX);
            let after = self.submitted()?;
            if (before == after && received == again) || Instant::now() > patience {
                self.records().ring.received = after;
                return Ok(());
            }
        }
    }

    /// Records that are or were on the ring.
    fn submitted(&self) -> Result<u64> {
        let health = self.kernel_health()?;
        Ok(sum(&health, Health::RingSubmitted) - sum(&health, Health::RingLost))
    }
}

/// Says where an agent without pins meets the programs of one that had them.
pub fn warn_of_leftovers() {
    match Directory::existing() {
        Ok(None) => {}
        Ok(Some(_)) => warn!(
            remedy = "start with --pin to go on with them, or take them off with `fivetuple detach`",
            "programs of an earlier agent are still attached here"
        ),
        Err(e) => warn!(error = why::text(&e), "programs of another agent are attached here"),
    }
}
