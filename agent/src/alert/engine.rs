//! One alert for each group of each rule, led through its states once a second.
//!
//! What happens beside that is defined here: a counter that was set back goes on ([`super::history`]); a stepped wall
//! clock moves only the times that are told ([`super::moment`]); without figures all stays as it is, and that time counts
//! towards nothing; a reload keeps what fires while its rule still has the same name, severity, labels and groups.

use super::{
    evidence::Evidence,
    family::Cell,
    judge::{Finding, Past},
    message::Alert,
    moment::{Moment, WallClock},
    rule::{Kind, Limit, Rule},
    state::{Act, Event, State, next},
};
use crate::aggregate::snapshot::Snapshot;
use std::{collections::BTreeMap, time::Duration};

/// Two looks further apart than this have a gap between them.
const GAP: Duration = Duration::from_secs(5);

/// After a restart a group that does not show within its window, `keep_firing` and this is no more.
const RETURN: Duration = Duration::from_secs(60);

/// The rules and their alerts.
#[derive(Debug, Default)]
pub struct Engine {
    rules: Vec<Watched>,
    /// Labels that every alert bears.
    labels: BTreeMap<String, String>,
    /// The named services.
    svcs: Vec<String>,
    /// The points' names, by their numbers.
    points: Vec<String>,
    clock: WallClock,
    last: Duration,
    /// Alerts that fired before a restart and have no rule any more: still to be told that they are over.
    ownerless: Vec<Alert>,
}

#[derive(Debug)]
struct Watched {
    rule: Rule,
    pasts: BTreeMap<Cell, Past>,
    groups: BTreeMap<Cell, Group>,
    /// Since when a place that appears was at 0; none before the first look, after which it is known.
    since: Option<Duration>,
    /// Alerts that fired before a restart and whose group has not been met yet, and until when it is waited for.
    before: Vec<(Duration, Alert)>,
}

/// An alert, whether it fires or not.
#[derive(Debug, Default)]
struct Group {
    state: State,
    /// When the measuring of `for` or `keep_firing` began.
    since: Duration,
    /// When it fired.
    fired: Duration,
    worst: Cell,
    value: Option<f64>,
    /// Labels of the group.
    place: Vec<(&'static str, String)>,
    /// What was told.
    alert: Option<Alert>,
}

/// How an alert stands, for metrics and lists.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The rule.
    pub rule: String,
    /// `page` or `watch`.
    pub severity: &'static str,
    /// Labels of the group: `svc`, `point`, `to`, as far as it has them.
    pub place: Vec<(&'static str, String)>,
    /// Its state.
    pub state: State,
    /// What is compared with the thresholds now; none where nothing can be said.
    pub value: Option<f64>,
    /// What was told, while it fires.
    pub alert: Option<Alert>,
}

/// Finds the evidence for a rule at its worst place.
pub type Witness<'a> = &'a mut dyn FnMut(&Rule, Cell) -> Vec<Evidence>;

impl Engine {
    /// Begins at a moment at which every counter is 0.
    pub fn new(rules: Vec<Rule>, labels: BTreeMap<String, String>, svcs: Vec<String>, now: Moment) -> Self {
        let mut engine = Self { labels, svcs, last: now.mono, ..Self::default() };
        engine.clock.read(now);
        engine.rules = rules.into_iter().map(|rule| Watched::new(rule, Some(now.mono))).collect();
        engine
    }

    /// Takes up alerts that were firing when the agent ended. They were told, and are not told again.
    pub fn restore(&mut self, alerts: Vec<Alert>) {
        for alert in alerts {
            match self.rules.iter_mut().find(|watched| watched.owns(&alert)) {
                Some(watched) => {
                    let until = self.last + watched.rule.window + watched.rule.keep_firing + RETURN;
                    watched.before.push((until, alert));
                }
                None => self.ownerless.push(alert),
            }
        }
    }

    /// Judges every rule by the figures of a moment; what is to be told.
    pub fn step(&mut self, now: Moment, snapshot: &Snapshot, witness: Witness<'_>) -> Vec<Alert> {
        self.clock.read(now);
        let passed = now.mono.saturating_sub(self.last);
        self.last = now.mono;
        let over = self.clock.wall(now.mono);
        let told = self.ownerless.drain(..).map(|alert| alert.resolved(over)).collect();
        let mut step = Step {
            now: now.mono,
            passed,
            snapshot,
            labels: &self.labels,
            svcs: &self.svcs,
            clock: &self.clock,
            witness,
            told,
        };
        let name = |points: &[String], number: usize| points.get(number).cloned().unwrap_or_default();
        let numbers = 0..self.points.len().max(snapshot.points.len());
        let renamed: Vec<_> =
            numbers.filter(|n| name(&self.points, *n) != name(&snapshot.points, *n)).collect();
        self.points.clone_from(&snapshot.points);
        for watched in &mut self.rules {
            watched.forget_points(&renamed, &mut step);
            watched.step(&mut step);
        }
        step.told
    }

