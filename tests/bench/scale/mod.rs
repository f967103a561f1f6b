//! `scale`: what many live connections cost the agent: memory, and the time of a sweep, of a list, of their end, of a
//! scrape.
//!
//! The daemon's own tables and the daemon's own readers, and a whole agent ([`whole`]); the entries are put there by hand,
//! as no program is asked how it came by them.

mod whole;

use std::fs;
use std::os::fd::AsRawFd as _;
use std::time::Instant;

use agent::aggregate::snapshot::Totals;
use agent::config::Limits;
use agent::source::maps::{Maps, fd};
use agent::source::slots;
use agent::source::sweep::{self, How, Told};
use agent::sys;
use agent_ebpf::flow::{Flow, FlowKey, FlowKey4};
use agent_ebpf::half::Half;
use agent_ebpf::index::Bucket;
use agent_ebpf::phase::Phase;
use agent_ebpf::scoreboard::Scoreboard;
use agent_ebpf::time::Nanos;
use anyhow::{Context as _, Result, ensure};
use nix::unistd::Pid;

use crate::figure::Figure;
use crate::options::Options;
use crate::sample::Sample;
use crate::tables::{self, ROOM};
use crate::{Found, table};

const SIZES: [u32; 4] = [1_000, 16_000, 128_000, 1_000_000];

/// What is measured of one size.
#[derive(Default)]
struct Measured {
    bytes: Sample,
    sweep: Sample,
    list: Sample,
    end: Sample,
    agent: whole::Measured,
}

/// Measures every size.
pub fn run(options: &Options) -> Result<Found> {
    let (mut rows, mut figures) = (Vec::new(), Vec::new());
    for size in SIZES {
        let measured = measure(size, options.rounds())?;
        let agent = &measured.agent;
        let cells = measured.samples().map(|(_, _, sample)| cell(sample));
        rows.push(
            [vec![size.to_string(), String::new()], cells.to_vec(), vec![most(&agent.scrape)]].concat(),
        );
        for (what, unit, sample) in measured.samples() {
            figures.push(Figure::new(format!("scale/{size}/{what}"), unit, sample, None));
        }
    }
    let head = [
        "flows",
        "",
        "kernel bytes/flow",
        "sweep, ms",
        "list, ms",
        "end all, ms",
        "agent MiB",
        "more by",
        "scrape KiB",
        "scrape, ms",
        "at most",
    ];
    Ok(Found { text: table::lines(&head, &rows), figures, files: Vec::new() })
}

fn cell(sample: &Sample) -> String {
    format!("{:.2}", sample.median().unwrap_or_default())
}

fn most(sample: &Sample) -> String {
    format!("{:.2}", sample.spread().unwrap_or_default().1)
}

impl Measured {
    /// Name, unit and figures, in the order of the table.
    fn samples(&self) -> [(&'static str, &'static str, &Sample); 8] {
        let agent = &self.agent;
        [
            ("kernel memory", "bytes/flow", &self.bytes),
            ("sweep", "ms", &self.sweep),
            ("list", "ms", &self.list),
            ("end all", "ms", &self.end),
            ("agent memory", "MiB", &agent.memory),
            ("agent memory, more than of none", "MiB", &agent.growth),
            ("scrape, size", "KiB", &agent.size),
            ("scrape", "ms", &agent.scrape),
        ]
    }
}

fn measure(size: u32, rounds: usize) -> Result<Measured> {
    let room = size.next_power_of_two();
    let mut ebpf = tables::open(&format!("tables: {{flows: {room}}}"))?;
    let (maps, _ring) = Maps::take(&mut ebpf, ROOM)?;
    let mut own = vec![Totals::default(); ROOM as usize];
    let limits = Limits::default();
    let bytes = Sample(vec![memory(room)? / f64::from(room)]);
    let mut measured = Measured { bytes, ..Measured::default() };
    for round in 0..=rounds {
        let now = fill(Pid::this(), room, size)?;
        let time = |sample: &mut Sample, work: &mut dyn FnMut() -> Result<u64>| -> Result<()> {
            let began = Instant::now();
            let seen = work()?;
            let took = began.elapsed().as_secs_f64() * 1_000.0;
            ensure!(seen == u64::from(size), "{seen} flows instead of {size}");
            // The first round warms up.
            if round > 0 {
                sample.0.push(took);
            }
            Ok(())
        };
        time(&mut measured.sweep, &mut || {
            let how = How::usual(&limits);
            Ok(sweep::sweep(&maps, &mut own, ROOM as usize, &limits, now, how, &mut |_| {})?.open[0].open)
        })?;
        time(&mut measured.list, &mut || Ok(maps.flows()?.len() as u64))?;
        let later = Nanos(now.0 + 2 * limits.flow_idle_timeout.as_nanos() as u64);
        time(&mut measured.end, &mut || {
            let (how, mut ended) = (How::usual(&limits), 0);
            let mut told = |told: Told<'_>| ended += u64::from(matches!(told, Told::Ended(_)));
            sweep::sweep(&maps, &mut own, ROOM as usize, &limits, later, how, &mut told)?;
            Ok(ended)
        })?;
    }
    // The agent has tables of its own.
    drop((maps, ebpf));
    measured.agent = whole::measure(size, rounds)?;
    Ok(measured)
}

/// Established connections, so many, all seen just now.
fn fill(pid: Pid, room: u32, size: u32) -> Result<Nanos> {
    let now = sys::monotonic();
    let half = Half { last_seen: now, bits: Half::SEEN, ..Half::default() };
    let (flows, marks) = tables::established(pid, room)?;
    let mut used = [0; 2];
    for n in 0..size {
        let key = FlowKey4 { low: n >> 14, high: 1 << 31, ports: 443 << 16 | (n & 0x3fff), scope: 0 };
        let flow = Flow {
            tag: FlowKey::V4(key).tag(),
            phase: Phase::Established as u8,
            bits: Flow::USED | Flow::CONFIRMED,
            half: [half; 2],
            ..Flow::default()
        };
        flows.insert(&key, &flow, &mut used[0])?.context("the table is full")?;
    }
    slots::raise(&marks, used)?;
    Ok(now)
}

/// Bytes that the kernel counts for this process's tables of IPv4 connections with room for so many.
fn memory(room: u32) -> Result<f64> {
    let me = Pid::this();
    let tables = [
        tables::of_process::<FlowKey4, u32>(me, room)?,
        tables::of_process::<u32, Flow>(me, room)?,
        tables::of_process::<u32, FlowKey4>(me, room)?,
        tables::of_process::<(), u32>(me, room)?,
        tables::of_process::<u32, Bucket>(me, slots::index([room; 2]).buckets[0])?,
        tables::of_process::<FlowKey4, Scoreboard>(me, room / 4)?,
    ];
    let mut bytes = 0.0;
    for table in &tables {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd(table).as_raw_fd()))?;
        let line = info.lines().find_map(|line| line.strip_prefix("memlock:")).context("no memlock")?;
        bytes += line.trim().parse::<f64>()?;
    }
    Ok(bytes)
}
