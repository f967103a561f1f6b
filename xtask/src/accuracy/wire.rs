//! The bits of a TCP header (RFC 9293, 3.1).

/// No more data from the sender.
pub const FIN: u16 = 1;
/// Synchronise sequence numbers.
pub const SYN: u16 = 2;
/// Reset the connection.
pub const RST: u16 = 4;
/// The acknowledgment field counts.
pub const ACK: u16 = 16;
