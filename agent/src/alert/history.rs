//! What a counter has come to, kept as long as a rule looks back and as finely as it needs.

use super::rule::{Against, COARSE, Kind, Rule};
use std::{collections::VecDeque, time::Duration};

/// Totals at times, a step apart.
#[derive(Debug, Clone)]
struct Ring {
    step: Duration,
    keep: Duration,
    samples: VecDeque<(Duration, f64)>,
}

impl Ring {
    fn new(step: Duration, keep: Duration) -> Self {
        Self { step, keep, samples: VecDeque::new() }
    }

    fn push(&mut self, now: Duration, total: f64) {
        if self.samples.back().is_some_and(|(at, _)| now < *at + self.step) {
            return;
        }
        self.samples.push_back((now, total));
        // One at or before the horizon stays: what a window begins with.
        while self.samples.get(1).is_some_and(|(at, _)| *at + self.keep <= now) {
            self.samples.pop_front();
        }
    }

    /// The total at a time or at the last sample before it; whether the ring goes back that far.
    fn before(&self, at: Duration) -> Option<(f64, bool)> {
        let after = self.samples.partition_point(|(t, _)| *t <= at);
        match after.checked_sub(1) {
            Some(place) => Some((self.samples[place].1, true)),
            None => self.samples.front().map(|(_, total)| (*total, false)),
        }
    }

    /// The total at a time, between two samples by the straight line; none where the ring does not go back that far.
    fn at(&self, at: Duration, latest: (Duration, f64)) -> Option<f64> {
        let after = self.samples.partition_point(|(t, _)| *t <= at);
        let (from, low) = *self.samples.get(after.checked_sub(1)?)?;
        let (to, high) = self.samples.get(after).copied().unwrap_or(latest);
        let part = if to > from { (at - from).as_secs_f64() / (to - from).as_secs_f64() } else { 1.0 };
        Some(low + (high - low) * part.min(1.0))
    }
}

/// The past of one figure.
#[derive(Debug, Clone)]
pub struct History {
    raw: f64,
    /// What it would be if it had never been set back.
    total: f64,
    at: Duration,
    fine: Ring,
    coarse: Option<Ring>,
}

impl History {
    /// Begins with a figure.
    pub fn new(rule: &Rule, now: Duration, raw: f64) -> Self {
        let twice = matches!(rule.kind, Kind::DropToZero | Kind::Change(_));
        let fine = Ring::new(rule.step(), if twice { 2 * rule.window } else { rule.window });
        let coarse = match rule.kind {
            Kind::Change(against @ (Against::Yesterday | Against::LastWeek)) => {
                Some(Ring::new(COARSE, against.ago(rule.window) + rule.window))
            }
            _ => None,
        };
        let mut history = Self { raw, total: 0.0, at: now, fine, coarse };
        history.keep(now);
        history
    }

    /// Takes the figure of now. One that is smaller than before was set back to 0 in between.
    pub fn push(&mut self, now: Duration, raw: f64) {
        self.total += if raw < self.raw { raw } else { raw - self.raw };
        (self.raw, self.at) = (raw, now);
        self.keep(now);
    }

    fn keep(&mut self, now: Duration) {
        self.fine.push(now, self.total);
        if let Some(coarse) = &mut self.coarse {
            coarse.push(now, self.total);
        }
    }

    /// The figure as it was read last.
    pub fn raw(&self) -> f64 {
        self.raw
    }

    /// What came within the last `window`, and whether it was watched for all of it.
    pub fn within(&self, window: Duration) -> (f64, bool) {
        let begin = self.at.checked_sub(window).and_then(|at| self.fine.before(at));
        let begin = begin.or_else(|| self.fine.samples.front().map(|(_, total)| (*total, false)));
        begin.map_or((0.0, false), |(total, whole)| (self.total - total, whole))
    }

    /// The same to the moment, as far as a straight line between two samples is; none where that was not watched.
    pub fn exactly_within(&self, window: Duration) -> Option<f64> {
        let begin = self.fine.at(self.at.checked_sub(window)?, (self.at, self.total))?;
        Some(self.total - begin)
    }

    /// What came within the window before the last one; none where that was not watched.
    pub fn within_before(&self, window: Duration) -> Option<f64> {
        let total = |back| self.fine.before(self.at.checked_sub(back)?).filter(|(_, whole)| *whole);
        Some(total(window)?.0 - total(2 * window)?.0)
    }

    /// What came within the window that ended so long ago; none where that was not watched.
    pub fn ago(&self, ago: Duration, window: Duration) -> Option<f64> {
        let ring = self.coarse.as_ref().unwrap_or(&self.fine);
        let total = |back| ring.at(self.at.checked_sub(back)?, (self.at, self.total));
        Some(total(ago)? - total(ago + window)?)
    }

    /// Samples that are kept.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.fine.samples.len() + self.coarse.as_ref().map_or(0, |ring| ring.samples.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::defaults::tests::rule;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn history(kind: Kind, window: u64) -> History {
        let mut rule = rule("FivetupleRefused");
        (rule.kind, rule.window) = (kind, seconds(window));
        History::new(&rule, Duration::ZERO, 0.0)
    }

    #[test]
    fn a_window_slides_and_is_whole_once_it_was_watched() {
        let mut h = history(Kind::Count, 10);
        for n in 1..=30 {
            h.push(seconds(n), if n < 5 { 0.0 } else { 7.0 });
            let (count, whole) = h.within(seconds(10));
            assert_eq!((count, whole), (if (5..15).contains(&n) { 7.0 } else { 0.0 }, n >= 10), "{n}");
        }
        assert!(h.len() <= 13, "{}", h.len());
    }

    #[test]
    fn a_counter_that_was_set_back_goes_on_counting() {
        let mut h = history(Kind::Count, 10);
        h.push(seconds(1), 100.0);
        h.push(seconds(2), 3.0);
        h.push(seconds(3), 5.0);
        assert_eq!(h.within(seconds(10)).0, 105.0);
    }

    #[test]
    fn a_pause_loses_no_count() {
        let mut h = history(Kind::Count, 10);
        h.push(seconds(1), 1.0);
        h.push(seconds(600), 9.0);
        assert_eq!(h.within(seconds(10)), (8.0, true), "all that is known is when it was counted");
        h.push(seconds(610), 9.0);
        assert_eq!(h.within(seconds(10)), (0.0, true));
    }

    #[test]
    fn last_week_is_known_to_five_minutes_and_memory_has_an_end() {
        let mut h = history(Kind::Change(Against::LastWeek), 600);
        let week = 7 * 86_400;
        // One event a second, ten a second from the second week on.
        let total = |t: u64| if t <= week { t } else { week + 10 * (t - week) };
        for n in (1..week + 3_600).step_by(1) {
            h.push(seconds(n), total(n) as f64);
        }
        let then = h.ago(seconds(week), seconds(600)).unwrap();
        assert!((then - 600.0).abs() < 1e-6, "{then}");
        assert!((h.exactly_within(seconds(600)).unwrap() - 6_000.0).abs() < 1e-6);
        assert!((6_000.0..=6_100.0).contains(&h.within(seconds(600)).0), "a step longer at most");
        assert!(h.len() < 2_200, "{}", h.len());
        assert_eq!(history(Kind::Change(Against::LastWeek), 600).ago(seconds(week), seconds(600)), None);
    }
}
