//! The configuration file as it is written: its keys, their lines, and what is wrong with them.

use super::{
    Ingress, Limits, Service, Tables,
    alerts::{Known, RawAlerts},
    checker::Checker,
    choice::Pattern,
    nearest::nearest,
};
use crate::{aggregate::shown::Shown, alert, connection_log};
use serde::{Deserialize, de::DeserializeOwned};
use serde_saphyr::{Error as YamlError, Spanned};
use std::{fmt, path::Path};

/// One thing that is wrong in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from 1; 0 where the parser knows none.
    pub line: u64,
    /// The key at fault, as a path: `services[1].ports`; empty for the whole file.
    pub key: String,
    /// What is wrong and what to write instead.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

/// What a valid file says; what it leaves out has its default already, except the interfaces.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FileSettings {
    /// Interfaces in the file's order; empty where the file names none.
    pub interfaces: Vec<FileInterface>,
    /// Patterns of interfaces' names, in the file's order.
    pub patterns: Vec<Pattern>,
    /// Services in the file's order.
    pub services: Vec<Service>,
    /// Limits in time.
    pub limits: Limits,
    /// Limits in space.
    pub tables: Tables,
    /// The line of `tables.memory`; 0 without.
    pub memory_line: u64,
    /// What is shown of addresses.
    pub addresses: Shown,
    /// The connection log; off where the file says nothing of it.
    pub connection_log: Option<connection_log::Settings>,
    /// The alerts; the built-in rules, told to the log, where the file says nothing of them.
    pub alerts: alert::Settings,
}

/// One entry of `interfaces`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInterface {
    /// The kernel's name of it.
    pub name: String,
    /// The name of the point; the interface's own where the file gives none.
    pub point: String,
    /// The hook wanted.
    pub ingress: Ingress,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFile {
    pub(super) interfaces: Vec<RawInterface>,
    pub(super) services: Vec<RawService>,
    pub(super) limits: RawLimits,
    pub(super) tables: RawTables,
    pub(super) addresses: RawAddresses,
    pub(super) connection_log: Option<RawConnectionLog>,
    pub(super) alerts: RawAlerts,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawInterface {
    pub(super) name: Spanned<String>,
    pub(super) point: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) ingress: Ingress,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawService {
    pub(super) name: Spanned<String>,
    pub(super) prefixes: Spanned<Vec<Spanned<String>>>,
    pub(super) ports: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) allowed_clients: Option<Spanned<Vec<Spanned<String>>>>,
    #[serde(default)]
    pub(super) http: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    pub(super) time_wait: Option<Spanned<String>>,
    pub(super) idle: Option<Spanned<String>>,
    pub(super) stall: Option<Spanned<String>>,
    pub(super) handshake_timeout: Option<Spanned<String>>,
    pub(super) flow_idle_timeout: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTables {
    pub(super) memory: Option<Spanned<String>>,
    pub(super) flows: Option<Spanned<String>>,
    pub(super) half_open: Option<Spanned<String>>,
    pub(super) closed: Option<Spanned<String>>,
    pub(super) ring_bytes: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAddresses {
    pub(super) ipv4_prefix: Option<Spanned<String>>,
    pub(super) ipv6_prefix: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConnectionLog {
    pub(super) path: Spanned<String>,
    pub(super) sample_good: Option<Spanned<String>>,
}

/// Read a whole file, with paths of receivers' certificates relative to `directory`; every problem of it, not only the first, where its shape allows.
pub fn parse(text: &str, directory: &Path) -> Result<FileSettings, Vec<Problem>> {
    let raw: RawFile = shaped(text).map_err(|problem| vec![problem])?;
    let mut checker = Checker::new(directory);
    let (interfaces, patterns) = checker.interfaces(&raw.interfaces);
    let services = checker.services(&raw.services);
    let limits = checker.limits(&raw.limits);
    let tables = checker.tables(&raw.tables);
    let memory_line = raw.tables.memory.as_ref().map_or(0, |at| at.referenced.line());
    let addresses = checker.addresses(&raw.addresses);
    let connection_log = raw.connection_log.as_ref().map(|log| checker.connection_log(log));
    let alerts = checker.alerts(&raw.alerts, &Known::of(&interfaces, &patterns, &services));
    if checker.problems.is_empty() {
        Ok(FileSettings {
            interfaces,
            patterns,
            services,
            limits,
            tables,
            memory_line,
            addresses,
            connection_log,
            alerts,
        })
    } else {
        checker.problems.sort_by_key(|p| p.line);
        Err(checker.problems)
    }
}

/// A text in the shape of `T`; otherwise its first fault, in the words of an operator.
pub(crate) fn shaped<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|e| {
        let mut problem = shape_problem(&e);
        if problem.key.is_empty() {
            problem.key = key_in_line(text, problem.line);
        }
        problem
    })
}

/// The key that a line begins with; the parser does not name it where a value has the wrong shape.
fn key_in_line(text: &str, line: u64) -> String {
    let line = line.checked_sub(1).and_then(|line| text.lines().nth(usize::try_from(line).ok()?));
    let key = line.and_then(|line| line.trim_start_matches([' ', '-']).split_once(':'));
    key.map_or(String::new(), |(key, _)| key.trim_matches(['"', '\'', ' ']).to_owned())
}

fn shape_problem(error: &YamlError) -> Problem {
    let error = error.without_snippet();
    let line = error.location().map_or(0, |l| l.line());
    let list = |expected: &[&str]| expected.join(", ");
    let (key, text) = match error {
        YamlError::SerdeUnknownField { field, expected, .. } => {
            let hint = nearest(field, expected.iter().copied())
                .map_or(String::new(), |near| format!("; did you mean {near}?"));
            (field.clone(), format!("unknown key{hint} (keys here: {})", list(expected)))
        }
        YamlError::SerdeUnknownVariant { variant, expected, .. } => {
            (String::new(), format!("{variant:?} is not one of {}", list(expected)))
        }
        YamlError::SerdeMissingField { field, .. } => ((*field).to_owned(), "this key is missing".to_owned()),
        YamlError::DuplicateMappingKey { key, .. } => {
            (key.clone().unwrap_or_default(), "this key is here twice; keep one".to_owned())
        }
        other => (String::new(), other.render_with_formatter(&serde_saphyr::UserMessageFormatter)),
    };
    Problem { line, key, text }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
