//! What the figures of a rule come to at one place.

use super::{
    history::History,
    rule::{Kind, Limit, Rule},
    state::Event,
};
use std::time::Duration;

/// The past of a rule at one place.
#[derive(Debug, Clone)]
pub struct Past {
    /// The figures that the rule counts.
    pub events: History,
    /// Those they are a part of.
    pub of: Option<History>,
    /// Failures in a row; none before anything was seen.
    streak: Option<f64>,
}

/// What the rule comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finding {
    /// For the state.
    pub event: Event,
    /// What is compared with the thresholds; none where nothing can be said.
    pub value: Option<f64>,
}

impl Past {
    /// Begins with the figures of now, or, where the place was not there before, with 0.
    pub fn new(rule: &Rule, now: Duration, events: f64, of: Option<f64>) -> Self {
        Self {
            events: History::new(rule, now, events),
            of: of.map(|of| History::new(rule, now, of)),
            streak: None,
        }
    }

    /// Takes the figures of now.
    pub fn push(&mut self, now: Duration, events: f64, of: Option<f64>) {
        let grown = |history: &History, raw: f64| if raw < history.raw() { raw } else { raw - history.raw() };
        let failed = grown(&self.events, events);
        self.events.push(now, events);
        if let (Some(history), Some(of)) = (&mut self.of, of) {
            // Which came first within one look nobody knows: any success breaks the row.
            let all = grown(history, of);
            if all > failed {
                self.streak = Some(0.0);
            } else if failed > 0.0 {
                self.streak = Some(self.streak.unwrap_or_default() + failed);
            }
            history.push(now, of);
        }
    }

    /// What the rule comes to.
    pub fn judge(&self, rule: &Rule) -> Finding {
        let (count, whole) = self.events.within(rule.window);
        let nothing = |event| Finding { event, value: None };
        match rule.kind {
            Kind::Count => compare(rule, count, whole),
            Kind::Rate => compare(rule, count / rule.window.as_secs_f64(), whole),
            Kind::Value => compare(rule, self.events.raw(), true),
            Kind::Streak => self.streak.map_or(nothing(Event::Unknown), |row| compare(rule, row, true)),
            Kind::Ratio => {
                let of = self.of.as_ref().map_or(0.0, |of| of.within(rule.window).0);
                if of > 0.0 && of >= rule.minimum {
                    compare(rule, count / of, true)
                } else {
                    nothing(if whole { Event::Clear } else { Event::Unknown })
                }
            }
            Kind::DropToZero => {
                let event = match self.events.within_before(rule.window) {
                    _ if count >= rule.clear => Event::Clear,
                    Some(before) if whole && count == 0.0 && before >= rule.minimum => Event::Crossed,
                    Some(_) => Event::Between,
                    None => Event::Unknown,
                };
                Finding { event, value: Some(count) }
            }
            Kind::Change(against) => {
                let then = self.events.ago(against.ago(rule.window), rule.window);
                match self.events.exactly_within(rule.window).zip(then) {
                    None => nothing(Event::Unknown),
                    Some((count, then)) if count.max(then) < rule.minimum => nothing(Event::Clear),
                    // Never by nothing: where there was none before, any is more than every multiple.
                    Some((count, then)) => {
                        compare(rule, if then > 0.0 { count / then } else { f64::INFINITY }, true)
                    }
                }
            }
        }
    }
}

