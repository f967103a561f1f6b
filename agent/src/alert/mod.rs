//! Alerts: rules over the agent's own figures, judged once a second, and told to those who are to know.
//!
//! The core is pure: the clock, the figures and the evidence come in as arguments. Reading order: [`rule`] (what can be
//! asked), [`family`] and [`selector`] (of which figures), [`history`] and [`judge`] (what they come to), [`state`] (the
//! table of states and events), [`engine`] (one alert per group), [`evidence`] (which connections show it), [`message`]
//! (what is told), [`deliver`] (to whom, and what is lost on the way). docs/alerts.md tells an operator the same.

pub mod defaults;
pub mod deliver;
pub mod engine;
pub mod evidence;
pub mod family;
pub mod figures;
pub mod history;
pub mod judge;
pub mod message;
pub mod moment;
pub mod rule;
pub mod selector;
pub mod state;

use deliver::SinkSettings;
use rule::Rule;
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// How often the rules are judged.
pub const EVERY: Duration = Duration::from_secs(1);

/// What the configuration says of alerts.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The rules, each under a name of its own.
    pub rules: Vec<Rule>,
    /// Labels that every alert bears.
    pub labels: BTreeMap<String, String>,
    /// Who is told.
    pub sinks: Vec<SinkSettings>,
    /// Where alerts that fire outlive a restart; nowhere unless asked for.
    pub state_file: Option<PathBuf>,
}
