//! One segment of an input of the `flow` target: what its bytes mean, and its frame.

use std::fmt;

use agent_ebpf::{
    label::Direction,
    wire::{Flags, Frame},
};

/// Bytes of one segment in an input.
pub const SIZE: usize = 20;

/// Initial sequence numbers of both ends of each connection.
const ISN: [[u32; 2]; 4] = [
    [1_000_000, 2_000_000],
    [u32::MAX - 999, u32::MAX - 1_999],
    [(1 << 31) - 1_000, 5],
    [u32::MAX - 10, (1 << 31) - 500],
];
/// Nanoseconds since the segment before.
const PAUSE: [i64; 16] = [
    0,
    1_000,
    10_000,
    100_000,
    1_000_000,
    3_000_000,
    10_000_000,
    40_000_000,
    250_000_000,
    1_100_000_000,
    3_000_000_000,
    31_000_000_000,
    61_000_000_000,
    // Longer than a stamp of 32 bits in microseconds tells.
    5_000_000_000_000,
    // Another processor's packet, stamped a little earlier.
    -20_000,
    500_000,
];
const PAYLOAD: [u16; 16] = [0, 0, 1, 2, 7, 24, 50, 100, 200, 536, 1_000, 1_448, 1_460, 2_900, 8_000, 31_000];
const WINDOW: [u16; 4] = [1_000, 0, 1, 65_535];
const MSS: u16 = 1_448;

/// One segment as the input says it; see the fields' bytes in [`Op::read`].
#[derive(Clone, Copy)]
pub struct Op<'a>(&'a [u8; SIZE]);

impl<'a> Op<'a> {
    /// Byte 0: connection (2 bits), sender, the other hook than its half's usual, pause (4 bits). 1: TCP flags.
    /// 2, 3: sequence number and 4, 5: acknowledgement, each signed and relative. 6: payload and 7: window, TTL, whether
    /// it is a super-packet and whether its count is left out. 8: IPv4 identification. 9: options (timestamps, SACK
    /// blocks, those of a SYN, a TLS record). 10, 11: TSval. 12 to 19: edges of two SACK blocks, like 4, 5.
    pub fn read(data: &'a [u8]) -> impl Iterator<Item = Self> {
        data.as_chunks::<SIZE>().0.iter().map(Self)
    }

    fn bit(&self, byte: usize, bit: u8) -> bool {
        self.0[byte] & 1 << bit != 0
    }

    fn number(&self, byte: usize, dir: usize) -> u32 {
        let relative = i16::from_be_bytes([self.0[byte], self.0[byte + 1]]);
        ISN[self.connection()][dir].wrapping_add_signed(relative.into())
    }

    fn connection(&self) -> usize {
        usize::from(self.0[0] & 3)
    }

    fn dir(&self) -> usize {
        usize::from(self.bit(0, 2))
    }

    /// Nanoseconds since the one before.
    pub fn pause(&self) -> i64 {
        PAUSE[usize::from(self.0[0] >> 4)]
    }

    /// The hook it comes to.
    pub fn direction(&self) -> Direction {
        if self.bit(0, 2) != self.bit(0, 3) { Direction::Egress } else { Direction::Ingress }
    }

    fn flags(&self) -> Flags {
        Flags(self.0[1])
    }

    /// Bytes of payload.
    pub fn payload(&self) -> u16 {
        PAYLOAD[usize::from(self.0[6] & 15)]
    }

    fn window(&self) -> u16 {
        WINDOW[usize::from(self.0[7] & 3)]
    }

    fn ttl(&self) -> u8 {
        if self.bit(7, 2) { 200 } else { 64 }
    }

    fn super_packet(&self) -> bool {
        self.bit(7, 3) && self.payload() > MSS
    }

    /// Segments on the wire.
    pub fn segments(&self) -> u32 {
        if self.super_packet() { u32::from(self.payload().div_ceil(MSS)) } else { 1 }
    }

    /// Bytes of IP and TCP headers of each segment.
    pub fn headers(&self) -> u32 {
        let ip = if self.connection() == 3 { 40 } else { 20 };
        ip + 20 + self.options().len() as u32
    }

