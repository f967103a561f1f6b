//! The real agent on a forwarding gateway, one test per phenomenon. The points `outside` (to the client) and `inside` (to
//! the server) must each count exactly what happened, as somebody else says: the test's own script, the impairment
//! box's log, the peers' kernels, nftables.

mod clean;
mod frames;
mod handshake;
mod loss;
mod mtu;
mod order;
mod played;
mod repeats;
mod requests;
mod round_trips;
mod side_effects;
mod started_late;
mod steering;
mod vlans;
mod watch;
mod windows;
mod witness;
