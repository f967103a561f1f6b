//! The test rig: network namespaces, an impairment box of our own, TCP actors, frames made by hand, and the kernel's
//! own counters to compare with.
//!
//! Reading order: [`netns`] (a world that vanishes by itself), [`topology`] (client, gateway, server), [`impair`]
//! (what the network does to the packets, and the exact log of it), [`tcp`] and [`raw`] (who sends them), [`truth`]
//! (what the kernel counted), [`agent`] (the program under test), [`bpffs`] (where it
//! keeps what outlives it), [`parity`] (its programs against
//! its library), [`process`] (what one uses), [`cases`] (two incidents, with everybody who took part in them), [`demo`] (the same, played to be
//! watched), [`report`] (how what was found is told).
//!
//! Two rules hold everywhere. No test waits by the clock: [`eventually()`] waits for a condition with a deadline.
//! No test passes for want of root: every namespace panics with a sentence that says so. What a kernel or machine does not have
//! (bonds, a lock of our own) the test says and ends; `cargo xtask test --kernel …` has kernels that do.

pub mod agent;
pub mod bpffs;
pub mod cases;
pub mod command;
pub mod demo;
pub mod eventually;
pub mod hook;
pub mod impair;
pub mod netns;
pub mod packet_socket;
pub mod parity;
pub mod process;
pub mod raw;
pub mod report;
pub mod script;
pub mod tcp;
pub mod topology;
pub mod truth;

pub use bpffs::Bpffs;
pub use eventually::eventually;
pub use netns::NetNs;
pub use topology::{Gateway, Pair};
