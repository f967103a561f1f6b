//! One set of tables: our programs and the floor's, with as much room for as many flows, and how any of them is run.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use agent::probe::object::OBJECT;
use agent::source::maps::fd;
use agent::sys::map;
use agent_ebpf::drive::{Plan, ROW, ROWS, TC, XDP};
use agent_ebpf::layout::{TC_EGRESS, XDP_INGRESS};
use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::{MapData, ProgramArray};
use aya::programs::{Program, TestRun as _, TestRunOptions, XdpMode};
use aya::{Ebpf, EbpfLoader};

use super::ours::{self, Counts, Ours, Room};
use crate::clock::processor_time;

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Ingress at XDP.
    Xdp,
    /// Egress at tc.
    Tc,
}

impl Hook {
    /// In tables and names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Tc => "tc",
        }
    }

    /// Where the driver's plan for it stands.
    const fn place(self) -> u32 {
        match self {
            Self::Xdp => XDP,
            Self::Tc => TC,
        }
    }

    /// "Pass it on, unchanged".
    const fn pass(self) -> u32 {
        match self {
            Self::Xdp => 2,
            Self::Tc => u32::MAX,
        }
    }
}

/// How many programs there are at a hook at most.
pub const PROGRAMS: usize = 5;

/// What runs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Nothing.
    Empty,
    /// Headers only.
    Parse,
    /// Headers, look-up, count.
    Floor,
    /// The agent's.
    Ours,
    /// The agent's of another build.
    Against,
}

impl Which {
    /// By slot in the driver's table.
    pub const ALL: [Self; PROGRAMS] = [Self::Empty, Self::Parse, Self::Floor, Self::Ours, Self::Against];

    /// In tables and names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Parse => "parse",
            Self::Floor => "floor",
            Self::Ours => "ours",
            Self::Against => "against",
        }
    }

    /// Whether it is the agent's, which follows connections from both sides.
    pub const fn is_agent(self) -> bool {
        matches!(self, Self::Ours | Self::Against)
    }

    fn program(self, hook: Hook) -> &'static str {
        match (self, hook) {
            (Self::Empty, Hook::Xdp) => "empty_xdp",
            (Self::Empty, Hook::Tc) => "empty_tc",
            (Self::Parse, Hook::Xdp) => "parse_xdp",
            (Self::Parse, Hook::Tc) => "parse_tc",
            (Self::Floor, Hook::Xdp) => "floor_xdp",
            (Self::Floor, Hook::Tc) => "floor_tc",
            (Self::Ours | Self::Against, Hook::Xdp) => XDP_INGRESS,
            (Self::Ours | Self::Against, Hook::Tc) => TC_EGRESS,
        }
    }
}

const DRIVERS: [(Hook, &str); 2] = [(Hook::Xdp, "drive_xdp"), (Hook::Tc, "drive_tc")];

/// Interfaces to attach to; see [`World::attach`].
pub const INTERFACES: usize = PROGRAMS + 1;

/// One test run.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// Where.
    pub hook: Hook,
    /// What.
    pub which: Which,
    /// The packet, before the driver changes it.
    pub packet: &'a [u8],
    /// What the driver does; none for the same packet again and again, without a driver.
    pub plan: Option<Plan>,
    /// Packets.
    pub repeat: u32,
}

/// The objects.
pub struct World {
    ours: Ours,
    against: Option<Ours>,
    floor: Ebpf,
    table: MapData,
    plans: MapData,
    list: MapData,
    /// Packets that the floor was given.
    pub floored: AtomicU64,
    links: Vec<(Which, bool, aya::programs::xdp::XdpLinkId)>,
    // The kernel empties it when nobody holds it any more.
    _targets: Vec<ProgramArray<MapData>>,
}

impl World {
    /// Loads the benches' object, the agent's, and that of another build if there is one.
    pub fn load(object: &Path, against: Option<&[u8]>, room: Room) -> Result<Self> {
        let ours = Ours::load(OBJECT, room)?;
        let against =
            against.map(|object| Ours::load(object, room)).transpose().context("the other build")?;
        let bytes = fs::read(object).with_context(|| format!("cannot read {}", object.display()))?;
        let mut floor = EbpfLoader::new()
            .map_max_entries("FLOOR", room.flows)
            .load(&ours::for_this_kernel(&bytes))
            .with_context(|| format!("the kernel refuses the tables of {}", object.display()))?;
        for hook in [Hook::Xdp, Hook::Tc] {
            for which in [Which::Empty, Which::Parse, Which::Floor] {
                ours::load(&mut floor, which.program(hook))?;
            }
        }
        let mut targets = Vec::new();
        for (hook, name) in [(Hook::Xdp, "XDP_TARGETS"), (Hook::Tc, "TC_TARGETS")] {
            let array = floor.take_map(name).with_context(|| format!("the object has no {name}"))?;
            let mut array = ProgramArray::try_from(array)?;
            for (slot, which) in Which::ALL.iter().enumerate() {
                let object = match which {
                    Which::Ours => &ours.ebpf,
                    Which::Against => match &against {
                        Some(against) => &against.ebpf,
                        None => continue,
                    },
                    _ => &floor,
                };
                let program = object.program(which.program(hook)).context("loaded above")?;
                array.set(slot as u32, program.fd()?, 0)?;
            }
            targets.push(array);
        }
        // Behind the programs they go on to: the first one in the table says of what kind all must be.
        for (_, driver) in DRIVERS {
            ours::load(&mut floor, driver)?;
        }
        let mut take = |name| {
            let map = floor.take_map(name).with_context(|| format!("the object has no {name}"))?;
            ours::into_data(map)
        };
        let (table, plans, list) = (take("FLOOR")?, take("PLANS")?, take("LIST")?);
        Ok(Self {
            ours,
            against,
            floor,
            table,
            plans,
            list,
            floored: AtomicU64::new(0),
            links: Vec::new(),
            _targets: targets,
        })
    }

