//! A rule: which figures, what of them, where it fires and where it clears.

use super::selector::Selector;
use std::{collections::BTreeMap, fmt, time::Duration};

/// Steps that a window is kept in: a window is longer than asked for by one of them at most.
pub const STEPS: u32 = 60;
/// The shortest such step, as rules are judged once a second.
pub const SHORTEST_STEP: Duration = Duration::from_secs(1);
/// Resolution of what is compared with yesterday or last week.
pub const COARSE: Duration = Duration::from_secs(300);

/// Who is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Somebody, now.
    Page,
    /// Whoever looks next.
    Watch,
}

impl Severity {
    /// As the configuration has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Watch => "watch",
        }
    }

    /// The label `severity` on the wire, as routing trees know it.
    pub fn on_the_wire(self) -> &'static str {
        match self {
            Self::Page => "critical",
            Self::Watch => "warning",
        }
    }
}

/// What a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Events within the window.
    Count,
    /// Events a second, over the window.
    Rate,
    /// Events within the window, as a part of those of another selection.
    Ratio,
    /// A gauge as it stands.
    Value,
    /// No event within the window, and enough in the one before.
    DropToZero,
    /// Events within the window, as a multiple of those in an earlier one.
    Change(Against),
    /// Events in a row: those of the other selection that are none of these break it.
    Streak,
}

impl Kind {
    /// As the configuration has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Rate => "rate",
            Self::Ratio => "ratio",
            Self::Value => "value",
            Self::DropToZero => "drop_to_zero",
            Self::Change(_) => "change",
            Self::Streak => "streak",
        }
    }
}

/// What a window is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// The window just before.
    Previous,
    /// The same one 24 hours ago.
    Yesterday,
    /// The same one 7 days ago.
    LastWeek,
}

impl Against {
    /// How long ago the other window ended.
    pub fn ago(self, window: Duration) -> Duration {
        const DAY: Duration = Duration::from_secs(86_400);
        match self {
            Self::Previous => window,
            Self::Yesterday => DAY,
            Self::LastWeek => 7 * DAY,
        }
    }

    /// In a sentence.
    pub fn text(self) -> &'static str {
        match self {
            Self::Previous => "the time just before",
            Self::Yesterday => "the same time yesterday",
            Self::LastWeek => "the same time last week",
        }
    }
}

/// Where a rule fires.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// Above this.
    Above(f64),
    /// Below this.
    Below(f64),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Above(n) => write!(f, "above {n}"),
            Self::Below(n) => write!(f, "below {n}"),
        }
    }
}

/// By which labels alerts are told apart; a group takes the worst of what it holds together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct By {
    /// One for each service.
    pub svc: bool,
    /// One for each point, or pair of points.
    pub point: bool,
}

/// A rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name, and the label `alertname`.
    pub name: String,
    /// Who is told.
    pub severity: Severity,
    /// What it means when it fires, for whoever is told.
    pub summary: String,
    /// What it looks at.
    pub kind: Kind,
    /// The figures.
    pub events: Selector,
    /// Those they are a part of, for a ratio and a streak.
    pub of: Option<Selector>,
    /// How far back it looks.
    pub window: Duration,
    /// Events that there must be, to judge at all: of `of` for a ratio, of the window before for a drop to zero, of the
    /// larger of both windows for a change.
    pub minimum: f64,
    /// Where it fires.
    pub fire: Limit,
    /// Where it clears.
    pub clear: f64,
    /// How long it must be crossed before it fires.
    pub pending: Duration,
    /// How long all must be well before it is over.
    pub keep_firing: Duration,
    /// Which alerts there are.
    pub by: By,
    /// Labels of its alerts.
    pub labels: BTreeMap<String, String>,
    /// Where it is told what to do.
    pub runbook: String,
}

impl Rule {
    /// The step in which its window is kept.
    pub fn step(&self) -> Duration {
        (self.window / STEPS).max(SHORTEST_STEP)
    }

    /// Whether an alert of the one is an alert of the other: a changed threshold does not end an incident.
    pub fn same_alerts(&self, other: &Self) -> bool {
        (&self.name, self.severity, &self.labels, self.by)
            == (&other.name, other.severity, &other.labels, other.by)
    }

    /// Whether what was kept for the one serves the other.
    pub fn same_history(&self, other: &Self) -> bool {
        (self.kind, &self.events, &self.of, self.window)
            == (other.kind, &other.events, &other.of, other.window)
    }

    /// What it looks at, in a sentence after the value.
    pub fn text(&self) -> String {
        let window = humantime::format_duration(self.window);
        match self.kind {
            Kind::Count => format!("of {} within {window}", self.events),
            Kind::Rate => format!("a second of {} over {window}", self.events),
            Kind::Ratio => {
                let of = self.of.as_ref().map(ToString::to_string).unwrap_or_default();
                format!("of {of} are {} within {window}", self.events)
            }
            Kind::Value => format!("is {}", self.events),
            Kind::DropToZero => format!("of {} within {window}", self.events),
            Kind::Change(against) => {
                format!("times as many of {} within {window} as at {}", self.events, against.text())
            }
            Kind::Streak => format!("of {} in a row", self.events),
        }
    }
}
