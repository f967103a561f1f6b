//! What waits for a receiver, and the account of it.

use crate::alert::message::{Alert, Status};
use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// What became of the alerts for a receiver: `produced = sent + dropped + queued`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Alerts that it was to be told, reminders included.
    pub produced: u64,
    /// Those it took.
    pub sent: u64,
    /// Those it refused, and those that had to go for newer ones.
    pub dropped: u64,
    /// Those that wait, or are being sent.
    pub queued: u64,
    /// Attempts that failed and were, or will be, made again.
    pub failures: u64,
}

/// A bounded queue.
#[derive(Debug)]
pub struct Queue {
    room: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Alert>,
    /// So many of the first ones are being sent.
    in_flight: usize,
    accounts: Accounts,
    closed: bool,
}

impl Queue {
    /// With room for so many.
    pub fn new(room: usize) -> Self {
        Self { room, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Goes on with what waits in another and its account, and closes that one.
    pub fn after(old: &Self) -> Self {
        let waiting = old.state().waiting.clone();
        let left = old.close() as u64;
        let mut accounts = old.accounts();
        accounts.dropped -= left;
        Self {
            room: old.room,
            state: Mutex::new(State { waiting, accounts, ..State::default() }),
            changed: Condvar::new(),
        }
    }

    /// Adds one. Where there is no room the oldest that is not being sent goes.
    pub fn push(&self, alert: Alert) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        state.accounts.produced += 1;
        if state.waiting.len() == self.room {
            let oldest = state.in_flight;
            // With all of them being sent it is the new one.
            state.accounts.dropped += 1;
            if state.waiting.remove(oldest).is_none() {
                return;
            }
        }
        state.waiting.push_back(alert);
        drop(state);
        self.changed.notify_all();
    }

    /// Adds one that fires still, unless something of it waits already, or there is no room.
    pub fn remind(&self, alert: Alert) {
        let waits = {
            let state = self.state();
            state.waiting.len() == self.room
                || state.waiting.iter().any(|waiting| waiting.fingerprint == alert.fingerprint)
        };
        if !waits {
            self.push(alert);
        }
    }

    /// The next ones to send, once there are any; none when the queue is closed.
    pub fn next(&self, most: usize) -> Option<Vec<Alert>> {
        let state = self.state();
        let waits = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let mut state = self.changed.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return None;
        }
        state.in_flight = most.min(state.waiting.len());
        Some(state.waiting.iter().take(state.in_flight).cloned().collect())
    }

    /// The first so many were taken.
    pub fn sent(&self, count: usize) {
        self.done(count, |accounts| &mut accounts.sent);
    }

    /// The first so many will never be taken.
    pub fn refused(&self, count: usize) {
        self.done(count, |accounts| &mut accounts.dropped);
    }

    fn done(&self, count: usize, to: impl Fn(&mut Accounts) -> &mut u64) {
        let mut state = self.state();
        // A queue that was closed meanwhile has accounted for them.
        let count = count.min(state.waiting.len());
        state.waiting.drain(..count);
        state.in_flight = 0;
        *to(&mut state.accounts) += count as u64;
        drop(state);
        self.changed.notify_all();
    }

    /// An attempt failed; what it was to send waits again.
    pub fn failed(&self) {
        let mut state = self.state();
        state.in_flight = 0;
        state.accounts.failures += 1;
    }

    /// Lets some time pass, unless the queue is closed.
    pub fn wait(&self, time: Duration) {
        let state = self.state();
        let _ = self.changed.wait_timeout_while(state, time, |state| !state.closed);
    }

    /// Drops what waits and ends whoever takes from it; how many that were.
    pub fn close(&self) -> usize {
        let mut state = self.state();
        let left = state.waiting.len();
        state.waiting.clear();
        state.accounts.dropped += left as u64;
        state.closed = true;
        drop(state);
        self.changed.notify_all();
        left
    }

    /// Waits until nothing waits any more, until the deadline; how many are left.
    pub fn drain(&self, deadline: Instant) -> usize {
        let state = self.state();
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(state, left, |state| !state.waiting.is_empty());
        waited.unwrap_or_else(PoisonError::into_inner).0.waiting.len()
    }

    /// What became of all.
    pub fn accounts(&self) -> Accounts {
        let state = self.state();
        Accounts { queued: state.waiting.len() as u64, ..state.accounts }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Alert {
    /// As it is told now: what fires has no end.
    pub fn is_firing(&self) -> bool {
        self.status == Status::Firing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::message::tests::alert;

    fn names(alerts: &[Alert]) -> Vec<&str> {
        alerts.iter().map(|alert| alert.label("svc")).collect()
    }

    #[track_caller]
    fn balanced(queue: &Queue) -> Accounts {
        let a = queue.accounts();
        assert_eq!(a.produced, a.sent + a.dropped + a.queued, "{a:?}");
        a
    }

    #[test]
    fn the_oldest_that_is_not_being_sent_goes_for_the_newest() {
        let queue = Queue::new(3);
        ["a", "b", "c"].iter().for_each(|svc| queue.push(alert(svc)));
        assert_eq!(names(&queue.next(1).unwrap()), ["a"]);
        queue.push(alert("d"));
        assert_eq!(balanced(&queue), Accounts { produced: 4, dropped: 1, queued: 3, ..Accounts::default() });
        queue.failed();
        let next = queue.next(9).unwrap();
        assert_eq!(names(&next), ["a", "c", "d"], "what failed comes again, first");
        queue.push(alert("e"));
        assert_eq!(balanced(&queue).dropped, 2, "all are being sent: the new one goes");
        queue.sent(next.len());
        let told = Accounts { produced: 5, sent: 3, dropped: 2, queued: 0, failures: 1 };
        assert_eq!(balanced(&queue), told);
    }

    #[test]
    fn a_reminder_waits_once() {
        let queue = Queue::new(2);
        for _ in 0..9 {
            queue.remind(alert("a"));
            queue.remind(alert("b"));
            queue.remind(alert("c"));
        }
        assert_eq!(balanced(&queue), Accounts { produced: 2, queued: 2, ..Accounts::default() });
    }

    #[test]
    fn one_that_comes_after_another_goes_on_with_its_account() {
        let old = Queue::new(5);
        ["a", "b", "c"].iter().for_each(|svc| old.push(alert(svc)));
        old.next(1);
        old.sent(1);
        old.next(1);
        let new = Queue::after(&old);
        old.sent(1);
        assert_eq!(old.next(1), None);
        assert_eq!(balanced(&new), Accounts { produced: 3, sent: 1, queued: 2, ..Accounts::default() });
        assert_eq!(names(&new.next(9).unwrap()), ["b", "c"]);
    }

    #[test]
    fn what_waits_for_a_receiver_that_goes_is_dropped() {
        let queue = Queue::new(5);
        ["a", "b"].iter().for_each(|svc| queue.push(alert(svc)));
        let in_flight = queue.next(1).unwrap();
        assert_eq!(queue.close(), 2);
        queue.sent(in_flight.len());
        queue.push(alert("c"));
        assert_eq!(balanced(&queue), Accounts { produced: 2, dropped: 2, ..Accounts::default() });
        assert_eq!(queue.next(1), None);
    }
}
