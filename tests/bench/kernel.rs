//! The agent's programs and the yardsticks, loaded, with packets given to them by the kernel's test run.

use agent::probe::object::OBJECT;
use agent_ebpf::health::Health;
use agent_ebpf::layout::bench::{Drive, ORDER};
use agent_ebpf::layout::{CONFIG, Config, HealthCounts, Point, TC_EGRESS, XDP_INGRESS, maps as names};
use agent_ebpf::observe::Settings;
use anyhow::{Context as _, Result, anyhow, bail};
use aya::maps::{Array, Map, MapData, PerCpuArray, ProgramArray};
use aya::programs::{Program, ProgramFd, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader, Pod};

/// The interface of the kernel's test run.
const LOOPBACK: u32 = 1;

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP ingress.
    Xdp,
    /// tc egress.
    Tc,
}

impl Hook {
    /// Its name in figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Tc => "tc",
        }
    }
}

/// A program under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Passes the packet.
    Empty,
    /// Parses and passes.
    Parse,
    /// Parses, looks up 40 bytes in an LRU map, adds one atomically.
    Floor,
    /// The agent's, as it ships.
    Ours,
    /// The agent's at the other hook, which sees what comes back.
    Back,
}

/// A map's value.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Value<T>(T);
// SAFETY: only made of types that bytemuck knows as plain.
unsafe impl<T: bytemuck::Pod> Pod for Value<T> {}

/// Both objects.
pub struct Kernel {
    ours: Ebpf,
    bench: Ebpf,
    drive: Array<MapData, Value<Drive>>,
    order: Array<MapData, u32>,
    jumps: [ProgramArray<MapData>; 2],
    /// Packets that the driver has taken from the order.
    taken: u32,
    ordered: bool,
}

impl Kernel {
    /// Loads everything, with tables for so many flows.
    pub fn load(flows: u32) -> Result<Self> {
        let flows = flows.max(65_536);
        let config = Config { points: 1, services: 1, test_clock: 0, xdp_frags: 1, coarse_clock: 1 };
        let mut loader = EbpfLoader::new();
        loader.override_global(CONFIG, bytemuck::bytes_of(&config), true);
        loader.map_max_entries(names::FLOWS4, flows);
        loader.map_max_entries(names::TOTALS, 2);
        loader.map_max_entries(names::HEALTH, 4);
        let mut ours = loader.load(OBJECT).context("the kernel refuses the agent's tables")?;
        for name in [XDP_INGRESS, TC_EGRESS] {
            load(&mut ours, name)?;
        }
        set(&mut ours, names::POINTS, LOOPBACK, Point { ifindex: LOOPBACK, point: 0 })?;
        set(&mut ours, names::SETTINGS, 0, Settings::default())?;
        let path = std::env::var("FIVETUPLE_BENCH_OBJECT").context("start this by `cargo xtask bench`")?;
        let mut bench = EbpfLoader::new()
            .map_max_entries("BENCH_FLOOR", flows)
            .load_file(&path)
            .with_context(|| format!("the kernel refuses {path}"))?;
        for hook in [Hook::Xdp, Hook::Tc] {
            for what in ["empty", "parse", "floor", "drive"] {
                load(&mut bench, &format!("bench_{}_{what}", hook.name()))?;
            }
        }
        let drive = Array::try_from(take(&mut bench, "BENCH_DRIVE")?)?;
        let order = Array::try_from(take(&mut bench, "BENCH_ORDER")?)?;
        let jumps = [
            ProgramArray::try_from(take(&mut bench, "BENCH_XDP")?)?,
            ProgramArray::try_from(take(&mut bench, "BENCH_TC")?)?,
        ];
        Ok(Self { ours, bench, drive, order, jumps, taken: 0, ordered: false })
    }

    /// Fills the order in which the driver goes through flows.
    pub fn set_order(&mut self, flows: impl Iterator<Item = u32>) -> Result<()> {
        for (place, flow) in (0..ORDER as u32).zip(flows) {
            self.order.set(place, flow, 0)?;
        }
        Ok(())
    }

