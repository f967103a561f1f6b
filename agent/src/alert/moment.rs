//! The two clocks: durations go by the monotonic one, and alerts are told the wall's time.

use std::time::{Duration, SystemTime};

/// How far the wall clock may drift against the monotonic one before that counts as a step.
const STEP: Duration = Duration::from_secs(1);

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic, since some start.
    pub mono: Duration,
    /// The wall's.
    pub wall: SystemTime,
}

/// Turns monotonic times into the wall's. They stay the same from one telling to the next, unless the wall clock is
/// stepped: then all are told by the new one, so that an alert has never begun in the future.
#[derive(Debug, Clone, Copy, Default)]
pub struct WallClock {
    /// Where the wall clock stood when the monotonic one was 0.
    zero: Option<SystemTime>,
}

impl WallClock {
    /// Looks at both clocks.
    pub fn read(&mut self, now: Moment) {
        let zero = now.wall.checked_sub(now.mono).unwrap_or(SystemTime::UNIX_EPOCH);
        let apart = |held: SystemTime| match zero.duration_since(held) {
            Ok(ahead) => ahead,
            Err(behind) => behind.duration(),
        };
        if self.zero.is_none_or(|held| apart(held) > STEP) {
            self.zero = Some(zero);
        }
    }

    /// The wall's time of a monotonic one.
    pub fn wall(&self, mono: Duration) -> SystemTime {
        self.zero.unwrap_or(SystemTime::UNIX_EPOCH) + mono
    }

    /// The monotonic time of a wall's; 0 for what was before that began.
    pub fn mono(&self, wall: SystemTime) -> Duration {
        wall.duration_since(self.zero.unwrap_or(SystemTime::UNIX_EPOCH)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono_ms: u64, wall_ms: u64) -> Moment {
        Moment {
            mono: Duration::from_millis(mono_ms),
            wall: SystemTime::UNIX_EPOCH + Duration::from_millis(wall_ms),
        }
    }

    #[test]
    fn a_slewed_clock_keeps_times_and_a_stepped_one_moves_them_all() {
        let mut clock = WallClock::default();
        clock.read(at(5_000, 1_000_000));
        let told = clock.wall(Duration::from_secs(3));
        assert_eq!(told, at(0, 998_000).wall);
        clock.read(at(6_000, 1_001_900));
        assert_eq!(clock.wall(Duration::from_secs(3)), told, "less than a step");
        clock.read(at(7_000, 600_000));
        assert_eq!(clock.wall(Duration::from_secs(3)), at(0, 596_000).wall, "stepped back");
        assert_eq!(clock.mono(at(0, 596_000).wall), Duration::from_secs(3));
        assert_eq!(clock.mono(SystemTime::UNIX_EPOCH), Duration::ZERO);
    }
}