/// A value against the thresholds. As long as the window was not watched for its whole length more may be in it than is
/// known: that suffices to cross a threshold upwards, and for nothing else.
fn compare(rule: &Rule, value: f64, whole: bool) -> Finding {
    let event = match rule.fire {
        Limit::Above(limit) if value > limit => Event::Crossed,
        _ if !whole => Event::Unknown,
        Limit::Below(limit) if value < limit => Event::Crossed,
        Limit::Above(_) if value <= rule.clear => Event::Clear,
        Limit::Below(_) if value >= rule.clear => Event::Clear,
        _ => Event::Between,
    };
    Finding { event, value: Some(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{defaults::tests::rule, rule::Against};

    /// A rule of that kind over ten seconds.
    fn over(kind: Kind, fire: Limit, clear: f64, minimum: f64) -> Rule {
        Rule { kind, fire, clear, minimum, window: Duration::from_secs(10), ..rule("FivetupleRefused") }
    }

    /// What the rule comes to after each second, of the totals of events and of all.
    fn told(rule: &Rule, figures: &[(f64, f64)]) -> Vec<Event> {
        let mut past = Past::new(rule, Duration::ZERO, 0.0, Some(0.0));
        let mut out = Vec::new();
        for (n, (events, of)) in figures.iter().enumerate() {
            past.push(Duration::from_secs(n as u64 + 1), *events, Some(*of));
            out.push(past.judge(rule).event);
        }
        out
    }

    #[test]
    fn thresholds_leave_a_band_between_them() {
        let rule = over(Kind::Count, Limit::Above(5.0), 2.0, 0.0);
        let mut figures = vec![(6.0, 0.0); 10];
        figures.push((10.0, 0.0));
        figures.extend([(10.0, 0.0); 10]);
        let told = told(&rule, &figures);
        assert_eq!(told[0], Event::Crossed, "before the window is whole");
        assert_eq!(told[10], Event::Between, "4 within the last 10 s");
        assert_eq!(told[20], Event::Clear);
    }

    #[test]
    fn too_few_are_no_ratio() {
        let rule = over(Kind::Ratio, Limit::Below(0.9), 0.95, 20.0);
        let mut figures = vec![(0.0, 19.0); 11];
        figures.push((1.0, 40.0));
        figures.extend([(1.0, 40.0); 11]);
        let told = told(&rule, &figures);
        assert_eq!((told[0], told[10], told[11]), (Event::Unknown, Event::Clear, Event::Crossed));
        assert_eq!(told[22], Event::Clear, "nothing comes any more");
    }

    #[test]
    fn a_drop_is_from_enough_to_nothing() {
        let rule = over(Kind::DropToZero, Limit::Below(1.0), 1.0, 5.0);
        let figures: Vec<_> = (1..=60_u32).map(|n| (f64::from(n.min(20)), 0.0)).collect();
        let all = told(&rule, &figures);
        assert_eq!(all[0], Event::Clear);
        assert_eq!(all[28], Event::Clear, "the last came 9 s ago");
        assert_eq!(all[30], Event::Crossed);
        assert_eq!(all[50], Event::Between, "the window before was silent, too");
        let quiet: Vec<_> = (1..=60_u32).map(|n| (f64::from(n.min(20) / 10), 0.0)).collect();
        assert!(!told(&rule, &quiet).contains(&Event::Crossed), "two in ten seconds may well be none");
    }

    #[test]
    fn a_change_is_told_once_both_windows_were_watched() {
        let rule = over(Kind::Change(Against::Previous), Limit::Above(3.0), 2.0, 10.0);
        let figures: Vec<_> = (1..=40_u32).map(|n| (f64::from(n + 9 * n.saturating_sub(25)), 0.0)).collect();
        let told = told(&rule, &figures);
        assert_eq!(told[15], Event::Unknown);
        assert_eq!(told[22], Event::Clear, "as many as before");
        assert!(told[29..34].contains(&Event::Crossed), "{told:?}");
    }

    #[test]
    fn a_success_breaks_the_row() {
        let rule = over(Kind::Streak, Limit::Above(2.0), 0.0, 0.0);
        let figures = [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0), (3.0, 4.0), (4.0, 5.0), (6.0, 7.0), (7.0, 9.0)];
        let want = [
            Event::Between,
            Event::Between,
            Event::Crossed,
            Event::Clear,
            Event::Between,
            Event::Crossed,
            Event::Clear,
        ];
        assert_eq!(told(&rule, &figures), want);
    }
}
