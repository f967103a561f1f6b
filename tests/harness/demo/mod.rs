//! The two cases, played for a person to watch: what happens as it happens, what `fivetuple` says of it by its own
//! commands, and at the end the truth beside what it said.
//!
//! [`campus_card`] and [`bank_g`] play one case each, in its world of [`crate::cases`].

pub mod bank_g;
pub mod campus_card;
mod compared;

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::agent::run_to_end;
use crate::netns::NetNs;
use crate::report::figure::Figure;

/// What a case came to.
#[derive(Debug)]
pub struct Played {
    /// The truth beside what `fivetuple` says, as a table.
    pub table: String,
    /// The same one by one.
    pub figures: Vec<Figure>,
    /// The picture, an SVG.
    pub picture: String,
    /// What `fivetuple` says otherwise than it was, a sentence each.
    pub wrong: Vec<String>,
}

/// Who hears what happens, line by line.
pub type Tell<'a> = &'a dyn Fn(&str);

/// How long the agent may take to say what is true. What it says then is what counts.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until it is so, at most for [`PATIENCE`].
fn settle(mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() && began.elapsed() < PATIENCE {
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// Runs one of the agent's commands as an operator would, tells what it prints, and returns the same as JSON.
#[track_caller]
fn command(namespace: &NetNs, arguments: &[&str], tell: Tell<'_>) -> Value {
    tell(&format!("\n$ fivetuple {}", arguments.join(" ")));
    tell(printed(namespace, arguments).trim_end());
    tell("");
    let text = printed(namespace, &[arguments, &["--output", "json"]].concat());
    serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{arguments:?} printed no JSON ({error}): {text}"))
}

#[track_caller]
fn printed(namespace: &NetNs, arguments: &[&str]) -> String {
    let output = run_to_end(namespace, arguments);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "fivetuple {}: {complained}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
