//! Captures: a file, or standard input, packet by packet.
//!
//! pcap with microseconds or nanoseconds and of either byte order, pcapng with any number of sections and interfaces,
//! both of them as they are or compressed by gzip or zstd. What a file is, its first bytes say, never its name.
//!
//! The formats are read by hand. Of the libraries for it, pcap-parser is the one that streams; it wants each block whole
//! in memory whatever its length, gives up a packet for an option it cannot read, reads `if_tsoffset` in one byte order
//! and "modified" files in one, and after an error there is no way on to the next block.
//!
//! Reading order: `compressed` (bytes), `stream` (a window over them), `pcap` and `pcapng` (records), `problem`.

mod bytes;
mod compressed;
mod interface;
mod pcap;
mod pcapng;
mod problem;
mod stream;
#[cfg(test)]
mod tests;

pub use agent_ebpf::wire::Link;
pub use problem::{Fault, Problem};

use agent_ebpf::{
    time::Nanos,
    wire::{Frame, Piece},
};
use anyhow::{Context as _, bail};
use compressed::Source;
use pcap::Pcap;
use pcapng::PcapNg;
use std::{collections::BTreeSet, io::Read, path::Path};
use stream::Stream;

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
    fn piece<const LEN: usize>(&self, offset: u32) -> Option<Piece<'_, LEN>> {
        self.bytes.piece(offset)
    }

    #[inline(always)]
    fn wire_len(&self) -> u32 {
        self.wire_len
    }

    /// What the IP header says is believed: there are tools that cut packets and write what is left as the length.
    #[inline(always)]
    fn holds(&self, _: u32) -> bool {
        true
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

/// A packet's record, its bytes still in the stream.
struct Record {
    offset: u64,
    at: Nanos,
    wire_len: u32,
    start: usize,
    len: usize,
    /// The link layer, or the number of one that is not read.
    link: Result<Link, u32>,
    interface: u32,
}

/// What a format's reader came to.
enum Step {
    Packet(Record),
    /// A packet is there, and cannot be read.
    BrokenPacket(u64, Fault),
    Fault(u64, Fault),
    End,
}

enum Format {
    Pcap(Pcap),
    PcapNg(PcapNg),
}

/// A capture that is being read. Memory does not grow with it.
pub struct Capture {
    stream: Stream,
    format: Format,
    size: Option<u64>,
    /// Packets so far.
    number: u64,
    /// Interfaces of which it was said that their packets are not read.
    unread: BTreeSet<u32>,
    over: bool,
}

impl Capture {
    /// Opens a file, or standard input for `-`, and reads as far as is needed to know what it is.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let (source, size) = Source::open(path)?;
        Self::begin(source, size).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Takes the bytes of a file from elsewhere, and reads as far as is needed to know what it is.
    pub fn of(input: impl Read + Send + 'static) -> anyhow::Result<Self> {
        Self::begin(Source::new(Box::new(input))?, None)
    }

    fn begin(source: Source, size: Option<u64>) -> anyhow::Result<Self> {
        let mut stream = Stream::new(source);
        let format = if let Some(pcap) = Pcap::begin(&mut stream) {
            Format::Pcap(pcap)
        } else if let Some(pcapng) = PcapNg::begin(&mut stream) {
            Format::PcapNg(pcapng)
        } else {
            const HEADER: Fault = Fault::Cut("its header");
            let known = Pcap::known(stream.ahead()) || PcapNg::known(stream.ahead());
            let first = match stream.ahead() {
                [] => "it is empty".to_owned(),
                b => format!("it begins with {:02x?}", &b[..b.len().min(4)]),
            };
            match stream.end("its header").filter(|fault| known || *fault != HEADER) {
                Some(fault) => bail!("{fault}"),
                None => bail!(
                    "{first}; captures are read in pcap and pcapng, as they are or compressed by gzip or zstd"
                ),
            }
        };
        Ok(Self { stream, format, size, number: 0, unread: BTreeSet::new(), over: false })
    }

    /// The next packet, or what is wrong at this place; none at the end, and after a fault that ends the reading.
    #[inline]
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator's items outlive the call; these lie in the window"
    )]
    pub fn next(&mut self) -> Option<Result<Packet<'_>, Problem>> {
        let (record, link) = loop {
            if self.over {
                return None;
            }
            let step = match &mut self.format {
                Format::Pcap(pcap) => pcap.step(&mut self.stream),
                Format::PcapNg(pcapng) => pcapng.step(&mut self.stream),
            };
            match step {
                Step::Packet(record) => {
                    self.number += 1;
                    match record.link {
                        Ok(link) => break (record, link),
                        Err(number) if self.unread.insert(record.interface) => {
                            let fault = Fault::LinkType { number, interface: record.interface };
                            return Some(Err(Problem { offset: record.offset, fault }));
                        }
                        Err(_) => {}
                    }
                }
                Step::BrokenPacket(offset, fault) => {
                    self.number += 1;
                    return Some(Err(Problem { offset, fault }));
                }
                Step::Fault(offset, fault) => {
                    let problem = Problem { offset, fault };
                    self.over = problem.ends();
                    return Some(Err(problem));
                }
                Step::End => self.over = true,
            }
        };
        Some(Ok(Packet {
            number: self.number,
            at: record.at,
            wire_len: record.wire_len,
            bytes: self.stream.at(record.start, record.len),
            link,
            interface: record.interface,
        }))
    }

    /// Bytes of the file that are read so far; of a compressed file, compressed bytes.
    pub fn position(&self) -> u64 {
        self.stream.position()
    }

    /// Bytes of the whole file; none where it is no regular file.
    pub fn size(&self) -> Option<u64> {
        self.size
    }
}
