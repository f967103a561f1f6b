//! The watch over the interfaces: what is loaded and attached, what was read, what is in force.
//!
//! One thread keeps it ([`Monitor::keep`]); any other may ask it ([`backend`]) or change it ([`reload`]).

mod alerts;
mod backend;
mod legs;
mod reload;
mod sweeping;
mod takeover;

use crate::{
    aggregate::{
        Names,
        events::{self, Events},
        foreign::Foreign,
        inside::Inside,
        rows::nanos,
        snapshot::Ring as RingFigures,
    },
    config::{Interface, Source, Watch},
    connection::{Clock, Connection},
    connection_log::{Log, Opened},
    link::{self, Link},
    netlink::News,
    pins::{Pins, Plan, directory::pass_over_our_xdp, own::Own},
    preflight::{self, Hook, Kernel, State, plan},
    probe::{Probe, tables},
    rights,
    source::{
        maps::{Maps, add},
        ring::Ring,
        sweep::{self, Sweep},
    },
    sys, why,
};
use agent_ebpf::{
    health::Health,
    layout::{HealthCounts, MAX_POINTS, maps},
    record::Record,
    time::Nanos,
};
use alerts::Alerts;
use anyhow::{Result, bail};
use legs::Legs;
use reload::InForce;
pub use reload::room;
use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};
use sweeping::Flood;
use tracing::{error, info, warn};

/// How often the ring is drained. The programs wake nobody: that would cost a packet more than all the rest.
const DRAIN: Duration = Duration::from_millis(100);
/// Records that are taken at a time: a flood of them must not keep the thread from all else.
const ROUND: u64 = 65_536;
/// How often the interfaces are looked at where the kernel tells of no change: it does not when a link is detached.
const LOOK: Duration = Duration::from_secs(3);
/// How long a scrape waits for a processor that is just writing a record. It takes nanoseconds, unless the machine is a
/// virtual one and stands still.
const PATIENCE: Duration = Duration::from_millis(100);

/// Tables that metrics show: those that a sweep counts, and the services'.
const SHOWN: [(&str, &str); 9] = {
    let [a, b, c, d, e, f, g, h] = sweep::TABLES;
    [a, b, c, d, e, f, g, h, (maps::SERVICES, "services")]
};

