//! The share of a processor that a whole agent takes while so many connections a second end.
//!
//! It has kept the closed five-tuples of the last seventy seconds of that, as it would have in the long run.

use std::thread;
use std::time::{Duration, Instant};

use agent::source::maps::fd;
use agent::sys::{self, map};
use agent_ebpf::flow::{Closed, FlowKey4};
use anyhow::Result;
use harness::Pair;
use harness::agent::{Agent, Launch, Metrics};
use harness::topology::LEFT;

use crate::clock::pin;
use crate::figure::Figure;
use crate::options::Options;
use crate::sample::Sample;
use crate::tables;
use crate::{Found, table};

use super::refuse::Refused;
use super::{RATES, cells};

/// How long the rate lasts before it is measured, and then: with large tables a sweep comes every ten seconds or so.
const TIME: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(20)];
/// How long the agent remembers a closed five-tuple, with its margin.
const REMEMBERED: u32 = 70;
/// Closed five-tuples that there is room for.
const CLOSED: u32 = 1 << 22;
/// Passes over all rates; each takes one and a half minutes.
const PASSES: usize = 2;

/// Measures every rate.
pub fn measure(options: &Options) -> Result<Found> {
    // The sender; the agent runs where the kernel lets it.
    pin(0)?;
    let mut samples = RATES.map(|_| <[Sample; 4]>::default());
    for _ in 0..options.rounds().min(PASSES) {
        for (rate, samples) in RATES.into_iter().zip(&mut samples) {
            share(rate)?.into_iter().zip(samples).for_each(|(n, sample)| sample.0.push(n));
        }
    }
    let (mut rows, mut figures) = (Vec::new(), Vec::new());
    for (rate, [came, cores, records, segments]) in RATES.into_iter().zip(&samples) {
        let cells = [cells(came, 0), cells(cores, 3), cells(records, 0), cells(segments, 0)].concat();
        rows.push([vec![format!("{rate} a second"), String::new()], cells].concat());
        figures.push(Figure::new(format!("events/share/{rate}"), "cores", cores, None));
    }
    let head = [
        "whole agent",
        "",
        "ended a second",
        "(spread)",
        "cores",
        "(spread)",
        "records lost",
        "(spread)",
        "not followed",
        "(spread)",
    ];
    Ok(Found { text: table::lines(&head, &rows), figures, files: Vec::new() })
}

/// Connections that ended in a second, the share of a processor, records lost, and segments that were not followed.
fn share(rate: u32) -> Result<[f64; 4]> {
    let pair = Pair::new();
    let mut refused = Refused::on(&pair);
    let agent = Launch::configuration(format!(
        "interfaces: [{{name: {}}}]\ntables: {{half_open: 262144, closed: {CLOSED}}}\n",
        LEFT.interface
    ));
    let agent = agent.start(&pair.left);
    remember(&agent, rate * REMEMBERED)?;
    send(&mut refused, rate, TIME[0]);
    let before = agent.metrics();
    let took = send(&mut refused, rate, TIME[1]);
    let after = agent.metrics();
    let grown = |what: fn(&Metrics) -> f64| (what(&after) - what(&before)) / took;
    let ended = grown(|metrics| metrics.sum("fivetuple_tcp_connections_closed_total", &[]));
    let share = grown(|metrics| metrics.get("process_cpu_seconds_total", &[]));
    let records = after.get("fivetuple_ring_lost_total", &[]);
    let segments = after.sum("fivetuple_tracking_losses_total", &[]);
    agent.stop();
    Ok([ended, share, records, segments])
}

/// As many closed five-tuples as the agent would have kept by now.
fn remember(agent: &Agent<'_>, count: u32) -> Result<()> {
    let table = tables::of_process::<FlowKey4, Closed>(agent.pid(), CLOSED)?;
    let closed = Closed { at: sys::monotonic(), ..Closed::default() };
    for n in 0..count {
        map::update(fd(&table), &FlowKey4 { low: n, ..FlowKey4::default() }, &closed, 0)?;
    }
    Ok(())
}

/// Refuses so many a second for a while; how long that was, in seconds.
fn send(refused: &mut Refused, rate: u32, time: Duration) -> f64 {
    let (began, mut sent) = (Instant::now(), 0.0);
    // Not until all is sent: a rate that is too much for the machine is shown as the one that it became.
    while began.elapsed() < time {
        if sent < began.elapsed().as_secs_f64() * f64::from(rate) {
            refused.next();
            sent += 1.0;
        } else {
            thread::park_timeout(Duration::from_millis(1));
        }
    }
    began.elapsed().as_secs_f64()
}
