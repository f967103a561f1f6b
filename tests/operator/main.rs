//! What an operator relies on: the real agent on a forwarding gateway counts exactly what happened, says honestly why it
//! cannot start, and leaves nothing behind. What is true comes from the kernels at both ends, from the frames that a
//! test played by hand, or from the box that injected them; never from the agent's own code.

mod alerts;
mod bad_input;
mod connection_log;
mod flood;
mod foreign;
mod full;
mod hand;
mod interfaces;
mod legs;
mod life;
mod memory;
mod mixin;
mod neighbours;
mod news;
mod older;
mod patterns;
mod pins;
mod private;
mod prometheus;
mod refused;
mod reloads;
mod resets;
mod reuse;
mod ring;
mod scans;
mod service;
mod shown;
mod watch;
