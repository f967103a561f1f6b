//! Bytes on the ring: what the kernel tells the daemon, defined once.
//!
//! Integers only, padding explicit, sizes asserted; what arrives is decoded with checks and never trusted.

use crate::{
    anomaly::{AnomalySet, reset, reuse},
    facts::{Evidence, Facts, RetransKind, Verdict},
    flow::Flow,
    label::{Direction, Side},
    scoreboard::Counts,
    seq::SeqNum,
    time::Nanos,
    traffic::Close,
    wire::{Addr, QUOTED, Segment},
};
use bytemuck::{Pod, Zeroable};

/// What a record is.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// [`AnomalyRecord`].
    Anomaly = 1,
    /// [`EndRecord`].
    End = 2,
    /// [`TextRecord`].
    Text = 3,
}

/// Whom a record is about.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Head {
    /// A [`Tag`].
    pub tag: u32,
    /// VLAN identifiers as in [`Segment::vlans`].
    pub vlans: u32,
    /// When, by the kernel's monotonic clock.
    pub at: Nanos,
    /// Client's address.
    pub client: Addr,
    /// Server's address.
    pub server: Addr,
    /// Client's port.
    pub client_port: u16,
    /// Server's port.
    pub server_port: u16,
    /// Service, 0 for none.
    pub svc: u16,
    /// Point.
    pub point: u8,
    /// A [`Direction`] code.
    pub direction: u8,
}
const _: () = assert!(size_of::<Head>() == 56);

impl Head {
    /// Names the client as the server, and the other way round.
    #[inline(always)]
    pub(crate) fn turn(&mut self) {
        let Self { client, server, client_port, server_port, .. } = *self;
        (self.client, self.server) = (server, client);
        (self.client_port, self.server_port) = (server_port, client_port);
    }
}

/// One segment with at least one anomaly, and the evidence.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct AnomalyRecord {
    /// Whom it is about.
    pub head: Head,
    /// From the previous connection's close, nanoseconds; 0 unless a five-tuple was reused after a close.
    pub gap: u64,
    /// Nanoseconds since the flow's last packet.
    pub silence: u64,
    /// An [`AnomalySet`].
    pub anomalies: u32,
    /// The segment's sequence number.
    pub seq: SeqNum,
    /// Its acknowledgement number.
    pub ack: SeqNum,
    /// Where the half had ended.
    pub expected: SeqNum,
    /// What the other side had acknowledged of it.
    pub acked: SeqNum,
    /// Payload bytes.
    pub payload: u32,
    /// Wire segments that the verdict holds for.
    pub segments: u32,
    /// Microseconds since the hole opened.
    pub hole_age_us: u32,
    /// TSval, 0 where absent.
    pub ts_val: u32,
    /// Bytes of a request left unanswered.
    pub unanswered: u32,
    /// Window, unscaled.
    pub window: u16,
    /// IPv4 identification.
    pub ip_id: u16,
    /// A [`Side`] code: who sent the segment.
    pub from: u8,
    /// TCP flags.
    pub flags: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// A [`Verdict`] code.
    pub verdict: u8,
    /// An [`Evidence`] code.
    pub evidence: u8,
    /// A [`RetransKind`] code.
    pub kind: u8,
    /// A [`reset::Cause`] code plus 1.
    pub cause: u8,
    /// A [`reset::Origin`] code plus 1.
    pub origin: u8,
    /// A [`reuse::Holder`] code plus 1.
    pub holder: u8,
    /// A [`reuse::Outcome`] code plus 1.
    pub outcome: u8,
    /// Duplicate ACKs of the other side in a row.
    pub dup_acks: u8,
    /// Unanswered repeats of the same bytes.
    pub repeats: u8,
}
const _: () = assert!(size_of::<AnomalyRecord>() == 128);

impl AnomalyRecord {
    /// Writes the record of `s`; `head` names the segment's sender as the client. In place, as it goes on the ring.
    #[inline(always)]
    pub fn fill(&mut self, s: &Segment, f: &Facts, set: AnomalySet, head: Head) {
        self.head = head;
        self.head.tag = Tag::Anomaly as u32;
        self.head.svc = f.svc;
        if matches!(f.side, Side::Server) {
            self.head.turn();
        }
        self.gap = f.gap;
        self.silence = f.silence;
        self.anomalies = set.0;
        self.seq = s.seq;
        self.ack = s.ack;
        self.expected = f.expected;
        self.acked = f.acked;
        self.payload = s.payload;
        self.segments = f.segments;
        self.hole_age_us = f.hole_age_us;
        self.ts_val = s.options.ts_val;
        self.unanswered = f.unanswered;
        self.window = s.window;
        self.ip_id = s.ip_id;
        self.from = f.side as u8;
        self.flags = s.flags.0;
        self.ttl = s.ttl;
        self.verdict = f.verdict as u8;
        self.evidence = f.evidence as u8;
        self.kind = f.kind as u8;
        self.cause = if f.rst { f.cause } else { 0 };
        self.origin = if f.rst { reset::origin(f) as u8 + 1 } else { 0 };
        self.holder = match f.holder {
            Some(h) => h as u8 + 1,
            None => 0,
        };
        self.outcome = match f.outcome {
            Some(o) => o as u8 + 1,
            None => 0,
        };
        self.dup_acks = f.dup_acks;
        self.repeats = f.repeats;
    }
}

