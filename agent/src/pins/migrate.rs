//! From the tables of an earlier generation to those of this one, once no program counts in them any more.

use super::{Pins, Source, description::Description, directory::remove_tree, own::Own};
use crate::{
    aggregate::snapshot::Totals,
    source::{
        maps::{Family, Key, Maps, fd, sum_health, sum_totals},
        ring::Ring,
        slots::{self, Established},
    },
    sys::{
        self,
        map::{self, BPF_F_LOCK, BPF_NOEXIST},
    },
};
use agent_ebpf::{
    flow::{Closed, Flow, FlowKey4, FlowKey6},
    layout::{High, maps as names},
    record::Record,
    scoreboard::Scoreboard,
};
use anyhow::{Context as _, Result};
use aya::maps::{Map, MapData, RingBuf};
use bytemuck::Pod;
use std::{path::Path, sync::PoisonError};
use tracing::{info, warn};

/// What was brought over, for the log.
#[derive(Default)]
struct Moved {
    flows: u64,
    /// Entries that found no room.
    left: u64,
    records: u64,
}

impl Pins {
    /// Bring over what the earlier tables hold. To be called when every program was replaced: nothing changes them any
    /// more. `take` is given the records that nobody has read.
    pub fn migrate(&self, own: &mut Own, maps: &Maps, mut take: impl FnMut(&Record)) -> Result<()> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.is_empty() {
            return Ok(());
        }
        sys::quiesce();
        let now = self.description().clone();
        for source in sources.iter() {
            let mut moved = Moved::default();
            self.add_counts(source, &now, own)?;
            let mut high = High::default();
            self.move_family::<FlowKey4>(source, &now, &maps.v4, &FAMILY4, &mut high[0], &mut moved)?;
            self.move_family::<FlowKey6>(source, &now, &maps.v6, &FAMILY6, &mut high[1], &mut moved)?;
            let table = MapData::from_pin(self.tables().join(names::HIGH)).context("cannot open HIGH")?;
            slots::raise(&table, high).context("cannot say how far the flow tables are used")?;
            self.drain(source, &now, &mut take, &mut moved)?;
            own.folded = source.number;
            self.save(own)?;
            report(source, &now, &moved);
        }
        for source in sources.drain(..) {
            remove_tree(&source.path)?;
        }
        Ok(())
    }

    /// A table of a source, unless this generation goes on with it.
    fn old(&self, source: &Source, name: &str) -> Result<Option<MapData>> {
        let open = |directory: &Path| {
            MapData::from_pin(directory.join(name)).with_context(|| format!("cannot open the old {name}"))
        };
        let (old, new) = (open(&source.path)?, open(self.tables())?);
        Ok((old.info()?.id() != new.info()?.id()).then_some(old))
    }

    fn add_counts(&self, source: &Source, now: &Description, own: &mut Own) -> Result<()> {
        let old = &source.description;
        let (points, services) = (old.points.len(), old.services.len());
        if let Some(table) = self.old(source, names::TOTALS)? {
            let totals = sum_totals(&table, old.room, points, services)?;
            own.add_by_name(now, old, &totals, services, &[]);
        }
        if let Some(table) = self.old(source, names::HEALTH)? {
            own.add_by_name(now, old, &[] as &[Totals], 0, &sum_health(&table, points)?);
        }
        Ok(())
    }

    /// Copies flows, and what belongs to them, to where no packet has made a newer entry. After the programs were
    /// replaced, not before: a flow that went on meanwhile would show a gap that never was.
    fn move_family<K: Key>(
        &self,
        source: &Source,
        now: &Description,
        to: &Family,
        (flows, [half_open, closed, scores]): &(slots::Names, [&str; 3]),
        high: &mut u32,
        moved: &mut Moved,
    ) -> Result<()> {
        let place = |key: K| {
            let point = source.description.points.get(usize::from(key.any().point()))?;
            Some(key.at_point(now.point(&point.name)? as u8))
        };
        let there = |key: &K, flow: &Flow| {
            let used = flow.has(Flow::USED) && !flow.has(Flow::MOVED);
            let key = place(*key).filter(|_| used)?;
            Some((key, Flow { tag: key.any().tag(), busy: 0, ..*flow }))
        };
        let mut entries = Vec::new();
        if self.old(source, flows[0])?.is_some() {
            let open =
                |name: &str| self.old(source, name)?.with_context(|| format!("{name} is not the old one"));
            Established::open(*flows, &mut { open })?
                .for_each(u32::MAX, |key, flow| entries.extend(there(key, flow)))?;
        }
        for (key, flow) in entries.drain(..) {
            match to.flows.insert(&key, &flow, high).context("cannot bring over a flow")? {
                Some(new) => moved.flows += u64::from(new),
                None => moved.left += 1,
            }
        }
        if let Some(table) = self.old(source, half_open)? {
            let mut entries = Vec::new();
            map::for_each(fd(&table), BPF_F_LOCK, |key, flow| entries.extend(there(key, flow)))?;
            moved.flows += put(&to.half_open, &entries, &mut moved.left)?;
        }
        if let Some(table) = self.old(source, closed)? {
            let mut entries = Vec::new();
            map::for_each(fd(&table), 0, |key: &K, value: &Closed| {
                entries.extend(place(*key).map(|key| (key, *value)));
            })?;
            put(&to.closed, &entries, &mut moved.left)?;
        }
        if let Some(table) = self.old(source, scores)? {
            let mut entries = Vec::new();
            map::for_each(fd(&table), 0, |key: &K, value: &Scoreboard| {
                entries.extend(place(*key).map(|key| (key, *value)));
            })?;
            put(&to.scores, &entries, &mut moved.left)?;
        }
        Ok(())
    }

    /// Reads what is left on an old ring. Records name points by their numbers: where those have changed they are let go.
    fn drain(
        &self,
        source: &Source,
        now: &Description,
        take: &mut impl FnMut(&Record),
        moved: &mut Moved,
    ) -> Result<()> {
        let Some(ring) = self.old(source, names::EVENTS)? else { return Ok(()) };
        let numbers_stay = super::numbers_stay(&source.description, now);
        Ring::new(RingBuf::try_from(Map::RingBuf(ring))?).drain(u64::MAX, |record| {
            if numbers_stay {
                moved.records += 1;
                take(record);
            } else {
                moved.left += 1;
            }
        });
        Ok(())
    }
}

