//! The daemon of `fivetuple`: it loads the kernel programs, reads what they counted and shows it.
//!
//! Reading order: [`cli`] (what can be asked), [`config`] (what it means), [`run`] (the daemon's life),
//! [`monitor`] (what it watches), [`source`] (how the kernel is read), [`aggregate`] (how that is shown),
//! [`http`] (what it answers), [`web`] (to whom). [`preflight`] knows what this kernel and these interfaces allow,
//! [`pins`] what outlives an agent.

pub mod aggregate;
pub mod alert;
pub mod api;
pub mod check;
pub mod cli;
pub mod client;
pub mod config;
pub mod connection;
pub mod connection_log;
pub mod detach;
pub mod explain;
pub mod flows;
pub mod http;
pub mod link;
pub mod locate;
pub mod log;
pub mod monitor;
mod netlink;
pub mod notify;
pub mod pins;
pub mod preflight;
pub mod probe;
pub mod process;
pub mod replay;
pub mod reuse;
pub mod rights;
pub mod run;
pub mod source;
mod stamp;
pub mod sys;
pub mod table;
pub mod web;
pub mod why;