    /// How the driver changes the packets to come, with `start` as their place in the order. It counts for each processor
    /// by itself: all of this is for one thread that stays on one.
    pub fn set_drive(&mut self, mut drive: Drive) -> Result<()> {
        drive.start = drive.start.wrapping_sub(self.taken + 1);
        self.ordered = drive.mask != 0;
        Ok(self.drive.set(0, Value(drive), 0)?)
    }

    /// Nanoseconds that the program itself takes for each of so many packets.
    pub fn run(&self, hook: Hook, target: Target, packet: &[u8], repeat: u32) -> Result<f64> {
        test_run(self.program(hook, target)?, packet, repeat)
    }

    /// The same with the driver before it.
    pub fn drive(&mut self, hook: Hook, target: Target, packet: &[u8], repeat: u32) -> Result<f64> {
        let hook = if target == Target::Back { other(hook) } else { hook };
        let target = if target == Target::Back { Target::Ours } else { target };
        let fd = self.fd(hook, target)?;
        if self.ordered {
            self.taken += repeat;
        }
        self.jumps[hook as usize].set(0, &fd, 0).context("the driver and the program do not fit")?;
        test_run(self.named(&self.bench, &format!("bench_{}_drive", hook.name()))?, packet, repeat)
    }

    fn fd(&self, hook: Hook, target: Target) -> Result<ProgramFd> {
        let fd = match self.program(hook, target)? {
            Program::Xdp(program) => program.fd()?,
            Program::SchedClassifier(program) => program.fd()?,
            _ => bail!("a program of another kind"),
        };
        Ok(fd.try_clone()?)
    }

    fn program(&self, hook: Hook, target: Target) -> Result<&Program> {
        let yardstick = |what: &str| self.named(&self.bench, &format!("bench_{}_{what}", hook.name()));
        match target {
            Target::Empty => yardstick("empty"),
            Target::Parse => yardstick("parse"),
            Target::Floor => yardstick("floor"),
            Target::Ours => self.named(&self.ours, if hook == Hook::Xdp { XDP_INGRESS } else { TC_EGRESS }),
            Target::Back => self.program(other(hook), Target::Ours),
        }
    }

    fn named<'a>(&self, object: &'a Ebpf, name: &str) -> Result<&'a Program> {
        object.program(name).ok_or_else(|| anyhow!("no program {name}"))
    }

    /// A self-counter of ours, over all processors and hooks.
    pub fn health(&self, what: Health) -> Result<u64> {
        let map: PerCpuArray<_, HealthCounts> =
            PerCpuArray::try_from(self.ours.map(names::HEALTH).context("no self-counters")?)?;
        let mut sum = 0;
        for index in 0..4 {
            sum += map.get(&index, 0)?.iter().map(|counts| counts[what as usize]).sum::<u64>();
        }
        Ok(sum)
    }
}

fn other(hook: Hook) -> Hook {
    if hook == Hook::Xdp { Hook::Tc } else { Hook::Xdp }
}

fn load(object: &mut Ebpf, name: &str) -> Result<()> {
    let done = match object.program_mut(name).with_context(|| format!("no program {name}"))? {
        Program::Xdp(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        _ => bail!("{name} is a program of another kind"),
    };
    done.with_context(|| format!("the kernel refuses {name}"))
}

fn take(object: &mut Ebpf, name: &str) -> Result<Map> {
    object.take_map(name).with_context(|| format!("no map {name}"))
}

fn set<T: bytemuck::Pod>(object: &mut Ebpf, map: &str, index: u32, value: T) -> Result<()> {
    let mut map = Array::try_from(object.map_mut(map).context("no such map")?)?;
    Ok(map.set(index, Value(value), 0)?)
}

fn test_run(program: &Program, packet: &[u8], repeat: u32) -> Result<f64> {
    let mut options = TestRunOptions::new();
    options.data_in = Some(packet);
    options.repeat = repeat;
    let (result, pass) = match program {
        Program::Xdp(program) => (program.test_run(options)?, 2),
        Program::SchedClassifier(program) => (program.test_run(options)?, u32::MAX),
        _ => bail!("a program of another kind"),
    };
    if result.return_value != pass {
        bail!("the packet was not passed on: {}", result.return_value);
    }
    Ok(result.duration.as_nanos() as f64)
}