    /// Takes other rules, labels and services; what is over by that.
    pub fn reload(
        &mut self,
        rules: Vec<Rule>,
        labels: BTreeMap<String, String>,
        svcs: Vec<String>,
    ) -> Vec<Alert> {
        let same_labels = self.labels == labels;
        let mut old: BTreeMap<String, Watched> =
            std::mem::take(&mut self.rules).into_iter().map(|w| (w.rule.name.clone(), w)).collect();
        let mut over = Vec::new();
        for rule in rules {
            let mut watched = Watched::new(rule, None);
            if let Some(mut before) = old.remove(&watched.rule.name) {
                if before.rule.same_history(&watched.rule) {
                    (watched.pasts, watched.since) = (std::mem::take(&mut before.pasts), before.since);
                }
                if same_labels && before.rule.same_alerts(&watched.rule) {
                    (watched.groups, watched.before) = (before.groups, before.before);
                } else {
                    over.extend(before.end(&self.clock, self.last));
                }
            }
            self.rules.push(watched);
        }
        over.extend(old.values_mut().flat_map(|watched| watched.end(&self.clock, self.last)));
        (self.labels, self.svcs) = (labels, svcs);
        over
    }

    /// What fires, as it would be told now.
    pub fn firing(&self) -> Vec<Alert> {
        let groups = self.rules.iter().flat_map(|watched| watched.groups.values());
        let told = groups.filter_map(|group| Some((group.fired, group.alert.clone()?)));
        let restored = self.rules.iter().flat_map(|watched| &watched.before).map(|(_, alert)| alert.clone());
        told.map(|(fired, alert)| Alert { starts_at: self.clock.wall(fired), ..alert })
            .chain(restored)
            .collect()
    }

    /// How every alert stands.
    pub fn standings(&self) -> Vec<Standing> {
        let of = |watched: &Watched, group: &Group| Standing {
            rule: watched.rule.name.clone(),
            severity: watched.rule.severity.name(),
            place: group.place.clone(),
            state: group.state,
            value: group.value,
            alert: group
                .alert
                .clone()
                .map(|alert| Alert { starts_at: self.clock.wall(group.fired), ..alert }),
        };
        self.rules
            .iter()
            .flat_map(|watched| watched.groups.values().map(move |group| of(watched, group)))
            .collect()
    }
}

/// One look at all.
struct Step<'a, 'w> {
    now: Duration,
    /// Since the last one.
    passed: Duration,
    snapshot: &'a Snapshot,
    labels: &'a BTreeMap<String, String>,
    svcs: &'a [String],
    clock: &'a WallClock,
    witness: Witness<'w>,
    told: Vec<Alert>,
}

impl Watched {
    fn new(rule: Rule, since: Option<Duration>) -> Self {
        Self { rule, pasts: BTreeMap::new(), groups: BTreeMap::new(), since, before: Vec::new() }
    }

    /// Forgets what was at points whose numbers are others' now.
    fn forget_points(&mut self, renamed: &[usize], step: &mut Step<'_, '_>) {
        let is_one =
            |cell: &Cell| [cell.point, cell.to].iter().flatten().any(|point| renamed.contains(point));
        self.pasts.retain(|cell, _| !is_one(cell));
        for (_, mut group) in self.groups.extract_if(.., |key, _| is_one(key)) {
            step.told.extend(group.end(step.clock, step.now));
        }
    }

    fn step(&mut self, step: &mut Step<'_, '_>) {
        let found = self.find(step);
        for (key, group) in &mut self.groups {
            if !found.contains_key(key) {
                step.told.extend(group.end(step.clock, step.now));
            }
        }
        self.groups.retain(|key, _| found.contains_key(key));
        for (key, (finding, worst)) in found {
            let group = self.groups.entry(key).or_insert_with(|| {
                let place = place(key, step.snapshot);
                let same = |(_, alert): &mut (Duration, Alert)| {
                    place.iter().all(|(label, value)| alert.label(label) == value)
                };
                let alert = self.before.extract_if(.., same).next().map(|(_, alert)| alert);
                let state = if alert.is_some() { State::Firing } else { State::Inactive };
                let fired = alert.as_ref().map(|alert| step.clock.mono(alert.starts_at)).unwrap_or_default();
                Group { state, fired, place, alert, ..Group::default() }
            });
            (group.worst, group.value) = (worst, finding.value);
            group.lead(&self.rule, finding.event, step);
        }
        let over = self.before.extract_if(.., |(until, _)| *until <= step.now);
        step.told.extend(over.map(|(_, alert)| alert.resolved(step.clock.wall(step.now))));
    }

    /// Whether an alert that was told before a restart is one of this rule.
    fn owns(&self, alert: &Alert) -> bool {
        let rule = &self.rule;
        (&rule.name, rule.severity.name()) == (&alert.rule, &alert.severity)
            && rule.labels.iter().all(|(name, value)| alert.label(name) == value)
    }

