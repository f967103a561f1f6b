//! Where the connections come from: captures or several agents, put together here, or one agent that answers itself.

use super::{Report, report, text::text};
use crate::{
    api::ReuseFilter,
    cli::{ReportOutput, ReuseArgs},
    client::Client,
    connection::source::{self, Told},
};
use anyhow::{Result, anyhow};
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
    let (report, whole) = match source::one_agent(&args.of) {
        _ if !args.of.files.is_empty() => of_told(source::of_captures(&args.of)?, &asked)?,
        Some(url) => (of_agent(&Client::of(&args.of.client)?, &url, &asked)?, true),
        None => (of_told(source::of_agents(&args.of)?, &asked)?.0, true),
    };
    let mut out = std::io::stdout().lock();
    match args.output {
        ReportOutput::Json => writeln!(out, "{}", serde_json::to_string(&report)?)?,
        ReportOutput::Text => write!(out, "{}", text(&report))?,
    }
    Ok(whole)
}

fn of_agent(client: &Client, url: &str, asked: &ReuseFilter) -> Result<Report> {
    let query = [
        ("svc", asked.svc.clone()),
        ("since_seconds", asked.since_seconds.map(|s| s.to_string())),
        ("clients", asked.clients.clone()),
        ("proxies", asked.proxies.clone()),
        ("time_wait_seconds", asked.time_wait_seconds.map(|s| s.to_string())),
    ];
    client.read(url, "/api/v1/reuse", &query, "a report on reuse")
}

fn of_told((points, told): (Vec<String>, Told), asked: &ReuseFilter) -> Result<(Report, bool)> {
    for gap in &told.gaps {
        eprintln!("fivetuple: {gap}");
    }
    let report = report(&told.connections, &points, asked, 0).map_err(|text| anyhow!(text))?;
    Ok((report, told.gaps.is_empty()))
}
