//! A whole agent with so many connections: its memory, and what a scrape takes and brings.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use harness::agent::{Agent, Launch};
use harness::{NetNs, eventually, process};
use nix::unistd::Pid;

use crate::sample::Sample;

use super::fill;

/// Scrapes of a round, and how long it takes.
const SCRAPES: u32 = 10;
const ROUND: Duration = Duration::from_secs(1);
/// At least so many, so that some scrapes come while the agent sweeps a million: it does so every twelve seconds.
const ROUNDS: usize = 15;
/// How long a sweep may be in coming.
const DEADLINE: Duration = Duration::from_secs(120);

/// An interface over which nobody talks.
const QUIET: &str = "quiet";

/// What is measured of it.
#[derive(Default)]
pub struct Measured {
    /// In use, MiB.
    pub memory: Sample,
    /// More than before the connections came, MiB.
    pub growth: Sample,
    /// KiB of a scrape.
    pub size: Sample,
    /// Milliseconds of a scrape, asked for and answered over HTTP.
    pub scrape: Sample,
}

/// Measures it.
pub fn measure(size: u32, rounds: usize) -> Result<Measured> {
    let namespace = NetNs::new("scale");
    // Not the loopback, over which the scrapes come.
    namespace.ip(&format!("link add {QUIET} type veth peer name other\nlink set {QUIET} up\n"));
    let room = size.next_power_of_two();
    // Another size, by which the tables are told apart.
    let half_open = if room == 256 { 512 } else { 256 };
    let agent = Launch::configuration(format!(
        "interfaces: [{{name: {QUIET}}}]\ntables: {{flows: {room}, half_open: {half_open}}}\n"
    ));
    let agent = agent.start(&namespace);
    let open = || agent.metrics().sum("fivetuple_tcp_open_connections", &[]);
    let before = memory(agent.pid())?;
    fill(agent.pid(), room, size)?;
    eventually(DEADLINE, "a sweep that finds them", || open() == f64::from(size));
    let mut measured = Measured::default();
    for _ in 0..rounds.max(ROUNDS) {
        for _ in 0..SCRAPES {
            scrape(&agent, &mut measured);
        }
        let now = memory(agent.pid())?;
        measured.memory.0.push(now);
        measured.growth.0.push(now - before);
    }
    agent.stop();
    Ok(measured)
}

fn scrape(agent: &Agent<'_>, measured: &mut Measured) {
    let began = Instant::now();
    let body = agent.get("/metrics");
    measured.scrape.0.push(began.elapsed().as_secs_f64() * 1_000.0);
    measured.size.0.push(body.len() as f64 / 1_024.0);
    // tidy: allow sleep: scrapes are spread over time, as sweeps are
    thread::sleep(ROUND / SCRAPES);
}

/// MiB that the process has in use.
fn memory(pid: Pid) -> Result<f64> {
    Ok(process::resident(pid)? as f64 / 1_024.0)
}
