//! One TCP connection as seen at one point: its key, and the state that an observer keeps of it.

use crate::{
    half::{Half, Path},
    label::Side,
    phase::Phase,
    seq::SeqNum,
    time::{Nanos, Stamp},
    wire::{Addr, Segment},
};
use bytemuck::{Pod, Zeroable};

/// The kernel's lock inside a map value, known to it by this name (`bpf_spin_lock(2)` helper, Linux 5.1).
#[allow(non_camel_case_types)]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct bpf_spin_lock {
    /// Belongs to the kernel; reads as 0 from user space.
    pub val: u32,
}

/// Point, and VLAN identifiers as in [`Segment::vlans`]: the same five-tuple on another VLAN is another sighting
/// of the connection, as on the trunk of a gateway that routes between VLANs.
#[inline(always)]
pub(crate) const fn scope(point: u8, vlans: u32) -> u32 {
    (point as u32) << 24 | vlans & 0x00ff_ffff
}

/// Key of an IPv4 flow; both directions have the same, the lower end point first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct FlowKey4 {
    /// Lower address, network byte order.
    pub low: u32,
    /// Higher address, network byte order.
    pub high: u32,
    /// Port of the lower end point in the upper 16 bits, of the higher in the lower.
    pub ports: u32,
    /// Point and VLANs.
    pub scope: u32,
}
const _: () = assert!(size_of::<FlowKey4>() == 16);

impl FlowKey4 {
    /// The same connection, seen at another point.
    #[must_use]
    pub const fn at_point(self, point: u8) -> Self {
        Self { scope: scope(point, self.scope), ..self }
    }

    /// Key of the connection between two end points, as [`FlowKey::canonical`] gives it; `ports` are the source's and
    /// the destination's.
    #[inline(always)]
    pub const fn between(src: u32, dst: u32, ports: [u16; 2], scope: u32) -> (Self, usize) {
        let [sport, dport] = ports;
        let swap = if src == dst { sport > dport } else { src > dst };
        let (low, high) = if swap { (dst, src) } else { (src, dst) };
        (Self { low, high, ports: in_order(ports, swap), scope }, swap as usize)
    }
}

/// The ports, the lower end point's in the upper 16 bits.
#[inline(always)]
const fn in_order([sport, dport]: [u16; 2], swap: bool) -> u32 {
    let (low, high) = if swap { (dport, sport) } else { (sport, dport) };
    (low as u32) << 16 | high as u32
}

/// Key of an IPv6 flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct FlowKey6 {
    /// Lower address.
    pub low: Addr,
    /// Higher address.
    pub high: Addr,
    /// As in [`FlowKey4`].
    pub ports: u32,
    /// As in [`FlowKey4`].
    pub scope: u32,
}
const _: () = assert!(size_of::<FlowKey6>() == 40);

impl FlowKey6 {
    /// The same connection, seen at another point.
    #[must_use]
    pub const fn at_point(self, point: u8) -> Self {
        Self { scope: scope(point, self.scope), ..self }
    }

    /// As [`FlowKey4::between`].
    #[inline(always)]
    pub fn between(src: Addr, dst: Addr, ports: [u16; 2], scope: u32) -> (Self, usize) {
        let [sport, dport] = ports;
        let swap = if src.0 == dst.0 { sport > dport } else { above(&src, &dst) };
        let (low, high) = if swap { (dst, src) } else { (src, dst) };
        (Self { low, high, ports: in_order(ports, swap), scope }, swap as usize)
    }
}

/// Either key; each family has tables of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowKey {
    /// IPv4.
    V4(FlowKey4),
    /// IPv6.
    V6(FlowKey6),
}

impl FlowKey {
    /// Key of the segment's connection at `point`, and which end point sent it (0: the lower one).
    #[inline(always)]
    pub fn canonical(point: u8, s: &Segment) -> (Self, usize) {
        let mut key = Self::V4(FlowKey4 { low: 0, high: 0, ports: 0, scope: 0 });
        let dir = key.set(point, s);
        (key, dir)
    }

