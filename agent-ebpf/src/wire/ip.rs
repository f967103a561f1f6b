//! IPv4 with options and fragments (RFC 791), IPv6 with a bounded chain of extension headers (RFC 8200).

use super::{
    Addr, Frame, Segment,
    eth::{Datagram, Network},
    settled,
};
use crate::health::Health;

/// Longest chain of IPv6 extension headers that is followed; longer ones are [`Health::Ipv6Extensions`].
pub const MAX_EXTENSIONS: u32 = 6;

/// Most bytes of IPv6 header and extensions.
const MAX_EXTENSIONS_LEN: u32 = 2_048;

pub(crate) const TCP: u8 = 6;

/// Where the TCP segment stands in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where the TCP header begins, in bytes from the start of the frame.
    pub offset: u32,
    /// Bytes from the TCP header to the end of the packet, by the IP length.
    pub len: u32,
    /// Bytes of IP header and extensions.
    pub ip_header_len: u32,
}

impl Place {
    #[inline(always)]
    fn new(offset: u32, header_len: u32, total: u32, cursor: &mut u32) -> Self {
        Self {
            offset: settled(cursor, offset + header_len, 0xfff),
            len: settled(cursor, total - header_len, u32::MAX),
            ip_header_len: settled(cursor, header_len, 0xfff),
        }
    }
}

/// Reads the IP header of a packet that holds an unfragmented TCP segment.
#[inline(always)]
pub fn parse<F: Frame>(frame: &F, at: &Datagram, s: &mut Segment) -> Result<Place, Health> {
    match at.network {
        Network::Ipv4 => ipv4(frame, at.offset, s),
        Network::Ipv6 => ipv6(frame, at.offset, s),
    }
}

#[inline(always)]
fn ipv4<F: Frame>(frame: &F, offset: u32, s: &mut Segment) -> Result<Place, Health> {
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
    let total = match u16::from_be_bytes([h[2], h[3]]) as u32 {
        // A super-packet of 64 KiB or more (BIG TCP), or one captured before segmentation offload.
        0 => frame.wire_len().saturating_sub(offset),
        n => n,
    };
    if !frame.holds(offset + total) || total < header_len + 20 {
        return Err(Health::BadIpLength);
    }
    s.src = Addr::v4([h[12], h[13], h[14], h[15]]);
    s.dst = Addr::v4([h[16], h[17], h[18], h[19]]);
    s.v6 = false;
    s.ip_id = u16::from_be_bytes([h[4], h[5]]);
    s.ttl = h[8];
    Ok(Place::new(offset, header_len, total, &mut s.cursor))
}

#[inline(always)]
fn ipv6<F: Frame>(frame: &F, offset: u32, s: &mut Segment) -> Result<Place, Health> {
    let Some(h) = frame.load::<8>(offset) else {
        return Err(Health::Truncated);
    };
    if h[0] >> 4 != 6 {
        return Err(Health::BadIpHeader);
    }
    let (Some(src), Some(dst)) = (frame.load::<16>(offset + 8), frame.load::<16>(offset + 24)) else {
        return Err(Health::Truncated);
    };
    s.src = Addr::v6(src);
    s.dst = Addr::v6(dst);
    s.v6 = true;
    s.ip_id = 0;
    s.ttl = h[7];
    let total = match u16::from_be_bytes([h[4], h[5]]) as u32 {
        // A jumbogram (RFC 2675), which Linux uses for super-packets of 64 KiB or more.
        0 => frame.wire_len().saturating_sub(offset),
        n => n + 40,
    };
    if !frame.holds(offset + total) {
        return Err(Health::BadIpLength);
    }
    let mut next = h[6];
    let mut header_len = 40;
    for _ in 0..=MAX_EXTENSIONS {
        if next == TCP {
            if total < header_len + 20 {
                return Err(Health::BadIpLength);
            }
            return Ok(Place::new(offset, header_len, total, &mut s.cursor));
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
        if header_len > MAX_EXTENSIONS_LEN {
            return Err(Health::Ipv6Extensions);
        }
        header_len = settled(&mut s.cursor, header_len, 0xfff);
    }
    Err(Health::Ipv6Extensions)
}