    /// Numbers of flows for the driver, as many as fit.
    pub fn list(&self, flows: &[u32]) -> Result<()> {
        for (index, row) in (0..ROWS).zip(flows.chunks_exact(ROW as usize)) {
            let row: [u32; ROW as usize] = row.try_into().context("a row")?;
            map::update(fd(&self.list), &index, &row, 0)?;
        }
        Ok(())
    }

    /// What there is to run.
    pub fn programs(&self) -> impl Iterator<Item = Which> + use<> {
        let last = if self.against.is_some() { PROGRAMS } else { PROGRAMS - 1 };
        Which::ALL.into_iter().take(last)
    }

    /// Those of it that are the agent's.
    pub fn agents(&self) -> impl Iterator<Item = Which> + use<> {
        self.programs().filter(|which| which.is_agent())
    }

    /// The agent's tables.
    pub fn agent(&mut self, which: Which) -> &mut Ours {
        match (which, &mut self.against) {
            (Which::Against, Some(against)) => against,
            _ => &mut self.ours,
        }
    }

    /// What the agent has counted.
    pub fn counts(&self, which: Which) -> Result<Counts> {
        match (which, &self.against) {
            (Which::Against, Some(against)) => against.counts(),
            _ => self.ours.counts(),
        }
    }

    /// Entries of the agent's flow table and of its half-open one.
    pub fn entries(&self, which: Which) -> Result<(usize, usize)> {
        match (which, &self.against) {
            (Which::Against, Some(against)) => against.entries(),
            _ => self.ours.entries(),
        }
    }

    fn program(&self, which: Which, hook: Hook) -> Result<&Program> {
        let object = match (which, &self.against) {
            (Which::Ours, _) => &self.ours.ebpf,
            (Which::Against, Some(against)) => &against.ebpf,
            _ => &self.floor,
        };
        object.program(which.program(hook)).context("the program is loaded")
    }

    /// Attaches the XDP programs, each to an interface where nothing comes.
    ///
    /// The kernel keeps a table of jumps to those attached to drivers, and a test run of one that is not in it rewrites
    /// the table first and afterwards: 15 ms of waiting, and two such runs are never at the same time.
    pub fn attach(&mut self, interfaces: &[u32; INTERFACES]) -> Result<()> {
        let driver = (Which::Empty, true);
        let programs = self.programs().map(|which| (which, false)).chain([driver]);
        for ((which, drives), interface) in programs.zip(interfaces) {
            let name = if drives { DRIVERS[0].1 } else { which.program(Hook::Xdp) };
            let object = if which.is_agent() { &mut self.agent(which).ebpf } else { &mut self.floor };
            let Some(Program::Xdp(program)) = object.program_mut(name) else {
                bail!("{name} is no XDP program");
            };
            let link = program.attach_to_if_index(*interface, XdpMode::Driver).context(name)?;
            self.links.push((which, drives, link));
        }
        Ok(())
    }

    /// Takes them off again.
    pub fn detach(&mut self) -> Result<()> {
        for (which, drives, link) in std::mem::take(&mut self.links) {
            let name = if drives { DRIVERS[0].1 } else { which.program(Hook::Xdp) };
            let object = if which.is_agent() { &mut self.agent(which).ebpf } else { &mut self.floor };
            if let Some(Program::Xdp(program)) = object.program_mut(name) {
                program.detach(link).context(name)?;
            }
        }
        Ok(())
    }

    /// Runs it and says how many nanoseconds of this processor that took; an error if any packet was refused.
    pub fn run(&self, run: &Run<'_>) -> Result<u64> {
        let program = match run.plan {
            None => self.program(run.which, run.hook)?,
            Some(mut plan) => {
                plan.target = run.which as u32;
                map::update(fd(&self.plans), &run.hook.place(), &plan, 0)?;
                let (_, driver) = DRIVERS[run.hook.place() as usize];
                self.floor.program(driver).context("the driver is loaded")?
            }
        };
        let mut options = TestRunOptions::new();
        (options.data_in, options.repeat) = (Some(run.packet), run.repeat);
        let begin = processor_time();
        let done = match program {
            Program::Xdp(program) => program.test_run(options),
            Program::SchedClassifier(program) => program.test_run(options),
            _ => bail!("a program of another kind"),
        };
        let nanos = processor_time() - begin;
        let verdict = done.context("the kernel refuses the test run")?.return_value;
        let (hook, which) = (run.hook.name(), run.which.name());
        ensure!(verdict == run.hook.pass(), "{which} at {hook} refuses the packet: {verdict}");
        if run.plan.is_some() {
            let plan: Option<Plan> = map::read_unlocked(fd(&self.plans), &run.hook.place())?;
            let done = plan.map_or(0, |plan| plan.done);
            ensure!(done == run.repeat, "{which} at {hook}: {done} of {} packets were driven", run.repeat);
        }
        if run.which == Which::Floor {
            self.floored.fetch_add(run.repeat.into(), Ordering::Relaxed);
        }
        Ok(nanos)
    }

    /// Entries of the floor's table, and the packets counted there.
    pub fn floor(&self) -> Result<(usize, u64)> {
        let (mut entries, mut packets) = (0, 0);
        map::for_each(fd(&self.table), 0, |_: &[u32; 10], count: &u64| {
            entries += 1;
            packets += count;
        })?;
        Ok((entries, packets))
    }

    /// Empties it.
    pub fn clear_floor(&self) -> Result<()> {
        Ok(map::delete_all(fd(&self.table), &ours::keys::<[u32; 10], u64>(&self.table)?)?)
    }
}
