//! Classic capture files of Ethernet frames, whose records are changed in place.

use std::ops::Range;

use anyhow::{Result, bail};

const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
/// Microseconds and nanoseconds.
const MAGIC: [u32; 2] = [0xa1b2_c3d4, 0xa1b2_3c4d];
const ETHERNET: u32 = 1;

/// A file in memory.
pub struct Capture {
    /// All of it.
    pub bytes: Vec<u8>,
    little_endian: bool,
}

impl Capture {
    /// Looks at the file's header.
    pub fn read(bytes: Vec<u8>) -> Result<Self> {
        let mut capture = Self { bytes, little_endian: true };
        if capture.bytes.len() < FILE_HEADER {
            bail!("the file is shorter than its header");
        }
        if !MAGIC.contains(&capture.word(0)) {
            capture.little_endian = false;
        }
        if !MAGIC.contains(&capture.word(0)) || capture.word(20) != ETHERNET {
            bail!("only classic capture files of Ethernet frames can be rewritten");
        }
        Ok(capture)
    }

    /// Where each whole record's frame is.
    pub fn records(&self) -> Vec<Range<usize>> {
        let mut records = Vec::new();
        let mut at = FILE_HEADER;
        while at + RECORD_HEADER <= self.bytes.len() {
            let start = at + RECORD_HEADER;
            let end = start + self.word(at + 8) as usize;
            if end > self.bytes.len() {
                break;
            }
            records.push(start..end);
            at = end;
        }
        records
    }

    fn word(&self, at: usize) -> u32 {
        let bytes = self.bytes[at..at + 4].try_into().expect("four bytes are four bytes");
        if self.little_endian { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_records_of_either_byte_order_are_found() {
        for swap in [false, true] {
            let word = |value: u32| if swap { value.to_be_bytes() } else { value.to_le_bytes() };
            let mut bytes: Vec<u8> = [MAGIC[1], 0, 0, 0, 128, ETHERNET].map(word).concat();
            bytes.extend([1, 2, 3, 3].map(word).concat());
            bytes.extend(b"abc");
            bytes.extend([1, 2, 9, 9].map(word).concat());
            bytes.extend(b"cut");
            let records = Capture::read(bytes).unwrap().records();
            assert_eq!(records.iter().map(|range| (range.start, range.end)).collect::<Vec<_>>(), [(40, 43)]);
        }
        assert!(Capture::read(vec![0; 24]).is_err());
    }
}
