//! The kernel programs: load, attach, detach. Only this module names aya's programs.

mod attach;
#[cfg(feature = "probe-log")]
mod debug;
mod hold;
pub mod object;
mod programs;
pub mod tables;

use crate::{
    aggregate::snapshot::{Attached, Mode, ProgramRun},
    config::Watch,
    pins::{
        Pins,
        programs::{Home, own_tables},
    },
    source::{
        maps::{self, Maps},
        slots,
    },
    sys::program,
    why,
};
use agent_ebpf::{
    label::Direction,
    layout::{CONFIG, Config, INDEX, KEPT, TC_EGRESS, TC_INGRESS, XDP_INGRESS, maps as names},
};
use anyhow::{Context as _, Result, anyhow, bail};
pub use attach::remove_filters;
use aya::{
    Ebpf, EbpfLoader,
    maps::{MapData, RingBuf},
    programs::{Program, ProgramError},
};
use hold::Hold;
pub use hold::remove_pin;
use nix::sys::utsname::{UtsName, uname};
use programs::Programs;
use std::{
    borrow::Cow,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    thread,
};
use tracing::warn;

/// The first Linux with `bpf_ktime_get_coarse_ns`.
const COARSE_CLOCK: (u32, u32) = (5, 11);

/// The first Linux whose XDP knows frames in pieces.
pub const FRAGS: (u32, u32) = (5, 18);

/// The loaded programs, and where they hang.
pub struct Probe {
    programs: Programs,
    /// Why the XDP program is not loaded, if it is not.
    no_xdp: Option<String>,
    mounts: Vec<Mount>,
    /// Where links are pinned, if they are.
    links: Option<PathBuf>,
    /// Where the programs are, if they are pinned.
    home: Option<PathBuf>,
    #[cfg(feature = "probe-log")]
    lines: debug::Lines,
}

/// One program on one interface.
struct Mount {
    point: usize,
    direction: Direction,
    mode: Mode,
    hold: Hold,
}

impl Probe {
    /// Load the programs with tables for `watch` and room for `room` services, without attaching them; the one for
    /// XDP only where it is wanted, as the kernel takes its time to verify each. With `pins` the tables are those, and so are
    /// the programs where an agent of the same build left them; what is attached stays.
    pub fn load(
        watch: &Watch,
        room: u32,
        kernel: (u32, u32),
        xdp: bool,
        pins: Option<&Pins>,
    ) -> Result<(Self, Maps, RingBuf<MapData>)> {
        // What programs say can be read of those alone that were loaded here.
        let home = pins.filter(|_| !cfg!(feature = "probe-log"));
        let home = home.map(|pins| Home::open(pins.tables(), build(watch, room), xdp)).transpose()?;
        let tables = pins.map(Pins::tables);
        let mut no_xdp = (!xdp).then(|| "no interface asked for XDP when the agent started".to_owned());
        let mut loaded = None;
        if home.as_ref().is_none_or(|home| !home.is_complete) {
            let own = home.as_ref().map(|home| home.path.as_path());
            let mut ebpf = open_in(watch, room, kernel, true, tables, own)?;
            if xdp {
                let mut done = load_program(&mut ebpf, XDP_INGRESS);
                if done.is_err() && kernel < FRAGS {
                    // Without frames in pieces jumbo frames cannot be had.
                    ebpf = open_in(watch, room, kernel, false, tables, own)?;
                    done = load_program(&mut ebpf, XDP_INGRESS);
                }
                no_xdp = done.err().map(|e| format!("the kernel refuses the XDP program: {}", why::text(&e)));
            }
            load_side_by_side(&mut ebpf, &[TC_INGRESS, TC_EGRESS])?;
            loaded = Some(ebpf);
        }
        #[cfg(feature = "probe-log")]
        let lines = debug::Lines::take(loaded.as_mut().context("no object is loaded")?)?;
        let (programs, (maps, ring)) = match (&home, loaded) {
            (None, loaded) => {
                let mut ebpf = loaded.context("no object is loaded")?;
                let maps = Maps::take(&mut ebpf, room)?;
                (Programs::Loaded(Box::new(ebpf)), maps)
            }
            (Some(home), loaded) => {
                if let Some(mut ebpf) = loaded {
                    maps::load_own(&mut ebpf)?;
                    programs::pin(&mut ebpf, &home.path)?;
                }
                let programs = Programs::pinned(&home.path)?;
                if home.is_complete && programs.fd(XDP_INGRESS).is_some() {
                    no_xdp = None;
                }
                (programs, Maps::pinned(tables.unwrap_or(&home.path), &home.path, room)?)
            }
        };
        let probe = Self {
            programs,
            no_xdp,
            mounts: Vec::new(),
            links: pins.map(Pins::links),
            home: home.map(|home| home.path),
            #[cfg(feature = "probe-log")]
            lines,
        };
        Ok((probe, maps, ring))
    }

