//! Where the connections come from: captures here, or an agent that answers itself.

use super::{Report, report, text::text};
use crate::{
    aggregate::filter::unknown,
    api::ReuseFilter,
    cli::{DEFAULT_LISTEN, Output, ReuseArgs},
    config::{self, OTHER_SERVICE, Watch, file::FileSettings},
    connection::source::of_capture,
    flows::fetch,
    replay,
};
use anyhow::{Context as _, Result, anyhow, bail};
use std::io::Write as _;

/// `fivetuple reuse`; false when a part of the captures could not be read.
pub fn main(args: &ReuseArgs) -> Result<bool> {
    let asked = ReuseFilter {
        svc: args.svc.clone(),
        // A part of a second is a second.
        since_seconds: args.since.map(|since| since.as_millis().div_ceil(1_000) as u64),
        clients: args.clients.clone(),
        proxies: args.proxies.clone(),
        time_wait_seconds: args.time_wait.map(|time_wait| time_wait.as_secs_f64()),
    };
    let (report, whole) =
        if args.files.is_empty() { (of_agent(args, &asked)?, true) } else { of_captures(args, &asked)? };
    let mut out = std::io::stdout().lock();
    match args.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string(&report)?)?,
        Output::Table => write!(out, "{}", text(&report))?,
    }
    Ok(whole)
}

fn of_agent(args: &ReuseArgs, asked: &ReuseFilter) -> Result<Report> {
    let default = || format!("http://{DEFAULT_LISTEN}");
    let url = args.url.clone().unwrap_or_else(default);
    let query = [
        ("svc", asked.svc.clone()),
        ("since_seconds", asked.since_seconds.map(|s| s.to_string())),
        ("clients", asked.clients.clone()),
        ("proxies", asked.proxies.clone()),
        ("time_wait_seconds", asked.time_wait_seconds.map(|s| s.to_string())),
    ];
    let query: Vec<_> = query.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    let body = fetch(url.trim_end_matches('/'), "/api/v1/reuse", &query)?;
    serde_json::from_str(&body).with_context(|| {
        format!("{url} answered something else than a report on reuse; is it an agent of this version?")
    })
}

fn of_captures(args: &ReuseArgs, asked: &ReuseFilter) -> Result<(Report, bool)> {
    let source = config::Source { file: args.config_file.clone(), interfaces: Vec::new() };
    let FileSettings { services, limits, .. } = source.settings()?;
    let watch = Watch { services, limits, ..Watch::default() };
    if let Some(svc) = &asked.svc {
        let known = || std::iter::once(OTHER_SERVICE).chain(watch.services.iter().map(|s| s.name.as_str()));
        if !known().any(|name| name == svc) {
            let known: Vec<&str> = known().collect();
            bail!("{}; services come from --config.file", unknown("svc", svc, known.into_iter()));
        }
    }
    let points = replay::points(&args.files);
    let (mut connections, mut whole) = (Vec::new(), true);
    for (path, point) in args.files.iter().zip(&points) {
        let told = of_capture(path, point, &watch, |_| {})?;
        for gap in &told.gaps {
            eprintln!("fivetuple: {gap}");
            whole = false;
        }
        connections.extend(told.connections);
    }
    let last = connections.iter().map(|c| c.times.last_seen_ns).max().unwrap_or(0);
    let first = asked.since_seconds.map_or(0, |s| last.saturating_sub(s.saturating_mul(1_000_000_000)));
    connections
        .retain(|c| c.times.last_seen_ns >= first && asked.svc.as_deref().is_none_or(|svc| svc == c.svc));
    let report = report(&connections, &points, asked, 0).map_err(|text| anyhow!(text))?;
    Ok((report, whole))
}
