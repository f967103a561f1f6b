//! The pcap format: a header that says how the file is written, then records.
//!
//! <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-06.html>

use super::{
    Record, Step,
    bytes::Order,
    problem::Fault,
    stream::{MAX_HELD, Stream},
};
use agent_ebpf::{time::Nanos, wire::Link};

/// Bytes of the file's header.
const HEADER: usize = 24;

/// The longest record that is believed: libpcap's MAXIMUM_SNAPLEN.
pub const MAX_RECORD: u32 = 262_144;

/// A way to write a pcap file.
struct Variant {
    magic: u32,
    /// Nanoseconds in a unit of the records' fractions.
    unit: u64,
    /// Bytes of a record's header.
    record: usize,
}

const VARIANTS: &[Variant] = &[
    Variant { magic: 0xa1b2_c3d4, unit: 1_000, record: 16 },
    Variant { magic: 0xa1b2_3c4d, unit: 1, record: 16 },
    // "Modified", by patches of 1998 to 2000: an interface, a protocol and a packet type in each record's header.
    Variant { magic: 0xa1b2_cd34, unit: 1_000, record: 24 },
];

/// A pcap file being read.
pub struct Pcap {
    order: Order,
    unit: u64,
    header: usize,
    link: Result<Link, u32>,
}

impl Pcap {
    /// Reads the file's header; none if it is no such file.
    pub fn begin(stream: &mut Stream) -> Option<Self> {
        if !stream.have(HEADER) {
            return None;
        }
        let b = stream.ahead();
        let (order, variant) = [Order::Little, Order::Big].into_iter().find_map(|order| {
            let magic = order.u32(b, 0);
            Some((order, VARIANTS.iter().find(|v| v.magic == magic)?))
        })?;
        // Above the type's 16 bits: the length of frame check sequences, which the IP length makes needless.
        let number = order.u32(b, 20) & 0xffff;
        let (unit, header) = (variant.unit, variant.record);
        stream.take(HEADER as u64);
        Some(Self { order, unit, header, link: Link::of(number).ok_or(number) })
    }

    /// The next record.
    #[inline(always)]
    pub fn step(&mut self, stream: &mut Stream) -> Step {
        const INSIDE: &str = "a packet record";
        if !stream.have(self.header) {
            return match stream.end(INSIDE) {
                Some(fault) => Step::Fault(stream.offset(), fault),
                None => Step::End,
            };
        }
        let b = stream.ahead();
        let [seconds, fraction, len, wire_len] = [0, 4, 8, 12].map(|at| self.order.u32(b, at));
        if len > MAX_RECORD {
            return Step::Fault(stream.offset(), Fault::RecordLength(len));
        }
        let held = (len as usize).min(MAX_HELD - self.header);
        if !stream.have(self.header + held) {
            let fault = stream.end(INSIDE).unwrap_or(Fault::Cut(INSIDE));
            return Step::Fault(stream.offset(), fault);
        }
        let offset = stream.offset();
        let start = stream.take(self.header as u64 + u64::from(len)) + self.header;
        Step::Packet(Record {
            offset,
            at: Nanos(u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * self.unit),
            wire_len: wire_len.max(len),
            start,
            len: held,
            link: self.link,
            interface: 0,
        })
    }
}
