//! Where the connections come from: captures here, or an agent that answers itself.

use super::{Report, report, text::text};
use crate::{
    api::ReuseFilter,
    cli::{DEFAULT_LISTEN, ReportOutput, ReuseArgs},
    client::Client,
    connection::source::{self, Told},
};
use anyhow::{Context as _, Result, anyhow};
use std::io::Write as _;

/// `fivetuple reuse`; false when a part of the captures could not be read.
pub fn main(args: &ReuseArgs) -> Result<bool> {
    let asked = ReuseFilter {
        svc: args.of.svc.clone(),
        since_seconds: source::since_seconds(&args.of),
        clients: args.clients.clone(),
        proxies: args.proxies.clone(),
        time_wait_seconds: args.time_wait.map(|time_wait| time_wait.as_secs_f64()),
    };
    let (report, whole) =
        if args.of.files.is_empty() { (of_agent(args, &asked)?, true) } else { of_captures(args, &asked)? };
    let mut out = std::io::stdout().lock();
    match args.output {
        ReportOutput::Json => writeln!(out, "{}", serde_json::to_string(&report)?)?,
        ReportOutput::Text => write!(out, "{}", text(&report))?,
    }
    Ok(whole)
}

fn of_agent(args: &ReuseArgs, asked: &ReuseFilter) -> Result<Report> {
    let default = || format!("http://{DEFAULT_LISTEN}");
    let url = args.of.url.clone().unwrap_or_else(default);
    let query = [
        ("svc", asked.svc.clone()),
        ("since_seconds", asked.since_seconds.map(|s| s.to_string())),
        ("clients", asked.clients.clone()),
        ("proxies", asked.proxies.clone()),
        ("time_wait_seconds", asked.time_wait_seconds.map(|s| s.to_string())),
    ];
    let query: Vec<_> = query.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    let body = Client::of(&args.of.client)?.ask(url.trim_end_matches('/'), "/api/v1/reuse", &query)?;
    serde_json::from_str(&body).with_context(|| {
        format!("{url} answered something else than a report on reuse; is it an agent of this version?")
    })
}

fn of_captures(args: &ReuseArgs, asked: &ReuseFilter) -> Result<(Report, bool)> {
    let (points, Told { connections, gaps }) = source::of_captures(&args.of)?;
    for gap in &gaps {
        eprintln!("fivetuple: {gap}");
    }
    let report = report(&connections, &points, asked, 0).map_err(|text| anyhow!(text))?;
    Ok((report, gaps.is_empty()))
}
