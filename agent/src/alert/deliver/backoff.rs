//! How long to wait after a failure: twice as long each time, and never the same for all.

use std::time::Duration;

/// The first pause.
const FIRST: Duration = Duration::from_millis(500);
/// The longest that is chosen by oneself: a receiver that is back shall not wait longer.
const LONGEST: Duration = Duration::from_secs(15);
/// The longest that a receiver may ask for.
const ASKED: Duration = Duration::from_secs(60);

/// Failures in a row.
#[derive(Debug, Clone, Copy, Default)]
pub struct Backoff(u32);

impl Backoff {
    /// Whether the last attempt failed.
    pub fn failed(self) -> bool {
        self.0 > 0
    }

    /// The pause after one more failure; `chance` is from 0 to 1, so that many agents do not come back as one. A receiver
    /// that names a pause of its own (Retry-After) gets it.
    pub fn next(&mut self, chance: f64, asked: Option<Duration>) -> Duration {
        let full = FIRST.saturating_mul(1 << self.0.min(10)).min(LONGEST);
        self.0 += 1;
        let pause = full.mul_f64(0.5 + chance / 2.0);
        asked.map_or(pause, |asked| pause.max(asked.min(ASKED)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_differ() {
        let mut backoff = Backoff::default();
        assert!(!backoff.failed());
        let pauses: Vec<_> = (0..40).map(|_| backoff.next(1.0, None).as_millis()).collect();
        assert_eq!(pauses[..6], [500, 1_000, 2_000, 4_000, 8_000, 15_000]);
        assert_eq!(pauses[39], 15_000);
        assert_eq!(backoff.next(0.0, None), LONGEST / 2);
        assert_eq!(backoff.next(0.0, Some(Duration::from_secs(20))), Duration::from_secs(20));
        assert_eq!(backoff.next(0.0, Some(Duration::from_secs(1 << 40))), ASKED);
    }
}
