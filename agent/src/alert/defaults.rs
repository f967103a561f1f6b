//! The built-in rules: `defaults.yaml`, read as any other.

use super::{Settings, deliver::SinkSettings, rule::Rule};
use crate::config::alerts::built_in;
use std::collections::BTreeMap;

const TEXT: &str = include_str!("defaults.yaml");

/// The built-in rules, with their runbooks on a page.
pub fn rules(runbooks: &str) -> Vec<Rule> {
    // Read by each test that starts an agent: it cannot be wrong in one that was released.
    built_in(TEXT, runbooks).unwrap_or_default()
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rules: rules("docs/alerts.md"),
            labels: BTreeMap::new(),
            sinks: vec![SinkSettings::log()],
            state_file: None,
        }
    }
}

#[cfg(test)]
pub mod tests {
    //! The built-in rules for tests, and what there must be to each.

    use super::*;

    /// The built-in rule of a name.
    pub fn rule(name: &str) -> Rule {
        let rule = rules("docs/alerts.md").into_iter().find(|rule| rule.name == name);
        rule.unwrap_or_else(|| panic!("there is no rule {name}"))
    }

    #[test]
    fn they_are_valid() {
        let read = built_in(TEXT, "docs/alerts.md");
        assert!(read.as_ref().is_ok_and(|rules| rules.len() == 16), "{:?}", read.err());
    }

    /// The page has a heading for each, and says of each what the file says; the example names each.
    #[test]
    fn each_has_its_runbook_and_stands_in_the_example() {
        let page = include_str!("../../../docs/alerts.md");
        let example = include_str!("../../fivetuple.example.yaml");
        for rule in rules("docs/alerts.md") {
            assert!(page.contains(&format!("\n### {}\n", rule.name)), "{}", rule.name);
            assert_eq!(rule.runbook, format!("docs/alerts.md#{}", rule.name.to_lowercase()));
            assert!(example.contains(&rule.name), "{}", rule.name);
        }
        for entry in TEXT.split("\n- name: ").skip(1) {
            let entry = format!("- name: {}", entry.trim_end());
            assert!(page.contains(&entry), "docs/alerts.md does not show\n{entry}");
        }
    }
}
