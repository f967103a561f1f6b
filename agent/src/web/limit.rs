//! How many requests are answered: a token bucket, as the exporter toolkit has it.

use std::time::{Duration, Instant};

/// Requests that are let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Time between two requests in the long run; above 0.
    pub interval: Duration,
    /// Requests that may come at once; above 0.
    pub burst: u32,
}

/// The bucket: full at the start, a token more each interval.
#[derive(Debug)]
pub struct Bucket {
    rate: Rate,
    /// Tokens in the bucket, and when it had so many.
    tokens: u32,
    at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, tokens: rate.burst, at: now }
    }

    /// What it was made for.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes a token, where there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let interval = self.rate.interval.as_nanos().max(1);
        let earned = now.saturating_duration_since(self.at).as_nanos() / interval;
        let room = self.rate.burst - self.tokens;
        if earned >= u128::from(room) {
            (self.tokens, self.at) = (self.rate.burst, now);
        } else if let Ok(earned) = u32::try_from(earned) {
            self.tokens += earned;
            self.at += self.rate.interval * earned;
        }
        let taken = self.tokens.checked_sub(1);
        self.tokens = taken.unwrap_or(0);
        taken.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_each_interval() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut bucket = Bucket::new(Rate { interval: Duration::from_millis(100), burst: 3 }, start);
        let taken = |bucket: &mut Bucket, ms| (0..5).filter(|_| bucket.take(at(ms))).count();
        assert_eq!(taken(&mut bucket, 0), 3);
        assert_eq!(taken(&mut bucket, 99), 0);
        assert_eq!(taken(&mut bucket, 150), 1);
        assert_eq!(taken(&mut bucket, 199), 0, "the half interval before is kept, and is no whole one");
        assert_eq!(taken(&mut bucket, 200), 1);
        assert_eq!(taken(&mut bucket, 3_600_000), 3, "a full bucket overflows");
    }

    #[test]
    fn time_that_goes_back_gives_nothing() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut bucket = Bucket::new(Rate { interval: Duration::from_nanos(1), burst: 1 }, start);
        assert!(bucket.take(start));
        assert!(!bucket.take(start - Duration::from_secs(5)));
    }
}
