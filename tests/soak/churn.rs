//! `churn`: real connections come and go for a long time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use harness::Gateway;
use harness::agent::Launch;

use crate::held::Held;
use crate::passed::{POINTS, Passed, closed_in_time, sum};
use crate::short::{Stops, keep_connecting};
use crate::{Found, Options};

/// Ports of the server: the client needs a free port of its own for each connection, and those of the last minute are in
/// TIME-WAIT. Where half of them are, a kernel searches long.
const PORTS: u16 = 40;
/// Connections a second at each.
const EACH: u32 = 125;
/// The part of them that must come about, or the machine is too slow to say anything.
const RATE: f64 = 0.95;
/// How often memory is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// A sweep takes memory and gives it back, a few MiB every ten seconds: what stays is the least in this time.
const STAYS: f64 = 1.0 / 60.0;
/// Minutes below which the slope is told, and decides nothing: single pages are megabytes an hour then.
const JUDGED: u32 = 30;
/// What resident memory may grow by in an hour, MiB.
const SLOPE: f64 = 1.0;

/// Room for those that closed within the minute of TIME-WAIT and the ten seconds until they are forgotten, at both points.
const CONFIGURATION: &str = "interfaces: [{name: outside}, {name: inside}]\ntables: {closed: 1_048_576}\n";

/// Lets them come and go.
pub fn run(options: &Options) -> Result<Found> {
    let world = Gateway::plan().patient().build();
    world.client.sysctl("net/ipv4/ip_local_port_range", "1024 65535");
    world.client.sysctl("net/ipv4/tcp_max_tw_buckets", 400_000);
    let passed = Passed::watch(&world);
    let agent = Launch::configuration(CONFIGURATION).alone().start(&world.gateway);
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let before = Held::by(agent.pid())?;
    let (mut samples, mut same) = (Vec::new(), true);
    let lasts = Duration::from_secs(60) * options.minutes;
    let cpu = || agent.metrics().get("process_cpu_seconds_total", &[]);
    let (cpu_before, began) = (cpu(), Instant::now());
    thread::scope(|scope| -> Result<()> {
        let stops = Stops(&stop);
        let clients: Vec<_> = (0..PORTS)
            .map(|n| {
                let (world, stop, made) = (&world, &stop, &made);
                scope.spawn(move || keep_connecting(world, 1_000 + n, EACH, stop, made))
            })
            .collect();
        while began.elapsed() < lasts && clients.iter().all(|client| !client.is_finished()) {
            thread::park_timeout(LOOK);
            let resident = agent.metrics().get("process_resident_memory_bytes", &[]) / 1_048_576.0;
            samples.push((began.elapsed().as_secs_f64() / 3_600.0, resident));
            same &= Held::by(agent.pid())? == before;
        }
        drop(stops);
        clients.into_iter().try_for_each(|client| client.join().expect("a client that does not panic"))
    })?;
    let (took, used) = (began.elapsed().as_secs_f64(), cpu() - cpu_before);
    let made = made.load(Ordering::Relaxed) as f64;
    closed_in_time(&agent, made);
    passed.eventually_quiet();

    let mut found = Found::default();
    let (rate, wanted) = (made / took, f64::from(EACH * u32::from(PORTS)));
    found.tell("churn/lasted", "minutes", took / 60.0);
    found.tell("churn/rate", "connections/s", rate);
    found.must(rate >= RATE * wanted, || format!("only {rate:.0} connections a second came about"));
    let metrics = agent.metrics();
    for point in POINTS {
        let name = |what: &str| format!("churn/{point}/{what}");
        let count = |family, labels: &[_]| sum(&metrics, family, point, labels);
        found.exactly(name("opened"), "connections", count("connections_opened", &[("by", "syn")]), made);
        let late = count("connections_opened", &[("by", "joined_late")]);
        found.exactly(name("joined late"), "connections", late, 0.0);
        let closed = count("connections_closed", &[("close", "fin_client")]);
        found.exactly(name("closed by the client"), "connections", closed, made);
        found.exactly(name("closed"), "connections", count("connections_closed", &[]), made);
    }
    passed.compare(&mut found, "churn", &metrics);
    let lost = metrics.sum("fivetuple_tracking_losses_total", &[]);
    found.exactly("churn/tracking losses", "segments", lost, 0.0);
    found.tell("churn/records lost on the ring", "records", metrics.get("fivetuple_ring_lost_total", &[]));
    found.tell("churn/agent's processor", "of one", used / took);
    // Until then its own tables fill.
    let warm = &samples[samples.len() / 3..];
    let (stays, most) = (least(warm), warm.iter().map(|s| s.1).fold(0.0, f64::max));
    let slope = slope(&stays);
    found.tell("churn/resident memory after warm-up", "MiB", stays.first().map_or(0.0, |s| s.1));
    found.tell("churn/resident memory at the end", "MiB", stays.last().map_or(0.0, |s| s.1));
    found.tell("churn/resident memory at most", "MiB", most);
    found.tell("churn/slope of resident memory", "MiB/h", slope);
    found.must(options.minutes < JUDGED || slope < SLOPE, || {
        format!("memory grows by {slope:.2} MiB an hour")
    });
    found.tell("churn/maps and programs", "objects", before.count() as f64);
    found.must(same, || "the maps or programs that the agent holds have changed".to_owned());
    agent.stop();
    Ok(found)
}

/// The least of each minute, by the hour.
fn least(samples: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let minute = |sample: &(f64, f64)| (sample.0 / STAYS) as u64;
    samples
        .chunk_by(|a, b| minute(a) == minute(b))
        .filter_map(|minute| minute.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1)))
        .collect()
}

/// The slope of the line that fits best.
fn slope(samples: &[(f64, f64)]) -> f64 {
    let n = samples.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|s| s.0), mean(|s| s.1));
    let both: f64 = samples.iter().map(|s| (s.0 - x) * (s.1 - y)).sum();
    let across: f64 = samples.iter().map(|s| (s.0 - x).powi(2)).sum();
    if across > 0.0 { both / across } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_slope() {
        assert_eq!(slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]), 2.0);
        assert_eq!(slope(&[(1.0, 1.0)]), 0.0);
    }

    #[test]
    fn of_each_minute_the_least_stays() {
        let minutes = |n: f64| n / 60.0;
        let samples = [(minutes(0.1), 5.0), (minutes(0.9), 4.0), (minutes(1.2), 9.0), (minutes(1.3), 7.0)];
        assert_eq!(least(&samples), [samples[1], samples[3]]);
    }
}
