//! What can be wrong with a capture, and what is done about it.

use std::fmt;

/// Something in the file that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, in bytes from the start of the file; of a compressed file, of its uncompressed contents.
    pub offset: u64,
    /// What.
    pub fault: Fault,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The file ends in the middle of something.
    Cut,
}

impl Problem {
    /// Whether reading ends here.
    pub fn ends(&self) -> bool {
        matches!(self.fault, Fault::Cut)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: the file ends here in the middle of a packet", self.offset)
    }
}