/// Established flows, half-open flows, closed five-tuples and scoreboards of IPv4.
const FAMILY4: (slots::Names, [&str; 3]) = (slots::V4, [names::HALF_OPEN4, names::CLOSED4, names::SCORES4]);
/// The same of IPv6.
const FAMILY6: (slots::Names, [&str; 3]) = (slots::V6, [names::HALF_OPEN6, names::CLOSED6, names::SCORES6]);

/// Puts entries where there are none; how many.
fn put<K: Pod, V: Pod>(to: &MapData, entries: &[(K, V)], left: &mut u64) -> Result<u64> {
    let mut done = 0;
    for (key, value) in entries {
        match map::update(fd(to), key, value, BPF_NOEXIST) {
            Ok(()) => done += 1,
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {}
            Err(e) if e.raw_os_error() == Some(libc::E2BIG) => *left += 1,
            Err(e) => return Err(e).context("cannot bring over an entry of a table"),
        }
    }
    Ok(done)
}

fn report(source: &Source, now: &Description, moved: &Moved) {
    let names = |d: &Description| {
        let names = d.points.iter().map(|p| p.name.clone());
        names.filter(|name| !name.is_empty()).collect::<Vec<_>>()
    };
    let (before, after) = (names(&source.description), names(now));
    info!(
        from = source.description.agent,
        points_before = before.join(" "),
        points = after.join(" "),
        services_room_before = source.description.room,
        services_room = now.room,
        flows_copied = moved.flows,
        records = moved.records,
        "migrated: the totals of the earlier tables are among those of the new ones"
    );
    for point in before.iter().filter(|name| !after.contains(name)) {
        warn!(point, "no point any more: its counts end here");
    }
    if moved.left > 0 {
        warn!(
            entries = moved.left,
            "not brought over: the new tables are smaller, or the points' numbers changed"
        );
    }
}
