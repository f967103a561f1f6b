//! How the alerts stand, as metrics.

use super::{deliver::Accounts, engine::Standing};
use crate::aggregate::series::{Labels, counters, gauges};
use prometheus_client::encoding::DescriptorEncoder;
use std::fmt::Result;

/// How all alerts and their receivers stand.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Every alert, also those that do not fire.
    pub standings: Vec<Standing>,
    /// What each receiver was to be told, by its name.
    pub sinks: Vec<(String, Accounts)>,
    /// Times that the rules were judged.
    pub judged: u64,
    /// Times that they could not be.
    pub failed: u64,
    /// Time spent on that, in seconds.
    pub seconds: f64,
}

/// Shows them.
pub fn encode(encoder: &mut DescriptorEncoder<'_>, figures: &Figures) -> Result {
    let states = figures.standings.iter().map(|standing| {
        let mut labels: Labels<'_> = vec![("rule", &standing.rule), ("severity", standing.severity)];
        labels.extend(standing.place.iter().map(|(name, value)| (*name, value.as_str())));
        (labels, standing.state as u64)
    });
    gauges(
        encoder,
        "fivetuple_alert_state",
        "How an alert stands: 0 inactive, 1 pending, 2 firing, 3 firing and about to clear.",
        states,
    )?;
    let results = [("done", figures.judged), ("failed", figures.failed)];
    let results = results.map(|(result, n)| (vec![("result", result)], n));
    counters(
        encoder,
        "fivetuple_alert_evaluations",
        "Times that the rules were judged, or could not be.",
        results,
    )?;
    counters(
        encoder,
        "fivetuple_alert_evaluation_seconds",
        "Time spent on judging the rules, the reading of the figures included.",
        [(Vec::new(), figures.seconds)],
    )?;
    let sinks = |figure: fn(&Accounts) -> u64| {
        figures.sinks.iter().map(move |(name, accounts)| (vec![("sink", name.as_str())], figure(accounts)))
    };
    for (name, help, figure) in COUNTERS {
        counters(encoder, name, help, sinks(figure))?;
    }
    gauges(encoder, "fivetuple_alerts_queued", "Alerts that wait for a receiver.", sinks(|a| a.queued))
}

/// A family: name, help and what it shows.
type Family = (&'static str, &'static str, fn(&Accounts) -> u64);

const COUNTERS: [Family; 4] = [
    (
        "fivetuple_alerts_produced",
        "Alerts that a receiver was to be told; produced = sent + dropped + queued.",
        |a| a.produced,
    ),
    ("fivetuple_alerts_sent", "Alerts that a receiver took.", |a| a.sent),
    (
        "fivetuple_alerts_dropped",
        "Alerts that a receiver refused for good, or that had to go for newer ones.",
        |a| a.dropped,
    ),
    ("fivetuple_alerts_send_failures", "Attempts to tell a receiver that failed and are made again.", |a| {
        a.failures
    }),
];