    /// Becomes the key of the segment's connection, as [`FlowKey::canonical`] gives it; each family in a branch of its
    /// own, since a copy of either would read what is not there, which the kernel's verifier refuses.
    #[inline(always)]
    pub fn set(&mut self, point: u8, s: &Segment) -> usize {
        let (ports, scope) = ([s.sport, s.dport], scope(point, s.vlans));
        if s.v6 {
            let (key, dir) = FlowKey6::between(s.src, s.dst, ports, scope);
            *self = Self::V6(key);
            dir
        } else {
            let (key, dir) = FlowKey4::between(s.src.0[3], s.dst.0[3], ports, scope);
            *self = Self::V4(key);
            dir
        }
    }

    /// A number that tells two keys apart, nearly always; never 0, which is nobody's.
    #[inline(always)]
    pub fn tag(&self) -> u32 {
        let mix = |h: u32, w: u32| (h.rotate_left(5) ^ w).wrapping_mul(0x9e37_79b9);
        1 | match self {
            Self::V4(k) => mix(mix(mix(k.low, k.high), k.ports), k.scope),
            Self::V6(k) => {
                let low = mix(mix(mix(k.low.0[0], k.low.0[1]), k.low.0[2]), k.low.0[3]);
                let high = mix(mix(mix(k.high.0[0], k.high.0[1]), k.high.0[2]), k.high.0[3]);
                mix(mix(mix(low, high), k.ports), k.scope)
            }
        }
    }

    /// The lower and the higher end point.
    #[inline(always)]
    pub fn end_points(&self) -> [(Addr, u16); 2] {
        let (low, high, ports) = match self {
            Self::V4(k) => (Addr::v4(k.low.to_ne_bytes()), Addr::v4(k.high.to_ne_bytes()), k.ports),
            Self::V6(k) => (k.low, k.high, k.ports),
        };
        [(low, (ports >> 16) as u16), (high, ports as u16)]
    }

    /// The point where the flow was seen.
    pub fn point(&self) -> u8 {
        (self.scope() >> 24) as u8
    }

    /// VLAN identifiers as in [`Segment::vlans`].
    pub fn vlans(&self) -> u32 {
        self.scope() & 0x00ff_ffff
    }

    fn scope(&self) -> u32 {
        match self {
            Self::V4(k) => k.scope,
            Self::V6(k) => k.scope,
        }
    }
}

/// Any fixed order of addresses will do, as long as both directions agree on it.
#[inline(always)]
fn above(a: &Addr, b: &Addr) -> bool {
    if a.0[3] != b.0[3] {
        return a.0[3] > b.0[3];
    }
    if a.0[2] != b.0[2] {
        return a.0[2] > b.0[2];
    }
    if a.0[1] != b.0[1] {
        return a.0[1] > b.0[1];
    }
    a.0[0] > b.0[0]
}