    /// Log what the programs have said since the last time.
    #[cfg(feature = "probe-log")]
    pub fn speak(&mut self) {
        self.lines.flush();
    }

    /// Why the XDP program is not loaded, if it is not.
    pub fn no_xdp(&self) -> Option<&str> {
        self.no_xdp.as_deref()
    }

    /// Take the programs off a point.
    pub fn detach(&mut self, point: usize) {
        self.let_go(|mount| mount.point == point);
    }

    fn let_go(&mut self, which: impl Fn(&Mount) -> bool) {
        for mount in self.mounts.extract_if(.., |mount| which(mount)) {
            if let Err(e) = mount.hold.release() {
                warn!(error = why::text(&e), "cannot take a program off");
            }
        }
    }

    /// Where the programs hang, for each of these points, with its number, and both directions.
    pub fn attached<'a>(&self, points: impl IntoIterator<Item = (usize, &'a str)>) -> Vec<Attached> {
        let mode = |point, direction| {
            self.mounts.iter().find(|m| m.point == point && m.direction == direction).map(|m| m.mode)
        };
        let both = |(i, name): (usize, &str)| {
            let one = |direction: &Direction| Attached {
                point: name.to_owned(),
                hook: direction.name(),
                mode: mode(i, *direction),
            };
            Direction::ALL.iter().map(one).collect::<Vec<_>>()
        };
        points.into_iter().flat_map(both).collect()
    }

    /// What the programs cost; empty unless the kernel keeps count.
    pub fn runs(&self) -> Vec<ProgramRun> {
        let counted = std::fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled");
        if counted.is_ok_and(|text| text.trim() == "0") {
            return Vec::new();
        }
        let run = |name: &'static str| {
            let info = program::program_info(self.programs.fd(name)?.as_fd()).ok()?;
            Some(ProgramRun { program: name, runs: info.run_count, nanos: info.run_time_ns })
        };
        [XDP_INGRESS, TC_INGRESS, TC_EGRESS].into_iter().filter_map(run).collect()
    }
}

/// The kernel object with its tables made, and no program loaded yet.
pub fn open(watch: &Watch, room: u32, kernel: (u32, u32), frags: bool) -> Result<Ebpf> {
    open_in(watch, room, kernel, frags, None, None)
}

/// Whether the short way may hold a flow by a word of it ([`Config::own_lock`]): where a locked addition is a barrier, and a
/// program that was begun is not preempted, as by a real-time kernel.
pub fn has_own_lock() -> bool {
    let is_real_time = |name: UtsName| name.version().to_string_lossy().contains("PREEMPT_RT");
    cfg!(target_arch = "x86_64") && uname().is_ok_and(|name| !is_real_time(name))
}

/// What the programs are told of themselves on such a kernel.
pub fn config(points: u32, services: u32, kernel: (u32, u32), frags: bool) -> Config {
    Config {
        points,
        services,
        test_clock: 0,
        xdp_frags: frags.into(),
        coarse_clock: (kernel >= COARSE_CLOCK).into(),
        own_lock: has_own_lock().into(),
    }
}

/// What tells programs from those of another build, or for other tables.
fn build(watch: &Watch, room: u32) -> u64 {
    let mut hasher = DefaultHasher::new();
    (object::DIGEST, env!("CARGO_PKG_VERSION"), watch.places(), room, has_own_lock()).hash(&mut hasher);
    tables::capacities(watch, room).hash(&mut hasher);
    hasher.finish()
}

