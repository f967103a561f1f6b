//! The kernel object: package `agent-ebpf`, binary `probe`, compiled for BPF.
//!
//! That takes two things a stock Rust lacks: a `core` for the BPF target ([`toolchain`] finds a compiler that has one,
//! or its sources) and a linker that makes BPF out of LLVM bitcode ([`linker`]). `cargo xtask setup` installs both.
//! [`compile`] then runs a second cargo beside the one that builds the agent, and refuses an object in which a panic
//! is reachable ([`symbols`]) or a function has too many parameters ([`parameters`]). `agent/build.rs` calls [`embed::embed`] and nothing else.

pub mod compile;
pub mod embed;
pub mod linker;
pub mod nested;
pub mod parameters;
pub mod symbols;
pub mod toolchain;

/// Little-endian BPF. Big-endian hosts are not supported.
pub const TARGET: &str = "bpfel-unknown-none";
