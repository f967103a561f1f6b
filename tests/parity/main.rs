//! The kernel programs and the library on the host are one: the same frames through both, and then every table, count
//! and record compared, byte for byte.
//!
//! The sequences are [`random`], [`scripted`] and [`captured`]; [`harness::parity`] compares. [`race`] has two processors at
//! once on one flow, [`held`] one that another does not let go, [`stress`] both in full tables with the daemon at work there, [`parser`] a second opinion on frames,
//! [`totals`] what must add up whatever comes.

mod captured;
mod held;
mod parser;
mod race;
mod random;
mod scripted;
mod stress;
mod totals;
