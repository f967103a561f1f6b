//! One rule: what its kind needs, and thresholds that can be.

use super::selector::{Known, Words};
use crate::{
    alert::{
        family::Place,
        rule::{Against, By, COARSE, Kind, Limit, Rule, SHORTEST_STEP, Severity},
        selector::Selector,
    },
    config::{checker::Checker, value},
};
use serde::{Deserialize, Deserializer, de};
use serde_saphyr::Spanned;
use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

/// The longest window.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);
/// How far back evidence is looked for where a rule has no window.
const RECENT: Duration = Duration::from_secs(60);
/// Events that there must be, unless the rule says otherwise.
const MINIMUM: f64 = 20.0;

/// A rule as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    pub(super) name: Spanned<String>,
    severity: Severity,
    summary: Option<String>,
    kind: RawKind,
    metric: Spanned<Words>,
    #[serde(default, rename = "where")]
    only: BTreeMap<String, Spanned<Words>>,
    of: Option<Spanned<RawOf>>,
    window: Option<Spanned<String>>,
    minimum: Option<Spanned<String>>,
    against: Option<Spanned<RawAgainst>>,
    above: Option<Spanned<String>>,
    below: Option<Spanned<String>>,
    clear: Option<Spanned<String>>,
    #[serde(rename = "for")]
    pending: Option<Spanned<String>>,
    keep_firing: Option<Spanned<String>>,
    by: Option<Spanned<Words>>,
    #[serde(default)]
    labels: BTreeMap<String, Spanned<String>>,
    runbook: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOf {
    metric: Spanned<Words>,
    #[serde(default, rename = "where")]
    only: BTreeMap<String, Spanned<Words>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawKind {
    Count,
    Rate,
    Ratio,
    Value,
    DropToZero,
    Change,
    Streak,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawAgainst {
    Previous,
    Yesterday,
    LastWeek,
}

impl<'de> Deserialize<'de> for Severity {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let known = [Self::Page, Self::Watch].into_iter().find(|severity| severity.name() == text);
        known.ok_or_else(|| de::Error::custom(format!("{text:?} is no severity; write page or watch")))
    }
}

impl Checker<'_> {
    pub(super) fn rules(
        &mut self,
        raw: &[RawRule],
        known: &Known<'_>,
        runbook: impl Fn(&str) -> String,
    ) -> Vec<Rule> {
        let mut names = HashSet::new();
        let mut out = Vec::new();
        for (i, entry) in raw.iter().enumerate() {
            self.read(&format!("alerts.rules[{i}].name"), &entry.name, value::name);
            if !names.insert(&entry.name.value) {
                let text = format!("two rules are called {}; rename one", entry.name.value);
                self.refuse(format!("alerts.rules[{i}].name"), &entry.name, text);
            }
            let mut rule = self.rule(&format!("alerts.rules[{i}]"), entry, known);
            if rule.runbook.is_empty() {
                rule.runbook = runbook(&rule.name);
            }
            out.push(rule);
        }
        out
    }

    fn rule(&mut self, path: &str, raw: &RawRule, known: &Known<'_>) -> Rule {
        let key = |name: &str| format!("{path}.{name}");
        let events = self.selector(path, &raw.metric, &raw.only, known);
        let of = raw.of.as_ref().map(|of| self.selector(&key("of"), &of.value.metric, &of.value.only, known));
        if let (Some(of), Some(at)) = (&of, &raw.of)
            && of.place() != events.place()
            && [of, &events].iter().all(|selector| !selector.families.is_empty())
        {
            let labels = |place: Place| place.labels().join(", ");
            let text = format!(
                "its metric has the labels {}, and that of the rule {}; take one that belongs to the same",
                labels(of.place()),
                labels(events.place())
            );
            self.refuse(key("of.metric"), &at.value.metric, text);
        }
        let kind = self.kind(path, raw, &events);
        self.keys_of(path, raw, kind);
        let window = raw.window.as_ref().and_then(|at| self.window(&key("window"), at, kind));
        let minimum = raw.minimum.as_ref().and_then(|at| self.read(&key("minimum"), at, number));
        let (fire, clear) = self.thresholds(path, raw, kind);
        let mut lasting = |name: &str, at: &Option<Spanned<String>>| {
            at.as_ref().and_then(|at| self.read(&key(name), at, pause)).unwrap_or_default()
        };
        let (pending, keep_firing) = (lasting("for", &raw.pending), lasting("keep_firing", &raw.keep_firing));
        Rule {
            name: raw.name.value.clone(),
            severity: raw.severity,
            summary: raw.summary.clone().unwrap_or_else(|| raw.name.value.clone()),
            kind,
            window: window.unwrap_or(RECENT),
            minimum: minimum.unwrap_or(MINIMUM),
            fire,
            clear,
            pending,
            keep_firing,
            by: self.by(&key("by"), raw.by.as_ref().filter(|_| !events.families.is_empty()), events.place()),
            labels: self.alert_labels(&key("labels"), &raw.labels),
            runbook: raw.runbook.clone().unwrap_or_default(),
            events,
            of,
        }
    }

    fn kind(&mut self, path: &str, raw: &RawRule, events: &Selector) -> Kind {
        let kind = match (raw.kind, &raw.against) {
            (RawKind::Count, _) => Kind::Count,
            (RawKind::Rate, _) => Kind::Rate,
            (RawKind::Ratio, _) => Kind::Ratio,
            (RawKind::Value, _) => Kind::Value,
            (RawKind::DropToZero, _) => Kind::DropToZero,
            (RawKind::Streak, _) => Kind::Streak,
            (RawKind::Change, Some(against)) => Kind::Change(match against.value {
                RawAgainst::Previous => Against::Previous,
                RawAgainst::Yesterday => Against::Yesterday,
                RawAgainst::LastWeek => Against::LastWeek,
            }),
            (RawKind::Change, None) => {
                let text = "this key is missing: a change is against previous, yesterday or last_week";
                self.refuse(format!("{path}.against"), &raw.name, text);
                Kind::Change(Against::Previous)
            }
        };
        let gauge = events.families.iter().find(|family| !family.counter);
        let counter = events.families.iter().find(|family| family.counter);
        let wrong = match (kind, gauge, counter) {
            (Kind::Value, _, Some(counter)) => {
                Some(format!("{} only grows; take the kind count or rate", counter.name))
            }
            (Kind::Value, ..) | (_, None, _) => None,
            (_, Some(gauge), _) => Some(format!("{} goes up and down; take the kind value", gauge.name)),
        };
        if let Some(text) = wrong {
            self.refuse(format!("{path}.metric"), &raw.metric, text);
        }
        kind
    }

    /// Which keys a kind needs, and which it has no use for.
    fn keys_of(&mut self, path: &str, raw: &RawRule, kind: Kind) {
        let windowed = !matches!(kind, Kind::Value | Kind::Streak);
        let parted = matches!(kind, Kind::Ratio | Kind::Streak);
        let counted = matches!(kind, Kind::Ratio | Kind::DropToZero | Kind::Change(_));
        let drop = kind == Kind::DropToZero;
        let name = kind.name();
        let given = [
            ("window", raw.window.as_ref().map(unit), windowed, windowed),
            ("of", raw.of.as_ref().map(unit), parted, parted),
            ("minimum", raw.minimum.as_ref().map(unit), counted, false),
            ("against", raw.against.as_ref().map(unit), matches!(kind, Kind::Change(_)), false),
            ("above", raw.above.as_ref().map(unit), !drop, false),
            ("below", raw.below.as_ref().map(unit), !drop, false),
            // Its window is how long nothing must have come.
            ("for", raw.pending.as_ref().map(unit), !drop, false),
        ];
        for (key, at, takes, needs) in given {
            let path = format!("{path}.{key}");
            match at {
                Some(at) if !takes => {
                    self.refuse(path, &at, format!("the kind {name} has no use for it; leave it out"));
                }
                None if needs => {
                    self.refuse(path, &raw.name, format!("this key is missing: the kind {name} needs it"))
                }
                _ => {}
            }
        }
    }

    fn window(&mut self, key: &str, at: &Spanned<String>, kind: Kind) -> Option<Duration> {
        let window = self.read(key, at, value::duration)?;
        let earlier = matches!(kind, Kind::Change(Against::Yesterday | Against::LastWeek));
        let shortest = if earlier { COARSE } else { SHORTEST_STEP };
        let longest = if earlier { Duration::from_secs(86_400) } else { LONGEST };
        if window < shortest || window > longest {
            let [shortest, longest] = [shortest, longest].map(humantime::format_duration);
            self.refuse(key, at, format!("{} cannot be; write {shortest} to {longest}", at.value));
            return None;
        }
        Some(window)
    }

    fn thresholds(&mut self, path: &str, raw: &RawRule, kind: Kind) -> (Limit, f64) {
        let clear =
            raw.clear.as_ref().and_then(|at| Some((self.read(&format!("{path}.clear"), at, number)?, at)));
        if kind == Kind::DropToZero {
            let clear = clear.map_or(1.0, |(n, at)| {
                if n < 1.0 {
                    self.refuse(format!("{path}.clear"), at, "one event at least must come before it clears");
                }
                n
            });
            return (Limit::Below(1.0), clear);
        }
        let mut limit = |key: &str, at: &Option<Spanned<String>>| {
            at.as_ref().and_then(|at| self.read(&format!("{path}.{key}"), at, number))
        };
        let (above, below) = (limit("above", &raw.above), limit("below", &raw.below));
        let fire = match (&raw.above, &raw.below) {
            (Some(_), None) => Limit::Above(above.unwrap_or_default()),
            (None, Some(_)) => Limit::Below(below.unwrap_or_default()),
            (Some(_), Some(at)) => {
                self.refuse(format!("{path}.below"), at, "above is there as well; keep one of the two");
                Limit::Below(below.unwrap_or_default())
            }
            (None, None) => {
                let text = "this key is missing: write above or below, where the rule is to fire";
                self.refuse(format!("{path}.above"), &raw.name, text);
                Limit::Above(0.0)
            }
        };
        let (own, wrong) = match (fire, clear) {
            (Limit::Above(n) | Limit::Below(n), None) => (n, None),
            (Limit::Above(n), Some((clear, at))) => (clear, (clear > n).then_some((at, "at most"))),
            (Limit::Below(n), Some((clear, at))) => (clear, (clear < n).then_some((at, "at least"))),
        };
        if let (Some((at, side)), Limit::Above(n) | Limit::Below(n)) = (wrong, fire) {
            let text = format!(
                "{own} is on the wrong side: a rule that fires {fire} would clear while it fires; write {side} {n}"
            );
            self.refuse(format!("{path}.clear"), at, text);
        }
        (fire, own)
    }

    fn by(&mut self, key: &str, at: Option<&Spanned<Words>>, place: Place) -> By {
        let Some(at) = at else {
            return By { svc: true, point: place == Place::Point };
        };
        for word in &at.value.0 {
            if !["svc", "point"].contains(&word.as_str()) || !place.labels().contains(&word.as_str()) {
                let labels: Vec<_> = place.labels().iter().filter(|label| **label != "to").copied().collect();
                let text =
                    format!("alerts of this metric cannot be told apart by {word}; write some of {labels:?}");
                self.refuse(key, at, text);
            }
        }
        let has = |word: &str| at.value.0.iter().any(|w| w == word);
        By { svc: has("svc"), point: has("point") }
    }
}

/// Where a value stands, without it.
fn unit<T>(at: &Spanned<T>) -> Spanned<()> {
    Spanned { value: (), referenced: at.referenced, defined: at.defined }
}

/// A duration, or none at all.
fn pause(text: &str) -> Result<Duration, String> {
    if matches!(text.trim(), "0" | "0s") { Ok(Duration::ZERO) } else { value::duration(text) }
}

fn number(text: &str) -> Result<f64, String> {
    let (digits, part) = text.trim().strip_suffix('%').map_or((text, 1.0), |digits| (digits, 100.0));
    match digits.trim().parse::<f64>() {
        Ok(n) if n.is_finite() && n >= 0.0 => Ok(n / part),
        _ => Err(format!(
            "{text:?} is not a number that can be compared with; write 0 or more, like 5, 0.95 or 95%"
        )),
    }
}