/// State of one connection at one point: four cache lines, each half in one of its own, since ingress and
/// egress mostly run on different processors.
///
/// A flow of zeroes but for its tag is blank: in the table, nothing observed yet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Flow {
    /// Held in the kernel while a segment is observed.
    pub lock: bpf_spin_lock,
    /// [`FlowKey::tag`] of the connection; tells when a table entry was given to another one meanwhile. First, as the
    /// kernel fills an entry from its beginning and without its lock: whoever still holds the entry's address and its
    /// lock then sees another tag, and never the tag of the one before over a state that is blank by half.
    pub tag: u32,
    /// Who is at work on an entry of the flow table, in the kernel: [`Flow::SHORT`] and [`Flow::LONG`] times how many; 0 at rest,
    /// and elsewhere.
    pub busy: u32,
    /// A [`Phase`] code.
    pub phase: u8,
    /// Which half is the client's: 0 or 1.
    pub client: u8,
    /// `Flow::JOINED_LATE` and the like.
    pub bits: u16,
    /// First packet.
    pub opened: Nanos,
    /// Last SYN, of this connection or of the one that contends for its five-tuple.
    pub syn_at: Nanos,
    /// Last FIN or RST; zero while open.
    pub closed_at: Nanos,
    /// From the previous connection's close to this one's SYN, nanoseconds; 0 unless reused after a close.
    pub gap: u64,
    /// Where the previous connection's halves had ended, by which a challenge ACK is known.
    pub prior_next: [SeqNum; 2],
    /// Number of the service, 0 for none.
    pub svc: u16,
    /// A [`crate::anomaly::reuse::Holder`] code plus 1; 0 when the five-tuple was not reused.
    pub holder: u8,
    /// A [`crate::anomaly::reuse::Outcome`] code plus 1; 0 while open.
    pub outcome: u8,
    /// A [`crate::traffic::Close`] code plus 1; 0 while open.
    pub close: u8,
    /// Which half sent the first FIN, plus 1; 0 when none did.
    pub first_fin: u8,
    /// The first RST's [`crate::anomaly::reset::Cause`] code plus 1; 0 when none came.
    pub cause: u8,
    /// Times the client spoke after the server had answered, plus 1 once it spoke; stops at 255.
    pub exchanges: u8,
    /// The halves, in the key's order of end points.
    pub half: [Half; 2],
    /// What is known of each half's way to the other end and back.
    pub path: [Path; 2],
    /// Last client payload that is still unanswered.
    pub request_at: Stamp,
    /// From the last request's end to its answer, microseconds; 0 before the first answer.
    pub first_byte_us: u32,
    /// From the last SYN to the ACK that ended the handshake, microseconds; 0 when not seen.
    pub handshake_us: u32,
    /// From the last SYN to the SYN-ACK, microseconds; 0 when not seen.
    pub synack_us: u32,
    /// Requests that were answered.
    pub answered: u32,
    /// Client payload bytes since the server last answered.
    pub request_bytes: u32,
    /// IPv4 identification of the segment that last moved each half on.
    pub tail_id: [u16; 2],
    /// Payload bytes of the last request that was answered.
    pub asked_bytes: u32,
    /// Segments that `request_bytes` came in, as on the wire; stops at 65,535.
    pub request_segments: u16,
    /// The same of `asked_bytes`.
    pub asked_segments: u16,
    /// Initial sequence number of a SYN that came while the connection was open.
    pub contender: SeqNum,
}
const _: () = assert!(size_of::<Flow>() == 256);
const _: () = assert!(core::mem::offset_of!(Flow, half) == 64);
const _: () = assert!(core::mem::offset_of!(Flow, lock) == 0 && core::mem::offset_of!(Flow, tag) == 4);
const _: () = assert!(core::mem::offset_of!(Flow, busy) == 8 && core::mem::offset_of!(Flow, opened) == 16);

/// A flow in words. They are copied and blanked one by one: as a call of `memcpy` or `memset`, which the compiler would
/// make of it, kernels before 6.8 refuse it under a lock, and the verifier walks through it byte by byte.
const WORDS: usize = size_of::<Flow>() / 8;

impl Flow {
    /// Something was observed.
    pub const USED: u16 = 1;
    /// Met mid-way: no SYN was seen, client and server are inferred.
    pub const JOINED_LATE: u16 = 1 << 1;
    /// Seen to be a conversation; may leave the half-open table.
    pub const CONFIRMED: u16 = 1 << 2;
    /// On its way from the half-open to the flow table: nothing is observed on it, at neither place.
    pub const MOVED: u16 = 1 << 3;
    /// Its end was reported.
    pub const ENDED: u16 = 1 << 4;
    /// Has a scoreboard.
    pub const SCORED: u16 = 1 << 5;
    /// A SYN with another initial number came while it was open.
    pub const CONTENDED: u16 = 1 << 6;
    /// That SYN came from half 1.
    pub const CONTENDER_HIGH: u16 = 1 << 7;
    /// The client sent a request that is not answered yet.
    pub const PENDING: u16 = 1 << 8;
    /// The server sent payload.
    pub const ANSWERED: u16 = 1 << 9;
    /// The SYN was answered with an acknowledgement of the connection before (RFC 5961, 4): it had arrived.
    pub const CHALLENGED: u16 = 1 << 11;
    /// A conversation, but among the half-open: the flow table had no place for it.
    pub const CROWDED: u16 = 1 << 12;
    /// Something on the scoreboard changes even with a segment in order.
    pub const RESTLESS: u16 = 1 << 10;
    /// Its service speaks HTTP in the clear, and the operator asked for its texts ([`crate::record::TextRecord`]).
    pub const TEXT: u16 = 1 << 14;
    /// The first byte that its client sent is a TLS handshake record's (RFC 8446, 5.1).
    pub const TLS: u16 = 1 << 15;
    /// The RST that ended it was a middlebox's ([`crate::anomaly::reset::Origin`]).
    pub const RESET_BY_MIDDLEBOX: u16 = 1 << 13;

