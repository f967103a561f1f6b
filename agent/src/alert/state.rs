//! The states of an alert, and what leads from one to the next: one table, and nothing besides it decides.

/// How an alert stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// All is well.
    #[default]
    Inactive,
    /// The rule is crossed, not yet for long enough.
    Pending,
    /// It was told.
    Firing,
    /// It was told, and all is well again, not yet for long enough.
    Clearing,
}

impl State {
    /// All of them, in the order of the metric's values.
    pub const ALL: [Self; 4] = [Self::Inactive, Self::Pending, Self::Firing, Self::Clearing];

    /// Its name in lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Clearing => "clearing",
        }
    }

    /// Whether the alert was told and not taken back.
    pub fn is_told(self) -> bool {
        matches!(self, Self::Firing | Self::Clearing)
    }
}

/// What happens to an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The value is beyond the firing threshold.
    Crossed,
    /// It is between the two thresholds.
    Between,
    /// It is beyond the clearing threshold, or too little happened to judge.
    Clear,
    /// Nothing is known: no figures, or a window that has not been watched for its whole length.
    Unknown,
    /// The rule's `for` has passed while pending.
    Ripe,
    /// The rule's `keep_firing` has passed while clearing.
    Spent,
    /// The rule, the service or the point is no more.
    Gone,
}

impl Event {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Crossed, Self::Between, Self::Clear, Self::Unknown, Self::Ripe, Self::Spent, Self::Gone];
}

/// What has to be done on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Nothing.
    Nothing,
    /// Begin to measure `for` or `keep_firing`.
    Start,
    /// Tell that it fires.
    Fire,
    /// Tell that it is over.
    Resolve,
}

use Act::{Fire, Nothing, Resolve, Start};
use Event::{Between, Clear, Crossed, Gone, Ripe, Spent, Unknown};
use State::{Clearing, Firing, Inactive, Pending};

/// Every state with every event: where it leads, and what is done.
pub const TABLE: [(State, Event, State, Act); 28] = [
    (Inactive, Crossed, Pending, Start),
    (Inactive, Between, Inactive, Nothing),
    (Inactive, Clear, Inactive, Nothing),
    (Inactive, Unknown, Inactive, Nothing),
    (Inactive, Ripe, Inactive, Nothing),
    (Inactive, Spent, Inactive, Nothing),
    (Inactive, Gone, Inactive, Nothing),
    (Pending, Crossed, Pending, Nothing),
    (Pending, Between, Inactive, Nothing),
    (Pending, Clear, Inactive, Nothing),
    (Pending, Unknown, Pending, Nothing),
    (Pending, Ripe, Firing, Fire),
    (Pending, Spent, Pending, Nothing),
    (Pending, Gone, Inactive, Nothing),
    (Firing, Crossed, Firing, Nothing),
    (Firing, Between, Firing, Nothing),
    (Firing, Clear, Clearing, Start),
    (Firing, Unknown, Firing, Nothing),
    (Firing, Ripe, Firing, Nothing),
    (Firing, Spent, Firing, Nothing),
    (Firing, Gone, Inactive, Resolve),
    // Back to firing without a word: it is the same incident.
    (Clearing, Crossed, Firing, Nothing),
    (Clearing, Between, Firing, Nothing),
    (Clearing, Clear, Clearing, Nothing),
    (Clearing, Unknown, Clearing, Nothing),
    (Clearing, Ripe, Clearing, Nothing),
    (Clearing, Spent, Inactive, Resolve),
    (Clearing, Gone, Inactive, Resolve),
];

/// Where an event leads, and what is done.
pub fn next(state: State, event: Event) -> (State, Act) {
    let row = TABLE.iter().find(|row| row.0 == state && row.1 == event);
    row.map_or((state, Nothing), |row| (row.2, row.3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_each_state_and_event_once() {
        for state in State::ALL {
            for event in Event::ALL {
                let rows = TABLE.iter().filter(|row| row.0 == state && row.1 == event).count();
                assert_eq!(rows, 1, "{state:?} {event:?}");
            }
        }
    }

    #[test]
    fn what_is_told_is_taken_back_once_and_nothing_else_is() {
        for (from, event, to, act) in TABLE {
            assert_eq!(act == Fire, !from.is_told() && to.is_told(), "{from:?} {event:?}");
            assert_eq!(act == Resolve, from.is_told() && !to.is_told(), "{from:?} {event:?}");
        }
    }
}
