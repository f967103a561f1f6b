//! The kernel programs: load, attach, detach. Only this module names aya's programs.

mod attach;
#[cfg(feature = "probe-log")]
mod debug;
mod hold;
mod load;
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
    source::{maps::Maps, slots},
    sys::program,
    why,
};
use agent_ebpf::{
    label::Direction,
    layout::{CONFIG, Config, INDEX, KEPT, TC_EGRESS, TC_INGRESS, XDP_INGRESS, maps as names},
};
use anyhow::{Context as _, Result, anyhow};
pub use attach::remove_filters;
use aya::{
    Ebpf, EbpfLoader,
    maps::{MapData, RingBuf},
};
use hold::Hold;
pub use hold::remove_pin;
use nix::sys::utsname::{UtsName, uname};
use programs::Programs;
use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
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
        let load = |own: Option<&Path>| {
            load::hooks(|frags| open_in(watch, room, kernel, frags, tables, own), kernel, xdp)
        };
        let (programs, no_xdp, (maps, ring)) = match &home {
            None => {
                let (mut ebpf, no_xdp) = load(None)?;
                let maps = Maps::take(&mut ebpf, room)?;
                (Programs::Loaded(Box::new(ebpf)), no_xdp, maps)
            }
            Some(home) => {
                let no_xdp = if home.is_complete {
                    Some(load::NOT_ASKED.to_owned())
                } else {
                    let (mut ebpf, no_xdp) = load(Some(&home.path))?;
                    programs::pin(&mut ebpf, &home.path)?;
                    no_xdp
                };
                let programs = Programs::pinned(&home.path)?;
                // An earlier agent may have been asked for it.
                let no_xdp = no_xdp.filter(|_| programs.fd(XDP_INGRESS).is_none());
                (programs, no_xdp, Maps::pinned(tables.unwrap_or(&home.path), &home.path, room)?)
            }
        };
        #[cfg(feature = "probe-log")]
        let (programs, lines) = debug::Lines::take(programs)?;
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
    let object = object::with_frags(object::OBJECT, frags);
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
    let ebpf = loader.load(&object).map_err(|e| load::explain(anyhow!(e)))?;
    if new {
        slots::free_all(&ebpf, flows).context("cannot give the programs the slots of the flow tables")?;
    }
    Ok(ebpf)
}

/// The first error number in a chain of errors.
fn errno(error: &anyhow::Error) -> Option<i32> {
    error.chain().find_map(|e| e.downcast_ref::<io::Error>()?.raw_os_error())
}
