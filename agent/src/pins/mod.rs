//! What outlives an agent, where it was asked for that: programs on their interfaces, and the tables they count in,
//! pinned in the kernel's file system for such things.
//!
//! Below `/sys/fs/bpf/fivetuple/net-<network namespace>/` the links are in `links/` ([`crate::probe`] pins them), and the
//! tables in `generation-<n>/`. A start that finds the tables as it wants them goes on with them, and with the programs where
//! they are of its own build ([`programs`]). One that wants others
//! makes a generation that shares with the last whatever stays as it is, replaces the programs, and then brings over
//! what the old tables hold ([`migrate`]). [`directory`] says who owns all that, [`foreign`] what is not ours.

pub mod description;
pub mod directory;
mod foreign;
pub mod journal;
mod migrate;
pub mod own;
pub mod programs;

use crate::{
    aggregate::Names,
    config::{Ingress, Interface, OTHER_SERVICE, Watch},
    monitor, probe,
    sys::{cell::Cell, pin},
};
use agent_ebpf::layout::{self, KEPT, maps};
use anyhow::{Context as _, Result, bail};
use description::Description;
pub use description::Point;
use directory::{Directory, remove_tree};
use foreign::Shapes;
pub use foreign::{check_any_link, check_link};
use journal::Journal;
use own::Own;
use std::{
    fs,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tracing::{info, warn};

const GENERATION: &str = "generation-";
const OWN: &str = "OWN";

/// How things are numbered: as they were, where an earlier agent numbered them.
pub struct Plan {
    /// The points, by their numbers, and numbers that are none's. Where interfaces may come and go some may be gone.
    pub points: Vec<Option<Interface>>,
    /// Services that are known already, by their numbers.
    pub services: Vec<String>,
    /// Services that the totals have room for.
    pub room: u32,
}

impl Plan {
    /// Where nothing is there yet.
    pub fn fresh(watch: &Watch) -> Self {
        let mut points: Vec<_> = watch.interfaces.iter().cloned().map(Some).collect();
        points.resize(watch.places(), None);
        Self { points, services: vec![OTHER_SERVICE.to_owned()], room: monitor::room(watch.services.len()) }
    }

    /// Goes on with the numbers of a description; what is new comes where there is room, and behind.
    fn after(watch: &Watch, old: &Description) -> Self {
        let names =
            old.services.len() + watch.services.iter().filter(|s| !old.services.contains(&s.name)).count();
        let room = if names <= old.room as usize { old.room } else { monitor::room(names) };
        Self { points: numbered(watch, old), services: old.services.clone(), room }
    }
}

/// The points with their numbers of before, new ones where there is room, and behind. Points that are gone keep theirs
/// where interfaces come and go, until somebody needs the room.
fn numbered(watch: &Watch, old: &Description) -> Vec<Option<Interface>> {
    let point = |name: &str| watch.interfaces.iter().find(|i| i.point == name).cloned();
    let is_new = |i: &&Interface| old.point(&i.point).is_none();
    let new: Vec<_> = watch.interfaces.iter().filter(is_new).cloned().map(Some).collect();
    let gone = |p: &Point| {
        let (name, point, ingress) = (p.interface.clone(), p.name.clone(), Ingress::default());
        (watch.spare > 0 && !p.name.is_empty()).then_some(Interface { name, point, ingress })
    };
    let mut points: Vec<_> = old.points.iter().map(|p| point(&p.name).or_else(|| gone(p))).collect();
    // Room for one more, or one less, is no reason to make tables anew.
    let is_enough = points.len() >= watch.interfaces.len() + watch.spare / 2;
    let room = if is_enough { points.len() } else { watch.places() };
    if watch.spare == 0 || points.iter().flatten().count() + new.len() > room {
        points = old.points.iter().filter_map(|p| point(&p.name)).map(Some).collect();
    }
    let mut new = new.into_iter();
    for free in points.iter_mut().filter(|point| point.is_none()) {
        *free = new.next().flatten();
    }
    points.extend(new);
    points.resize(if watch.spare == 0 { watch.places() } else { room.max(points.len()) }, None);
    points
}

/// Tables of an earlier generation, to be brought over.
struct Source {
    number: u64,
    path: PathBuf,
    description: Description,
}

/// What this agent holds.
pub struct Pins {
    directory: Directory,
    /// Where its tables are.
    tables: PathBuf,
    fresh: bool,
    sources: Mutex<Vec<Source>>,
    /// Interfaces that were points and are none now.
    dropped: Vec<String>,
    description: Mutex<Description>,
    journal: Journal,
    cell: Cell,
    /// What the cell holds.
    saved: Mutex<Vec<u8>>,
}

impl Pins {
    /// Hold what is pinned, or make place for it; `None`, with a warning, where nothing can be pinned.
    pub fn open(watch: &Watch) -> Result<Option<(Self, Plan, Own)>> {
        let path = match Directory::make() {
            Ok(path) => path,
            Err(e) => {
                warn!(
                    remedy = "mount one with `mount -t bpf bpf /sys/fs/bpf`, and let this user write there",
                    "{}",
                    directory::cost(&e)
                );
                return Ok(None);
            }
        };
        let directory = Directory::hold(path)?;
        directory.collect_others().context("cannot look for the pins of others")?;
        let shapes = Shapes::read()?;
        let mut sources = generations(&directory, shapes)?;
        let plan = sources.last().map_or_else(|| Plan::fresh(watch), |s| Plan::after(watch, &s.description));
        let description = describe(watch, &plan);
        let Some(last) = sources.last() else {
            let own = Own::new(plan.points.len(), plan.room as usize);
            let pins = Self::make(directory, 1, Vec::new(), description, &own)?;
            return Ok(Some((Self { fresh: true, ..pins }, plan, own)));
        };
        for name in KEPT {
            shapes.check(&last.path.join(name), name, last.description.tables.get(name).copied())?;
        }
        let (cell, mut old) = read_own(last)?;
        let journal = Journal::pinned(&last.path)?;
        journal.recover(&last.path, &last.description, &mut old)?;
        let same = last.description.room == description.room
            && last.description.tables == description.tables
            && last.description.points.len() == description.points.len()
            && numbers_stay(&last.description, &description);
        let dropped = dropped(&sources, watch);
        let (pins, own) = if same {
            let (tables, saved) = (last.path.clone(), old.bytes());
            cell.set(&saved).context("cannot keep the agent's own counts")?;
            journal.begin(old.swept)?;
            sources.pop();
            (Self::of(directory, tables, description, journal, cell, saved), old)
        } else {
            let mut own = Own::new(description.points.len(), description.room as usize);
            let from = &last.description;
            own.add_by_name(&description, from, &old.totals, from.room as usize, &old.health);
            (own.folded, own.swept) = (old.folded, old.swept);
            let shared = sources.last().map(|s| share(s, &description)).unwrap_or_default();
            (Self::make(directory, last.number + 1, shared, description, &own)?, own)
        };
        // What is counted among the agent's own already was only not removed any more.
        for done in sources.extract_if(.., |s| s.number <= own.folded) {
            remove_tree(&done.path)?;
        }
        Ok(Some((Self { sources: Mutex::new(sources), dropped, ..pins }, plan, own)))
    }

    /// Make a generation with these pins of the last one's tables, up to what the loader and [`Pins::describe`] do.
    fn make(
        directory: Directory,
        number: u64,
        shared: Vec<(&'static str, PathBuf)>,
        description: Description,
        own: &Own,
    ) -> Result<Self> {
        let tables = directory.path().join(format!("{GENERATION}{number}"));
        fs::create_dir(&tables).with_context(|| format!("cannot make {}", tables.display()))?;
        for (name, from) in shared {
            let table = pin::get(&from)?.with_context(|| format!("{} has just gone", from.display()))?;
            pin::put(table.as_fd(), &tables.join(name)).with_context(|| format!("cannot pin {name}"))?;
        }
        let saved = own.bytes();
        let cell = Cell::holding(&saved).context("the kernel has no room for the agent's own counts")?;
        cell.pin(&tables.join(OWN)).context("cannot pin the agent's own counts")?;
        let journal = Journal::make(&tables)?;
        journal.begin(own.swept)?;
        Ok(Self::of(directory, tables, description, journal, cell, saved))
    }

    /// With nothing that earlier generations left.
    fn of(
        directory: Directory,
        tables: PathBuf,
        description: Description,
        journal: Journal,
        cell: Cell,
        saved: Vec<u8>,
    ) -> Self {
        Self {
            directory,
            tables,
            fresh: false,
            sources: Mutex::new(Vec::new()),
            dropped: Vec::new(),
            description: Mutex::new(description),
            journal,
            cell,
            saved: Mutex::new(saved),
        }
    }

    /// Where the tables are pinned.
    pub fn tables(&self) -> &Path {
        &self.tables
    }

    /// Where links are pinned.
    pub fn links(&self) -> PathBuf {
        self.directory.links()
    }

    /// Whether nothing was here before.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Interfaces that an earlier agent watched and this one does not.
    pub fn dropped(&self) -> &[String] {
        &self.dropped
    }

    /// Tell the next agent whose the numbers are; first of all, before anything counts by them. From then on this
    /// generation is the one to go on with.
    pub fn describe(&self, names: &Names) -> Result<()> {
        let mut description = self.description();
        description.services.clone_from(&names.services);
        description.write(&self.tables)
    }

    /// The same of points that came, that have another interface, or whose numbers are free.
    pub fn describe_points(&self, points: Vec<Point>) -> Result<()> {
        let mut description = self.description();
        if description.points != points {
            let new = Description { points, ..description.clone() };
            new.write(&self.tables)?;
            *description = new;
        }
        Ok(())
    }

    /// Keep the agent's own counts.
    pub fn save(&self, own: &Own) -> Result<()> {
        let bytes = own.bytes();
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if *saved != bytes {
            self.cell.set(&bytes).context("cannot keep the agent's own counts")?;
            *saved = bytes;
        }
        Ok(())
    }

    /// What a sweep notes ends in.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Keep the agent's own counts after a sweep: the ends that it noted are among them.
    pub fn save_sweep(&self, own: &mut Own) -> Result<()> {
        if self.journal.is_empty() {
            return self.save(own);
        }
        own.swept += 1;
        self.save(own)?;
        self.journal.begin(own.swept)
    }

    /// Let go of it all, where a first start failed.
    pub fn abandon(&self) -> Result<()> {
        remove_tree(self.directory.path())
    }

    fn description(&self) -> MutexGuard<'_, Description> {
        self.description.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn describe(watch: &Watch, plan: &Plan) -> Description {
    let watch = &Watch { spare: plan.points.len() - watch.interfaces.len(), ..watch.clone() };
    let capacities = probe::tables::capacities(watch, plan.room)
        .into_iter()
        .chain([(maps::HOPS, agent_ebpf::hops::PLACES)]);
    let kept = capacities.filter(|(name, _)| KEPT.contains(name));
    Description {
        layout: layout::VERSION,
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        namespace: directory::cookie(),
        points: plan.points.iter().map(|i| i.as_ref().map(Point::of).unwrap_or_default()).collect(),
        services: plan.services.clone(),
        room: plan.room,
        tables: kept.map(|(name, entries)| (name.to_owned(), entries)).collect(),
    }
}

/// The generations that were finished, oldest first; what was not is removed.
fn generations(directory: &Directory, shapes: &Shapes) -> Result<Vec<Source>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory.path())? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(number) = name.strip_prefix(GENERATION).and_then(|n| n.parse().ok()) else { continue };
        match Description::read(&path)? {
            Some(description) => found.push(Source { number, path, description }),
            None => {
                shapes.check_unfinished(&path)?;
                remove_tree(&path)?;
                info!(path = %path.display(), "removed the tables of a start that was never finished");
            }
        }
    }
    found.sort_by_key(|source| source.number);
    let here = directory::cookie();
    let other = |s: &Source| s.description.namespace != 0 && here != 0 && s.description.namespace != here;
    if found.iter().any(other) {
        for entry in fs::read_dir(directory.links())? {
            probe::remove_pin(&entry?.path())?;
        }
        for source in found.extract_if(.., |s| other(s)) {
            remove_tree(&source.path)?;
        }
        info!("removed the pins of a network namespace that is gone, and whose number this one has");
    }
    Ok(found)
}

