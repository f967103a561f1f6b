//! What can be wrong with a capture, and what is done about it.

use std::fmt;

/// Something in a capture that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where what is wrong begins, in bytes from the start of the file; of a compressed file, of its contents.
    pub offset: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The file ends inside of this.
    Cut(&'static str),
    /// The file, or what it is compressed with, could not be read further.
    Read(String),
    /// A pcap record claims to hold this many bytes; where the next one begins is anyone's guess.
    RecordLength(u32),
    /// A pcapng block claims to be this long; where the next one begins is anyone's guess.
    BlockLength(u32),
    /// A pcapng section is in no byte order that there is.
    ByteOrder([u8; 4]),
    /// A pcapng block ends with another length than it begins with.
    BlockEnd {
        /// At its start, which is believed.
        first: u32,
        /// At its end.
        last: u32,
    },
    /// A pcapng block is too short for what it says is in it.
    Contents(&'static str),
    /// A packet of an interface that the section does not describe.
    Interface(u32),
    /// More interfaces than are kept apart.
    Interfaces,
    /// Packets of a link type that is not read.
    LinkType {
        /// Its number.
        number: u32,
        /// The interface, counted from 0 through all sections.
        interface: u32,
    },
}

impl Problem {
    /// Whether reading ends here.
    pub fn ends(&self) -> bool {
        match self.fault {
            Fault::Cut(_)
            | Fault::Read(_)
            | Fault::RecordLength(_)
            | Fault::BlockLength(_)
            | Fault::ByteOrder(_)
            | Fault::Interfaces => true,
            Fault::BlockEnd { .. } | Fault::Contents(_) | Fault::Interface(_) | Fault::LinkType { .. } => {
                false
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut(inside) => write!(f, "the file ends inside of {inside}"),
            Self::Read(error) => write!(f, "reading failed: {error}"),
            Self::RecordLength(n) => write!(f, "a packet record of {n} bytes cannot be"),
            Self::BlockLength(n) => write!(f, "a block of {n} bytes cannot be"),
            Self::ByteOrder(b) => write!(f, "a section of unknown byte order {b:02x?}"),
            Self::BlockEnd { first, last } => {
                write!(f, "a block that begins with a length of {first} bytes ends with one of {last}")
            }
            Self::Contents(block) => write!(f, "{block} is shorter than what it says is in it"),
            Self::Interface(n) => write!(f, "a packet of interface {n}, which is not described before it"),
            Self::Interfaces => write!(f, "more than {} interfaces", super::pcapng::MAX_INTERFACES),
            Self::LinkType { number, interface } => {
                write!(f, "link type {number} of interface {interface} is not one that is read")
            }
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {}: ", self.offset, self.fault)?;
        match self.fault {
            Fault::LinkType { .. } => f.write_str("its packets are numbered and left out"),
            _ if self.ends() => f.write_str("what comes before is judged, what comes after is not"),
            _ => f.write_str("it is left out, what comes after is judged"),
        }
    }
}
