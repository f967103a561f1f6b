//! Frames over the two contexts: the only reads of packet memory.

use crate::{
    maps::{CONFIG, OPTIONS},
    world::first,
};
use agent_ebpf::wire::{Frame, Piece, QUOTED, options::BUFFER};
use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_skb_load_bytes, bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    programs::{TcContext, XdpContext},
};

/// Reads from the part of the packet that lies in one piece.
#[inline(always)]
fn linear<const N: usize>(data: usize, data_end: usize, offset: u32) -> Option<[u8; N]> {
    let at = data + offset as usize;
    if at + N > data_end {
        return None;
    }
    // SAFETY: in bounds, as the verifier checks again.
    Some(unsafe { core::ptr::read_unaligned(at as *const [u8; N]) })
}

#[inline(always)]
fn piece<'a, const LEN: usize>(data: usize, data_end: usize, offset: u32) -> Option<Piece<'a, LEN>> {
    let at = data + offset as usize;
    if at + LEN > data_end {
        return None;
    }
    // SAFETY: in bounds, as the verifier checks again.
    Some(unsafe { Piece::new(at as *const u8) })
}

#[inline(always)]
fn buffer<R>(work: impl FnOnce(&mut [u8; BUFFER]) -> R) -> Option<R> {
    // SAFETY: this processor's own, and a program is not interrupted by another of ours.
    Some(work(unsafe { &mut *first(&OPTIONS)? }))
}

/// A frame at XDP.
pub struct XdpFrame<'a> {
    ctx: &'a XdpContext,
}

impl<'a> XdpFrame<'a> {
    #[inline(always)]
    pub fn new(ctx: &'a XdpContext) -> Self {
        Self { ctx }
    }
}

impl Frame for XdpFrame<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        linear(self.ctx.data(), self.ctx.data_end(), offset)
    }

    #[inline(always)]
    fn piece<const LEN: usize>(&self, offset: u32) -> Option<Piece<'_, LEN>> {
        piece(self.ctx.data(), self.ctx.data_end(), offset)
    }

    #[inline(always)]
    fn wire_len(&self) -> u32 {
        if CONFIG.load().xdp_frags != 0 {
            // SAFETY: the context is valid.
            unsafe { bpf_xdp_get_buff_len(self.ctx.ctx) as u32 }
        } else {
            (self.ctx.data_end() - self.ctx.data()) as u32
        }
    }

    #[inline(always)]
    fn holds(&self, len: u32) -> bool {
        // Before Linux 6.8 the verifier knows no bounds of a number whose bytes were swapped.
        let len = core::hint::black_box(len) & 0x1_ffff;
        self.ctx.data() + len as usize <= self.ctx.data_end() || len <= self.wire_len()
    }

    #[inline(always)]
    fn with_buffer<R>(&self, work: impl FnOnce(&mut [u8; BUFFER]) -> R) -> Option<R> {
        buffer(work)
    }

    #[inline(always)]
    fn quote(&self, offset: u32, len: u32, to: &mut [u8; QUOTED]) -> u32 {
        let len = quotable(len);
        if CONFIG.load().xdp_frags != 0 {
            // SAFETY: the context is valid, and `to` has room for so many.
            let r = unsafe { bpf_xdp_load_bytes(self.ctx.ctx, offset, to.as_mut_ptr().cast(), len) };
            return if r == 0 { len } else { 0 };
        }
        // The helper came with frames in pieces: eight bytes at a time, then one. Bounds are checked and bytes read by one
        // pointer: of two sums of the same numbers, the verifier does not know one by the other.
        let start = core::hint::black_box(self.ctx.data() + (offset & 0x3fff) as usize);
        let end = self.ctx.data_end();
        let mut n = 0;
        for chunk in to.chunks_exact_mut(8) {
            if n + 8 > len || start + n as usize + 8 > end {
                break;
            }
            // SAFETY: in bounds, as the verifier checks again.
            let bytes = unsafe { core::ptr::read_unaligned((start + n as usize) as *const [u8; 8]) };
            chunk.copy_from_slice(&bytes);
            n += 8;
        }
        for _ in 0..7 {
            let Some(byte) = to.get_mut(n as usize).filter(|_| n < len && start + n as usize + 1 <= end)
            else {
                break;
            };
            // SAFETY: as above.
            *byte = unsafe { *((start + n as usize) as *const u8) };
            n += 1;
        }
        n
    }
}

/// How many bytes may be quoted, in a form in which the verifier sees that there is room for them, and one at least.
#[inline(always)]
fn quotable(len: u32) -> u32 {
    let most = QUOTED as u32;
    let less_one = (if len > most { most } else { len }).wrapping_sub(1);
    (core::hint::black_box(less_one) & (most - 1)) + 1
}

/// A frame at tc.
pub struct SkbFrame<'a> {
    ctx: &'a TcContext,
}

impl<'a> SkbFrame<'a> {
    #[inline(always)]
    pub fn new(ctx: &'a TcContext) -> Self {
        Self { ctx }
    }

    #[inline(always)]
    fn skb(&self) -> &__sk_buff {
        // SAFETY: the context is valid while the program runs.
        unsafe { &*self.ctx.skb.skb }
    }
}

impl Frame for SkbFrame<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let skb = self.skb();
        if let Some(b) = linear(skb.data as usize, skb.data_end as usize, offset) {
            return Some(b);
        }
        // A super-packet's payload, or headers that a driver left in pages.
        let mut b = [0u8; N];
        // SAFETY: `b` is `N` bytes long.
        let r =
            unsafe { bpf_skb_load_bytes(self.ctx.skb.skb.cast(), offset, b.as_mut_ptr().cast(), N as u32) };
        if r == 0 { Some(b) } else { None }
    }

    #[inline(always)]
    fn piece<const LEN: usize>(&self, offset: u32) -> Option<Piece<'_, LEN>> {
        let skb = self.skb();
        piece(skb.data as usize, skb.data_end as usize, offset)
    }

    #[inline(always)]
    fn wire_len(&self) -> u32 {
        self.skb().len
    }

    #[inline(always)]
    fn with_buffer<R>(&self, work: impl FnOnce(&mut [u8; BUFFER]) -> R) -> Option<R> {
        buffer(work)
    }

    #[inline(always)]
    fn quote(&self, offset: u32, len: u32, to: &mut [u8; QUOTED]) -> u32 {
        let len = quotable(len);
        // SAFETY: the context is valid, and `to` has room for so many.
        let r = unsafe { bpf_skb_load_bytes(self.ctx.skb.skb.cast(), offset, to.as_mut_ptr().cast(), len) };
        if r == 0 { len } else { 0 }
    }

    #[inline(always)]
    fn vlan(&self) -> Option<u16> {
        let skb = self.skb();
        if skb.vlan_present != 0 { Some(skb.vlan_tci as u16) } else { None }
    }

    #[inline(always)]
    fn gso_segments(&self) -> u32 {
        self.skb().gso_segs
    }

    #[inline(always)]
    fn gso_size(&self) -> u32 {
        self.skb().gso_size
    }
}
