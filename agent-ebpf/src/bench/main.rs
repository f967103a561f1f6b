//! The benches' kernel object: a driver that makes packets out of one, and floor programs to measure against.
//!
//! On any other target this file is an empty main, so that tools that build everything do not trip over it.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod driver;
#[cfg(target_arch = "bpf")]
mod floor;
#[cfg(target_arch = "bpf")]
mod hooks;
#[cfg(target_arch = "bpf")]
mod packet;

#[cfg(not(target_arch = "bpf"))]
fn main() {}
