//! `fivetuple explain`: what tells failed connections from good ones.
//!
//! Reading order: [`feature`] (what is looked at), [`predicate`] (the questions made of it), [`statistics`], [`rank`]
//! (which questions tell, and how they stand to each other), [`population`] and [`section`] (who is compared), then
//! [`report`] in [`sentence`] and [`text`]. `docs/causes.md` tells it to operators.

pub mod feature;
pub mod population;
pub mod predicate;
pub mod rank;
pub mod report;
pub mod section;
pub mod sentence;
pub mod statistics;
pub mod text;

use crate::{
    api::{ConnectionFilter, ExplainFilter, Refusal},
    cli::{ExplainArgs, ReportOutput},
    client::Client,
    connection::{
        Connection,
        source::{self, Told},
    },
    http::Backend,
};
use anyhow::{Result, bail};
use report::{Report, Section};
use std::{
    cmp::Ordering,
    io::{self, Write as _},
};

/// How often something is claimed, at most, where nothing is the matter.
const LEVEL: f64 = 0.05;

/// Compare and print; false when a part of a capture could not be read.
pub fn main(args: &ExplainArgs) -> Result<bool> {
    let (report, whole) = match source::one_agent(&args.of) {
        _ if !args.of.files.is_empty() => of_captures(args)?,
        Some(url) => (of_agent(&Client::of(&args.of.client)?, &url, asked(args))?, true),
        None => {
            let (_, Told { connections, gaps }) = source::of_agents(&args.of)?;
            (report(&connections, asked(args), gaps), true)
        }
    };
    if report.sections.is_empty() {
        bail!("{}", report.answer);
    }
    let mut out = io::stdout().lock();
    match args.output {
        ReportOutput::Text => out.write_all(text::text(&report).as_bytes())?,
        ReportOutput::Json => writeln!(out, "{}", serde_json::to_string(&report)?)?,
    }
    Ok(whole)
}

/// What a running agent tells of the connections that it knows.
pub fn of_backend(backend: &dyn Backend, asked: &ExplainFilter) -> Result<Report, Refusal> {
    let ExplainFilter { svc, since_seconds } = asked.clone();
    let list =
        backend.connections(&ConnectionFilter { svc, since_seconds, ..ConnectionFilter::default() })?;
    let gap = (list.forgotten > 0)
        .then(|| format!("{} ended connections are known no more, the oldest", list.forgotten));
    Ok(report(&list.connections, asked.clone(), gap.into_iter().collect()))
}

/// Compares the connections.
pub fn report(connections: &[Connection], asked: ExplainFilter, gaps: Vec<String>) -> Report {
    let groups = population::groups(connections);
    let mut sections: Vec<Section> =
        groups.iter().map(|group| section::section(group, LEVEL, groups.len())).collect();
    sections.sort_by(says_more);
    let ExplainFilter { svc, since_seconds } = asked;
    let answer = match sections.first() {
        Some(section) => section.answer.clone(),
        None => {
            let of = svc.as_ref().map_or(String::new(), |svc| format!(" of service {svc}"));
            let since = since_seconds.map_or(String::new(), |s| format!(" in the last {s} s"));
            format!("there is no connection{of}{since} to compare")
        }
    };
    Report { answer, svc, since_seconds, level: LEVEL, sections, gaps }
}

/// The section that says more comes first.
fn says_more(a: &Section, b: &Section) -> Ordering {
    let rank = |section: &Section| {
        let strength = section.candidates.iter().map(|c| c.strength).fold(0.0, f64::max);
        (section.candidates.is_empty(), strength, section.verdict)
    };
    let (a, b) = (rank(a), rank(b));
    a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)).then(b.2.cmp(&a.2))
}

fn of_agent(client: &Client, url: &str, asked: ExplainFilter) -> Result<Report> {
    let query = [("svc", asked.svc), ("since_seconds", asked.since_seconds.map(|s| s.to_string()))];
    client.read(url, "/api/v1/explain", &query, "an explanation")
}

fn of_captures(args: &ExplainArgs) -> Result<(Report, bool)> {
    let (_, Told { connections, gaps }) = source::of_captures(&args.of)?;
    let whole = gaps.is_empty();
    Ok((report(&connections, asked(args), gaps), whole))
}

fn asked(args: &ExplainArgs) -> ExplainFilter {
    ExplainFilter { svc: args.of.svc.clone(), since_seconds: source::since_seconds(&args.of) }
}

#[cfg(test)]
mod tests;
