//! Bytes to meaning: one frame in, one [`Segment`] out, or the reason why not.
//!
//! Lengths are checked once, here. What comes after reads fields that cannot fail.
//! Reading order: `link` (how a frame begins), `eth` (VLAN tags), `tunnel` (only where the carrier asks), `ip`, `tcp`,
//! `options`.

pub mod eth;
pub mod ip;
pub mod link;
pub mod options;
pub mod piece;
pub mod tcp;
#[cfg(test)]
mod tests;
pub mod tunnel;

pub use link::Link;
pub use options::Options;
pub use piece::Piece;
pub use tcp::Flags;

use crate::{health::Health, seq::SeqNum};

/// Bytes of a request or an answer that are quoted at most ([`Frame::quote`]).
pub const QUOTED: usize = 256;

/// Bounds-checked reads of one frame, starting at its link layer, and what its carrier knows of it.
pub trait Frame {
    /// The `N` bytes at `offset`, or `None` when the frame does not hold them.
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]>;

    /// The `LEN` bytes at `offset`, where they are at hand in one piece.
    #[inline(always)]
    fn piece<const LEN: usize>(&self, _offset: u32) -> Option<Piece<'_, LEN>> {
        None
    }

    /// Length on the wire in bytes, from the link layer on; may exceed what [`Frame::load`] can reach
    /// (a capture with a snap length, a frame in pieces).
    fn wire_len(&self) -> u32;

    /// How the frame begins.
    #[inline(always)]
    fn link(&self) -> Link {
        Link::Ethernet
    }

    /// Whether to look for a TCP segment inside tunnels ([`tunnel`]), too; if not, they are skipped as what they are.
    #[inline(always)]
    fn tunnels(&self) -> bool {
        false
    }

    /// Whether the frame is `len` bytes long or longer; apart from [`Frame::wire_len`] because it can be cheaper.
    #[inline(always)]
    fn holds(&self, len: u32) -> bool {
        len <= self.wire_len()
    }

    /// Lends room for TCP options; `None` when there is none. Kernels before 5.12 refuse an index that is not
    /// constant into the stack, so the kernel has it elsewhere.
    #[inline(always)]
    fn with_buffer<R>(&self, work: impl FnOnce(&mut [u8; options::BUFFER]) -> R) -> Option<R> {
        Some(work(&mut [0; options::BUFFER]))
    }

    /// The VLAN tag control information that the carrier keeps beside the frame (tc), outermost of all tags.
    fn vlan(&self) -> Option<u16> {
        None
    }

    /// Copies the first bytes of `len` from `offset` on, as many as there is room for; how many there are.
    fn quote(&self, offset: u32, len: u32, to: &mut [u8; QUOTED]) -> u32 {
        let mut n = 0;
        while n < len
            && let Some(place) = to.get_mut(n as usize)
            && let Some([byte]) = offset.checked_add(n).and_then(|at| self.load::<1>(at))
        {
            *place = byte;
            n += 1;
        }
        n
    }

    /// TCP segments on the wire that this frame stands for, for a GSO super-packet; 0 when the carrier does not say.
    fn gso_segments(&self) -> u32 {
        0
    }

    /// Payload bytes of each of those segments but the last; 0 when the frame is one segment.
    fn gso_size(&self) -> u32 {
        0
    }
}

impl Frame for &[u8] {
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let at = offset as usize;
        self.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn piece<const LEN: usize>(&self, offset: u32) -> Option<Piece<'_, LEN>> {
        Piece::<LEN>::of(self.get(offset as usize..)?)
    }

    fn wire_len(&self) -> u32 {
        self.len() as u32
    }
}

/// `n`, at most `mask`, through memory of which the kernel's verifier knows nothing. It follows every path with what it
/// knows of each number there; behind this, all paths know the same and become one.
#[inline(always)]
fn settled(cursor: &mut u32, n: u32, mask: u32) -> u32 {
    let cursor: *mut u32 = cursor;
    // SAFETY: a reference is valid for both.
    unsafe {
        cursor.write_volatile(n);
        cursor.read_volatile() & mask
    }
}

/// An IP address in network byte order, four words; an IPv4 address is mapped (`::ffff:a.b.c.d`, RFC 4291, 2.5.5.2).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Addr(pub [u32; 4]);

impl Addr {
    /// An IPv4 address, its four bytes as they stand on the wire.
    #[inline(always)]
    pub const fn v4(word: [u8; 4]) -> Self {
        Self([0, 0, 0xffff_u32.to_be(), u32::from_ne_bytes(word)])
    }

