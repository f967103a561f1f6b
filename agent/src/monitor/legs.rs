//! Resets after a reuse, proved or cleared by the proxy's second leg, as a metric: seconds later, when both legs' ends are
//! known.

use super::Monitor;
use crate::{
    aggregate::{
        rows::{Sight, stored},
        snapshot::LegKey,
    },
    connection::{Clock, Connection, http::life, second_leg},
    sys,
};
use agent_ebpf::anomaly::Cause;
use anyhow::Result;
use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, SystemTime},
};

/// How long after a reset its second leg's end is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was found so far.
#[derive(Debug, Default)]
pub struct Legs {
    /// The last end that was looked at.
    looked_at: u64,
    counts: BTreeMap<LegKey, u64>,
}

impl Legs {
    /// Resets by the state of their second leg.
    pub fn counts(&self) -> &BTreeMap<LegKey, u64> {
        &self.counts
    }

    /// Forgets all of some points.
    pub fn forget_points(&mut self, is_one: impl Fn(u8) -> bool) {
        self.counts.retain(|(point, ..), _| !is_one(*point));
    }
}

impl Monitor {
    /// Looks at the resets whose second leg must be known by now.
    pub(super) fn prove_legs(&self) -> Result<()> {
        let (names, time_wait) = {
            let in_force = self.in_force();
            (in_force.names.clone(), in_force.watch.limits.time_wait)
        };
        let (wall, now) = (SystemTime::now(), sys::monotonic());
        let due = wall.checked_sub(PATIENCE).unwrap_or(wall);
        let mut resets: HashMap<_, _> = HashMap::new();
        {
            let records = &mut *self.records();
            let ends = records.events.ends_after(records.legs.looked_at);
            let mut looked_at = records.legs.looked_at;
            for (id, _, sight) in ends.take_while(|(_, at, _)| *at <= due) {
                looked_at = id;
                resets.extend(is_suspicious(&sight).then(|| (life(&sight), sight)));
            }
            records.legs.looked_at = looked_at;
        }
        if resets.is_empty() {
            return Ok(());
        }
        let around = self.around(&resets.values().copied().collect::<Vec<_>>())?;
        let clock = Clock::new(wall, now);
        let mut all: Vec<_> = around.iter().map(|sight| Connection::of(sight, &names, clock)).collect();
        second_leg::prove(&mut all, time_wait);
        let records = &mut *self.records();
        for (sight, connection) in around.iter().zip(&all) {
            if let (true, Some(leg)) = (resets.contains_key(&life(sight)), &connection.second_leg) {
                *records.legs.counts.entry((sight.key.point(), sight.flow.svc, leg.state)).or_default() += 1;
            }
        }
        Ok(())
    }
}

fn is_suspicious(sight: &Sight) -> bool {
    stored(sight.flow.cause, Cause::from_code) == Some(Cause::AfterReuse)
}
