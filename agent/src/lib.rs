//! The daemon of `fivetuple`: it loads the kernel programs, reads what they counted and shows it.
//!
//! Reading order: [`cli`] (what can be asked), [`config`] (what it means), `run` (the daemon's life),
//! [`http`] (what it answers). [`preflight`] knows what this kernel and these interfaces allow.

pub mod aggregate;
pub mod api;
pub mod check;
pub mod cli;
pub mod config;
pub mod flows;
pub mod http;
pub mod link;
pub mod log;
pub mod preflight;
pub mod process;
pub mod source;
mod sys;