    /// One packet on the short way ([`crate::quick`]), in [`Flow::busy`].
    pub const SHORT: u32 = 1;
    /// Somebody on the long way, or who reads or lets go of the flow.
    pub const LONG: u32 = 1 << 16;

    /// Copies all but the lock, which the verifier lets nobody read, and who is at work, to memory of a flow's size.
    ///
    /// # Safety
    /// `to` must be valid for writes of a `Flow`.
    #[inline(always)]
    pub unsafe fn copy_to(&self, to: *mut Self) {
        // SAFETY: as the caller promises.
        unsafe {
            to.cast::<u32>().write(0);
            to.cast::<u32>().add(2).write(0);
            self.put_in(to);
        }
    }

    /// The same into an entry, whose lock and who is at work there stay as they are; its bits last, by which others see that
    /// all is there.
    ///
    /// # Safety
    /// `to` must be valid for writes of a `Flow`.
    #[inline(always)]
    pub unsafe fn put_in(&self, to: *mut Self) {
        let from: *const Self = self;
        // SAFETY: both are flows, laid out as asserted above: lock, tag, who is at work, four bytes, then whole words.
        unsafe {
            to.cast::<u32>().add(1).write(from.cast::<u32>().add(1).read());
            for i in 2..WORDS {
                to.cast::<u64>().add(i).write_volatile(from.cast::<u64>().add(i).read_volatile());
            }
            to.cast::<u32>().add(3).write_volatile(from.cast::<u32>().add(3).read());
        }
    }

    /// Blanks all but the lock and who is at work, for the key of this tag. Without its bit the scoreboard counts as blank, too.
    #[inline(always)]
    pub fn wipe(&mut self, tag: u32) {
        let flow: *mut Self = self;
        // SAFETY: as for `put_in`; all zeroes are a blank flow.
        unsafe {
            flow.cast::<u32>().add(1).write(tag);
            flow.cast::<u32>().add(3).write(0);
            for i in 2..WORDS {
                flow.cast::<u64>().add(i).write_volatile(0);
            }
        }
    }

    /// Whose an entry is at this moment, while other processors may change it: a word is whole, and is to be asked again
    /// under the lock.
    ///
    /// # Safety
    /// `entry` must point to a flow.
    #[inline(always)]
    pub unsafe fn tag_of(entry: *const Self) -> u32 {
        // SAFETY: as the caller promises.
        unsafe { (&raw const (*entry).tag).read_volatile() }
    }

    /// Whether an entry is marked with [`Flow::MOVED`], as [`Flow::tag_of`].
    ///
    /// # Safety
    /// `entry` must point to a flow.
    #[inline(always)]
    pub unsafe fn is_moved(entry: *const Self) -> bool {
        // SAFETY: as the caller promises.
        unsafe { (&raw const (*entry).bits).read_volatile() & Self::MOVED != 0 }
    }

    /// Whether payload of half `dir` would be the first that the client says, as [`Flow::tag_of`]; maybe, where it is not known
    /// yet who that is.
    ///
    /// # Safety
    /// `entry` must point to a flow.
    #[inline(always)]
    pub unsafe fn may_begin(entry: *const Self, dir: usize) -> bool {
        // SAFETY: as the caller promises.
        unsafe {
            (&raw const (*entry).exchanges).read_volatile() == 0
                && ((&raw const (*entry).client).read_volatile() as usize == dir
                    || (&raw const (*entry).bits).read_volatile() & Self::USED == 0)
        }
    }

    /// Whether `bit` is set.
    #[inline(always)]
    pub const fn has(&self, bit: u16) -> bool {
        self.bits & bit != 0
    }

