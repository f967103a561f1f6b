//! One frame as a rule sees it. Parsed by etherparse, not by the code under test.

use std::net::{IpAddr, SocketAddr};

use etherparse::{LaxNetSlice, LaxSlicedPacket, TcpOptionElement, TcpSlice, TransportSlice};

use super::Direction;

/// The bits of the TCP flags octet.
pub mod flags {
    /// No more data from this side.
    pub const FIN: u8 = 1;
    /// Start of a half.
    pub const SYN: u8 = 2;
    /// The connection is void.
    pub const RST: u8 = 4;
    /// Hand it to the application now.
    pub const PSH: u8 = 8;
    /// The acknowledgment number counts.
    pub const ACK: u8 = 16;
    /// The urgent pointer counts.
    pub const URG: u8 = 32;
    /// Congestion was seen.
    pub const ECE: u8 = 64;
    /// The window was reduced.
    pub const CWR: u8 = 128;
}

/// What the TCP header and the IP header before it say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpFacts {
    /// Who sent it.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
    /// The sequence number.
    pub seq: u32,
    /// The acknowledgment number.
    pub ack: u32,
    /// The flags octet; see [`flags`].
    pub flags: u8,
    /// The window as it is in the header, not scaled.
    pub window: u16,
    /// Bytes of payload.
    pub payload: u32,
    /// The IPv4 identification; IPv6 has none.
    pub ip_id: Option<u16>,
    /// The time to live or hop limit.
    pub ttl: u8,
    /// The timestamps option: value and echo.
    pub timestamps: Option<(u32, u32)>,
    /// The SACK blocks, first to last.
    pub sack: Vec<(u32, u32)>,
}

impl TcpFacts {
    /// Whether all of these flags are set.
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// The sequence space it carries: payload, SYN and FIN.
    pub fn length(&self) -> u32 {
        self.payload + u32::from(self.has(flags::SYN)) + u32::from(self.has(flags::FIN))
    }

    /// The sequence number after it.
    pub fn end(&self) -> u32 {
        self.seq.wrapping_add(self.length())
    }

    /// Reads a frame; none when it is not TCP or cut short.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let packet = LaxSlicedPacket::from_ethernet(frame).ok()?;
        let Some(TransportSlice::Tcp(tcp)) = packet.transport else { return None };
        let (source, destination, ip_id, ttl): (IpAddr, IpAddr, _, _) = match packet.net? {
            LaxNetSlice::Ipv4(ip) => {
                let ip = ip.header();
                (ip.source_addr().into(), ip.destination_addr().into(), Some(ip.identification()), ip.ttl())
            }
            LaxNetSlice::Ipv6(ip) => {
                let ip = ip.header();
                (ip.source_addr().into(), ip.destination_addr().into(), None, ip.hop_limit())
            }
            LaxNetSlice::Arp(_) => return None,
        };
        let mut facts = Self {
            source: SocketAddr::new(source, tcp.source_port()),
            destination: SocketAddr::new(destination, tcp.destination_port()),
            seq: tcp.sequence_number(),
            ack: tcp.acknowledgment_number(),
            flags: tcp.slice()[13],
            window: tcp.window_size(),
            payload: u32::try_from(tcp.payload().len()).expect("a frame is shorter than 4 GiB"),
            ip_id,
            ttl,
            timestamps: None,
            sack: Vec::new(),
        };
        facts.read_options(&tcp);
        Some(facts)
    }

    fn read_options(&mut self, tcp: &TcpSlice) {
        for option in tcp.options_iterator().flatten() {
            match option {
                TcpOptionElement::Timestamp(value, echo) => self.timestamps = Some((value, echo)),
                TcpOptionElement::SelectiveAcknowledgement(first, rest) => {
                    self.sack = std::iter::once(first).chain(rest.into_iter().flatten()).collect();
                }
                _ => {}
            }
        }
    }
}

/// One frame on its way through the box.
#[derive(Clone, Debug)]
pub struct Packet<'a> {
    /// Its place among all frames that reached the box, from 0.
    pub index: u64,
    /// Which way it goes.
    pub direction: Direction,
    /// Its place among the TCP segments with payload that came this way, from 1; re-sent ones count. 0 without payload.
    pub data: u32,
    /// The headers, when it is TCP.
    pub tcp: Option<&'a TcpFacts>,
    /// All of it.
    pub frame: &'a [u8],
}

impl Packet<'_> {
    /// Whether it is TCP with all of these flags.
    pub fn has(&self, flags: u8) -> bool {
        self.tcp.is_some_and(|tcp| tcp.has(flags))
    }
}
