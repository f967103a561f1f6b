//! TCP inside tunnels, for carriers that ask for it ([`Frame::tunnels`]); the kernel's programs do not.
//!
//! A tunnel is followed to the first TCP header, and no further than to that. What identifies a tunnel (VNI, key, TEID)
//! is no part of a flow: many number the two directions differently. Nor are the VLAN tags inside.

use super::{
    Frame,
    link::{IPV4, IPV6, MPLS, Start, be16, load, ppp_protocol},
};
use crate::health::Health;

/// Headers that are followed, tags and labels among them.
const MAX_LAYERS: u32 = 16;
/// Labels on one stack.
const MAX_LABELS: u32 = 8;
/// IPv6 and GTP-U extension headers in a row.
const MAX_EXTENSIONS: u32 = 6;
/// Where the last datagram can begin; the headers behind it are found up to twice as far.
const MAX_OFFSET: u32 = 0x7ff;

/// Transparent Ethernet bridging (RFC 7637, 3.2): an Ethernet header.
const ETHERNET: u16 = 0x6558;

/// From what a frame's link layer carries to the datagram that holds TCP, or as far as this can be followed.
pub(super) fn follow<F: Frame>(frame: &F, start: Start) -> Result<Start, Health> {
    let mut at = start;
    for _ in 0..MAX_LAYERS {
        let next = match at.ether_type {
            IPV4 | IPV6 => datagram(frame, at)?,
            MPLS | 0x8848 => mpls(frame, at.offset)?,
            ETHERNET => Some(tagged(frame, at.offset + 12)?),
            0x8100 | 0x88a8 | 0x9100 => Some(tagged(frame, at.offset + 2)?),
            // A PPPoE session (RFC 2516, 4).
            0x8864 => Some(ppp_protocol(frame, at.offset + 6)?),
            _ => None,
        };
        match next {
            Some(next) if next.offset > MAX_OFFSET => return Err(Health::Truncated),
            Some(next) => at = next,
            None => break,
        }
    }
    Ok(at)
}

/// An EtherType, and behind it what it says.
fn tagged<F: Frame>(frame: &F, offset: u32) -> Result<Start, Health> {
    Ok(Start { ether_type: be16(frame, offset)?, offset: offset + 2 })
}

/// A packet that says its version itself.
fn versioned<F: Frame>(frame: &F, offset: u32) -> Result<Option<Start>, Health> {
    let [first] = load(frame, offset)?;
    Ok(match first >> 4 {
        4 => Some(Start { ether_type: IPV4, offset }),
        6 => Some(Start { ether_type: IPV6, offset }),
        _ => None,
    })
}

/// What a datagram carries, if that is a tunnel.
fn datagram<F: Frame>(frame: &F, at: Start) -> Result<Option<Start>, Health> {
    let found = if at.ether_type == IPV4 { ipv4(frame, at.offset)? } else { ipv6(frame, at.offset)? };
    let Some((protocol, offset)) = found else { return Ok(None) };
    match protocol {
        4 => Ok(Some(Start { ether_type: IPV4, offset })),
        41 => Ok(Some(Start { ether_type: IPV6, offset })),
        47 => gre(frame, offset),
        17 => udp(frame, offset),
        // EtherIP (RFC 3378): two bytes, then Ethernet.
        97 => Ok(Some(Start { ether_type: ETHERNET, offset: offset + 2 })),
        // MPLS in IP (RFC 4023).
        137 => Ok(Some(Start { ether_type: MPLS, offset })),
        _ => Ok(None),
    }
}

/// Protocol and place of the payload; none for a fragment, whose payload is not whole.
fn ipv4<F: Frame>(frame: &F, offset: u32) -> Result<Option<(u8, u32)>, Health> {
    let h: [u8; 10] = load(frame, offset)?;
    if u16::from_be_bytes([h[6], h[7]]) & 0x3fff != 0 {
        return Ok(None);
    }
    Ok(Some((h[9], offset + ((h[0] & 0x0f) as u32) * 4)))
}

/// As [`ipv4`], behind hop-by-hop options, routing and destination options (RFC 2473, 4.1.1).
fn ipv6<F: Frame>(frame: &F, offset: u32) -> Result<Option<(u8, u32)>, Health> {
    let [mut next] = load(frame, offset + 6)?;
    let mut end = offset + 40;
    for _ in 0..MAX_EXTENSIONS {
        if !matches!(next, 0 | 43 | 60) {
            return Ok(Some((next, end)));
        }
        let [following, units] = load(frame, end)?;
        next = following;
        end += (units as u32 + 1) * 8;
    }
    Ok(None)
}

