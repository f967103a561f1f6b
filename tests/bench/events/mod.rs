//! `events`: what an ended connection costs the agent: its records taken off the ring, decoded, and kept as events, and
//! the sweep that lets go of it. Then a whole agent: its share of a processor ([`share`]), and how long an event and a
//! count are in coming ([`latency`]).
//!
//! The records are real: connections refused in the agent's own program, by the kernel's test run. What the programs
//! count needs no ring and is read at a scrape.

mod latency;
mod refuse;
mod share;

use std::time::{Instant, SystemTime};

use agent::aggregate::events::Events;
use agent::aggregate::snapshot::Totals;
use agent::config::Limits;
use agent::source::maps::Maps;
use agent::source::ring::Ring;
use agent::source::sweep::{self, How};
use agent::sys;
use agent_ebpf::layout::TC_EGRESS;
use agent_ebpf::time::Nanos;
use anyhow::{Context as _, Result, bail, ensure};
use aya::Ebpf;
use aya::programs::{Program, TestRun as _, TestRunOptions};
use harness::impair::flags::{ACK, RST, SYN};
use harness::raw::Frame;

use crate::figure::Figure;
use crate::options::Options;
use crate::packet::load;
use crate::sample::Sample;
use crate::tables::{self, ROOM};
use crate::{Found, table};

/// The interface of the kernel's test run.
const LOOPBACK: u32 = 1;
/// Connections of a round, of which the ring takes all records.
const CONNECTIONS: u16 = 4_096;
/// An RST that refuses, and the end that it is.
const RECORDS: u64 = 2;
/// Ended connections a second, of a busy gateway and beyond.
const RATES: [u32; 3] = [5_000, 20_000, 50_000];

/// Measures it.
pub fn run(options: &Options) -> Result<Found> {
    let mut ebpf = tables::open("")?;
    load(&mut ebpf, TC_EGRESS)?;
    let (maps, ring) = Maps::take(&mut ebpf, ROOM)?;
    maps.set_point(0, None, Some(LOOPBACK))?;
    let (mut ring, mut events) = (Ring::new(ring), Events::default());
    let mut own = vec![Totals::default(); ROOM as usize];
    let (mut drain, mut sweeps) = (Sample::default(), Sample::default());
    for round in 0..=options.rounds() {
        for n in 0..CONNECTIONS {
            // Five-tuples that were not used before.
            let client = ([10, 200, round as u8, (n >> 12) as u8], 1_024 + (n & 0xfff));
            let server = ([10, 9, 9, 9], 443);
            let syn = Frame::new(client, server).flags(SYN).seq(9);
            let refusal = Frame::new(server, client).flags(RST | ACK).seq(0).ack(10);
            give(&ebpf, &syn.build())?;
            give(&ebpf, &refusal.build())?;
        }
        let (before, now, clock) = (ring.received, SystemTime::now(), sys::monotonic());
        let began = Instant::now();
        ring.drain(u64::MAX, |record| events.push(record, now, clock));
        let took = began.elapsed().as_nanos() as f64;
        let records = ring.received - before;
        ensure!(records == RECORDS * u64::from(CONNECTIONS), "{records} records, others than expected");
        // As the daemon does: what has ended goes.
        let later = Nanos(clock.0 + 10_000_000_000);
        let began = Instant::now();
        let limits = Limits::default();
        let how = How::usual(&limits);
        let swept = sweep::sweep(&maps, &mut own, ROOM as usize, &limits, later, how, &mut |_| {})?;
        let swept_for = began.elapsed().as_nanos() as f64;
        ensure!(swept.entries[1] == 0, "{} flows stay", swept.entries[1]);
        if round > 0 {
            drain.0.push(took / f64::from(CONNECTIONS));
            sweeps.0.push(swept_for / f64::from(CONNECTIONS));
        }
    }
    let both = drain.with(&sweeps, |a, b| a + b);
    let rows: Vec<Vec<String>> = [("drain", &drain), ("sweep", &sweeps), ("both", &both)]
        .into_iter()
        .map(|(name, sample)| {
            let cores = RATES
                .map(|rate| format!("{:.4}", f64::from(rate) * sample.median().unwrap_or_default() / 1e9));
            [
                vec![format!("an ended connection: {name}"), String::new()],
                cells(sample, 0).to_vec(),
                cores.to_vec(),
            ]
            .concat()
        })
        .collect();
    let head = ["what", "", "ns", "(spread)", "cores at 5 k/s", "at 20 k/s", "at 50 k/s"];
    let mut found = Found { text: table::lines(&head, &rows), figures: Vec::new(), files: Vec::new() };
    for (name, sample) in [("drain", &drain), ("sweep", &sweeps)] {
        found.figures.push(Figure::new(format!("events/ended connection/{name}"), "ns", sample, None));
    }
    for more in [share::measure(options)?, latency::measure(options)?] {
        found.text += &format!("\n{}", more.text);
        found.figures.extend(more.figures);
    }
    Ok(found)
}

/// The median, and the least and the most.
fn cells(sample: &Sample, digits: usize) -> [String; 2] {
    let (least, most) = sample.spread().unwrap_or_default();
    let median = sample.median().unwrap_or_default();
    [format!("{median:.digits$}"), format!("{least:.digits$}..{most:.digits$}")]
}

/// Gives the program one packet.
fn give(ebpf: &Ebpf, packet: &[u8]) -> Result<()> {
    let mut options = TestRunOptions::new();
    options.data_in = Some(packet);
    match ebpf.program(TC_EGRESS).context("no program")? {
        Program::SchedClassifier(program) => program.test_run(options)?,
        _ => bail!("a program of another kind"),
    };
    Ok(())
}