    /// Which side half `dir` is.
    #[inline(always)]
    pub const fn side(&self, dir: usize) -> Side {
        if dir == self.client as usize { Side::Client } else { Side::Server }
    }

    /// The phase.
    #[inline(always)]
    pub fn phase(&self) -> Phase {
        Phase::of(self.phase)
    }

    /// Last packet of either half.
    #[inline(always)]
    pub fn last_seen(&self) -> Nanos {
        let [a, b] = &self.half;
        if a.last_seen > b.last_seen { a.last_seen } else { b.last_seen }
    }

    /// Whether a new SYN finds the connection closed: both FINs or an RST were seen.
    #[inline(always)]
    pub fn closed(&self) -> bool {
        self.phase >= Phase::Closed as u8 || (self.half[0].fin() && self.half[1].fin())
    }

    /// Whether a request has been waiting longer than `limit` (nanoseconds) for its answer.
    pub fn stalled(&self, now: Nanos, limit: u64) -> bool {
        self.has(Self::PENDING) && self.close == 0 && now.since(self.last_request()) > limit
    }

    /// When the client last sent payload that is still unanswered (its half's last data, to the microsecond).
    pub fn last_request(&self) -> Nanos {
        let client = &self.half[(self.client & 1) as usize];
        let late = client.last_seen.stamp().since(self.request_at) as u64 * 1_000;
        Nanos(client.last_seen.0.saturating_sub(late))
    }
}

/// What is remembered of a closed connection for the TIME-WAIT window, outside the flow table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Closed {
    /// Last FIN or RST.
    pub at: Nanos,
    /// Where each half ended.
    pub next: [SeqNum; 2],
    /// Initial sequence numbers, by which a late copy of an old SYN is known; of a SYN that had contended for the
    /// five-tuple, where one had.
    pub isn: [SeqNum; 2],
    /// Which half holds TIME-WAIT, plus 1; 0 for none (reset), 3 for both (simultaneous close).
    pub holder: u32,
    /// Explicit padding, always 0.
    pub reserved: u32,
}
const _: () = assert!(size_of::<Closed>() == 32);

impl Closed {
    /// [`Closed::holder`] when both ends hold TIME-WAIT.
    pub const BOTH: u32 = 3;

    /// What to remember of `flow`.
    #[inline(always)]
    pub fn of(flow: &Flow) -> Self {
        let [a, b] = &flow.half;
        // An RST ends both ends' state at once (RFC 9293, 3.10.7): nobody waits.
        let holder = if flow.phase == Phase::Reset as u8 {
            0
        } else if a.crossed() && b.crossed() {
            Self::BOTH
        } else {
            flow.first_fin as u32
        };
        // A SYN that contended for the five-tuple may come again: it is none that was not seen yet.
        let contender = |high: bool| flow.has(Flow::CONTENDED) && flow.has(Flow::CONTENDER_HIGH) == high;
        let low = if contender(false) { flow.contender } else { a.isn };
        let high = if contender(true) { flow.contender } else { b.isn };
        Self { at: flow.closed_at, next: [a.next, b.next], isn: [low, high], holder, reserved: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_have_one_key() {
        let mut s = crate::test_segment();
        for (src, dst, sport, dport) in [
            (Addr::v4([10, 0, 0, 1]), Addr::v4([10, 0, 0, 2]), 40_000, 443),
            (Addr::v4([10, 0, 0, 1]), Addr::v4([10, 0, 0, 1]), 9, 8),
            (Addr([1, 2, 3, 4]), Addr([1, 2, 9, 4]), 1, 2),
        ] {
            s.v6 = src.0[0] != 0;
            (s.src, s.dst, s.sport, s.dport, s.vlans) = (src, dst, sport, dport, 5);
            let (there, a) = FlowKey::canonical(3, &s);
            (s.src, s.dst, s.sport, s.dport) = (dst, src, dport, sport);
            let (back, b) = FlowKey::canonical(3, &s);
            assert_eq!(there, back);
            assert_ne!(a, b);
            assert_eq!(there.end_points()[a], (src, sport));
            assert_eq!((there.point(), there.vlans()), (3, 5));
        }
    }
}
