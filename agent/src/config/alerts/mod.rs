//! The part of the configuration that alerts are told by: its keys, and what may be wrong with them.

mod rule;
mod selector;

use super::{checker::Checker, file::Problem, value};
use crate::{
    alert::{
        Settings, defaults,
        deliver::{SinkKind, SinkSettings},
        rule::Rule,
    },
    client,
};
use rule::RawRule;
pub use selector::Known;
use selector::hint;
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::{collections::BTreeMap, path::Path};

/// Rules at most: each keeps its past for every place.
const MOST_RULES: usize = 200;
/// Where the built-in rules' runbooks are, unless the configuration says where.
const RUNBOOKS: &str = "docs/alerts.md";

/// The key `alerts` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawAlerts {
    built_in: Option<bool>,
    off: Vec<Spanned<String>>,
    rules: Vec<RawRule>,
    labels: BTreeMap<String, Spanned<String>>,
    runbooks: Option<Spanned<String>>,
    state_file: Option<Spanned<String>>,
    log: Option<bool>,
    alertmanagers: Vec<RawSink>,
    webhooks: Vec<RawSink>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSink {
    url: Spanned<String>,
    name: Option<Spanned<String>>,
    timeout: Option<Spanned<String>>,
    #[serde(default)]
    http_config: client::settings::Raw,
}

/// The built-in rules, from their own file.
pub fn built_in(text: &str, runbooks: &str) -> Result<Vec<Rule>, Vec<Problem>> {
    let raw: Vec<RawRule> = super::file::shaped(text).map_err(|problem| vec![problem])?;
    let mut checker = Checker::new(Path::new(""));
    let known = Known { points: Vec::new(), services: Vec::new() };
    let rules = checker.rules(&raw, &known, |name| format!("{runbooks}#{}", name.to_lowercase()));
    if checker.problems.is_empty() { Ok(rules) } else { Err(checker.problems) }
}

impl Checker<'_> {
    pub(super) fn alerts(&mut self, raw: &RawAlerts, known: &Known<'_>) -> Settings {
        let runbooks = raw.runbooks.as_ref().map_or(RUNBOOKS, |at| at.value.trim_end_matches('/'));
        let own = self.rules(&raw.rules, known, |_| String::new());
        let mut rules = defaults::rules(runbooks);
        for (i, off) in raw.off.iter().enumerate() {
            if !rules.iter().any(|rule| rule.name == off.value) {
                let names = rules.iter().map(|rule| rule.name.as_str());
                let text = format!("there is no built-in rule {:?}{}", off.value, hint(&off.value, names));
                self.refuse(format!("alerts.off[{i}]"), off, text);
            }
        }
        let all = raw.built_in.unwrap_or(true);
        rules.retain(|rule| {
            all && !raw.off.iter().any(|off| off.value == rule.name)
                && !own.iter().any(|o| o.name == rule.name)
        });
        rules.extend(own);
        if rules.len() > MOST_RULES
            && let Some(last) = raw.rules.last()
        {
            self.refuse(
                "alerts.rules",
                &last.name,
                format!("more than {MOST_RULES} rules; put some together"),
            );
        }
        Settings {
            rules,
            labels: self.alert_labels("alerts.labels", &raw.labels),
            sinks: self.sinks(raw),
            state_file: raw.state_file.as_ref().map(|at| at.value.clone().into()),
        }
    }

    fn alert_labels(
        &mut self,
        key: &str,
        raw: &BTreeMap<String, Spanned<String>>,
    ) -> BTreeMap<String, String> {
        const OWN: [&str; 6] = ["alertname", "severity", "urgency", "svc", "point", "to"];
        for (name, at) in raw {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            let digit = name.as_bytes().first().is_none_or(u8::is_ascii_digit);
            if digit || !name.bytes().all(plain) {
                let text = "cannot be the name of a label; use A-Z a-z 0-9 _, no digit first";
                self.refuse(format!("{key}.{name}"), at, text);
            } else if OWN.contains(&name.as_str()) {
                self.refuse(
                    format!("{key}.{name}"),
                    at,
                    "the agent sets this label itself; take another name",
                );
            }
        }
        raw.iter().map(|(name, at)| (name.clone(), at.value.clone())).collect()
    }

    fn sinks(&mut self, raw: &RawAlerts) -> Vec<SinkSettings> {
        let mut out = Vec::new();
        if raw.log.unwrap_or(true) {
            out.push(SinkSettings::log());
        }
        let lists = [
            ("alertmanagers", SinkKind::Alertmanager, &raw.alertmanagers),
            ("webhooks", SinkKind::Webhook, &raw.webhooks),
        ];
        for (list, kind, entries) in lists {
            for (i, entry) in entries.iter().enumerate() {
                let key = |name: &str| format!("alerts.{list}[{i}].{name}");
                let Some((url, place)) = self.read(&key("url"), &entry.url, value::url) else { continue };
                let named = entry.name.as_ref().and_then(|at| self.read(&key("name"), at, value::name));
                let name = named.unwrap_or(place);
                if out.iter().any(|sink: &SinkSettings| sink.name == name) {
                    let at = entry.name.as_ref().unwrap_or(&entry.url);
                    self.refuse(
                        key("name"),
                        at,
                        format!("two receivers are called {name}; give each its own name"),
                    );
                }
                let timeout = entry.timeout.as_ref();
                let timeout = timeout.and_then(|at| self.read(&key("timeout"), at, value::duration));
                let timeout = timeout.unwrap_or(SinkSettings::TIMEOUT);
                let http = entry.http_config.read(&key("http_config."), self.directory);
                match http {
                    Ok(http) => out.push(SinkSettings { name, kind, url, timeout, http }),
                    Err(problems) => self.problems.extend(problems),
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests;
