//! The TCP header (RFC 9293, 3.1).

use super::{Frame, Segment, ip::Place, options};
use crate::{health::Health, seq::SeqNum};
use bytemuck::{Pod, Zeroable};

/// TCP's control bits.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Flags(pub u8);

impl Flags {
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// PSH.
    pub const PSH: u8 = 0x08;
    /// ACK.
    pub const ACK: u8 = 0x10;

    /// The sender has no more data.
    #[inline(always)]
    pub const fn fin(self) -> bool {
        self.0 & Self::FIN != 0
    }

    /// Opens a connection.
    #[inline(always)]
    pub const fn syn(self) -> bool {
        self.0 & Self::SYN != 0
    }

    /// Ends a connection at once.
    #[inline(always)]
    pub const fn rst(self) -> bool {
        self.0 & Self::RST != 0
    }

    /// The acknowledgement number counts.
    #[inline(always)]
    pub const fn ack(self) -> bool {
        self.0 & Self::ACK != 0
    }

    /// None of SYN, FIN and RST.
    #[inline(always)]
    pub const fn plain(self) -> bool {
        self.0 & (Self::SYN | Self::FIN | Self::RST) == 0
    }
}

/// Reads the TCP header and its options.
#[inline(always)]
pub fn parse<F: Frame>(frame: &F, at: &Place, s: &mut Segment) -> Result<(), Health> {
    let Some(h) = frame.load::<20>(at.offset) else {
        return Err(Health::Truncated);
    };
    let header_len = ((h[12] >> 4) as u32) * 4;
    if header_len < 20 || header_len > at.len {
        return Err(Health::BadTcpHeader);
    }
    s.sport = u16::from_be_bytes([h[0], h[1]]);
    s.dport = u16::from_be_bytes([h[2], h[3]]);
    s.seq = SeqNum(u32::from_be_bytes([h[4], h[5], h[6], h[7]]));
    s.ack = SeqNum(u32::from_be_bytes([h[8], h[9], h[10], h[11]]));
    s.flags = Flags(h[13]);
    s.window = u16::from_be_bytes([h[14], h[15]]);
    if header_len > 20 {
        // Options cut off by a snap length are read as absent; in the kernel they are always there.
        options::parse(frame, at.offset + 20, header_len - 20, &mut s.options, &mut s.cursor);
    }
    s.payload = at.len - header_len;
    (s.segments, s.segment_size) = segments(frame, s.payload);
    s.bytes = s.payload + s.segments * (at.ip_header_len + header_len);
    s.payload_at = at.offset + header_len;
    s.tls_alert = tls_alert(frame, s.payload_at, s.payload);
    Ok(())
}

/// Segments on the wire that a frame with so much payload stands for, and the payload of each full one, 0 for a single one.
#[inline(always)]
pub(crate) fn segments<F: Frame>(frame: &F, payload: u32) -> (u32, u32) {
    let size = frame.gso_size();
    let count = match (size, frame.gso_segments()) {
        (0, _) => 1,
        // A guest's packet (SKB_GSO_DODGY) comes without a count.
        (size, 0) if payload > size => payload.div_ceil(size),
        (_, 0) => 1,
        (_, n) => n,
    };
    (count, size)
}

/// Mask of where the headers of a packet may end, in a frame.
const HEADERS: u32 = 0x1fff;

/// A TLS record that opens a handshake begins with it (RFC 8446, 5.1).
pub(crate) const TLS_HANDSHAKE: u8 = 22;

/// The payload's first byte, which follows the one at `before`; 0 where none was captured. To be asked for only where there is
/// payload: at tc a read beyond the end costs as much as a table.
#[inline(always)]
pub(crate) fn first<F: Frame>(frame: &F, before: u32) -> u8 {
    // Two at once: that there is one alone at the very end the kernel's verifier does not see; nor that a number less one
    // is not below 0.
    match frame.load::<2>(core::hint::black_box(before) & HEADERS) {
        Some([_, byte]) => byte,
        None => 0,
    }
}

/// Whether the payload is one TLS alert record: in the clear type 21, or under TLS 1.3 a record whose
/// length (2 bytes of alert, 1 of type, 16 of tag) only an alert has in practice.
#[inline(always)]
pub(crate) fn tls_alert<F: Frame>(frame: &F, offset: u32, payload: u32) -> bool {
    if !(7..=64).contains(&payload) {
        return false;
    }
    match frame.load::<5>(offset) {
        Some([21, 3, _, hi, lo]) => u16::from_be_bytes([hi, lo]) as u32 + 5 == payload,
        Some([23, 3, 3, 0, 19]) => payload == 24,
        _ => false,
    }
}
