//! The kernel programs and the library on the host are one: the same frames through both, and then every table, count
//! and record compared, byte for byte.
//!
//! [`packet`] is what goes in, [`rig`] the kernel's side and the comparison; then come the sequences: [`random`],
//! [`scripted`], [`captured`]. [`race`] has two processors at once in the kernel's tables, [`parser`] a second opinion
//! on frames, [`totals`] what must add up whatever comes.

mod captured;
mod packet;
mod parser;
mod race;
mod random;
mod rig;
mod scripted;
mod totals;