/// A connection that ended, with all that was known of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct EndRecord {
    /// Whom it is about.
    pub head: Head,
    /// Counts of each half, zero where nothing was wrong.
    pub counts: [Counts; 2],
    /// Its last state; the lock means nothing.
    pub flow: Flow,
}
const _: () = assert!(size_of::<EndRecord>() == 56 + 96 + 256);

/// How a request or an answer begins, of a service that speaks HTTP in the clear.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct TextRecord {
    /// Whom it is about.
    pub head: Head,
    /// How many of the bytes count.
    pub len: u32,
    /// A [`Side`] code: who said it.
    pub from: u32,
    /// The first bytes of its payload.
    pub bytes: [u8; QUOTED],
}
const _: () = assert!(size_of::<TextRecord>() == 56 + 8 + 256);

impl TextRecord {
    /// Writes all but the bytes, of which `len` are there; `head` names the sender as the client.
    #[inline(always)]
    pub fn fill(&mut self, head: Head, from: Side, svc: u16, len: u32) {
        self.head = head;
        self.head.tag = Tag::Text as u32;
        self.head.svc = svc;
        if matches!(from, Side::Server) {
            self.head.turn();
        }
        self.len = len;
        self.from = from as u32;
    }

    /// What was said.
    pub fn text(&self) -> &[u8] {
        let len = (self.len as usize).min(QUOTED);
        self.bytes.get(..len).unwrap_or_default()
    }
}

/// A decoded record.
#[allow(clippy::large_enum_variant)] // read once and taken apart; a box would need an allocator
#[derive(Clone, Copy, Debug)]
pub enum Record {
    /// A segment with an anomaly.
    Anomaly(AnomalyRecord),
    /// A connection's end.
    End(EndRecord),
    /// How a request or an answer begins.
    Text(TextRecord),
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Too short for what the tag says.
    Short,
    /// A tag of another version.
    Tag(u32),
    /// A code outside its table.
    Code,
}

impl Record {
    /// Decodes one record of the ring.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let tag = bytes.get(..4).map(bytemuck::pod_read_unaligned::<u32>).ok_or(Malformed::Short)?;
        if tag == Tag::Anomaly as u32 {
            let r: AnomalyRecord = read(bytes)?;
            let sound = Side::from_code(r.from).is_some()
                && Direction::from_code(r.head.direction).is_some()
                && Verdict::from_code(r.verdict).is_some()
                && Evidence::from_code(r.evidence).is_some()
                && RetransKind::from_code(r.kind).is_some()
                && optional(r.cause, reset::Cause::from_code)
                && optional(r.origin, reset::Origin::from_code)
                && optional(r.holder, reuse::Holder::from_code)
                && optional(r.outcome, reuse::Outcome::from_code);
            return if sound { Ok(Self::Anomaly(r)) } else { Err(Malformed::Code) };
        }
        if tag == Tag::End as u32 {
            let r: EndRecord = read(bytes)?;
            let sound = Direction::from_code(r.head.direction).is_some()
                && r.flow.close != 0
                && optional(r.flow.close, Close::from_code)
                && r.flow.client < 2;
            return if sound { Ok(Self::End(r)) } else { Err(Malformed::Code) };
        }
        if tag == Tag::Text as u32 {
            let r: TextRecord = read(bytes)?;
            let sound = r.from <= Side::Server as u32 && r.len as usize <= QUOTED;
            return if sound { Ok(Self::Text(r)) } else { Err(Malformed::Code) };
        }
        Err(Malformed::Tag(tag))
    }
}

fn read<T: Pod>(bytes: &[u8]) -> Result<T, Malformed> {
    bytes.get(..size_of::<T>()).map(bytemuck::pod_read_unaligned).ok_or(Malformed::Short)
}

/// Codes that are stored plus 1, 0 for none.
fn optional<T>(code: u8, table: impl Fn(u8) -> Option<T>) -> bool {
    code == 0 || table(code - 1).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip_and_refuse_nonsense() {
        let s = crate::test_segment();
        let f = Facts { rst: true, ..Facts::blank(Side::Server, 2, 1) };
        let mut r = AnomalyRecord::default();
        let head = Head { client_port: s.sport, server_port: s.dport, ..Head::default() };
        r.fill(&s, &f, AnomalySet(5), head);
        assert_eq!((r.head.client_port, r.head.server_port, r.head.svc), (443, 40_000, 2));
        let bytes = bytemuck::bytes_of(&r);
        assert!(matches!(Record::decode(bytes), Ok(Record::Anomaly(back)) if back == r));
        assert_eq!(Record::decode(&bytes[..127]).err(), Some(Malformed::Short));
        assert_eq!(Record::decode(&[1]).err(), Some(Malformed::Short));
        assert_eq!(Record::decode(&[9, 0, 0, 0]).err(), Some(Malformed::Tag(9)));
        let bad = AnomalyRecord { verdict: 200, ..r };
        assert_eq!(Record::decode(bytemuck::bytes_of(&bad)).err(), Some(Malformed::Code));
    }
}