/// Which tables of a generation another can go on with, and where they are pinned.
fn share(last: &Source, new: &Description) -> Vec<(&'static str, PathBuf)> {
    let old = &last.description;
    let numbers_stay = numbers_stay(old, new);
    let as_many = old.points.len() == new.points.len();
    let fits = |name: &str| match name {
        maps::TOTALS => numbers_stay && as_many && old.room == new.room,
        maps::HEALTH => numbers_stay && as_many,
        _ => numbers_stay,
    };
    let same_size = |name: &str| old.tables.get(name) == new.tables.get(name);
    let shared = KEPT.into_iter().filter(|name| fits(name) && same_size(name));
    shared.map(|name| (name, last.path.join(name))).collect()
}

/// Whether every point has the number it had.
fn numbers_stay(old: &Description, new: &Description) -> bool {
    let stays = |(i, old): (usize, &Point)| {
        new.points.get(i).is_some_and(|new| old.name.is_empty() || old.name == new.name)
    };
    old.points.iter().enumerate().all(stays)
}

fn read_own(last: &Source) -> Result<(Cell, Own)> {
    let path = last.path.join(OWN);
    let Some(cell) = Cell::pinned(&path).with_context(|| format!("{} is not ours", path.display()))? else {
        bail!("{} is missing: somebody removed it; `fivetuple detach` removes the rest", path.display());
    };
    let d = &last.description;
    let own = Own::parse(&cell.get()?, d.points.len(), d.room as usize);
    let own = own.with_context(|| {
        format!(
            "{} has another size than its description says; `fivetuple detach` removes it",
            path.display()
        )
    })?;
    Ok((cell, own))
}

fn dropped(sources: &[Source], now: &Watch) -> Vec<String> {
    let old = sources.iter().flat_map(|s| &s.description.points).map(|p| p.interface.clone());
    let mut dropped: Vec<_> = old.filter(|name| now.interfaces.iter().all(|i| i.name != *name)).collect();
    dropped.sort();
    dropped.dedup();
    dropped
}
