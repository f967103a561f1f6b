//! The watch over the interfaces: what is loaded and attached, what was read, what is in force.
//!
//! One thread keeps it ([`Monitor::keep`]); any other may ask it ([`backend`]) or change it ([`reload`]).

mod alerts;
mod backend;
mod legs;
mod points;
mod reload;
mod sights;
mod sweeping;
mod takeover;
mod watching;

use crate::{
    aggregate::{
        Names,
        events::{self, Events},
        foreign::Foreign,
        inside::Inside,
        rows::nanos,
        snapshot::{Attached, Ring as RingFigures},
    },
    config::{Ingress, Interface, Source, Watch, choice::MOST},
    connection::{Clock, Connection},
    connection_log::{Log, Opened},
    link,
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
    layout::{HealthCounts, maps},
    record::Record,
    time::Nanos,
};
use alerts::Alerts;
use anyhow::{Result, bail};
use legs::Legs;
use points::Points;
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
    /// Points that the tables have room for.
    places: usize,
    source: Source,
    /// What outlives this agent, if anything is to.
    pins: Option<Pins>,
    hooks: Mutex<Hooks>,
    /// Tells when to look at the interfaces again.
    news: Option<News>,
    /// Numbers of points became free, or others are asked for: so does this.
    changed: AtomicBool,
    records: Mutex<Records>,
    in_force: RwLock<InForce>,
    alerts: Mutex<Alerts>,
}

/// The programs, and on which interface each point is now.
struct Hooks {
    probe: Probe,
    points: Points,
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

impl Hooks {
    /// Where the programs hang, for each point that is asked for.
    fn attached(&self) -> Vec<Attached> {
        self.probe.attached(self.points.asked().map(|(number, entry)| (number, entry.point.as_str())))
    }
}

impl Records {
    /// Nothing is known any more of points whose numbers others will have.
    fn forget(&mut self, points: &[usize], services: usize) {
        self.own.forget(points, services);
        let is_one = |point: u8| points.contains(&usize::from(point));
        self.events.forget_points(is_one);
        self.inside.forget_points(is_one);
        self.foreign.forget_points(is_one);
        self.legs.forget_points(is_one);
    }
}

impl Monitor {
    /// Load the programs and set their tables; nothing is attached yet. With `pin` they outlive this agent, and those
    /// that did so before are taken over. Takes seconds.
    pub fn load(mut watch: Watch, source: Source, pin: bool) -> Result<Self> {
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
        // One that a pattern took may have gone since.
        let (wanted, is_there) =
            (watch.wanted.clone(), |entry: &Interface| links.iter().any(|l| l.name == entry.name));
        watch.interfaces.retain(|entry| wanted.named.contains(entry) || is_there(entry));
        refuse_failures(&preflight::findings(&kernel, &watch.interfaces, &links))?;
        match watch.interfaces.len() {
            0 => warn!("no interface is there that is asked for; each is watched as soon as it comes"),
            n if n > MOST => bail!("{n} interfaces are too many; watch at most {MOST}"),
            _ => {}
        }
        let mut log = Log::default();
        log.turn(Opened::of(watch.connection_log.as_ref())?)?;
        let (pins, numbers, own) = if pin {
            Pins::open(&watch)?.map_or_else(|| fresh(&watch), |(pins, plan, own)| (Some(pins), plan, own))
        } else {
            takeover::warn_of_leftovers();
            fresh(&watch)
        };
        let Plan { points, services, room } = numbers;
        watch.spare = points.len() - watch.interfaces.len();
        let wants_xdp = |entry: &Interface| {
            let link = links.iter().find(|l| l.name == entry.name);
            link.is_some_and(|link| plan(entry.ingress, link).hook == Hook::Xdp)
        };
        let xdp = watch.interfaces.iter().any(wants_xdp)
            || watch.wanted.patterns.iter().any(|p| !p.out && p.ingress == Ingress::Xdp);
        let (probe, maps, ring) = Probe::load(&watch, room, kernel.version(), xdp, pins.as_ref())?;
        let sizes: HashMap<_, _> = tables::capacities(&watch, room).into_iter().collect();
        let capacities = SHOWN.map(|(map, label)| (label, sizes.get(map).copied().unwrap_or(0).into()));
        info!(
            memory_bytes = tables::memory(&watch, room),
            sizes = tables::sizes(&watch).map(|sizes| sizes.to_string()).unwrap_or_default(),
            "the tables are made"
        );
        let points = Points::new(points);
        let names = Names { points: points.names(), services, ..Names::default() };
        let mut in_force = InForce::new(&watch, room, names);
        in_force.apply(&watch, &maps, pins.as_ref())?;
        let alerts = Mutex::new(Alerts::new(&watch));
        Ok(Self {
            maps,
            capacities,
            source,
            pins,
            places: points.room(),
            hooks: Mutex::new(Hooks { probe, points }),
            news,
            changed: AtomicBool::new(false),
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
                let told = self.changed.swap(false, Ordering::Relaxed) || told;
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
            for point in 0..self.places {
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
        let mut health = self.maps.health(self.places)?;
        let records = self.records();
        for (to, from) in health.iter_mut().flatten().zip(records.own.health.iter().flatten()) {
            add(to, from);
        }
        Ok(health)
    }

    /// What it does, in a word.
    pub fn status(&self) -> String {
        format!("watching; points: {}", self.hooks().points.asked().count())
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
    let own = Own::new(plan.points.len(), plan.room as usize);
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
