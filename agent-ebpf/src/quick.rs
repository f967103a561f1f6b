//! The short way of a segment that is in order on a connection with which nothing is wrong, as nearly all are.
//!
//! What [`crate::pipeline`] would find of it is known before: nothing. So it is read into a few registers instead of
//! a whole [`Segment`](crate::wire::Segment), and its flow moves on by the very functions that [`crate::observe`] uses. A
//! segment that does not fit in all respects has changed nothing and goes the long way, which must come to the same: the
//! tests hold both together.

use crate::{
    flow::{Flow, FlowKey, FlowKey4, FlowKey6, scope},
    half::{Half, IdOrder},
    label::Direction,
    observe::{converse, halves, settled, take_ack},
    phase::Phase,
    pipeline::World,
    seq::SeqNum,
    time::Nanos,
    wire::{Addr, Flags, Frame, Link, ip::TCP, link, options::USUAL, tcp},
};

/// Ethernet's header without a tag, bytes.
const ETHERNET: u32 = 14;
/// A tag, bytes.
const TAG: u32 = 4;

/// What such a segment says and did; the names are those of [`Segment`](crate::wire::Segment). In memory, where the
/// kernel's verifier does not follow each combination by itself.
#[derive(Clone, Copy, Debug)]
pub struct Plain {
    key: FlowKey,
    seq: SeqNum,
    ack: SeqNum,
    /// Payload bytes.
    pub payload: u32,
    /// Where the last byte before the payload is in the frame.
    header_end: u32,
    /// Segments on the wire.
    pub segments: u32,
    /// Bytes of their IP datagrams.
    pub bytes: u32,
    ts_val: u32,
    /// The server answered with it; microseconds since the request's end, plus 1.
    pub first_byte: u32,
    window: u16,
    ip_id: u16,
    /// The flow's service.
    pub svc: u16,
    ttl: u8,
    /// Which half it belongs to, 0 or 1.
    dir: u8,
    /// A [`Side`] code: who sent it.
    pub side: u8,
    /// It has timestamps: 1.
    timestamps: u8,
    /// It is IPv6, and `ip_id` means nothing: 1.
    v6: u8,
    /// An [`IdOrder`] code.
    order: u8,
}

impl Plain {
    /// Nothing said yet.
    pub const fn blank() -> Self {
        Self {
            key: FlowKey::V4(FlowKey4 { low: 0, high: 0, ports: 0, scope: 0 }),
            seq: SeqNum(0),
            ack: SeqNum(0),
            payload: 0,
            header_end: 0,
            segments: 0,
            bytes: 0,
            ts_val: 0,
            first_byte: 0,
            window: 0,
            ip_id: 0,
            svc: 0,
            ttl: 0,
            dir: 0,
            side: 0,
            timestamps: 0,
            v6: 0,
            order: 0,
        }
    }
}

/// Reads a frame, if it is one that can go the short way.
#[inline(always)]
pub fn read<F: Frame>(frame: &F, point: u8, p: &mut Plain) -> bool {
    try_read(frame, point, p).is_some()
}

#[inline(always)]
fn try_read<F: Frame>(frame: &F, point: u8, p: &mut Plain) -> Option<()> {
    if !matches!(frame.link(), Link::Ethernet) {
        return None;
    }
    // A tag stands beside the frame or in it; with both it is not the usual.
    let start = frame.piece::<18>(0)?;
    let (kind, at, vlans) = match (start.be16::<12>(), frame.vlan()) {
        (kind, Some(tci)) => (kind, ETHERNET, tci & 0xfff),
        (0x8100 | 0x88a8 | 0x9100, None) => (start.be16::<16>(), ETHERNET + TAG, start.be16::<14>() & 0xfff),
        (kind, None) => (kind, ETHERNET, 0),
    };
    let scope = scope(point, vlans as u32);
    // Both lengths together: the header of IPv4 and TCP's, or that of IPv6 alone.
    let h = frame.piece::<40>(at)?;
    match kind {
        link::IPV4 => {
            // No options, no fragment, TCP.
            if h.u8::<0>() != 0x45 || h.be16::<6>() & 0x3fff != 0 || h.u8::<9>() != TCP {
                return None;
            }
            p.v6 = 0;
            p.ip_id = h.be16::<4>();
            p.ttl = h.u8::<8>();
            let ports = segment(frame, at, 20, h.be16::<2>() as u32, p)?;
            let (key, dir) = FlowKey4::between(h.word::<12>(), h.word::<16>(), ports, scope);
            p.key = FlowKey::V4(key);
            p.dir = dir as u8;
        }
        link::IPV6 => {
            if h.u8::<0>() >> 4 != 6 || h.u8::<6>() != TCP {
                return None;
            }
            p.v6 = 1;
            p.ip_id = 0;
            p.ttl = h.u8::<7>();
            let ports = segment(frame, at, 40, h.be16::<4>() as u32 + 40, p)?;
            let src = Addr([h.word::<8>(), h.word::<12>(), h.word::<16>(), h.word::<20>()]);
            let dst = Addr([h.word::<24>(), h.word::<28>(), h.word::<32>(), h.word::<36>()]);
            let (key, dir) = FlowKey6::between(src, dst, ports, scope);
            p.key = FlowKey::V6(key);
            p.dir = dir as u8;
        }
        _ => return None,
    }
    Some(())
}