/// The watch over the interfaces.
pub struct Monitor {
    maps: Maps,
    /// Names and sizes of the tables that metrics show: those of [`Sweep::entries`], and the services'.
    capacities: [(&'static str, u64); 9],
    interfaces: Vec<Interface>,
    source: Source,
    /// What outlives this agent, if anything is to.
    pins: Option<Pins>,
    hooks: Mutex<Hooks>,
    /// Tells when to look at the interfaces again.
    news: Option<News>,
    records: Mutex<Records>,
    in_force: RwLock<InForce>,
    alerts: Mutex<Alerts>,
}

/// The programs, and on which interface each point is now.
struct Hooks {
    probe: Probe,
    /// Number of the interface of each point, and none where it is gone or could not be watched.
    indexes: Vec<Option<u32>>,
    /// Why a point could not be watched when it was tried last, as it was logged.
    troubles: Vec<Option<String>>,
}

/// What was read and is kept.
struct Records {
    ring: Ring,
    events: Events,
    /// What happens between two points.
    inside: Inside,
    /// Resets by the state of the second leg.
    legs: Legs,
    /// Connections of clients that are not allowed.
    foreign: Foreign,
    /// The agent's own counts.
    own: Own,
    /// The last sweep.
    swept: Sweep,
    /// Whether it found a table of flows more than half full.
    crowded: bool,
    /// Whether more connections are asked for than can be followed.
    flood: Flood,
    log: Log,
}

impl Monitor {
    /// Load the programs and set their tables; nothing is attached yet. With `pin` they outlive this agent, and those
    /// that did so before are taken over. Takes seconds.
    pub fn load(watch: Watch, source: Source, pin: bool) -> Result<Self> {
        // Before the first look: nothing that happens from then on is missed.
        let news = News::listen()
            .inspect_err(|e| {
                let error = why::text(e);
                warn!(
                    error,
                    "the kernel does not tell when interfaces change; they are looked at every few seconds"
                );
            })
            .ok();
        let mut links = link::links()?;
        if pin {
            pass_over_our_xdp(&mut links);
        }
        let kernel = Kernel::read(&links);
        refuse_failures(&preflight::findings(&kernel, &watch.interfaces, &links))?;
        for twice in &watch.twice {
            let (interface, at, text) = (&twice.name, &twice.at, twice.text());
            if twice.left_out { info!(interface, at, "{text}") } else { warn!(interface, at, "{text}") }
        }
        if watch.interfaces.len() >= usize::from(MAX_POINTS) {
            bail!("{} interfaces are too many; watch at most {}", watch.interfaces.len(), MAX_POINTS - 1);
        }
        let mut log = Log::default();
        log.turn(Opened::of(watch.connection_log.as_ref())?)?;
        let (pins, numbers, own) = if pin {
            Pins::open(&watch)?.map_or_else(|| fresh(&watch), |(pins, plan, own)| (Some(pins), plan, own))
        } else {
            takeover::warn_of_leftovers();
            fresh(&watch)
        };
        let Plan { interfaces, services, room } = numbers;
        let wants_xdp = |entry: &Interface| {
            let link = links.iter().find(|l| l.name == entry.name);
            link.is_some_and(|link| plan(entry.ingress, link).hook == Hook::Xdp)
        };
        let xdp = watch.interfaces.iter().any(wants_xdp);
        let (probe, maps, ring) = Probe::load(&watch, room, kernel.version(), xdp, pins.as_ref())?;
        let sizes: HashMap<_, _> = tables::capacities(&watch, room).into_iter().collect();
        let capacities = SHOWN.map(|(map, label)| (label, sizes.get(map).copied().unwrap_or(0).into()));
        info!(
            memory_bytes = tables::memory(&watch, room),
            sizes = tables::sizes(&watch).map(|sizes| sizes.to_string()).unwrap_or_default(),
            "the tables are made"
        );
        let points = interfaces.iter().map(|i| i.point.clone()).collect();
        let mut in_force = InForce::new(&watch, room, Names { points, services, ..Names::default() });
        in_force.apply(&watch, &maps, pins.as_ref())?;
        let alerts = Mutex::new(Alerts::new(&watch));
        Ok(Self {
            maps,
            capacities,
            source,
            pins,
            hooks: Mutex::new(Hooks {
                probe,
                indexes: vec![None; interfaces.len()],
                troubles: vec![None; interfaces.len()],
            }),
            news,
            records: Mutex::new(Records {
                ring: Ring::new(ring),
                events: Events::default(),
                inside: Inside::default(),
                legs: Legs::default(),
                foreign: Foreign::default(),
                own,
                swept: Sweep::default(),
                crowded: false,
                flood: Flood::default(),
                log,
            }),
            in_force: RwLock::new(in_force),
            alerts,
            interfaces,
        })
    }

    /// Drain, sweep and look after the interfaces until `stop`; then take the programs off, unless they are to stay. `beat` is called whenever
    /// records were taken, or found to be all taken.
    ///
    /// Two threads: a sweep of large tables takes longer than the ring may wait.
    pub fn keep(&self, stop: &AtomicBool, mut beat: impl FnMut()) {
        thread::scope(|scope| {
            let sweeper = scope.spawn(|| self.keep_sweeping(stop));
            let (mut look_at, mut received) = (Instant::now() + LOOK, 0);
            // It ends before by a panic alone, which leaving the scope passes on.
            while !stop.load(Ordering::Relaxed) && !sweeper.is_finished() {
                let enough = received + ROUND;
                (received, _) = self.drain(enough);
                beat();
                #[cfg(feature = "probe-log")]
                self.hooks().probe.speak();
                let told = self.news.as_ref().is_some_and(News::any);
                if told || Instant::now() >= look_at {
                    rights::raised(|| self.look());
                    look_at = Instant::now() + LOOK;
                }
                if received < enough {
                    thread::park_timeout(DRAIN);
                }
            }
        });
        if self.pins.is_none() {
            let mut hooks = self.hooks();
            for point in 0..self.interfaces.len() {
                rights::raised(|| hooks.probe.detach(point));
            }
        }
        self.drain(u64::MAX);
        self.records().log.finish();
        match &self.pins {
            None => info!("every program is detached"),
            Some(pins) => info!(
                path = %pins.tables().display(),
                "every program stays attached, and counts; `fivetuple detach` takes them off"
            ),
        }
    }

    /// Take records off the ring, until the agent has received `enough`; how many it has received, and how many of
    /// those made no sense.
    fn drain(&self, enough: u64) -> (u64, u64) {
        let (now, clock) = (SystemTime::now(), sys::monotonic());
        let in_force = self.in_force();
        let Records { ring, events, inside, log, foreign, .. } = &mut *self.records();
        ring.drain(enough, |record| {
            keep(record, (now, clock), &in_force.names, events, log);
            if let Record::End(end) = record {
                let ended = events::sight(end);
                foreign.ended(&in_force.allowed, &ended);
                // Later its last state may have been told already.
                if clock.since(end.head.at) < nanos(sweep::LINGER) {
                    inside.take(&ended, clock, false);
                }
            }
        });
        log.flush();
        (ring.received, ring.malformed)
    }

    /// Self-counters, and what came of exactly those records that they count.
    fn health(&self) -> Result<(Vec<[HealthCounts; 2]>, RingFigures)> {
        let patience = Instant::now() + PATIENCE;
        loop {
            let health = self.kernel_health()?;
            let [submitted, lost] = [Health::RingSubmitted, Health::RingLost].map(|what| sum(&health, what));
            let (received, malformed) = self.drain(submitted - lost);
            // A record is on the ring before it is counted: another look is needed only where an earlier drain
            // was faster than the count, or where another processor is still writing.
            if received == submitted - lost || Instant::now() > patience {
                return Ok((health, RingFigures { submitted, received, lost, malformed }));
            }
            thread::yield_now();
        }
    }

    /// Self-counters, with what the agent adds to them.
    fn kernel_health(&self) -> Result<Vec<[HealthCounts; 2]>> {
        let mut health = self.maps.health(self.interfaces.len())?;
        let records = self.records();
        for (to, from) in health.iter_mut().flatten().zip(records.own.health.iter().flatten()) {
            add(to, from);
        }
        Ok(health)
    }

    /// Notice interfaces that went, came, or came anew, and programs that were taken off.
    fn look(&self) {
        let links = match link::links() {
            Ok(links) => links,
            Err(e) => {
                warn!(error = why::text(&e), "cannot look at the interfaces");
                return;
            }
        };
        let mut hooks = self.hooks();
        for (point, done) in self.settle(&mut hooks, &links).into_iter().enumerate() {
            let trouble = done.err().map(|e| why::text(&e));
            let entry = &self.interfaces[point];
            match &trouble {
                Some(error) if hooks.troubles[point] != trouble => {
                    error!(
                        point = entry.point,
                        interface = entry.name,
                        error,
                        "cannot watch; trying on every few seconds"
                    );
                }
                _ => {}
            }
            hooks.troubles[point] = trouble;
        }
    }

    /// Have every point watched on the interface of its name, if that is there. First lets go of those that are gone: one
    /// that was renamed may be another point now.
    fn settle(&self, hooks: &mut Hooks, links: &[Link]) -> Vec<Result<()>> {
        let named = |entry: &Interface| links.iter().find(|l| l.name == entry.name);
        let gone: Vec<_> = (self.interfaces.iter().enumerate())
            .map(|(point, entry)| match hooks.indexes[point] {
                Some(old) if named(entry).map(|l| l.index) != Some(old) => {
                    self.forget(hooks, point, old, links)
                }
                _ => Ok(()),
            })
            .collect();
        let settled = gone.into_iter().zip(&self.interfaces).enumerate();
        settled
            .map(|(point, (gone, entry))| {
                gone?;
                named(entry).map_or(Ok(()), |link| self.settle_point(hooks, point, link))
            })
            .collect()
    }

    /// Let go of a point's interface, which is gone, or has another name now.
    fn forget(&self, hooks: &mut Hooks, point: usize, old: u32, links: &[Link]) -> Result<()> {
        let Interface { point: named, name: interface, .. } = &self.interfaces[point];
        match links.iter().find(|l| l.index == old) {
            Some(link) => warn!(
                point = named,
                interface,
                renamed = link.name,
                "the interface was renamed; the configuration goes by names, so it is this point no more"
            ),
            None => {
                warn!(point = named, interface, "the interface is gone; it is watched again when it is back");
            }
        }
        hooks.probe.detach(point);
        hooks.indexes[point] = None;
        self.maps.set_point(point as u8, Some(old), None)
    }

    /// Watch the interface of a point, wholly.
    fn settle_point(&self, hooks: &mut Hooks, point: usize, link: &Link) -> Result<()> {
        let entry = &self.interfaces[point];
        if hooks.indexes[point] == Some(link.index) {
            return hooks.probe.restore(point, entry, link);
        }
        self.maps.set_point(point as u8, None, Some(link.index))?;
        hooks.probe.attach(point, entry, link)?;
        hooks.indexes[point] = Some(link.index);
        Ok(())
    }

    /// What it does, in a word.
    pub fn status(&self) -> String {
        format!("watching; points: {}", self.interfaces.len())
    }

    fn hooks(&self) -> MutexGuard<'_, Hooks> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_force(&self) -> RwLockReadGuard<'_, InForce> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_force_mut(&self) -> RwLockWriteGuard<'_, InForce> {
        self.in_force.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nothing that was there before.
fn fresh(watch: &Watch) -> (Option<Pins>, Plan, Own) {
    let plan = Plan::fresh(watch);
    let own = Own::new(plan.interfaces.len(), plan.room as usize);
    (None, plan, own)
}

/// Keeps a record that was read at this moment, by the wall's and the kernel's clock; of an end, the log has a line.
fn keep(
    record: &Record,
    (now, clock): (SystemTime, Nanos),
    names: &Names,
    events: &mut Events,
    log: &mut Log,
) {
    events.push(record, now, clock);
    if let Record::End(end) = record
        && log.is_on()
    {
        let sight = events::sight(end);
        let mut connection = Connection::of(&sight, names, Clock::new(now, clock)).shown(names.shown);
        connection.http = events.http(&sight).cloned();
        log.add(&connection);
    }
}

/// A self-counter of all points and both directions.
fn sum(health: &[[HealthCounts; 2]], what: Health) -> u64 {
    health.iter().flatten().map(|counts| counts[what as usize]).sum()
}

/// Log what is less than it should be, and end where it is too little.
fn refuse_failures(findings: &[preflight::Finding]) -> Result<()> {
    let mut failures = 0;
    for finding in findings {
        let text = format!("{}: {}", finding.subject, finding.text);
        match finding.state {
            State::Ok => {}
            State::Warn => warn!(remedy = finding.remedy, "{text}"),
            State::Fail => {
                failures += 1;
                error!(remedy = finding.remedy, "{text}");
            }
        }
    }
    if failures > 0 { bail!("cannot start, for the reasons above ({failures})") } else { Ok(()) }
}
