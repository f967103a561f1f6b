//! The packet in memory: from where to where.
//!
//! Numbers are read and written whole, wherever they stand, as BPF can on the machines it runs on. The language would
//! read those that are not aligned byte by byte, which is no floor; hence the instructions themselves.

use core::arch::asm;

/// The bytes of a packet, or their part that lies in one piece.
#[derive(Clone, Copy)]
pub struct Packet {
    /// First byte.
    pub data: usize,
    /// Behind the last.
    pub end: usize,
}

impl Packet {
    /// Where `len` bytes from `offset` on begin, if the packet is as long.
    #[inline(always)]
    fn at(self, offset: u32, len: usize) -> Option<usize> {
        let at = self.data + offset as usize;
        if at + len > self.end { None } else { Some(at) }
    }

    /// The byte at `offset`.
    #[inline(always)]
    pub fn u8(self, offset: u32) -> Option<u8> {
        let at = self.at(offset, 1)?;
        let n: u64;
        // SAFETY: in bounds, as the verifier checks again.
        unsafe { asm!("{n} = *(u8 *)({at} + 0)", n = out(reg) n, at = in(reg) at) };
        Some(n as u8)
    }

    /// The 16 bits there, in the order that they have on the wire.
    #[inline(always)]
    pub fn u16(self, offset: u32) -> Option<u16> {
        let at = self.at(offset, 2)?;
        let n: u64;
        // SAFETY: as for `u8`.
        unsafe { asm!("{n} = *(u16 *)({at} + 0)", n = out(reg) n, at = in(reg) at) };
        Some(n as u16)
    }

    /// The 32 bits there.
    #[inline(always)]
    pub fn u32(self, offset: u32) -> Option<u32> {
        let at = self.at(offset, 4)?;
        let n: u64;
        // SAFETY: as for `u8`.
        unsafe { asm!("{n} = *(u32 *)({at} + 0)", n = out(reg) n, at = in(reg) at) };
        Some(n as u32)
    }

    /// The 16 bytes there.
    #[inline(always)]
    pub fn address(self, offset: u32) -> Option<[u32; 4]> {
        self.at(offset, 16)?;
        Some([self.u32(offset)?, self.u32(offset + 4)?, self.u32(offset + 8)?, self.u32(offset + 12)?])
    }

    /// Whether it is `len` bytes long or longer.
    #[inline(always)]
    pub fn holds(self, len: u32) -> bool {
        self.at(0, len as usize).is_some()
    }

    /// Writes 16 bits.
    #[inline(always)]
    pub fn set_u16(self, offset: u32, n: u16) -> Option<()> {
        let at = self.at(offset, 2)?;
        // SAFETY: as for `u8`.
        unsafe { asm!("*(u16 *)({at} + 0) = {n}", n = in(reg) n as u64, at = in(reg) at) };
        Some(())
    }

    /// Writes 32 bits.
    #[inline(always)]
    pub fn set_u32(self, offset: u32, n: u32) -> Option<()> {
        let at = self.at(offset, 4)?;
        // SAFETY: as for `u8`.
        unsafe { asm!("*(u32 *)({at} + 0) = {n}", n = in(reg) n as u64, at = in(reg) at) };
        Some(())
    }
}
