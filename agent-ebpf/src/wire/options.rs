//! TCP options: MSS, window scale (RFC 7323), timestamps (RFC 7323), SACK (RFC 2018).

use super::Frame;
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

/// Two no-ops, then timestamps: what every data segment of most stacks carries (RFC 7323, appendix A).
const USUAL: [u8; 4] = [1, 1, 8, 10];

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
pub fn parse<F: Frame>(frame: &F, offset: u32, len: u32, o: &mut Options) {
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
        if fill(frame, offset, len, b) {
            walk(b, len, o);
        }
    });
}

/// Copies the options word by word, as the header's length is counted in words; false when the frame ends before.
#[inline(always)]
fn fill<F: Frame>(frame: &F, offset: u32, len: u32, b: &mut [u8; 40]) -> bool {
    let mut i = 0;
    while i < 40 {
        if i < len {
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

/// The byte at `i`, 0 (end of list) beyond the buffer.
#[inline(always)]
fn at(b: &[u8; 40], i: u32) -> u8 {
    match b.get(i as usize) {
        Some(x) => *x,
        None => 0,
    }
}

#[inline(always)]
fn be32(b: &[u8; 40], i: u32) -> u32 {
    u32::from_be_bytes([at(b, i), at(b, i + 1), at(b, i + 2), at(b, i + 3)])
}

#[inline(always)]
fn walk(b: &[u8; 40], len: u32, o: &mut Options) {
    let mut i = 0;
    // No-ops take a byte each, so forty rounds reach every option of a full header.
    for _ in 0..40 {
        if i >= len {
            return;
        }
        let kind = at(b, i);
        if kind == 0 {
            return;
        }
        if kind == 1 {
            i += 1;
            continue;
        }
        let size = at(b, i + 1) as u32;
        if size < 2 || i + size > len {
            return;
        }
        match (kind, size) {
            (2, 4) => o.mss = u16::from_be_bytes([at(b, i + 2), at(b, i + 3)]),
            // A shift above 14 is read as 14 (RFC 7323, 2.3).
            (3, 3) => o.window_scale = Some(if at(b, i + 2) > 14 { 14 } else { at(b, i + 2) }),
            (4, 2) => o.sack_permitted = true,
            (8, 10) => {
                o.timestamps = true;
                o.ts_val = be32(b, i + 2);
                o.ts_ecr = be32(b, i + 6);
            }
            (5, 10 | 18 | 26 | 34) => {
                o.sack_blocks = ((size - 2) / 8) as u8;
                let mut n = 0;
                while n < MAX_SACK_BLOCKS {
                    let edge = i + 2 + 8 * n as u32;
                    if edge + 8 <= i + size {
                        o.sack[n] = [SeqNum(be32(b, edge)), SeqNum(be32(b, edge + 4))];
                    }
                    n += 1;
                }
            }
            _ => {}
        }
        i += size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(b: &[u8]) -> Options {
        let mut o = Options::blank();
        parse(&b, 0, b.len() as u32, &mut o);
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
