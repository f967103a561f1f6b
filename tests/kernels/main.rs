//! One kernel, in seconds: the agent finds it fit, loads and attaches, and counts what was sent.
//!
//! `cargo xtask test` asks the kernel it runs on, `cargo xtask test --kernel 5.10,6.1,6.12,7.2` those of Debian, each in a
//! virtual machine, and has `parity` run its written conversations there as well.

mod bonds;
mod fit;
mod neighbours;
mod release;
mod traffic;
mod verified;
