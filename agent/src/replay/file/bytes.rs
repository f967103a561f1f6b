//! Numbers in the byte order of the machine that wrote a file.

/// A byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

impl Order {
    /// The number at `at`, which must be inside.
    #[inline(always)]
    pub fn u32(self, b: &[u8], at: usize) -> u32 {
        let word = [b[at], b[at + 1], b[at + 2], b[at + 3]];
        match self {
            Self::Little => u32::from_le_bytes(word),
            Self::Big => u32::from_be_bytes(word),
        }
    }

    /// The number at `at`, which must be inside.
    #[inline(always)]
    pub fn u16(self, b: &[u8], at: usize) -> u16 {
        let word = [b[at], b[at + 1]];
        match self {
            Self::Little => u16::from_le_bytes(word),
            Self::Big => u16::from_be_bytes(word),
        }
    }

    /// Eight bytes as a signed number.
    pub fn i64(self, b: [u8; 8]) -> i64 {
        match self {
            Self::Little => i64::from_le_bytes(b),
            Self::Big => i64::from_be_bytes(b),
        }
    }
}
