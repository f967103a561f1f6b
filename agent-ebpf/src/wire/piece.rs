//! Reads of whole words from a part of a frame that lies in one piece.
//!
//! Byte by byte, as the compiler has to where it knows of no alignment, a header costs more than all that is made of it.

use core::marker::PhantomData;

/// `LEN` bytes of a frame, checked to be there when it was made. Places in it are constants, checked by the compiler.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a, const LEN: usize> {
    at: *const u8,
    frame: PhantomData<&'a [u8]>,
}

impl<const LEN: usize> Piece<'_, LEN> {
    /// # Safety
    /// `at` must be valid for reads of `LEN` bytes as long as the frame is borrowed.
    #[inline(always)]
    pub const unsafe fn new(at: *const u8) -> Self {
        Self { at, frame: PhantomData }
    }

    /// The first bytes of these, if there are so many.
    #[inline(always)]
    pub fn of(bytes: &[u8]) -> Option<Piece<'_, LEN>> {
        // SAFETY: they are borrowed for as long.
        if bytes.len() >= LEN { Some(unsafe { Piece::new(bytes.as_ptr()) }) } else { None }
    }

    /// The byte at `I`.
    #[inline(always)]
    pub fn u8<const I: usize>(self) -> u8 {
        const { assert!(I < LEN) }
        // SAFETY: inside, by the contract of `new`.
        unsafe { *self.at.add(I) }
    }

    /// The two bytes from `I` on, in network byte order.
    #[inline(always)]
    pub fn be16<const I: usize>(self) -> u16 {
        const { assert!(I + 2 <= LEN) }
        // SAFETY: inside, by the contract of `new`.
        u16::from_be(unsafe { read::u16::<I>(self.at) })
    }

    /// The four bytes from `I` on, as they stand.
    #[inline(always)]
    pub fn word<const I: usize>(self) -> u32 {
        const { assert!(I + 4 <= LEN) }
        // SAFETY: inside, by the contract of `new`.
        unsafe { read::u32::<I>(self.at) }
    }

    /// The four bytes from `I` on, in network byte order.
    #[inline(always)]
    pub fn be32<const I: usize>(self) -> u32 {
        u32::from_be(self.word::<I>())
    }
}

/// One load each: the kernel lets its programs read packets at any alignment where the processor does (x86, arm64), of
/// which the compiler knows nothing.
#[cfg(target_arch = "bpf")]
mod read {
    use core::arch::asm;

    #[inline(always)]
    pub unsafe fn u16<const I: usize>(at: *const u8) -> u16 {
        let word: u64;
        // SAFETY: the caller's.
        unsafe {
            asm!("{w} = *(u16 *)({p} + {i})", w = out(reg) word, p = in(reg) at, i = const I, options(readonly, nostack, preserves_flags))
        };
        word as u16
    }

    #[inline(always)]
    pub unsafe fn u32<const I: usize>(at: *const u8) -> u32 {
        let word: u64;
        // SAFETY: the caller's.
        unsafe {
            asm!("{w} = *(u32 *)({p} + {i})", w = out(reg) word, p = in(reg) at, i = const I, options(readonly, nostack, preserves_flags))
        };
        word as u32
    }
}

#[cfg(not(target_arch = "bpf"))]
mod read {
    #[inline(always)]
    pub unsafe fn u16<const I: usize>(at: *const u8) -> u16 {
        // SAFETY: the caller's.
        unsafe { at.add(I).cast::<u16>().read_unaligned() }
    }

    #[inline(always)]
    pub unsafe fn u32<const I: usize>(at: *const u8) -> u32 {
        // SAFETY: the caller's.
        unsafe { at.add(I).cast::<u32>().read_unaligned() }
    }
}

#[cfg(test)]
mod tests {
    use crate::wire::Frame as _;

    #[test]
    fn words_are_read_in_their_order_and_not_beyond_the_frame() {
        let frame = [1u8, 2, 3, 4, 5, 6].as_slice();
        let p = frame.piece::<5>(1).unwrap();
        assert_eq!((p.u8::<0>(), p.be16::<1>(), p.be32::<1>()), (2, 0x304, 0x0304_0506));
        assert_eq!(p.word::<0>().to_ne_bytes(), [2, 3, 4, 5]);
        assert!(frame.piece::<5>(2).is_none() && frame.piece::<5>(u32::MAX).is_none());
    }
}