/// Reads the TCP segment of a packet that begins at `ip`, whose IP header is `header_len` bytes and which is `total` bytes
/// long; its ports.
#[inline(always)]
fn segment<F: Frame>(frame: &F, ip: u32, header_len: u32, total: u32, p: &mut Plain) -> Option<[u16; 2]> {
    let at = ip + header_len;
    let h = frame.piece::<20>(at)?;
    if h.u8::<13>() & !Flags::PSH != Flags::ACK {
        return None;
    }
    p.timestamps = 0;
    let tcp_len = match h.u8::<12>() >> 4 {
        5 => 20,
        8 => {
            let o = frame.piece::<12>(at + 20)?;
            if o.be32::<0>() != u32::from_be_bytes(USUAL) {
                return None;
            }
            p.timestamps = 1;
            p.ts_val = o.be32::<4>();
            32
        }
        _ => return None,
    };
    let headers = header_len + tcp_len;
    p.window = h.be16::<14>();
    if total < headers || !frame.holds(ip + total) || p.window == 0 {
        return None;
    }
    let payload = total - headers;
    // One byte may be a probe's, and an alert asks for nothing.
    if payload == 1 || tcp::tls_alert(frame, at + tcp_len, payload) {
        return None;
    }
    p.payload = payload;
    p.header_end = at + tcp_len - 1;
    p.segments = tcp::segments(frame, payload).0;
    p.bytes = payload + p.segments * headers;
    p.seq = SeqNum(h.be32::<4>());
    p.ack = SeqNum(h.be32::<8>());
    Some([h.be16::<0>(), h.be16::<2>()])
}

/// Moves the segment's flow on, if it fits; if not, nothing has changed.
#[inline(always)]
pub fn pass<W: World, F: Frame>(w: &W, frame: &F, p: &mut Plain, direction: Direction) -> bool {
    let Some(entry) = w.likely(&p.key) else {
        return false;
    };
    let tag = p.key.tag();
    // The exact time costs as much as all the rest: only where something is timed by it.
    // SAFETY: the entry is a flow's. Another processor may be changing it; what is read decides nothing but the clock,
    // and is asked again under the lock.
    let exact = p.payload > 0 || unsafe { (*entry).half[1 - (p.dir & 1) as usize].is_timed(p.ack) };
    let now = if exact { w.now() } else { w.coarse_now() };
    // Once in a connection's life: what its client says first.
    // SAFETY: as above.
    let begins = p.payload > 0 && unsafe { Flow::may_begin(entry, p.dir as usize) };
    let first = if begins { tcp::first(frame, p.header_end) } else { 0 };
    if !w.try_lock(entry) {
        return false;
    }
    // SAFETY: the lock makes this the only reference.
    let flow = unsafe { &mut *entry };
    let fits = flow.tag == tag && fits(flow, p, direction, exact);
    if fits {
        go_on(flow, p, first, now);
    }
    w.release(entry);
    fits
}

#[inline(always)]
fn fits(flow: &mut Flow, p: &Plain, direction: Direction, exact: bool) -> bool {
    if !is_calm(flow, if p.payload > 0 { Flow::TEXT } else { 0 }) {
        return false;
    }
    let (me, peer) = halves(flow, p.dir as usize);
    let out = matches!(direction, Direction::Egress);
    if !me.seen() || me.has(Half::OUT) != out || p.seq.0 != me.next.0 {
        return false;
    }
    if p.payload == 0 && p.window == me.window && me.repeats_ack(peer, p.ack) {
        return false;
    }
    exact || !(me.acks_more(p.ack) && peer.is_timed(p.ack))
}

#[inline(always)]
fn go_on(flow: &mut Flow, p: &mut Plain, first: u8, now: Nanos) {
    let dir = (p.dir & 1) as usize;
    let me = &mut settled(flow).half[dir];
    if p.v6 == 0 && p.ip_id != 0 {
        p.order = me.note_ip_id(p.ip_id, p.segments) as u8;
    }
    let me = &mut settled(flow).half[dir];
    me.segments += p.segments as u64;
    me.bytes += p.payload as u64;
    me.window = p.window;
    me.ttl = p.ttl;
    me.note_seen(now);
    if p.timestamps != 0 {
        me.note_timestamp(p.ts_val);
    }
    let me = &mut settled(flow).half[dir];
    let acks = me.acks_more(p.ack);
    if p.v6 == 0 && p.ip_id != 0 && (p.payload > 0 || acks) {
        flow.path[dir].learn_ids(IdOrder::of(p.order));
    }
    if acks {
        take_ack(settled(flow), dir, p.ack, now);
    }
    let flow = settled(flow);
    p.svc = flow.svc;
    let side = flow.side(dir);
    p.side = side as u8;
    p.first_byte = 0;
    if p.payload > 0 {
        let me = &mut flow.half[dir];
        me.next = p.seq.plus(p.payload);
        me.note_sending(true, now);
        flow.tail_id[dir] = p.ip_id.wrapping_add(p.segments.wrapping_sub(1) as u16);
        if let Some(us) = converse(flow, side, p.payload, p.segments, first, now) {
            p.first_byte = us.saturating_add(1);
        }
    }
}

/// Whether the connection is established and nothing about it waits to be settled, nor has it a bit of `nor`.
#[inline(always)]
fn is_calm(flow: &Flow, nor: u16) -> bool {
    const ASKED: u16 =
        Flow::USED | Flow::CONFIRMED | Flow::MOVED | Flow::ENDED | Flow::CONTENDED | Flow::RESTLESS;
    flow.bits & (ASKED | nor) == Flow::USED | Flow::CONFIRMED
        && flow.phase == Phase::Established as u8
        && (flow.holder == 0 || flow.outcome != 0)
}