/// GRE (RFC 2784, RFC 2890), and as PPTP has it (RFC 2637).
fn gre<F: Frame>(frame: &F, offset: u32) -> Result<Option<Start>, Health> {
    let [flags, version, hi, lo] = load(frame, offset)?;
    let bit = |byte: u8, mask: u8| (byte & mask != 0) as u32;
    let options = bit(flags, 0x80) + bit(flags, 0x20) + bit(flags, 0x10) + bit(version, 0x80);
    let end = offset + 4 + 4 * options;
    // A source route (RFC 1701), which nobody sends.
    if flags & 0x40 != 0 {
        return Ok(None);
    }
    let ethernet = |offset| Ok(Some(Start { ether_type: ETHERNET, offset }));
    match (version & 0x07, u16::from_be_bytes([hi, lo])) {
        // ERSPAN: type I without a sequence number and a header, II and III with both (draft-foschiano-erspan).
        (0, 0x88be) => ethernet(if flags & 0x10 == 0 { end } else { end + 8 }),
        (0, 0x22eb) => {
            let [last] = load(frame, end + 11)?;
            ethernet(if last & 1 == 0 { end + 12 } else { end + 20 })
        }
        (0, ether_type) => Ok(Some(Start { ether_type, offset: end })),
        (1, 0x880b) => {
            let framed = load(frame, end)? == [0xff, 0x03];
            ppp_protocol(frame, if framed { end + 2 } else { end }).map(Some)
        }
        _ => Ok(None),
    }
}

/// A label stack (RFC 3032, 2.1); what is below it, nothing says but its first bits.
fn mpls<F: Frame>(frame: &F, offset: u32) -> Result<Option<Start>, Health> {
    let mut end = offset;
    for _ in 0..MAX_LABELS {
        let [_, _, label, _] = load(frame, end)?;
        end += 4;
        if label & 1 == 1 {
            // An Ethernet pseudowire, whose control word begins with zeroes (RFC 4448, 4.6).
            return Ok(Some(match versioned(frame, end)? {
                Some(ip) => ip,
                None if load(frame, end)? == [0, 0] => Start { ether_type: ETHERNET, offset: end + 4 },
                None => Start { ether_type: ETHERNET, offset: end },
            }));
        }
    }
    Ok(None)
}

/// What tunnels over UDP are told by: the port they are sent to, and what their header must say.
fn udp<F: Frame>(frame: &F, offset: u32) -> Result<Option<Start>, Health> {
    let port = be16(frame, offset + 2)?;
    let at = offset + 8;
    match port {
        // VXLAN (RFC 7348, 5), and Linux's port for it before there was a number: the I flag is set.
        4789 | 8472 => match load(frame, at)? {
            [flags] if flags & 0x08 != 0 => Ok(Some(Start { ether_type: ETHERNET, offset: at + 8 })),
            _ => Ok(None),
        },
        // Geneve (RFC 8926, 3.4): version 0, options in words of four bytes.
        6081 => match load(frame, at)? {
            [first, _, hi, lo] if first >> 6 == 0 => {
                let options = ((first & 0x3f) as u32) * 4;
                let ether_type = u16::from_be_bytes([hi, lo]);
                Ok(Some(Start { ether_type, offset: at + 8 + options }))
            }
            _ => Ok(None),
        },
        2152 => gtp(frame, at),
        _ => Ok(None),
    }
}

/// GTP-U (3GPP TS 29.281, 5.1): version 1, and the message that carries a user's packet.
fn gtp<F: Frame>(frame: &F, offset: u32) -> Result<Option<Start>, Health> {
    let [flags, message] = load(frame, offset)?;
    if flags & 0xf0 != 0x30 || message != 255 {
        return Ok(None);
    }
    if flags & 0x07 == 0 {
        return versioned(frame, offset + 8);
    }
    let mut end = offset + 12;
    let [mut next] = load(frame, offset + 11)?;
    if flags & 0x04 == 0 {
        next = 0;
    }
    for _ in 0..MAX_EXTENSIONS {
        if next == 0 {
            return versioned(frame, end);
        }
        let [words] = load(frame, end)?;
        if words == 0 {
            return Ok(None);
        }
        end += words as u32 * 4;
        [next] = load(frame, end - 1)?;
    }
    Ok(None)
}
