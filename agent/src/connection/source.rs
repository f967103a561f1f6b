//! Where connections are read from: a capture, or a running agent.

use super::{Clock, Connection, http::Texts};
use crate::{
    aggregate::{Names, events, filter::unknown, rows::Sight},
    api::ConnectionList,
    cli::{ConnectionsArgs, DEFAULT_LISTEN},
    client::Client,
    config::{OTHER_SERVICE, Watch},
    replay::{
        self,
        file::{Capture, Packet},
        judge::Judge,
    },
};
use agent_ebpf::{flow::FlowKey, record::Record, time::Nanos};
use anyhow::{Result, bail};
use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

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
    path: &Path,
    point: &str,
    watch: &Watch,
    mut each: impl FnMut(&Packet<'_>),
) -> Result<Told> {
    let names = Names::of_capture(point, watch);
    let mut capture = Capture::open(path)?;
    // The end of a connection, and later the state in which it was let go, which knows more.
    let lives: RefCell<HashMap<(FlowKey, Nanos), Sight>> = RefCell::default();
    let keep = |sight: Sight| {
        lives.borrow_mut().insert((sight.key, sight.flow.opened), sight);
    };
    let (mut gaps, mut texts) = (Vec::new(), Texts::default());
    {
        let mut judge = Judge::showing(watch, keep);
        let mut ended = |record: Record| match record {
            Record::End(end) => {
                // What has been let go has been shown already.
                let sight = events::sight(&end);
                lives.borrow_mut().entry((sight.key, sight.flow.opened)).or_insert(sight);
                texts.end(&sight);
            }
            Record::Text(text) => texts.take(&text),
            Record::Anomaly(_) => {}
        };
        while let Some(next) = capture.next() {
            match next {
                Ok(packet) => {
                    judge.pass(&packet);
                    judge.records(&mut ended);
                    each(&packet);
                }
                Err(problem) => gaps.push(format!("{}: {problem}", path.display())),
            }
        }
        judge.all_records(&mut ended);
        judge.host().each(keep);
    }
    let of = |sight: Sight| {
        let http = texts.of(&sight).cloned();
        Connection { http, ..Connection::of(&sight, &names, Clock::of_capture()) }
    };
    Ok(Told { connections: lives.into_inner().into_values().map(of).collect(), gaps })
}

/// Reads the connections of all captures that a command names, and says what the points are called.
pub fn of_captures(args: &ConnectionsArgs) -> Result<(Vec<String>, Told)> {
    let watch = replay::watch(args.config_file.as_deref())?;
    if let Some(svc) = &args.svc {
        check_service(svc, &watch)?;
    }
    let points = replay::points(&args.files);
    let mut all = Told::default();
    for (path, point) in args.files.iter().zip(&points) {
        let told = of_capture(path, point, &watch, |_| {})?;
        all.connections.extend(told.connections);
        all.gaps.extend(told.gaps);
    }
    if all.connections.is_empty() {
        let files: Vec<_> = args.files.iter().map(|path| path.display().to_string()).collect();
        bail!("no TCP connection is in {}", files.join(", nor in "));
    }
    // A capture's present is where it ends.
    let now = all.connections.iter().map(|c| c.times.last_seen_ns).max().unwrap_or(0);
    let since = since_seconds(args).map_or(0, |s| now.saturating_sub(s.saturating_mul(1_000_000_000)));
    all.connections
        .retain(|c| c.times.last_seen_ns >= since && args.svc.as_ref().is_none_or(|svc| *svc == c.svc));
    Ok((points, all))
}

/// How far back connections are asked for; a part of a second is a second.
pub fn since_seconds(args: &ConnectionsArgs) -> Option<u64> {
    args.since.map(|since| since.as_millis().div_ceil(1_000) as u64)
}

fn check_service(svc: &str, watch: &Watch) -> Result<()> {
    let known =
        std::iter::once(OTHER_SERVICE).chain(watch.services.iter().map(|service| service.name.as_str()));
    if !known.clone().any(|name| name == svc) {
        bail!("{}; services of captures come from --config.file", unknown("svc", svc, known));
    }
    Ok(())
}

