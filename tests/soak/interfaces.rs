//! `interfaces`: many that a pattern takes, more than there can be points. They are watched in turn as others go, until none
//! is left.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use agent::config::choice::MOST;
use anyhow::Result;
use harness::agent::{Agent, Launch, left_attached};
use harness::process::{processor_time, resident};
use harness::{NetNs, eventually};
use serde_json::Value;

use crate::held::Held;
use crate::{Found, Options};

/// How long the agent is left alone to see what it uses at rest.
const REST: Duration = Duration::from_secs(20);
/// How soon after they came or others went all must be watched that can be.
const SOON: f64 = 5.0;
/// What the agent may use of a processor at rest.
const PROCESSOR: f64 = 0.05;
const DEADLINE: Duration = Duration::from_secs(120);

/// Lets them come, and go as many at a time as are watched.
pub fn run(options: &Options) -> Result<Found> {
    let (host, others) = (NetNs::new("host"), NetNs::new("others"));
    let mut there: BTreeSet<String> = (0..options.interfaces).map(|n| format!("veth{n}")).collect();
    let add = there.iter().map(|name| {
        format!("link add {name} type veth peer name {name} netns {}\nlink set {name} up\n", others.name())
    });
    host.ip(&add.collect::<String>());
    let began = Instant::now();
    let agent = Launch::interfaces(&["veth*"]).alone().spawn(&host);
    let mut watched = all_watched(&agent, &there);
    let mut found = Found::default();
    let name = |what: &str| format!("interfaces/{what}");
    found.tell(name("there"), "interfaces", there.len() as f64);
    found.tell(name("watched"), "points", watched.len() as f64);
    found.tell(name("from the start until all are watched"), "s", began.elapsed().as_secs_f64());

    let metrics = agent.metrics();
    let waiting = metrics.get("fivetuple_interfaces_without_point", &[]);
    found.exactly(name("told to have no point"), "interfaces", waiting, (there.len() - watched.len()) as f64);
    found.tell(name("series"), "series", metrics.len() as f64);
    let began = Instant::now();
    let bytes = agent.get("/metrics").len();
    found.tell(name("scrape"), "s", began.elapsed().as_secs_f64());
    found.tell(name("scrape's size"), "MiB", bytes as f64 / 1_048_576.0);
    drop(metrics);
    let began = Instant::now();
    let used = processor_time(agent.pid())?;
    // tidy: allow sleep: what is used at rest is used over time
    thread::sleep(REST);
    let share = (processor_time(agent.pid())? - used).as_secs_f64() / began.elapsed().as_secs_f64();
    found.tell(name("agent's processor at rest"), "of one", share);
    found.must(share < PROCESSOR, || format!("at rest {share:.3} of a processor is used"));
    let held = Held::by(agent.pid())?;
    let mib = || resident(agent.pid()).map(|kib| kib as f64 / 1_024.0);
    found.tell(name("resident memory"), "MiB", mib()?);
    found.tell(name("memory of the maps"), "MiB", held.map_bytes() as f64 / 1_048_576.0);

    let (mut turns, mut slowest) = (0, 0.0_f64);
    while !there.is_empty() {
        host.ip(&watched.iter().map(|name| format!("link del {name}\n")).collect::<String>());
        let began = Instant::now();
        there.retain(|name| !watched.contains(name));
        watched = all_watched(&agent, &there);
        slowest = slowest.max(began.elapsed().as_secs_f64());
        turns += 1;
    }
    found.tell(name("turns until none is left"), "turns", f64::from(turns));
    found.tell(name("until the next are watched, at most"), "s", slowest);
    found.must(slowest < SOON, || format!("the next were watched only after {slowest:.1} s"));
    found.tell(name("resident memory at the end"), "MiB", mib()?);
    let same = Held::by(agent.pid())? == held;
    found.must(same, || "the maps or programs that the agent holds have changed".to_owned());
    let left = left_attached(&host);
    found.must(left.is_empty(), || format!("still attached: {left:?}"));
    agent.stop();
    Ok(found)
}

/// Waits until all are watched that can be, both ways, and nothing else; their names.
fn all_watched(agent: &Agent, there: &BTreeSet<String>) -> BTreeSet<String> {
    let most = there.len().min(MOST);
    eventually(DEADLINE, &format!("{most} interfaces to be watched"), || {
        let body = agent.try_request("GET", "/-/ready?verbose")?.body;
        let said: Value = serde_json::from_str(&body).map_err(|why| format!("{why}: {body}"))?;
        let checks = said["checks"].as_array().into_iter().flatten();
        let attached =
            checks.filter(|check| check["detail"].as_str().is_some_and(|d| d.starts_with("attached")));
        let names: Vec<_> = attached.filter_map(|check| check["name"].as_str()?.split(' ').next()).collect();
        let watched: BTreeSet<_> = names.iter().map(ToString::to_string).collect();
        if (names.len(), watched.len()) == (2 * most, most) && watched.is_subset(there) {
            Ok(watched)
        } else {
            Err(format!("{} directions of {} interfaces: {body}", names.len(), watched.len()))
        }
    })
}
