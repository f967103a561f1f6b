//! TCP options: MSS, window scale (RFC 7323), timestamps (RFC 7323), SACK (RFC 2018).

use super::{Frame, settled};
use crate::seq::SeqNum;

/// Most SACK blocks that fit beside no other option.
pub const MAX_SACK_BLOCKS: usize = 4;

/// The options an observer needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Maximum segment size in bytes; 0 when absent.
    pub mss: u16,
    /// Window shift, 0 to 14; `None` when absent.
    pub window_scale: Option<u8>,
    /// Whether SACK is permitted (SYN only).
    pub sack_permitted: bool,
    /// Whether there are timestamps.
    pub timestamps: bool,
    /// TSval, the sender's clock; 0 when absent.
    pub ts_val: u32,
    /// TSecr, the echoed clock; 0 when absent.
    pub ts_ecr: u32,
    /// How many of `sack` are filled.
    pub sack_blocks: u8,
    /// SACK blocks, left and right edge.
    pub sack: [[SeqNum; 2]; MAX_SACK_BLOCKS],
}

/// Room for a full header's options (40 bytes), and a power of two.
pub const BUFFER: usize = 64;
/// Its last place.
const LAST: u32 = BUFFER as u32 - 1;

/// Most options that are looked at, no-ops included; stacks send at most half as many.
const MAX_OPTIONS: u32 = 20;

/// Two no-ops, then timestamps: what every data segment of most stacks carries (RFC 7323, appendix A).
pub(crate) const USUAL: [u8; 4] = [1, 1, 8, 10];

impl Options {
    /// No options.
    #[inline(always)]
    pub const fn blank() -> Self {
        Self {
            mss: 0,
            window_scale: None,
            sack_permitted: false,
            timestamps: false,
            ts_val: 0,
            ts_ecr: 0,
            sack_blocks: 0,
            sack: [[SeqNum(0); 2]; MAX_SACK_BLOCKS],
        }
    }
}

/// Reads `len` (4 to 40) bytes of options at `offset` into blank `o`; a malformed option ends the list, as
/// RFC 9293, 3.1 allows.
#[inline(always)]
pub fn parse<F: Frame>(frame: &F, offset: u32, len: u32, o: &mut Options, cursor: &mut u32) {
    if len == 12
        && let Some(b) = frame.load::<12>(offset)
        && [b[0], b[1], b[2], b[3]] == USUAL
    {
        o.timestamps = true;
        o.ts_val = u32::from_be_bytes([b[4], b[5], b[6], b[7]]);
        o.ts_ecr = u32::from_be_bytes([b[8], b[9], b[10], b[11]]);
        return;
    }
    frame.with_buffer(|b| {
        if fill(frame, offset, len, b, cursor) {
            walk(b, len, o, cursor);
        }
    });
}

/// Copies the options word by word, as the header's length is counted in words; false when the frame ends before.
#[inline(always)]
fn fill<F: Frame>(frame: &F, offset: u32, len: u32, b: &mut [u8; BUFFER], cursor: &mut u32) -> bool {
    let mut i = 0;
    while i < 40 {
        if i < settled(cursor, len, LAST) {
            let Some(word) = frame.load::<4>(offset + i) else {
                return false;
            };
            let at = i as usize;
            (b[at], b[at + 1], b[at + 2], b[at + 3]) = (word[0], word[1], word[2], word[3]);
        }
        i += 4;
    }
    true
}

/// The byte at `i`. The compiler may know that `i` is inside and leave out the mask; before Linux 6.8 the verifier,
/// which compares registers with constants only, does not.
#[inline(always)]
fn at(b: &[u8; BUFFER], i: u32) -> u8 {
    b[(core::hint::black_box(i) & LAST) as usize]
}

#[inline(always)]
fn be32(b: &[u8; BUFFER], i: u32) -> u32 {
    u32::from_be_bytes([at(b, i), at(b, i + 1), at(b, i + 2), at(b, i + 3)])
}

/// Where the walk notes in the buffer, behind the options, where each one's data begins.
#[derive(Clone, Copy)]
enum Mark {
    Mss = 40,
    WindowScale,
    SackPermitted,
    Timestamps,
    Sack,
}

#[inline(always)]
fn mark(b: &mut [u8; BUFFER], m: Mark, data: u32) {
    let place: *mut u8 = &mut b[m as usize];
    // SAFETY: a reference is valid for writes. Volatile keeps the mark out of registers.
    unsafe { place.write_volatile(data as u8) };
}