    fn options(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.bit(9, 0) {
            let clock = 1_000 + u32::from(u16::from_be_bytes([self.0[10], self.0[11]]));
            bytes.extend([1, 1, 8, 10]);
            bytes.extend(clock.to_be_bytes());
            bytes.extend([0; 4]);
        }
        let blocks = usize::from(self.0[9] >> 1 & 3).min(2);
        if blocks > 0 {
            bytes.extend([1, 1, 5, 2 + 8 * blocks as u8]);
            for edge in 0..2 * blocks {
                bytes.extend(self.number(12 + 2 * edge, 1 - self.dir()).to_be_bytes());
            }
        }
        if self.bit(9, 3) && self.flags().syn() && blocks < 2 {
            bytes.extend([2, 4, 5, 0xb4, 4, 2, 3, 3, 7, 0, 0, 0]);
        }
        bytes
    }

    /// The frame, from the Ethernet header on.
    pub fn frame(&self) -> Vec<u8> {
        let (v6, dir, payload) = (self.connection() == 3, self.dir(), self.payload());
        let options = self.options();
        let length = 20 + options.len() as u16 + payload;
        let mut f = vec![0; 12];
        if self.connection() == 2 {
            f.extend([0x81, 0, 0, 7]);
        }
        let (client, server) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let (from, to) = if dir == 0 { (client, server) } else { (server, client) };
        if v6 {
            f.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            f.extend(length.to_be_bytes());
            f.extend([6, self.ttl()]);
            f.extend([[0; 12].as_slice(), &from, &[0; 12], &to].concat());
        } else {
            f.extend([8, 0, 0x45, 0]);
            f.extend((20 + length).to_be_bytes());
            f.extend((100 + u16::from(self.0[8])).to_be_bytes());
            f.extend([0x40, 0, self.ttl(), 6, 0, 0]);
            f.extend([from, to].concat());
        }
        let ports = [40_000 + self.connection() as u16 % 2, 443];
        f.extend(ports[dir].to_be_bytes());
        f.extend(ports[1 - dir].to_be_bytes());
        f.extend(self.number(2, dir).to_be_bytes());
        f.extend(self.number(4, 1 - dir).to_be_bytes());
        f.extend([(20 + options.len() as u8) << 2, self.flags().0]);
        f.extend(self.window().to_be_bytes());
        f.extend([0; 4]);
        f.extend(&options);
        let body = f.len();
        f.resize(body + usize::from(payload), 0);
        if self.bit(9, 4) && payload >= 7 {
            f[body..body + 5].copy_from_slice(&[
                if payload == 24 { 23 } else { 21 },
                3,
                3,
                0,
                payload as u8 - 5,
            ]);
        }
        f
    }

    /// The frame as tc hands it over.
    pub fn carried(&self) -> Carried {
        let size = if self.super_packet() { MSS.into() } else { 0 };
        let counted = self.super_packet() && !self.bit(7, 4);
        Carried { bytes: self.frame(), size, segments: if counted { self.segments() } else { 0 } }
    }
}

/// As a line of a script in `tests/harness/script`, with the absolute pause left as it is.
impl fmt::Debug for Op<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let relative = |byte: usize| i16::from_be_bytes([self.0[byte], self.0[byte + 1]]);
        let who = if self.dir() == 0 { 'C' } else { 'S' };
        write!(f, "{}: +{}us {who} ", self.connection(), self.pause() / 1_000)?;
        for (bit, letter) in "FSRP.UEW".chars().enumerate() {
            if self.bit(1, bit as u8) {
                write!(f, "{letter}")?;
            }
        }
        write!(f, " seq={} ack={} len={} win={}", relative(2), relative(4), self.payload(), self.window())?;
        write!(f, " ttl={} id={} {:?}", self.ttl(), 100 + u16::from(self.0[8]), self.direction())?;
        if self.bit(9, 0) {
            write!(f, " ts={}", u16::from_be_bytes([self.0[10], self.0[11]]))?;
        }
        for block in 0..usize::from(self.0[9] >> 1 & 3).min(2) {
            write!(f, " sack={}-{}", relative(12 + 4 * block), relative(14 + 4 * block))?;
        }
        if self.super_packet() { write!(f, " segments={}", self.segments()) } else { Ok(()) }
    }
}

/// A frame and what tc knows of it.
pub struct Carried {
    bytes: Vec<u8>,
    size: u32,
    segments: u32,
}

impl Frame for Carried {
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.bytes.as_slice().load(offset)
    }

    fn wire_len(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn gso_segments(&self) -> u32 {
        self.segments
    }

    fn gso_size(&self) -> u32 {
        self.size
    }
}
