//! One Ethernet frame with TCP in it, every field as the test says and every checksum right.

use std::net::{IpAddr, SocketAddr};

use super::checksum::{checksum, pseudo_header};
use super::ipv6::{self, Extension};
use super::options::{self, TcpOption};

/// One VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// 0x8100 for 802.1Q, 0x88a8 for 802.1ad.
    pub protocol: u16,
    /// Priority, drop eligibility and VLAN number.
    pub tag: u16,
}

/// Which part of a fragmented IPv4 packet this is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IpPart {
    /// Where it begins, in 8-byte units.
    pub offset: u16,
    /// Whether more follow.
    pub more: bool,
}

/// A frame under construction. The fields are open: what has no method of its own is set directly.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Hardware addresses: from and to.
    pub macs: ([u8; 6], [u8; 6]),
    /// VLAN tags, outermost first.
    pub vlans: Vec<Vlan>,
    /// From where.
    pub source: SocketAddr,
    /// To where.
    pub destination: SocketAddr,
    /// IPv4 identification.
    pub ip_id: u16,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// IPv4: do not fragment.
    pub dont_fragment: bool,
    /// IPv4 options, a multiple of four bytes.
    pub ip_options: Vec<u8>,
    /// IPv4: which fragment this is.
    pub ip_part: IpPart,
    /// IPv6 extension headers.
    pub extensions: Vec<Extension>,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// The flags octet; see [`crate::impair::flags`].
    pub flags: u8,
    /// The window, not scaled.
    pub window: u16,
    /// TCP options.
    pub options: Vec<TcpOption>,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A segment with no flags, no options and no payload.
    pub fn new(source: impl Into<SocketAddr>, destination: impl Into<SocketAddr>) -> Self {
        Self {
            macs: ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]),
            vlans: Vec::new(),
            source: source.into(),
            destination: destination.into(),
            ip_id: 0,
            ttl: 64,
            dont_fragment: true,
            ip_options: Vec::new(),
            ip_part: IpPart::default(),
            extensions: Vec::new(),
            seq: 0,
            ack: 0,
            flags: 0,
            window: 65535,
            options: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// Sets the hardware addresses.
    pub fn macs(mut self, from: [u8; 6], to: [u8; 6]) -> Self {
        self.macs = (from, to);
        self
    }

    /// Adds a tag inside the ones already there.
    pub fn vlan(mut self, protocol: u16, tag: u16) -> Self {
        self.vlans.push(Vlan { protocol, tag });
        self
    }

    /// Sets the flags.
    pub fn flags(mut self, flags: u8) -> Self {
        self.flags = flags;
        self
    }

    /// Sets the sequence number.
    pub fn seq(mut self, seq: u32) -> Self {
        self.seq = seq;
        self
    }

    /// Sets the acknowledgment number; the ACK flag is separate.
    pub fn ack(mut self, ack: u32) -> Self {
        self.ack = ack;
        self
    }

    /// Sets the window.
    pub fn window(mut self, window: u16) -> Self {
        self.window = window;
        self
    }

    /// Adds a TCP option.
    pub fn option(mut self, option: TcpOption) -> Self {
        self.options.push(option);
        self
    }

    /// Sets the payload.
    pub fn payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// Sets the IPv4 identification.
    pub fn ip_id(mut self, id: u16) -> Self {
        self.ip_id = id;
        self
    }

    /// Sets the time to live or hop limit.
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// Adds an IPv6 extension header.
    pub fn extension(mut self, extension: Extension) -> Self {
        self.extensions.push(extension);
        self
    }

    /// The bytes.
    pub fn build(&self) -> Vec<u8> {
        self.with_ip_payload(&self.segment(), self.ip_part)
    }

    /// The same packet in fragments of at most `size` bytes of IP payload (a multiple of eight): IPv4 by its header,
    /// IPv6 by a fragment header with `ip_id` as its identification.
    pub fn fragments(&self, size: usize) -> Vec<Vec<u8>> {
        assert!(size > 0 && size.is_multiple_of(8), "fragments are cut at multiples of eight bytes");
        let segment = self.segment();
        let last = segment.len().div_ceil(size) - 1;
        let parts = segment.chunks(size).enumerate().map(|(place, bytes)| {
            let part = IpPart { offset: (place * size / 8) as u16, more: place < last };
            if self.source.is_ipv4() {
                return self.with_ip_payload(bytes, part);
            }
            let header = Extension::Fragment(part.offset, part.more, self.ip_id.into());
            self.clone().extension(header).with_ip_payload(bytes, IpPart::default())
        });
        parts.collect()
    }

    /// The TCP header and payload.
    fn segment(&self) -> Vec<u8> {
        let options = options::encode(&self.options);
        let mut bytes = Vec::with_capacity(20 + options.len() + self.payload.len());
        bytes.extend(self.source.port().to_be_bytes());
        bytes.extend(self.destination.port().to_be_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.push((((20 + options.len()) / 4) << 4) as u8);
        bytes.push(self.flags);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(options);
        bytes.extend(&self.payload);
        let pseudo = pseudo_header(self.source.ip(), self.destination.ip(), bytes.len());
        let sum = checksum(&[&pseudo, &bytes]);
        bytes[16..18].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// Ethernet, tags and IP header around these bytes.
    fn with_ip_payload(&self, payload: &[u8], part: IpPart) -> Vec<u8> {
        let mut bytes = [self.macs.1, self.macs.0].concat();
        for vlan in &self.vlans {
            bytes.extend(vlan.protocol.to_be_bytes());
            bytes.extend(vlan.tag.to_be_bytes());
        }
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                bytes.extend(0x0800_u16.to_be_bytes());
                bytes.extend(self.ipv4_header(source.octets(), destination.octets(), payload.len(), part));
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (next, extensions) = ipv6::encode(&self.extensions);
                bytes.extend(0x86dd_u16.to_be_bytes());
                bytes.extend([0x60, 0, 0, 0]);
                bytes.extend(((extensions.len() + payload.len()) as u16).to_be_bytes());
                bytes.extend([next, self.ttl]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend(extensions);
            }
            _ => panic!("both ends of a frame must speak the same IP version"),
        }
        bytes.extend(payload);
        bytes
    }

    fn ipv4_header(&self, source: [u8; 4], destination: [u8; 4], payload: usize, part: IpPart) -> Vec<u8> {
        let length = 20 + self.ip_options.len();
        assert!(
            length.is_multiple_of(4) && length <= 60,
            "IPv4 options come in multiples of four bytes, at most 40"
        );
        let place = u16::from(self.dont_fragment && !part.more && part.offset == 0) << 14
            | u16::from(part.more) << 13
            | part.offset;
        let mut header = vec![(0x40 | (length / 4)) as u8, 0];
        header.extend(((length + payload) as u16).to_be_bytes());
        header.extend(self.ip_id.to_be_bytes());
        header.extend(place.to_be_bytes());
        header.extend([self.ttl, 6, 0, 0]);
        header.extend(source);
        header.extend(destination);
        header.extend(&self.ip_options);
        let sum = checksum(&[&header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    }
}
