//! Classic capture files of Ethernet frames: written with nanoseconds, read with either precision and byte order.

use std::fs;
use std::io;
use std::path::Path;

use super::Timed;

const NANOSECONDS: u32 = 0xa1b2_3c4d;
const MICROSECONDS: u32 = 0xa1b2_c3d4;
const ETHERNET: u32 = 1;
const FILE_HEADER: usize = 24;
const FRAME_HEADER: usize = 16;

/// Writes the frames to a file.
pub fn write(path: &Path, frames: &[Timed]) -> io::Result<()> {
    let mut bytes = Vec::new();
    for word in [NANOSECONDS, 4 << 16 | 2, 0, 0, 262_144, ETHERNET] {
        bytes.extend(word.to_le_bytes());
    }
    for Timed { at, frame } in frames {
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        let seconds = u32::try_from(at / 1_000_000_000).map_err(io::Error::other)?;
        for word in [seconds, (at % 1_000_000_000) as u32, length, length] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(frame);
    }
    fs::write(path, bytes)
}

/// Reads the frames of a file. A frame that is still being written is left out.
pub fn read(path: &Path) -> io::Result<Vec<Timed>> {
    let bytes = fs::read(path)?;
    let Some((header, mut rest)) = bytes.split_at_checked(FILE_HEADER) else {
        return Err(io::Error::other("the file is shorter than its header"));
    };
    let magic = |word: [u8; 4]| match (u32::from_le_bytes(word), u32::from_be_bytes(word)) {
        (NANOSECONDS, _) => Some((true, 1)),
        (MICROSECONDS, _) => Some((true, 1000)),
        (_, NANOSECONDS) => Some((false, 1)),
        (_, MICROSECONDS) => Some((false, 1000)),
        _ => None,
    };
    let Some((little, unit)) = magic(word(header, 0)) else {
        return Err(io::Error::other("this is no classic capture file"));
    };
    let number = |bytes, place| {
        if little { u32::from_le_bytes(word(bytes, place)) } else { u32::from_be_bytes(word(bytes, place)) }
    };
    let mut frames = Vec::new();
    while let Some((header, tail)) = rest.split_at_checked(FRAME_HEADER) {
        let Some((frame, tail)) = tail.split_at_checked(number(header, 2) as usize) else { break };
        let at = u64::from(number(header, 0)) * 1_000_000_000 + u64::from(number(header, 1)) * unit;
        frames.push(Timed { at, frame: frame.to_vec() });
        rest = tail;
    }
    Ok(frames)
}

fn word(bytes: &[u8], place: usize) -> [u8; 4] {
    bytes[4 * place..4 * place + 4].try_into().expect("four bytes are four bytes")
}
