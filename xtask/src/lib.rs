//! The half of the developer verbs that `agent/build.rs` links: how the kernel object is built.
//!
//! It depends on next to nothing, because every build of the agent waits for it. The verbs themselves are in the
//! binary, one file per verb; `main.rs` holds their table.

pub mod bpf;
pub mod sh;