/// The one agent that a command asks, which answers itself; none where it names several, whose connections are put together.
pub fn one_agent(args: &ConnectionsArgs) -> Option<String> {
    match args.urls.as_slice() {
        [] => Some(format!("http://{DEFAULT_LISTEN}")),
        [one] => Some(one.clone()),
        _ => None,
    }
}

/// Reads the connections of all agents that a command names, and says what the points are called. Points of the same name
/// get that of their agent behind it.
pub fn of_agents(args: &ConnectionsArgs) -> Result<(Vec<String>, Told)> {
    let client = Client::of(&args.client)?;
    let mut agents = Vec::new();
    for url in &args.urls {
        let url = url.trim_end_matches('/');
        agents.push((url, of_agent(&client, url, args.svc.as_deref(), since_seconds(args))?));
    }
    let (points, told) = together(agents);
    if told.connections.is_empty() {
        bail!("no connection that is asked for is known to {}", args.urls.join(", nor to "));
    }
    Ok((points, told))
}

fn together(mut agents: Vec<(&str, Told)>) -> (Vec<String>, Told) {
    let mut seen: HashMap<String, BTreeSet<usize>> = HashMap::new();
    for (place, (_, told)) in agents.iter().enumerate() {
        for c in &told.connections {
            seen.entry(c.point.clone()).or_default().insert(place);
        }
    }
    let (mut points, mut all) = (BTreeSet::new(), Told::default());
    for (url, told) in &mut agents {
        let host = url.split_once("://").map_or(*url, |(_, host)| host);
        for c in &mut told.connections {
            if seen.get(&c.point).is_some_and(|agents| agents.len() > 1) {
                c.point = format!("{}@{host}", c.point);
            }
            points.insert(c.point.clone());
        }
        all.connections.append(&mut told.connections);
        all.gaps.append(&mut told.gaps);
    }
    (points.into_iter().collect(), all)
}

/// Asks an agent for all connections that it knows, or for those of a service, and of the last so many seconds.
pub fn of_agent(client: &Client, url: &str, svc: Option<&str>, since_seconds: Option<u64>) -> Result<Told> {
    let query = [("svc", svc.map(str::to_owned)), ("since_seconds", since_seconds.map(|s| s.to_string()))];
    let list: ConnectionList = client.read(url, "/api/v1/connections", &query, "a list of connections")?;
    let mut told = Told { connections: list.connections, gaps: Vec::new() };
    if list.forgotten > 0 {
        told.gaps.push(format!("{url}: {} ended connections are known no more, the oldest", list.forgotten));
    }
    Ok(told)
}

/// Reads the connections of a source at the point `name`. An agent that watches several points tells those of the point
/// of that name, one that watches a single one all it knows, whatever it calls the point itself.
pub fn at_point(
    source: &Source,
    client: &Client,
    name: &str,
    watch: &Watch,
    each: impl FnMut(&Packet<'_>),
) -> Result<Told> {
    let url = match source {
        Source::Capture(path) => return of_capture(path, name, watch, each),
        Source::Agent(url) => url,
    };
    let mut told = of_agent(client, url, None, None)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::tests::answered;

    #[test]
    fn points_of_several_agents_are_told_apart() {
        let told = |points: &[&str]| Told {
            connections: points.iter().map(|point| answered(point, 0)).collect(),
            gaps: vec!["one".to_owned()],
        };
        let agents =
            vec![("http://gw1:10435", told(&["outside", "dmz"])), ("https://gw2", told(&["outside"]))];
        let (points, all) = together(agents);
        assert_eq!(points, ["dmz", "outside@gw1:10435", "outside@gw2"]);
        let of: Vec<_> = all.connections.iter().map(|c| c.point.as_str()).collect();
        assert_eq!((of, all.gaps.len()), (vec!["outside@gw1:10435", "dmz", "outside@gw2"], 2));
    }
}
