//! The one way a test may wait: for a condition, with a deadline, by name.

use std::thread;
use std::time::{Duration, Instant};

/// What a condition says when asked: `bool`, `Option<T>` (the value awaited) or `Result<T, E>` (with the reason why not
/// yet, told when the deadline passes).
pub trait Answer {
    /// What the wait returns.
    type Value;
    /// The value, or why it is not there yet.
    fn answer(self) -> Result<Self::Value, String>;
}

impl Answer for bool {
    type Value = ();
    fn answer(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("it stayed false".to_owned()) }
    }
}

impl<T> Answer for Option<T> {
    type Value = T;
    fn answer(self) -> Result<T, String> {
        self.ok_or_else(|| "there was nothing".to_owned())
    }
}

impl<T, E: std::fmt::Display> Answer for Result<T, E> {
    type Value = T;
    fn answer(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

/// Asks until the answer is yes, at first every millisecond and then ever less often (at most every 50 ms).
///
/// # Panics
/// When `deadline` passes, naming `what` was awaited and the last answer.
#[track_caller]
pub fn eventually<A: Answer>(deadline: Duration, what: &str, mut ask: impl FnMut() -> A) -> A::Value {
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        match ask().answer() {
            Ok(value) => return value,
            Err(why) if started.elapsed() >= deadline => {
                panic!("waited {:.1} s in vain for {what}: {why}", started.elapsed().as_secs_f64())
            }
            Err(_) => thread::park_timeout(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
