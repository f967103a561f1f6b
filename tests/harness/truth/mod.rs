//! Witnesses that are not ours: what the kernel counted, what nftables counted, what tcpdump saw.

mod capture;
mod counters;
mod nft;

pub use capture::Capture;
pub use counters::Counters;
pub use nft::Nft;
