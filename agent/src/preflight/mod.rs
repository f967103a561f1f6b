//! What this kernel and these interfaces allow: facts first, then what follows from them.

mod interface;
mod kernel;

pub use interface::{Hook, Plan, describe_program, plan};
pub use kernel::{Kernel, running};

use crate::{config::Interface, link::Link};

/// How a finding bears on the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// As it should be.
    Ok,
    /// The agent works, less well than it could.
    Warn,
    /// The agent cannot work like this.
    Fail,
}

/// One fact, what follows from it, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How it bears on the agent.
    pub state: State,
    /// What it is about: `kernel`, `rights`, an interface.
    pub subject: String,
    /// What was found.
    pub text: String,
    /// What to do; empty where nothing is to be done.
    pub remedy: String,
}

impl Finding {
    fn ok(subject: &str, text: impl Into<String>) -> Self {
        Self { state: State::Ok, subject: subject.to_owned(), text: text.into(), remedy: String::new() }
    }

    fn warn(subject: &str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state: State::Warn, subject: subject.to_owned(), text: text.into(), remedy: remedy.into() }
    }

    fn fail(subject: &str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state: State::Fail, subject: subject.to_owned(), text: text.into(), remedy: remedy.into() }
    }
}

/// All that is known of the kernel and of the interfaces to watch.
pub fn findings(kernel: &Kernel, wanted: &[Interface], links: &[Link]) -> Vec<Finding> {
    let mut out = kernel.findings();
    for entry in wanted {
        out.extend(interface::findings(entry, links));
    }
    out
}
