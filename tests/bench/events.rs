//! `events`: what an ended connection costs the agent: its records taken off the ring, decoded, and kept as events.
//!
//! The records are real: connections refused in the agent's own program, by the kernel's test run. What the programs
//! count needs no ring and is read at a scrape.

use std::time::{Instant, SystemTime};

use agent::aggregate::events::Events;
use agent::aggregate::snapshot::Totals;
use agent::config::Limits;
use agent::source::maps::Maps;
use agent::source::ring::Ring;
use agent::source::sweep;
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
const RATES: [f64; 3] = [5_000.0, 20_000.0, 50_000.0];

/// Measures it.
pub fn run(options: &Options) -> Result<Found> {
    let mut ebpf = tables::open("")?;
    load(&mut ebpf, TC_EGRESS)?;
    let (maps, ring) = Maps::take(&mut ebpf, ROOM)?;
    maps.set_point(0, None, Some(LOOPBACK))?;
    let (mut ring, mut events) = (Ring::new(ring), Events::default());
    let mut own = vec![Totals::default(); ROOM as usize];
    let mut sample = Sample::default();
    for round in 0..=options.rounds {
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
        sweep::sweep(&maps, &mut own, ROOM as usize, &Limits::default(), later, &mut |_, _| {})?;
        if round > 0 {
            sample.0.push(took / f64::from(CONNECTIONS));
        }
    }
    let median = sample.median().unwrap_or_default();
    let (least, most) = sample.spread().unwrap_or_default();
    let mut row = vec!["ended connection".to_owned(), String::new(), format!("{median:.0}")];
    row.push(format!("{least:.0}..{most:.0}"));
    row.extend(RATES.map(|rate| format!("{:.4}", rate * median / 1e9)));
    let head = ["what", "", "ns", "(spread)", "cores at 5 k/s", "at 20 k/s", "at 50 k/s"];
    let figures = vec![Figure::new("events/ended connection".to_owned(), "ns", &sample, None)];
    Ok(Found { text: table::lines(&head, &[row]), figures, files: Vec::new() })
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
