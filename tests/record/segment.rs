//! A captured TCP packet, read for labelling only: nothing of fivetuple's own parser is used.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use harness::script::Timed;

/// TCP flags (RFC 9293, 3.1).
pub const FIN: u8 = 1;
/// Synchronise.
pub const SYN: u8 = 2;
/// Reset.
pub const RST: u8 = 4;
/// The acknowledgment counts.
pub const ACK: u8 = 16;

const ETHERNET: usize = 14;

/// The headers of one packet.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Its record's number in the capture, from 1.
    pub frame: u64,
    /// Nanoseconds since 1970.
    pub at: u64,
    /// Sender.
    pub from: SocketAddr,
    /// Receiver.
    pub to: SocketAddr,
    /// TCP flags.
    pub flags: u8,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Window as on the wire.
    pub window: u16,
    /// Payload bytes, by the IP length.
    pub len: u32,
    /// Bytes from the frame's start to the payload.
    pub headers: usize,
    /// Its headers without what routers change: the same wherever the packet was captured.
    pub identity: Vec<u8>,
}

impl Segment {
    /// Reads a frame; none if it is not TCP over IPv4 or IPv6.
    pub fn read(number: usize, Timed { at, frame }: &Timed) -> Option<Self> {
        let ip = frame.get(ETHERNET..)?;
        let (tcp, ip_length, [from, to]) = match ip.first()? >> 4 {
            4 if *ip.get(9)? == 6 => {
                let address = |at: usize| Some(IpAddr::from(Ipv4Addr::from(array::<4>(ip, at)?)));
                (usize::from(ip[0] & 15) * 4, usize::from(half(ip, 2)?), [address(12)?, address(16)?])
            }
            6 if *ip.get(6)? == 6 => {
                let address = |at: usize| Some(IpAddr::from(Ipv6Addr::from(array::<16>(ip, at)?)));
                (40, 40 + usize::from(half(ip, 4)?), [address(8)?, address(24)?])
            }
            _ => return None,
        };
        let header = ip.get(tcp..)?;
        let end = tcp + usize::from(header.get(12)? >> 4) * 4;
        let mut identity = ip.get(..end)?.to_vec();
        if from.is_ipv4() {
            // Time to live and header checksum.
            identity[8] = 0;
            identity[10..12].fill(0);
        } else {
            // Hop limit.
            identity[7] = 0;
        }
        Some(Self {
            frame: number as u64,
            at: *at,
            from: SocketAddr::new(from, half(header, 0)?),
            to: SocketAddr::new(to, half(header, 2)?),
            seq: u32::from_be_bytes(array(header, 4)?),
            ack: u32::from_be_bytes(array(header, 8)?),
            flags: header[13],
            window: half(header, 14)?,
            len: u32::try_from(ip_length.checked_sub(end)?).ok()?,
            headers: ETHERNET + end,
            identity,
        })
    }

    /// Has all of these flags?
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// A client's first word, not an answer to one.
    pub fn opens(&self) -> bool {
        self.has(SYN) && !self.has(ACK)
    }

    /// How much sequence space it takes.
    pub fn space(&self) -> u32 {
        self.len + u32::from(self.has(SYN)) + u32::from(self.has(FIN))
    }

    /// The number behind its last.
    pub fn end(&self) -> u32 {
        self.seq.wrapping_add(self.space())
    }
}

/// Is `a` before `b` (RFC 9293, 3.4)?
pub fn before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() < 0
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}
