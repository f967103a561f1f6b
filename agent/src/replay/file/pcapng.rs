//! The pcapng format: sections of blocks, each with its length at both ends.
//!
//! <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html>

use super::{
    Record, Step,
    bytes::Order,
    interface::Interface,
    problem::Fault,
    stream::{MAX_HELD, Stream},
};
use agent_ebpf::time::Nanos;

/// Most interfaces of a file that are kept apart.
pub const MAX_INTERFACES: usize = 65_536;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
/// The packet block that the enhanced one replaced.
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// A block's type and length, and its length again at its end.
const AROUND: usize = 12;

/// A pcapng file being read.
pub struct PcapNg {
    order: Order,
    interfaces: Vec<Interface>,
    /// The section's first interface.
    first: usize,
    /// The time of the packet before, for packets without one.
    last: Nanos,
}

/// What a packet block says, its data from `start` on.
struct Found {
    interface: u32,
    /// In units of the interface's; none in a simple packet block.
    time: Option<u64>,
    start: usize,
    len: u32,
    wire_len: u32,
}

impl PcapNg {
    /// Looks at the file's first block; none if it is no section header.
    pub fn begin(stream: &mut Stream) -> Option<Self> {
        if !stream.have(AROUND) || Order::Little.u32(stream.ahead(), 0) != SECTION {
            return None;
        }
        byte_order(stream.ahead())?;
        Some(Self { order: Order::Little, interfaces: Vec::new(), first: 0, last: Nanos(0) })
    }

    /// The next packet.
    #[inline(always)]
    pub fn step(&mut self, stream: &mut Stream) -> Step {
        const INSIDE: &str = "a block";
        loop {
            if !stream.have(AROUND) {
                return match stream.end(INSIDE) {
                    Some(fault) => Step::Fault(stream.offset(), fault),
                    None => Step::End,
                };
            }
            let (offset, b) = (stream.offset(), stream.ahead());
            let kind = self.order.u32(b, 0);
            if kind == SECTION {
                match byte_order(b) {
                    Some(order) => self.order = order,
                    None => return Step::Fault(offset, Fault::ByteOrder([b[8], b[9], b[10], b[11]])),
                }
                self.first = self.interfaces.len();
            }
            let len = self.order.u32(b, 4);
            if (len as usize) < AROUND {
                return Step::Fault(offset, Fault::BlockLength(len));
            }
            // A multiple of four by the format, but there are writers that do not pad.
            let whole = u64::from(len).next_multiple_of(4);
            let held = whole.min(MAX_HELD as u64) as usize;
            if !stream.have(held) {
                let fault = stream.end(INSIDE).unwrap_or(Fault::Cut(INSIDE));
                return Step::Fault(offset, fault);
            }
            let step = self.block(kind, len, &stream.ahead()[..held], whole == held as u64);
            let start = stream.take(whole);
            match step {
                Ok(None) => {}
                Ok(Some(found)) => return self.packet(&found, offset, start),
                Err(fault) if matches!(kind, OLD_PACKET | SIMPLE_PACKET | ENHANCED_PACKET) => {
                    return Step::BrokenPacket(offset, fault);
                }
                Err(fault) => return Step::Fault(offset, fault),
            }
        }
    }

    /// Reads a block, of which `b` is as much as is held.
    #[inline(always)]
    fn block(&mut self, kind: u32, len: u32, b: &[u8], complete: bool) -> Result<Option<Found>, Fault> {
        if complete {
            let last = self.order.u32(b, b.len() - 4);
            if last != len {
                return Err(Fault::BlockEnd { first: len, last });
            }
        }
        let room = len - AROUND as u32;
        let o = self.order;
        let found = match kind {
            ENHANCED_PACKET if room >= 20 => Found {
                interface: o.u32(b, 8),
                time: Some(u64::from(o.u32(b, 12)) << 32 | u64::from(o.u32(b, 16))),
                start: 28,
                len: o.u32(b, 20),
                wire_len: o.u32(b, 24),
            },
            OLD_PACKET if room >= 20 => Found {
                interface: o.u16(b, 8).into(),
                time: Some(u64::from(o.u32(b, 12)) << 32 | u64::from(o.u32(b, 16))),
                start: 28,
                len: o.u32(b, 20),
                wire_len: o.u32(b, 24),
            },
            SIMPLE_PACKET if room >= 4 => {
                let wire_len = o.u32(b, 8);
                let snap = self.interfaces.get(self.first).map_or(0, |i| i.snap_len);
                let len = if snap == 0 { wire_len } else { wire_len.min(snap) };
                Found { interface: 0, time: None, start: 12, len: len.min(room - 4), wire_len }
            }
            ENHANCED_PACKET | OLD_PACKET | SIMPLE_PACKET => return Err(Fault::Contents("a packet block")),
            INTERFACE => {
                let within = &b[8..b.len().min(len as usize - 4)];
                let Some(interface) = Interface::read(o, within) else {
                    return Err(Fault::Contents("an interface block"));
                };
                if self.interfaces.len() == MAX_INTERFACES {
                    return Err(Fault::Interfaces);
                }
                self.interfaces.push(interface);
                return Ok(None);
            }
            _ => return Ok(None),
        };
        if found.len > len - 4 - found.start as u32 {
            return Err(Fault::Contents("a packet block"));
        }
        if found.interface as usize >= self.interfaces.len() - self.first {
            return Err(Fault::Interface(found.interface));
        }
        Ok(Some(found))
    }

    #[inline(always)]
    fn packet(&mut self, found: &Found, offset: u64, start: usize) -> Step {
        let place = self.first + found.interface as usize;
        let interface = &self.interfaces[place];
        if let Some(time) = found.time {
            self.last = interface.resolution.at(time);
        }
        Step::Packet(Record {
            offset,
            at: self.last,
            wire_len: found.wire_len.max(found.len),
            start: start + found.start,
            len: (found.len as usize).min(MAX_HELD - found.start),
            link: interface.link,
            interface: place as u32,
        })
    }
}

/// The byte order of a section whose header begins here.
fn byte_order(b: &[u8]) -> Option<Order> {
    [Order::Little, Order::Big].into_iter().find(|order| order.u32(b, 8) == 0x1a2b_3c4d)
}
