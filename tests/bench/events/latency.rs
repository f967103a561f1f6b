//! How long an event and a count are in coming: from the packet to what the agent answers over HTTP.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::Pair;
use harness::agent::{Agent, Launch};
use harness::topology::LEFT;

use crate::figure::Figure;
use crate::options::Options;
use crate::sample::Sample;
use crate::{Found, table};

use super::cells;
use super::refuse::Refused;

/// Packets of a round.
const PACKETS: usize = 5;
const DEADLINE: Duration = Duration::from_secs(10);
/// The agent drains the ring ten times a second; packets come at any moment in between.
const DRAIN: Duration = Duration::from_millis(100);

/// Measures it.
pub fn measure(options: &Options) -> Result<Found> {
    let pair = Pair::new();
    let mut refused = Refused::on(&pair);
    let agent = Launch::interfaces(&[LEFT.interface]).start(&pair.left);
    let (mut event, mut count, mut asked) = (Sample::default(), Sample::default(), Sample::default());
    for _ in 0..options.rounds() * PACKETS {
        any_moment();
        let port = refused.next();
        event.0.push(until(|| events(&agent, port) > 0)?);
        any_moment();
        let before = resets(&agent);
        refused.next();
        count.0.push(until(|| resets(&agent) > before)?);
        asked.0.push(until(|| resets(&agent) > before)?);
    }
    agent.stop();
    let all = [("event", &event), ("count", &count), ("one scrape, for comparison", &asked)];
    let rows: Vec<_> = all
        .iter()
        .map(|(name, sample)| [vec![(*name).to_owned(), String::new()], cells(sample, 1).to_vec()].concat())
        .collect();
    let head = ["from the packet to its", "", "ms", "(spread)"];
    let figures = all
        .iter()
        .map(|(name, sample)| Figure::new(format!("events/latency/{name}"), "ms", sample, None))
        .collect();
    Ok(Found { text: table::lines(&head, &rows), figures, files: Vec::new() })
}

/// Lets some part of the time between two drains pass, or what is asked would always come right after one.
fn any_moment() {
    // tidy: allow sleep: the moment is what is chosen, there is no condition
    thread::sleep(DRAIN.mul_f64(fastrand::f64()));
}

/// Milliseconds until the agent says yes, asked without a pause: a longer one each time would be what is measured.
fn until(mut ask: impl FnMut() -> bool) -> Result<f64> {
    let began = Instant::now();
    while !ask() {
        ensure!(began.elapsed() < DEADLINE, "the agent does not know after {DEADLINE:?}");
    }
    Ok(began.elapsed().as_secs_f64() * 1_000.0)
}

fn events(agent: &Agent<'_>, port: u16) -> usize {
    let list = agent.get_json(&format!("/api/v1/events?port={port}"));
    list["events"].as_array().map_or(0, Vec::len)
}

fn resets(agent: &Agent<'_>) -> f64 {
    agent.metrics().sum("fivetuple_tcp_resets_total", &[])
}
