//! `fivetuple locate`: where on its way something happens to a connection.
//!
//! Each point tells its connections ([`crate::connection`]); those that are one are joined, the points are put in the order
//! of the way and their clocks set right ([`path`]), and neighbours compared ([`between`], [`way`]). All but the reading
//! is pure.

pub mod between;
pub mod clocks;
mod complaint;
mod json;
pub mod moments;
pub mod passages;
pub mod path;
mod text;
pub mod verdict;
pub mod way;

use crate::{
    cli::{LocateArgs, ReportOutput},
    client::Client,
    config::{Source as Config, Watch},
    connection::{
        Connection, second_leg,
        source::{self, Source},
    },
};
use anyhow::{Result, bail};
use between::Between;
use passages::Passages;
use path::Path;
use std::{collections::BTreeSet, io::Write as _, net::SocketAddr, str::FromStr, time::Duration};

/// A connection, by one of its ends or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    ends: [Option<SocketAddr>; 2],
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let end = |text: &str| {
            text.parse().map_err(|_| {
                format!("{text:?} is no end of a connection; write 192.0.2.1:40000 or [2001:db8::1]:443, or both as A-B")
            })
        };
        let mut ends = text.splitn(2, '-').map(end);
        let first = ends.next().transpose()?;
        Ok(Self { ends: [first, ends.next().transpose()?] })
    }
}

impl Wanted {
    fn is(self, c: &Connection) -> bool {
        let has = |end: SocketAddr| {
            [c.client, c.server].iter().any(|e| e.address == end.ip() && e.port == end.port())
        };
        self.ends.into_iter().flatten().all(has)
    }
}

/// All that was found.
#[derive(Debug)]
pub struct Located {
    /// The points' names.
    pub names: Vec<String>,
    /// Where each was read from.
    pub sources: Vec<String>,
    /// The connections of each.
    pub points: Vec<Vec<Connection>>,
    /// The way.
    pub path: Path,
    /// The connections that were asked for, by their places on the way.
    pub asked: BTreeSet<usize>,
    /// What happens between neighbours, in the order of the way.
    pub between: Vec<Between>,
    /// What could not be read, or is known no more.
    pub gaps: Vec<String>,
}

impl Located {
    /// Compares the points by the connections that `wanted` lets through.
    pub fn of(
        names: Vec<String>,
        sources: Vec<String>,
        mut points: Vec<Vec<Connection>>,
        time_wait: Duration,
        wanted: impl Fn(&Connection) -> bool,
    ) -> Self {
        let path = Path::find(&points);
        prove(&mut points, &path, time_wait);
        let is_asked = |i: &usize| {
            let joined = &path.joined[*i];
            joined.at.iter().zip(&points).any(|(place, list)| place.is_some_and(|place| wanted(&list[place])))
        };
        let asked: BTreeSet<usize> = (0..path.joined.len()).filter(is_asked).collect();
        let neighbours = path.order.windows(2);
        let between = neighbours.map(|pair| Between::of(&points, &path, pair[0], pair[1], &asked)).collect();
        Self { names, sources, points, path, asked, between, gaps: Vec::new() }
    }

    /// Takes the times of all packets between neighbours that are both captures.
    fn time(&mut self, seen: &[Option<Passages>]) {
        let Self { points, path, between, .. } = self;
        for b in between.iter_mut().filter(|b| !b.proxy) {
            let (Some(near), Some(far)) = (&seen[b.from], &seen[b.to]) else { continue };
            let ahead = path.ahead_ns[b.to].wrapping_sub(path.ahead_ns[b.from]);
            let compared =
                b.compared.iter().filter_map(|i| Some(&points[b.from][path.joined[*i].at[b.from]?]));
            let [client, server] = near.delays(far, ahead, compared);
            (b.sides[0].delays, b.sides[1].delays) = (client, server);
        }
    }
}

/// Read, compare and print.
pub fn main(args: &LocateArgs) -> Result<()> {
    let located = read(args)?;
    complaint::complain(&located, args)?;
    let mut out = std::io::stdout().lock();
    match args.output {
        ReportOutput::Text => write!(out, "{}", text::text(&located))?,
        ReportOutput::Json => writeln!(out, "{}", serde_json::to_string(&json::answer(&located))?)?,
    }
    Ok(())
}

fn read(args: &LocateArgs) -> Result<Located> {
    let config = Config { file: args.config_file.clone(), interfaces: Vec::new() };
    let settings = config.settings()?;
    let watch = Watch { services: settings.services, limits: settings.limits, ..Watch::default() };
    let (mut names, mut sources, mut points) = (Vec::new(), Vec::new(), Vec::new());
    let (mut seen, mut gaps) = (Vec::new(), Vec::new());
    let client = Client::of(&args.client)?;
    if let [only] = &args.points[..] {
        bail!(
            "--points names {} alone, and one point tells nothing of where something happens; name two at least",
            only.name
        );
    }
    for point in &args.points {
        if names.contains(&point.name) {
            bail!("--points names {} twice; give each point a name of its own", point.name);
        }
        let mut passages = Passages::default();
        let told =
            source::at_point(&point.source, &client, &point.name, &watch, |packet| passages.take(packet))?;
        if passages.left_out() > 0 {
            gaps.push(format!(
                "{}: when {} packets passed, the last ones",
                point.source,
                passages.left_out()
            ));
        }
        seen.push(matches!(point.source, Source::Capture(_)).then_some(passages));
        names.push(point.name.clone());
        sources.push(point.source.to_string());
        points.push(told.connections);
        gaps.extend(told.gaps);
    }
    let wanted = |c: &Connection| {
        args.flow.is_none_or(|flow| flow.is(c)) && args.svc.as_deref().is_none_or(|svc| c.svc == svc)
    };
    let mut located = Located::of(names, sources, points, watch.limits.time_wait, wanted);
    located.gaps = gaps;
    located.time(&seen);
    Ok(located)
}

/// Proves or clears resets after a reuse by the second legs, wherever they were seen.
fn prove(points: &mut [Vec<Connection>], path: &Path, time_wait: Duration) {
    let mut all: Vec<Connection> = Vec::new();
    for (list, ahead) in points.iter().zip(&path.ahead_ns) {
        all.extend(list.iter().cloned().map(|mut c| {
            c.times.shift(ahead.wrapping_neg());
            c
        }));
    }
    second_leg::prove(&mut all, time_wait);
    for (c, proved) in points.iter_mut().flatten().zip(all) {
        (c.reset, c.second_leg) = (proved.reset, proved.second_leg);
    }
}
