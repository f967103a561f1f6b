//! `fivetuple replay`: the same analysis over captures, with the kernel programs' own code.
//!
//! [`file`] reads captures, packet by packet.

pub mod file;
