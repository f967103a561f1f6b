//! Captures: a file, or standard input, packet by packet.
//!
//! pcap with microseconds or nanoseconds and of either byte order, pcapng with any number of sections and interfaces,
//! both of them as they are or compressed by gzip or zstd. What a file is, its first bytes say, never its name.

mod problem;

pub use agent_ebpf::wire::Link;
pub use problem::{Fault, Problem};

use agent_ebpf::{time::Nanos, wire::Frame};
use anyhow::Result;
use std::path::Path;

/// One packet of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Of its record in the file, from 1, whatever the record holds.
    pub number: u64,
    /// When it was captured, since the Unix epoch.
    pub at: Nanos,
    /// Bytes on the wire, of which fewer may be captured.
    pub wire_len: u32,
    /// What is captured of it.
    pub bytes: &'a [u8],
    /// How to read its start.
    pub link: Link,
    /// Which of the file's interfaces saw it, from 0 through all sections.
    pub interface: u32,
}

impl Frame for Packet<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.bytes.load(offset)
    }

    #[inline(always)]
    fn wire_len(&self) -> u32 {
        self.wire_len
    }

    #[inline(always)]
    fn link(&self) -> Link {
        self.link
    }

    #[inline(always)]
    fn tunnels(&self) -> bool {
        true
    }
}

/// A capture that is being read. Memory does not grow with it.
pub struct Capture {}

impl Capture {
    /// Opens a file, or standard input for `-`, and reads as far as is needed to know what it is.
    pub fn open(path: &Path) -> Result<Self> {
        let _ = path;
        anyhow::bail!("not yet")
    }

    /// The next packet, or what is wrong at this place; none at the end, and after a fault that ends the reading.
    pub fn next(&mut self) -> Option<Result<Packet<'_>, Problem>> {
        None
    }

    /// Bytes of the file that are read so far; of a compressed file, compressed bytes.
    pub fn position(&self) -> u64 {
        0
    }

    /// Bytes of the whole file; none where it is no regular file.
    pub fn size(&self) -> Option<u64> {
        None
    }
}