    /// An IPv6 address, its sixteen bytes as they stand on the wire.
    #[inline(always)]
    pub fn v6(b: [u8; 16]) -> Self {
        Self(bytemuck::cast(b))
    }

    /// The sixteen bytes in network order.
    pub fn octets(self) -> [u8; 16] {
        bytemuck::cast(self.0)
    }
}

/// What one TCP packet says, in host byte order unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Sender's address.
    pub src: Addr,
    /// Receiver's address.
    pub dst: Addr,
    /// Sender's port.
    pub sport: u16,
    /// Receiver's port.
    pub dport: u16,
    /// VLAN identifiers, outermost in bits 0 to 11, the next in bits 12 to 23; 0 where untagged.
    pub vlans: u32,
    /// Whether the packet is IPv6.
    pub v6: bool,
    /// IPv4 identification; 0 for IPv6.
    pub ip_id: u16,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TCP flags.
    pub flags: Flags,
    /// Sequence number.
    pub seq: SeqNum,
    /// Acknowledgement number; meaningless without the ACK flag.
    pub ack: SeqNum,
    /// Window as it stands in the header, unscaled.
    pub window: u16,
    /// Payload bytes, from the IP length and never from captured bytes.
    pub payload: u32,
    /// Where the payload begins in the frame.
    pub payload_at: u32,
    /// The payload's first byte, 0 where there is none; read only where a client may begin
    /// ([`Flow::may_begin`](crate::flow::Flow::may_begin)).
    pub first: u8,
    /// Segments on the wire that this packet stands for (GSO), at least 1.
    pub segments: u32,
    /// Payload bytes of each full segment of a GSO super-packet; 0 for a single segment.
    pub segment_size: u32,
    /// Bytes of the IP datagrams on the wire, headers included, over all `segments`.
    pub bytes: u32,
    /// The payload is one small TLS alert record, as a peer sends before it closes (RFC 8446, 6.1).
    pub tls_alert: bool,
    /// Decoded options.
    pub options: Options,
    /// Where reading stands; means nothing afterwards.
    pub(crate) cursor: u32,
}

impl Segment {
    /// Reads the segment of `frame` into `self`, which is blank, or says under which reason it is skipped; then `self`
    /// means nothing.
    ///
    /// In place, because a kernel program's stack has no room for it.
    #[inline(always)]
    pub fn read<F: Frame>(&mut self, frame: &F) -> Result<(), Health> {
        let mut datagram = eth::parse(frame)?;
        // No more than four tags deep in the kernel, and within what `Place` has room for elsewhere.
        let deepest = if frame.link() == Link::Ethernet && !frame.tunnels() { 63 } else { 0x7ff };
        datagram.offset = settled(&mut self.cursor, datagram.offset, deepest);
        self.vlans = datagram.vlans;
        let tcp = ip::parse(frame, &datagram, self)?;
        tcp::parse(frame, &tcp, self)
    }

    /// A segment of zeroes.
    #[inline(always)]
    pub const fn blank() -> Self {
        Self {
            src: Addr([0; 4]),
            dst: Addr([0; 4]),
            sport: 0,
            dport: 0,
            vlans: 0,
            v6: false,
            ip_id: 0,
            ttl: 0,
            flags: Flags(0),
            seq: SeqNum(0),
            ack: SeqNum(0),
            window: 0,
            payload: 0,
            payload_at: 0,
            first: 0,
            segments: 1,
            segment_size: 0,
            bytes: 0,
            tls_alert: false,
            options: Options::blank(),
            cursor: 0,
        }
    }

    /// Sequence space the segment takes: payload, and one each for SYN and FIN (RFC 9293, 3.4).
    #[inline(always)]
    pub fn sequence_len(&self) -> u32 {
        self.payload + self.flags.syn() as u32 + self.flags.fin() as u32
    }

    /// IPv4 identification of the last of the segments.
    #[inline(always)]
    pub fn last_id(&self) -> u16 {
        self.ip_id.wrapping_add(self.segments.wrapping_sub(1) as u16)
    }

    /// The sequence number after the segment.
    #[inline(always)]
    pub fn end(&self) -> SeqNum {
        self.seq.plus(self.sequence_len())
    }

    /// How many of the wire segments `bytes` of this packet's sequence space stand for, at least 1.
    #[inline(always)]
    pub fn segments_in(&self, bytes: u32) -> u32 {
        if self.segments <= 1 || self.segment_size == 0 || bytes >= self.sequence_len() {
            return self.segments;
        }
        match bytes.div_ceil(self.segment_size) {
            0 => 1,
            n if n > self.segments => self.segments,
            n => n,
        }
    }
}
