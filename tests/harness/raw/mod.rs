//! Frames made by hand, and a port to send and hear them: for playing an endpoint that no kernel would be.
//!
//! Use addresses that the kernel on that wire does not own (it then answers nothing by itself), or keep it quiet with
//! [`crate::truth::Nft`].

pub(crate) mod checksum;
mod frame;
mod ipv6;
mod options;
mod port;

pub use frame::{Frame, IpPart, Vlan};
pub use ipv6::Extension;
pub use options::TcpOption;
pub use port::RawPort;