/// The same; those of the tables that outlive an agent are the ones pinned in a directory, or are pinned there, and the rest
/// in the programs' `own`.
fn open_in(
    watch: &Watch,
    room: u32,
    kernel: (u32, u32),
    frags: bool,
    pins: Option<&Path>,
    own: Option<&Path>,
) -> Result<Ebpf> {
    let config = config(watch.places() as u32, room, kernel, frags);
    let object: Cow<'_, [u8]> =
        if frags { object::OBJECT.into() } else { object::without_frags(object::OBJECT).into() };
    let mut loader = EbpfLoader::new();
    loader.override_global(CONFIG, bytemuck::bytes_of(&config), true);
    let capacities = tables::capacities(watch, room);
    let of = |table: &str| capacities.iter().find(|(name, _)| *name == table).map_or(0, |(_, n)| *n);
    let flows = [of(names::FLOWS4), of(names::FLOWS6)];
    let index = slots::index(flows);
    loader.override_global(INDEX, bytemuck::bytes_of(&index), true);
    for (map, entries) in capacities {
        loader.map_max_entries(map, entries);
    }
    if let Some(directory) = pins {
        for name in KEPT {
            loader.map_pin_path(name, directory.join(name));
        }
    }
    if let Some(directory) = own {
        for name in own_tables() {
            loader.map_pin_path(name, directory.join(name));
        }
    }
    // The slots of tables that are there are whose they are.
    let new = pins.is_none_or(|directory| !directory.join(names::FREE4).exists());
    let ebpf = loader.load(&object).map_err(|e| explain_load(anyhow!(e)))?;
    if new {
        slots::free_all(&ebpf, flows).context("cannot give the programs the slots of the flow tables")?;
    }
    Ok(ebpf)
}

/// Load several programs at once: the kernel takes half a second to verify each of the large ones, on one processor.
fn load_side_by_side(ebpf: &mut Ebpf, names: &[&str]) -> Result<()> {
    let wanted: Vec<_> = ebpf.programs_mut().filter(|(name, _)| names.contains(name)).collect();
    if wanted.len() < names.len() {
        bail!("the kernel object lacks some of the programs {names:?}; rebuild the agent");
    }
    thread::scope(|scope| {
        // The rights that are in force are inherited.
        let loads = wanted.into_iter().map(|(name, program)| (name, scope.spawn(|| load(program))));
        let loads: Vec<_> = loads.collect();
        loads.into_iter().try_for_each(|(name, load)| {
            let loaded = load.join().map_err(|_| anyhow!("loading it panicked"))?;
            loaded.with_context(|| format!("the kernel refuses the program {name}"))
        })
    })
}

fn load_program(ebpf: &mut Ebpf, name: &str) -> Result<()> {
    match ebpf.program_mut(name) {
        Some(program) => load(program),
        None => bail!("the kernel object has no program {name}; rebuild the agent"),
    }
}

fn load(program: &mut Program) -> Result<()> {
    let done = match program {
        Program::Xdp(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        _ => {
            bail!("the kernel object has a program of a kind that this agent has none of; rebuild the agent")
        }
    };
    done.map_err(|e| match e {
        ProgramError::LoadError { io_error, verifier_log } => {
            let error = anyhow!(io_error);
            match last_word(&verifier_log.to_string()) {
                // Without CAP_PERFMON the verifier is stricter; it calls such a user "!root".
                Some(word) if word.contains("!root") => {
                    error.context(format!("the kernel's verifier says: {word}; give the agent CAP_PERFMON"))
                }
                Some(word) => error.context(format!("the kernel's verifier says: {word}")),
                None => explain_load(error),
            }
        }
        other => explain_load(anyhow!(other)),
    })
}

/// What the verifier objects to: the last line that is neither its path nor its statistics.
fn last_word(log: &str) -> Option<String> {
    let statistics = ["processed ", "verification time ", "stack depth ", "peak_states "];
    let lines = log.lines().map(str::trim);
    let word = lines.rev().find(|l| !l.is_empty() && !statistics.iter().any(|s| l.starts_with(s)))?;
    Some(word.to_owned())
}

/// What an operator can do about a load that failed.
fn explain_load(error: anyhow::Error) -> anyhow::Error {
    let remedy = match errno(&error) {
        Some(libc::EPERM) => "give the agent CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, or run it as root",
        Some(libc::ENOMEM) => {
            "make the tables smaller (tables.memory in the configuration), or raise the memory limit"
        }
        Some(libc::E2BIG | libc::EINVAL) => "`fivetuple check` says whether this kernel is new enough",
        _ => "`fivetuple check` says what this kernel allows",
    };
    error.context(format!("cannot load the kernel programs and their tables; {remedy}"))
}

/// The first error number in a chain of errors.
fn errno(error: &anyhow::Error) -> Option<i32> {
    error.chain().find_map(|e| e.downcast_ref::<io::Error>()?.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifier_s_objection_is_found_behind_its_path() {
        let log = "0: (bf) r6 = r1\ninvalid access to packet\nverification time 9 usec\nstack depth 424+0\nprocessed 7 insns\n";
        assert_eq!(last_word(log).as_deref(), Some("invalid access to packet"));
        assert_eq!(last_word("processed 7 insns"), None);
    }
}