/// Where the data of an option begins; 0 when it is absent.
#[inline(always)]
fn marked(b: &[u8; BUFFER], m: Mark) -> u32 {
    let place: *const u8 = &b[m as usize];
    // SAFETY: a reference is valid for reads.
    unsafe { place.read_volatile() as u32 & LAST }
}

/// Finds the options first and reads them after, with notes in memory: what is done in the loop, and what it leaves in
/// registers, the kernel's verifier follows for each round by itself.
#[inline(always)]
fn walk(b: &mut [u8; BUFFER], len: u32, o: &mut Options, cursor: &mut u32) {
    for m in [Mark::Mss, Mark::WindowScale, Mark::SackPermitted, Mark::Timestamps, Mark::Sack] {
        mark(b, m, 0);
    }
    let len = settled(cursor, len, LAST);
    let mut i = 0;
    for _ in 0..MAX_OPTIONS {
        i = settled(cursor, i, LAST);
        let kind = at(b, i);
        if i >= len || kind == 0 {
            break;
        }
        if kind == 1 {
            i += 1;
            continue;
        }
        let size = at(b, i + 1) as u32;
        if size < 2 || i + size > len {
            break;
        }
        let data = i + 2;
        match (kind, size) {
            (2, 4) => mark(b, Mark::Mss, data),
            (3, 3) => mark(b, Mark::WindowScale, data),
            (4, 2) => mark(b, Mark::SackPermitted, data),
            (8, 10) => mark(b, Mark::Timestamps, data),
            // From its size byte on: going back from the data is below the buffer for all that old verifiers know.
            (5, 10 | 18 | 26 | 34) => mark(b, Mark::Sack, i + 1),
            _ => {}
        }
        i += size;
    }
    let mss = marked(b, Mark::Mss);
    if mss != 0 {
        o.mss = u16::from_be_bytes([at(b, mss), at(b, mss + 1)]);
    }
    let scale = marked(b, Mark::WindowScale);
    if scale != 0 {
        // A shift above 14 is read as 14 (RFC 7323, 2.3).
        let shift = at(b, scale);
        o.window_scale = Some(if shift > 14 { 14 } else { shift });
    }
    o.sack_permitted = marked(b, Mark::SackPermitted) != 0;
    let timestamps = marked(b, Mark::Timestamps);
    if timestamps != 0 {
        o.timestamps = true;
        o.ts_val = be32(b, timestamps);
        o.ts_ecr = be32(b, timestamps + 4);
    }
    let sack = marked(b, Mark::Sack);
    if sack != 0 {
        o.sack_blocks = at(b, sack).saturating_sub(2) / 8;
        let mut n = 0;
        while n < MAX_SACK_BLOCKS {
            // Blocks beyond the count are bytes of other options, and never asked for.
            let edge = sack + 1 + 8 * n as u32;
            o.sack[n] = [SeqNum(be32(b, edge)), SeqNum(be32(b, edge + 4))];
            n += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(b: &[u8]) -> Options {
        let mut o = Options::blank();
        parse(&b, 0, b.len() as u32, &mut o, &mut 0);
        o
    }

    #[test]
    fn syn_options_of_linux() {
        let o = options(&[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 1, 2, 0, 0, 0, 0, 1, 3, 3, 7]);
        assert_eq!((o.mss, o.sack_permitted, o.window_scale), (1460, true, Some(7)));
        assert_eq!((o.timestamps, o.ts_val, o.ts_ecr), (true, 0x102, 0));
    }

    #[test]
    fn usual_layout_and_the_walk_agree() {
        let usual = [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
        let other = [8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1];
        assert_eq!(options(&usual), options(&other));
    }

    #[test]
    fn sack_blocks() {
        let mut b = vec![1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 8, 1, 1, 5, 18];
        for n in [100u32, 200, 300, 400] {
            b.extend(n.to_be_bytes());
        }
        let o = options(&b);
        assert_eq!(o.sack_blocks, 2);
        assert_eq!(o.sack[1], [SeqNum(300), SeqNum(400)]);
        assert_eq!(o.ts_val, 9);
    }

    #[test]
    fn malformed_options_end_the_list() {
        for b in [[8u8, 0, 0, 0], [8, 200, 0, 0], [5, 11, 0, 0], [1, 1, 1, 8]] {
            assert_eq!(options(&b), Options::blank());
        }
        assert_eq!(options(&[3, 3, 60, 0]).window_scale, Some(14));
    }
}