    /// Ends all alerts of the rule; what is to be told of that.
    fn end(&mut self, clock: &WallClock, now: Duration) -> Vec<Alert> {
        let met = self.groups.values_mut().filter_map(|group| group.end(clock, now));
        let unmet = self.before.drain(..).map(|(_, alert)| alert.resolved(clock.wall(now)));
        met.chain(unmet).collect()
    }

    /// What the rule comes to in each group, and the worst place in it.
    fn find(&mut self, step: &Step<'_, '_>) -> BTreeMap<Cell, (Finding, Cell)> {
        let events = self.rule.events.read(step.snapshot);
        let of = self.rule.of.as_ref().map(|of| of.read(step.snapshot));
        let mut out: BTreeMap<Cell, (Finding, Cell)> = BTreeMap::new();
        for (cell, count) in events {
            let of = of.as_ref().map(|of| of.get(&cell).copied().unwrap_or_default());
            let past = self.pasts.entry(cell).or_insert_with(|| match self.since {
                Some(since) => Past::new(&self.rule, since, 0.0, of.map(|_| 0.0)),
                None => Past::new(&self.rule, step.now, count, of),
            });
            past.push(step.now, count, of);
            if !self.rule.events.judges(cell, step.snapshot, step.svcs) {
                continue;
            }
            let finding = past.judge(&self.rule);
            let by = self.rule.by;
            let is_gone = cell.point.is_some_and(|point| step.snapshot.gone.contains(&point));
            if is_gone && by.point && self.rule.kind == Kind::DropToZero {
                continue;
            }
            let group = Cell {
                point: cell.point.filter(|_| by.point),
                to: cell.to.filter(|_| by.point),
                svc: cell.svc.filter(|_| by.svc),
            };
            let worse =
                out.get(&group).is_none_or(|(held, _)| rank(&self.rule, finding) > rank(&self.rule, *held));
            if worse {
                out.insert(group, (finding, cell));
            }
        }
        self.since = Some(step.now);
        out
    }
}

/// Which of several places decides for their group: the worst. A service has dropped to nothing only where no point of
/// the group sees any of it.
fn rank(rule: &Rule, finding: Finding) -> (u8, f64) {
    let order = if rule.kind == Kind::DropToZero {
        [Event::Unknown, Event::Between, Event::Crossed, Event::Clear]
    } else {
        [Event::Unknown, Event::Clear, Event::Between, Event::Crossed]
    };
    let place = order.iter().position(|event| *event == finding.event).unwrap_or_default();
    let value = finding.value.unwrap_or_default();
    (place as u8, if matches!(rule.fire, Limit::Below(_)) { -value } else { value })
}

/// The labels of a group.
fn place(key: Cell, snapshot: &Snapshot) -> Vec<(&'static str, String)> {
    let point = |n: Option<usize>| n.and_then(|n| snapshot.points.get(n).cloned());
    let svc = key.svc.and_then(|n| snapshot.services.get(n).cloned());
    let labels = [("svc", svc), ("point", point(key.point)), ("to", point(key.to))];
    labels.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

impl Group {
    /// Lets an event happen, and what follows from it at once.
    fn lead(&mut self, rule: &Rule, event: Event, step: &mut Step<'_, '_>) {
        if step.passed > GAP || event == Event::Unknown {
            // Of that time nothing is known: it counts neither towards `for` nor towards `keep_firing`.
            self.since += step.passed;
        }
        self.happen(rule, event, step);
        let held = step.now.saturating_sub(self.since);
        match self.state {
            State::Pending if held >= rule.pending && event == Event::Crossed => {
                self.happen(rule, Event::Ripe, step);
            }
            State::Clearing if held >= rule.keep_firing && event == Event::Clear => {
                self.happen(rule, Event::Spent, step);
            }
            _ => {}
        }
    }

    fn happen(&mut self, rule: &Rule, event: Event, step: &mut Step<'_, '_>) {
        let (state, act) = next(self.state, event);
        self.state = state;
        match act {
            Act::Nothing => {}
            Act::Start => self.since = step.now,
            Act::Fire => {
                self.fired = step.now;
                let evidence = (step.witness)(rule, self.worst);
                let at = step.clock.wall(step.now);
                let alert = Alert::fire(rule, &self.place, step.labels, self.value, at, evidence);
                step.told.push(alert.clone());
                self.alert = Some(alert);
            }
            Act::Resolve => step.told.extend(self.resolve(step.clock, step.now)),
        }
    }

    /// The rule, the service or the point is no more.
    fn end(&mut self, clock: &WallClock, now: Duration) -> Option<Alert> {
        let (state, act) = next(self.state, Event::Gone);
        self.state = state;
        if act == Act::Resolve { self.resolve(clock, now) } else { None }
    }

    fn resolve(&mut self, clock: &WallClock, now: Duration) -> Option<Alert> {
        let alert = self.alert.take()?;
        Some(Alert { starts_at: clock.wall(self.fired), ..alert }.resolved(clock.wall(now)))
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
