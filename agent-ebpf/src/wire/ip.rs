//! IPv4 with options and fragments (RFC 791), IPv6 with a bounded chain of extension headers (RFC 8200).

use super::{
    Addr, Frame,
    eth::{Link, Network},
};
use crate::health::Health;

/// Longest chain of IPv6 extension headers that is followed; longer ones are [`Health::Ipv6Extensions`].
pub const MAX_EXTENSIONS: u32 = 6;

const TCP: u8 = 6;

/// The network layer of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Sender.
    pub src: Addr,
    /// Receiver.
    pub dst: Addr,
    /// Whether it is IPv6.
    pub v6: bool,
    /// IPv4 identification, 0 for IPv6.
    pub id: u16,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Where the TCP header begins, in bytes from the start of the frame.
    pub tcp_offset: u32,
    /// Bytes from the TCP header to the end of the packet, by the IP length.
    pub tcp_len: u32,
    /// Bytes of IP header and extensions.
    pub header_len: u32,
}

/// Reads the IP header of a packet that holds an unfragmented TCP segment.
#[inline(always)]
pub fn parse<F: Frame>(frame: &F, link: &Link) -> Result<Packet, Health> {
    match link.network {
        Network::Ipv4 => ipv4(frame, link.offset),
        Network::Ipv6 => ipv6(frame, link.offset),
    }
}

#[inline(always)]
fn ipv4<F: Frame>(frame: &F, offset: u32) -> Result<Packet, Health> {
    let Some(h) = frame.load::<20>(offset) else {
        return Err(Health::Truncated);
    };
    let header_len = ((h[0] & 0x0f) as u32) * 4;
    if h[0] >> 4 != 4 || header_len < 20 {
        return Err(Health::BadIpHeader);
    }
    if h[9] != TCP {
        return Err(Health::NotTcp);
    }
    // Offset or more-fragments: only the first fragment has a TCP header, and none has a judgeable length.
    if u16::from_be_bytes([h[6], h[7]]) & 0x3fff != 0 {
        return Err(Health::Fragment);
    }
    let on_wire = frame.wire_len().saturating_sub(offset);
    let total = match u16::from_be_bytes([h[2], h[3]]) as u32 {
        // A super-packet of 64 KiB or more (BIG TCP), or one captured before segmentation offload.
        0 => on_wire,
        n => n,
    };
    if total > on_wire || total < header_len + 20 {
        return Err(Health::BadIpLength);
    }
    Ok(Packet {
        src: Addr::v4([h[12], h[13], h[14], h[15]]),
        dst: Addr::v4([h[16], h[17], h[18], h[19]]),
        v6: false,
        id: u16::from_be_bytes([h[4], h[5]]),
        ttl: h[8],
        tcp_offset: offset + header_len,
        tcp_len: total - header_len,
        header_len,
    })
}

#[inline(always)]
fn ipv6<F: Frame>(frame: &F, offset: u32) -> Result<Packet, Health> {
    let Some(h) = frame.load::<8>(offset) else {
        return Err(Health::Truncated);
    };
    if h[0] >> 4 != 6 {
        return Err(Health::BadIpHeader);
    }
    let (Some(src), Some(dst)) = (frame.load::<16>(offset + 8), frame.load::<16>(offset + 24)) else {
        return Err(Health::Truncated);
    };
    let on_wire = frame.wire_len().saturating_sub(offset);
    let total = match u16::from_be_bytes([h[4], h[5]]) as u32 {
        // A jumbogram (RFC 2675), which Linux uses for super-packets of 64 KiB or more.
        0 => on_wire,
        n => n + 40,
    };
    if total > on_wire {
        return Err(Health::BadIpLength);
    }
    let mut next = h[6];
    let mut header_len = 40;
    for _ in 0..=MAX_EXTENSIONS {
        if next == TCP {
            if total < header_len + 20 {
                return Err(Health::BadIpLength);
            }
            return Ok(Packet {
                src: Addr::v6(src),
                dst: Addr::v6(dst),
                v6: true,
                id: 0,
                ttl: h[7],
                tcp_offset: offset + header_len,
                tcp_len: total - header_len,
                header_len,
            });
        }
        // Hop-by-hop, routing, destination options, fragment, authentication; anything else is no TCP.
        if next != 0 && next != 43 && next != 60 && next != 44 && next != 51 {
            return Err(Health::NotTcp);
        }
        if header_len + 8 > total {
            return Err(Health::BadIpLength);
        }
        let Some(e) = frame.load::<8>(offset + header_len) else {
            return Err(Health::Truncated);
        };
        header_len += match next {
            44 => {
                // Offset or more-fragments set; an atomic fragment (RFC 6946) has neither and is whole.
                if u16::from_be_bytes([e[2], e[3]]) & 0xfff9 != 0 {
                    return Err(Health::Fragment);
                }
                8
            }
            51 => (e[1] as u32 + 2) * 4,
            _ => (e[1] as u32 + 1) * 8,
        };
        next = e[0];
    }
    Err(Health::Ipv6Extensions)
}
