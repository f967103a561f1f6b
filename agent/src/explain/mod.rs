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
    cli::{DEFAULT_LISTEN, ExplainArgs, ReportOutput},
    client::Client,
    connection::{
        Connection,
        source::{self, Told},
    },
    http::Backend,
};
use anyhow::{Context as _, Result, bail};
use report::{Report, Section};
use std::io::{self, Write as _};

/// How often something is claimed, at most, where nothing is the matter.
const LEVEL: f64 = 0.05;

/// Compare and print; false when a part of a capture could not be read.
pub fn main(args: &ExplainArgs) -> Result<bool> {
    let (report, whole) = if args.of.files.is_empty() { (of_agent(args)?, true) } else { of_captures(args)? };
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
    let sections: Vec<Section> =
        groups.iter().map(|group| section::section(group, LEVEL, groups.len())).collect();
    let ExplainFilter { svc, since_seconds } = asked;
    let answer = match strongest(&sections) {
        Some(section) => section.answer.clone(),
        None => {
            let of = svc.as_ref().map_or(String::new(), |svc| format!(" of service {svc}"));
            let since = since_seconds.map_or(String::new(), |s| format!(" in the last {s} s"));
            format!("there is no connection{of}{since} to compare")
        }
    };
    Report { answer, svc, since_seconds, level: LEVEL, sections, gaps }
}

/// The section that says most; of equals the first.
fn strongest(sections: &[Section]) -> Option<&Section> {
    let rank = |section: &Section| {
        let strength = section.candidates.iter().map(|c| c.strength).fold(0.0, f64::max);
        (section.candidates.is_empty(), strength, section.verdict)
    };
    let better = |a: &Section, b: &Section| {
        let (a, b) = (rank(a), rank(b));
        (b.0.cmp(&a.0)).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)).is_gt()
    };
    sections.iter().reduce(|best, next| if better(next, best) { next } else { best })
}

fn of_agent(args: &ExplainArgs) -> Result<Report> {
    let url = args.of.url.clone().unwrap_or_else(|| format!("http://{DEFAULT_LISTEN}"));
    let asked = asked(args);
    let query = [("svc", asked.svc), ("since_seconds", asked.since_seconds.map(|s| s.to_string()))];
    let query: Vec<_> = query.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    let body = Client::of(&args.of.client)?.ask(url.trim_end_matches('/'), "/api/v1/explain", &query)?;
    serde_json::from_str(&body).with_context(|| {
        format!("{url} answered something else than an explanation; is it an agent of this version?")
    })
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
