//! Which interfaces are watched now: after every change, and every few seconds, what there is is compared with what is asked
//! for.

use super::{Hooks, Monitor, points::Point};
use crate::{
    config::choice::Twice,
    link::{self, Link},
    notify, rights, sys, why,
};
use agent_ebpf::health::Health;
use anyhow::{Result, anyhow};
use std::{collections::HashMap, sync::atomic::Ordering, time::Instant};
use tracing::{error, info, warn};

/// What counts the records of a point: their sum over all points is what was put on the ring.
const RECORDS: [Health; 2] = [Health::RingSubmitted, Health::RingLost];

impl Monitor {
    /// Notice interfaces that went, came, or came anew, and programs that were taken off.
    pub(super) fn look(&self) {
        let links = match link::links() {
            Ok(links) => links,
            Err(e) => {
                warn!(error = why::text(&e), "cannot look at the interfaces");
                return;
            }
        };
        let mut hooks = self.hooks();
        let before = hooks.points.asked().count();
        for (number, done) in self.settle(&mut hooks, &links) {
            let trouble = done.err().map(|e| why::text(&e));
            let Some((_, point)) = hooks.points.iter_mut().find(|(n, _)| *n == number) else { continue };
            if let Some(error) = trouble.as_ref().filter(|_| point.trouble != trouble) {
                let entry = &point.entry;
                error!(
                    point = entry.point,
                    interface = entry.name,
                    error,
                    "cannot watch; trying on every few seconds"
                );
            }
            point.trouble = trouble;
        }
        let now = hooks.points.asked().count();
        drop(hooks);
        if now != before {
            notify::status(&self.status());
        }
    }

    /// Have every interface that is asked for watched, if it is there; what came of each point. First lets go of those that
    /// are gone: one that was renamed may be another point now.
    pub(super) fn settle(&self, hooks: &mut Hooks, links: &[Link]) -> Vec<(usize, Result<()>)> {
        let wanted = self.in_force().watch.wanted.clone();
        let (chosen, twice) = wanted.choose(links, |index| hooks.points.holds(index));
        for name in hooks.points.ask(&chosen, Instant::now()) {
            warn!(interface = name, "{}", hooks.points.no_room());
        }
        tell_of(&twice, &hooks.points.twice);
        hooks.points.twice = twice;
        let Hooks { probe, points } = hooks;
        let by_name: HashMap<_, _> = links.iter().map(|link| (link.name.as_str(), link)).collect();
        let mut out = Vec::new();
        for (number, point) in points.iter_mut() {
            let there = by_name.get(point.entry.name.as_str()).map(|link| link.index);
            if let Some(old) = point.index.filter(|old| point.gone.is_some() || there != Some(*old)) {
                say_gone(point, links.iter().find(|link| link.index == old));
                probe.detach(number);
                point.index = None;
                out.push((number, self.maps.set_point(number as u8, Some(old), None)));
                // Its point may have been given another interface, which is taken by the next look.
                self.changed.store(true, Ordering::Relaxed);
            }
        }
        // Whose a number is must be known before anything counts by it.
        let named = self.name(hooks);
        let asked: Vec<_> = hooks.points.asked().map(|(n, entry)| (n, entry.name.clone())).collect();
        for (number, name) in asked {
            let Some(link) = by_name.get(name.as_str()) else { continue };
            let done = match &named {
                Ok(()) => self.settle_point(hooks, number, link),
                Err(e) => Err(anyhow!("{}", why::text(e))),
            };
            out.push((number, done));
        }
        out
    }

    /// Give the numbers of points their names.
    fn name(&self, hooks: &Hooks) -> Result<()> {
        if let Some(pins) = &self.pins {
            pins.describe_points(hooks.points.described())?;
        }
        let names = hooks.points.names();
        if self.in_force().names.points != names {
            self.in_force_mut().names.points = names;
        }
        Ok(())
    }

    /// Watch the interface of a point, wholly.
    fn settle_point(&self, hooks: &mut Hooks, number: usize, link: &Link) -> Result<()> {
        let Some((_, point)) = hooks.points.iter_mut().find(|(n, _)| *n == number) else { return Ok(()) };
        if point.index != Some(link.index) {
            self.maps.set_point(number as u8, None, Some(link.index))?;
            point.index = Some(link.index);
        }
        let done = hooks.probe.watch(number, &point.entry, link);
        // It may have gone in this instant: the next look sees that.
        let is_there = |links: Vec<Link>| links.iter().any(|now| now.index == link.index);
        if done.is_err() && link::links().is_ok_and(|links| !is_there(links)) { Ok(()) } else { done }
    }

    /// Points that are to be freed, once no program counts for them any more and all their records are read.
    pub(super) fn ending(&self) -> Vec<usize> {
        let ending = self.hooks().points.end(Instant::now());
        if !ending.is_empty() {
            sys::quiesce();
            self.drain(u64::MAX);
        }
        ending
    }

    /// Free the numbers of points whose connections are all out of the tables.
    pub(super) fn free(&self, ending: &[usize]) -> Result<()> {
        let (names, services) = {
            let mut hooks = self.hooks();
            let names = hooks.points.names();
            hooks.points.unname(ending);
            // Their series end first: nobody may see them set back.
            let mut in_force = self.in_force_mut();
            in_force.names.points = hooks.points.names();
            (names, in_force.room as usize)
        };
        {
            let records = &mut *self.records();
            let counted = self.maps.health(self.places)?;
            records.own.keep_sums(&counted, ending, &RECORDS);
            rights::raised(|| self.maps.forget(ending))?;
            records.forget(ending, services);
            if let Some(pins) = &self.pins {
                pins.save(&records.own)?;
            }
        }
        let mut hooks = self.hooks();
        hooks.points.free(ending);
        if let Some(pins) = &self.pins {
            rights::raised(|| pins.describe_points(hooks.points.described()))?;
        }
        for number in ending {
            info!(point = names[*number], "its interface is gone for good: its series have ended");
        }
        self.changed.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// Say why an interface is let go of; `now` is what has its number.
fn say_gone(point: &Point, now: Option<&Link>) {
    let (interface, named) = (&point.entry.name, &point.entry.point);
    match now {
        Some(link) if link.name != *interface => warn!(
            point = named,
            interface,
            renamed = link.name,
            "the interface was renamed; the configuration goes by names, so it is this point no more"
        ),
        Some(_) => info!(point = named, interface, "not watched any more: it is not asked for as it is now"),
        None if point.gone.is_some() => {
            info!(point = named, interface, "the interface is gone; its series stay for some minutes");
        }
        None => warn!(point = named, interface, "the interface is gone; it is watched again when it is back"),
    }
}

/// Say which interfaces see what others see, as far as that was not said before.
fn tell_of(twice: &[Twice], before: &[Twice]) {
    for twice in twice.iter().filter(|twice| !before.contains(twice)) {
        let (interface, at, text) = (&twice.name, &twice.at, twice.text());
        if twice.left_out { info!(interface, at, "{text}") } else { warn!(interface, at, "{text}") }
    }
}
