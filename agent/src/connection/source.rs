//! Where connections are read from: a capture, or a running agent.

use super::{Clock, Connection};
use crate::{
    aggregate::{Names, events, rows::Sight},
    api::ConnectionList,
    config::Watch,
    flows::fetch,
    replay::{
        file::{Capture, Packet},
        judge::Judge,
    },
};
use agent_ebpf::record::Record;
use anyhow::{Context as _, Result, bail};
use std::{fmt, path::PathBuf, str::FromStr};

/// A capture, or a running agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file; `-` is standard input.
    Capture(PathBuf),
    /// An agent, by its address (`http://HOST:PORT`).
    Agent(String),
}

impl FromStr for Source {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let agent = text.starts_with("http://") || text.starts_with("https://");
        Ok(if agent {
            Self::Agent(text.trim_end_matches('/').to_owned())
        } else {
            Self::Capture(text.into())
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capture(path) => path.display().fmt(f),
            Self::Agent(url) => url.fmt(f),
        }
    }
}

/// What a source told.
#[derive(Debug, Default)]
pub struct Told {
    /// The connections, in no order.
    pub connections: Vec<Connection>,
    /// What of it could not be read, or is known no more: a sentence each.
    pub gaps: Vec<String>,
}

/// Reads all connections of a capture, as seen at `point`, and shows each packet on the way.
pub fn of_capture(
    path: &std::path::Path,
    point: &str,
    watch: &Watch,
    mut each: impl FnMut(&Packet<'_>),
) -> Result<Told> {
    let names = Names::of_capture(point, watch);
    let mut capture = Capture::open(path)?;
    let mut judge = Judge::new(watch);
    let mut told = Told::default();
    let of = |sight: &Sight| Connection::of(sight, &names, Clock::of_capture());
    let ended = |record: &Record| match record {
        Record::End(end) => Some(of(&events::sight(end))),
        Record::Anomaly(_) => None,
    };
    while let Some(next) = capture.next() {
        match next {
            Ok(packet) => {
                judge.pass(&packet);
                judge.records(|record| told.connections.extend(ended(&record)));
                each(&packet);
            }
            Err(problem) => told.gaps.push(format!("{}: {problem}", path.display())),
        }
    }
    judge.all_records(|record| told.connections.extend(ended(&record)));
    judge.host().each_open(|key, flow, counts| {
        told.connections.push(of(&Sight { key, flow: *flow, counts }));
    });
    Ok(told)
}

/// Asks an agent for all connections that it knows, or for those of a service.
pub fn of_agent(url: &str, svc: Option<&str>) -> Result<Told> {
    let query: Vec<_> = svc.map(|svc| ("svc", svc.to_owned())).into_iter().collect();
    let body = fetch(url, "/api/v1/connections", &query)?;
    let list: ConnectionList = serde_json::from_str(&body).with_context(|| {
        format!("{url} answered something else than a list of connections; is it an agent of this version?")
    })?;
    let mut told = Told { connections: list.connections, gaps: Vec::new() };
    if list.forgotten > 0 {
        told.gaps.push(format!("{url}: {} ended connections are known no more, the oldest", list.forgotten));
    }
    Ok(told)
}

/// Reads the connections of a source at the point `name`. An agent that watches several points tells those of the point
/// of that name, one that watches a single one all it knows, whatever it calls the point itself.
pub fn at_point(source: &Source, name: &str, watch: &Watch, each: impl FnMut(&Packet<'_>)) -> Result<Told> {
    let url = match source {
        Source::Capture(path) => return of_capture(path, name, watch, each),
        Source::Agent(url) => url,
    };
    let mut told = of_agent(url, None)?;
    let mut points: Vec<&str> = told.connections.iter().map(|c| c.point.as_str()).collect();
    points.sort_unstable();
    points.dedup();
    match points.as_slice() {
        [] | [_] => {}
        many if many.contains(&name) => told.connections.retain(|c| c.point == name),
        many => bail!("{url} has no point {name}; it has {}: name one of them", many.join(", ")),
    }
    for connection in &mut told.connections {
        name.clone_into(&mut connection.point);
    }
    Ok(told)
}
