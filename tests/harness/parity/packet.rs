//! What goes into both sides: a frame, the hook it comes to, and when.

use std::fmt;

use agent_ebpf::label::Direction;
use agent_ebpf::layout::{TC_EGRESS, TC_INGRESS, XDP_INGRESS};
use agent_ebpf::wire::{self, Segment};

/// A place where the kernel runs a program on a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Ingress at XDP.
    Xdp,
    /// Ingress at tc.
    TcIn,
    /// Egress at tc.
    TcOut,
}

impl Hook {
    /// The program there.
    pub fn program(self) -> &'static str {
        match self {
            Self::Xdp => XDP_INGRESS,
            Self::TcIn => TC_INGRESS,
            Self::TcOut => TC_EGRESS,
        }
    }

    /// Which way packets go there.
    pub fn direction(self) -> Direction {
        if self == Self::TcOut { Direction::Egress } else { Direction::Ingress }
    }
}

/// A frame on its way.
#[derive(Clone, PartialEq, Eq)]
pub struct Packet {
    /// Nanoseconds of the programs' clock.
    pub at: u64,
    /// Where it is seen.
    pub hook: Hook,
    /// Segments and the size of each, for a super-packet; tc alone knows them.
    pub gso: (u32, u32),
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
}

impl wire::Frame for Packet {
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.bytes.as_slice().load(offset)
    }

    fn piece<const LEN: usize>(&self, offset: u32) -> Option<wire::Piece<'_, LEN>> {
        wire::Piece::<LEN>::of(self.bytes.get(offset as usize..)?)
    }

    fn wire_len(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn gso_segments(&self) -> u32 {
        if self.hook == Hook::Xdp { 0 } else { self.gso.0 }
    }

    fn gso_size(&self) -> u32 {
        if self.hook == Hook::Xdp { 0 } else { self.gso.1 }
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, hook, gso, bytes } = self;
        write!(f, "{at} ns {hook:?} gso {gso:?} ")?;
        let mut s = Segment::blank();
        match s.read(self) {
            Ok(()) => write!(
                f,
                "{}>{} flags {:#04x} seq {} ack {} len {} win {} id {} ttl {} vlans {} ts {:?} sack {:?} ",
                s.sport,
                s.dport,
                s.flags.0,
                s.seq.0,
                s.ack.0,
                s.payload,
                s.window,
                s.ip_id,
                s.ttl,
                s.vlans,
                s.options.timestamps.then_some(s.options.ts_val),
                &s.options.sack[..usize::from(s.options.sack_blocks)],
            )?,
            Err(why) => write!(f, "refused as {} ", why.name())?,
        }
        for byte in &bytes[..bytes.len().min(160)] {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}
