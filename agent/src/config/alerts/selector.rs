//! The metrics and labels that a rule names.

use crate::{
    alert::{
        family::{self, Family},
        selector::Selector,
    },
    config::{
        OTHER_SERVICE, Service, checker::Checker, choice::Pattern, file::FileInterface, nearest::nearest,
    },
};
use serde::{Deserialize, Deserializer, de};
use serde_saphyr::Spanned;
use std::{collections::BTreeMap, fmt};

/// A word, or a list of them.
#[derive(Debug, Default)]
pub(super) struct Words(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Words;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word or a list of words")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Words, E> {
                Ok(Words(vec![text.to_owned()]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Words, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = list.next_element()? {
                    words.push(word);
                }
                Ok(Words(words))
            }
        }
        d.deserialize_any(Visitor)
    }
}

/// What the names in rules may mean.
pub struct Known<'a> {
    /// The points of the file; empty where it does not list them all.
    pub points: Vec<&'a str>,
    /// The services, `other` among them.
    pub services: Vec<&'a str>,
}

impl<'a> Known<'a> {
    /// Of what the file says elsewhere.
    pub fn of(interfaces: &'a [FileInterface], patterns: &[Pattern], services: &'a [Service]) -> Self {
        let services = services.iter().map(|service| service.name.as_str());
        let points = interfaces.iter().map(|interface| interface.point.as_str());
        Self {
            points: if patterns.is_empty() { points.collect() } else { Vec::new() },
            services: services.chain([OTHER_SERVICE]).collect(),
        }
    }
}

impl Checker<'_> {
    pub(super) fn selector(
        &mut self,
        path: &str,
        metric: &Spanned<Words>,
        only: &BTreeMap<String, Spanned<Words>>,
        known: &Known<'_>,
    ) -> Selector {
        let key = format!("{path}.metric");
        let mut families: Vec<&'static Family> = Vec::new();
        for name in &metric.value.0 {
            match Family::find(name) {
                Some(family) if families.first().is_some_and(|first| first.place != family.place) => {
                    let text =
                        format!("{name} has other labels than {}; write a rule for each", families[0].name);
                    self.refuse(&key, metric, text);
                }
                Some(family) => families.push(family),
                None => {
                    let names = family::ALL.iter().map(|family| family.name.as_str());
                    // Prometheus shops know it by its whole name, and people leave the prefix out.
                    let whole = format!("fivetuple_{}", name.trim_start_matches("fivetuple_"));
                    let text = format!("there is no metric {name:?}{}", hint(&whole, names));
                    self.refuse(&key, metric, text);
                }
            }
        }
        if metric.value.0.is_empty() {
            self.refuse(&key, metric, "no metric is listed; list at least one");
        }
        for (label, values) in only {
            for family in &families {
                self.label(&format!("{path}.where.{label}"), label, values, family, known);
            }
        }
        let only = only.iter().map(|(label, values)| (label.clone(), values.value.0.clone()));
        Selector { families, only: only.collect() }
    }

    fn label(&mut self, key: &str, label: &str, at: &Spanned<Words>, family: &Family, known: &Known<'_>) {
        let own = family.labels.iter().find(|(name, _)| *name == label);
        let values = match (own, label) {
            (Some((_, values)), _) => values.clone(),
            (None, _) if !family.place.labels().contains(&label) => {
                let labels =
                    || family.labels.iter().map(|(name, _)| *name).chain(family.place.labels().to_vec());
                let text = format!("{} has no label {label}{}", family.name, hint(label, labels()));
                return self.refuse(key, at, text);
            }
            (None, "svc") => known.services.clone(),
            (None, _) => known.points.clone(),
        };
        if values.is_empty() {
            // Points that the file does not list are known when the agent runs.
            return;
        }
        for value in &at.value.0 {
            if !values.contains(&value.as_str()) {
                let text = format!("there is no {label} {value:?}{}", hint(value, values.iter().copied()));
                self.refuse(key, at, text);
            }
        }
    }
}

/// "did you mean".
pub(super) fn hint<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(word, known).map_or(String::new(), |near| format!("; did you mean {near}?"))
}
