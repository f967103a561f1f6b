//! One end of a connection: a TCP that is small but sends for the reasons real ones do (RFC 9293, 5681, 6298, 6675,
//! 8985, 2018, 2883).
//!
//! Numbers are offsets from the initial one and never wrap here; a packet gets its wire number from the world.

use std::collections::VecDeque;

/// Payload bytes of a full segment.
pub const MSS: u64 = 1_000;
/// Segments in flight at most, beside the window.
const FLIGHT: usize = 10;
/// Bytes a receiver buffers.
const BUFFER: u64 = 20_000;
const MS: u64 = 1_000;
/// Linux's smallest timeout beyond the smoothed round trip, and its delayed acknowledgement.
const RTO_MIN: u64 = 200 * MS;
const DELAYED_ACK: u64 = 40 * MS;

/// How this end probes a closed window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Without payload, one below the next number (Linux `tcp_xmit_probe_skb`).
    Empty,
    /// With the next byte (RFC 9293, 3.8.6.1).
    Byte,
}

/// What an end sends.
#[derive(Clone, Debug, Default)]
pub struct Out {
    pub syn: bool,
    pub fin: bool,
    pub ack: bool,
    pub start: u64,
    pub len: u64,
    pub acked: u64,
    pub window: u16,
    pub sack: Vec<(u64, u64)>,
    /// Bytes in it were sent before.
    pub resend: bool,
    /// A keepalive or a probe of a closed window.
    pub probe: bool,
    /// Segments on the wire.
    pub segments: u64,
}

impl Out {
    /// After the last number it takes.
    pub fn end(&self) -> u64 {
        self.start + self.len + u64::from(self.syn) + u64::from(self.fin)
    }
}

#[derive(Clone, Debug)]
struct Sent {
    start: u64,
    end: u64,
    at: u64,
    times: u32,
    sacked: bool,
    lost: bool,
}

/// The state of one end.
#[derive(Debug)]
pub struct End {
    client: bool,
    sack: bool,
    probe: Probe,
    /// Segments that leave as one packet.
    pub offload: u64,
    /// How many segments one acknowledgement is for, if no more wait.
    ack_every: u64,
    una: u64,
    nxt: u64,
    /// After the last byte the application wrote.
    written: u64,
    closed: bool,
    flight: VecDeque<Sent>,
    dup_acks: u32,
    recover: Option<u64>,
    timed_out: bool,
    probed: bool,
    srtt: Option<u64>,
    backoff: u32,
    timer_from: Option<u64>,
    peer_window: u64,
    persist_at: Option<u64>,
    /// What came: all before this.
    pub received: u64,
    heard: bool,
    beyond: VecDeque<(u64, u64)>,
    twice: Option<(u64, u64)>,
    ack_at: Option<u64>,
    unacked: u64,
    unread: u64,
    reading: bool,
    /// The other side's FIN came.
    pub peer_closed: bool,
    peer_fin: Option<u64>,
}

impl End {
    pub fn new(client: bool, sack: bool, probe: Probe, offload: u64, ack_every: u64) -> Self {
        Self {
            client,
            sack,
            probe,
            offload,
            ack_every,
            una: 0,
            nxt: 0,
            written: 1,
            closed: false,
            flight: VecDeque::new(),
            dup_acks: 0,
            recover: None,
            timed_out: false,
            probed: false,
            srtt: None,
            backoff: 0,
            timer_from: None,
            peer_window: BUFFER,
            persist_at: None,
            received: 0,
            heard: false,
            beyond: VecDeque::new(),
            twice: None,
            ack_at: None,
            unacked: 0,
            unread: 0,
            reading: true,
            peer_closed: false,
            peer_fin: None,
        }
    }

    /// Everything sent was acknowledged, and so was the FIN.
    pub fn done(&self) -> bool {
        self.closed && self.una == self.written + 1
    }

    pub fn write(&mut self, bytes: u64) {
        self.written += bytes;
    }

    pub fn close(&mut self) {
        self.closed = true;
    }

    /// The application reads, or stops; reading again opens the window, which is told.
    pub fn read(&mut self, on: bool, now: u64, out: &mut Vec<Out>) {
        self.reading = on;
        if on && self.unread > 0 {
            self.unread = 0;
            self.acknowledge(now, out);
        }
    }

    fn window(&self) -> u16 {
        (BUFFER - self.unread.min(BUFFER)) as u16
    }

    /// When it has something to do by itself.
    pub fn deadline(&self) -> Option<u64> {
        [self.ack_at, self.timer(), self.persist_at].into_iter().flatten().min()
    }

    fn rto(&self) -> u64 {
        self.srtt.map_or(1_000 * MS, |srtt| srtt + RTO_MIN) << self.backoff.min(6)
    }

    /// Whether the tail may be probed before the timeout, and when (RFC 8985, 7.2).
    fn probe_after(&self) -> Option<u64> {
        let srtt = self.srtt?;
        let may =
            self.sack && !self.probed && self.recover.is_none() && !self.timed_out && self.dup_acks == 0;
        let alone = if self.flight.len() <= 3 { DELAYED_ACK + RTO_MIN / 2 } else { 2 * MS };
        (may && self.una > 0).then_some(2 * srtt + alone).filter(|pto| *pto < self.rto())
    }

    fn timer(&self) -> Option<u64> {
        let from = self.timer_from.filter(|_| !self.flight.is_empty())?;
        Some(from + self.probe_after().unwrap_or_else(|| self.rto()))
    }

    fn base(&self) -> Out {
        Out {
            ack: self.heard,
            start: self.nxt,
            acked: self.received,
            window: self.window(),
            segments: 1,
            ..Out::default()
        }
    }

    fn acknowledge(&mut self, _now: u64, out: &mut Vec<Out>) {
        let mut ack = self.base();
        if self.sack {
            ack.sack.extend(self.twice.take());
            ack.sack.extend(self.beyond.iter().copied());
            ack.sack.truncate(3);
        }
        self.twice = None;
        (self.ack_at, self.unacked) = (None, 0);
        out.push(ack);
    }

    /// Sends the numbers, which begin or end where a segment does.
    fn send(&mut self, start: u64, end: u64, resend: bool, out: &mut Vec<Out>) {
        let last = self.written;
        let mut o = Out { start, resend, ..self.base() };
        o.syn = start == 0;
        o.fin = end > last;
        o.len = end - start - u64::from(o.syn) - u64::from(o.fin);
        o.segments = o.len.div_ceil(MSS).max(1);
        if o.syn && self.client {
            o.ack = false;
        }
        (self.ack_at, self.unacked) = (None, 0);
        out.push(o);
    }

    /// Sends what may be sent.
    pub fn push(&mut self, now: u64, out: &mut Vec<Out>) {
        if self.nxt == 0 && (self.client || self.heard) {
            self.transmit(0, 1, now, out);
            return;
        }
        if self.una == 0 {
            return;
        }
        let limit = self.una + self.peer_window;
        loop {
            // What is thought to be on the way (RFC 6675, 3): repairs and new data may mix, but for a timeout.
            let pipe = self.flight.iter().filter(|s| !s.sacked && !s.lost).count();
            let full = pipe >= FLIGHT || self.flight.len() >= 2 * FLIGHT || self.timed_out;
            let fin = self.closed && self.nxt == self.written;
            if full || (self.nxt >= self.written && !fin) || self.nxt > self.written {
                break;
            }
            let burst = if fin { 1 } else { self.offload.min((FLIGHT - pipe) as u64) };
            let data = (self.written - self.nxt).min(burst * MSS);
            // A full segment, or what there is when nothing else would go (RFC 9293, 3.8.6.2.1).
            let room = limit - self.nxt.min(limit);
            let whole = if self.flight.is_empty() { room } else { room / MSS * MSS };
            let data = data.min(whole);
            if data == 0 && !fin {
                break;
            }
            // The probe of the tail is planned anew with each new segment (RFC 8985, 7.2).
            self.timer_from = Some(now);
            let start = self.nxt;
            let mut at = start;
            while at < start + data || (fin && at == start) {
                let end = (at + MSS).min(start + data).max(at + u64::from(fin));
                self.flight.push_back(Sent { start: at, end, at: now, times: 1, sacked: false, lost: false });
                at = end;
            }
            let end = start + data + u64::from(fin);
            self.send(start, end, false, out);
            self.nxt = end;
            self.persist_at = None;
            self.probed = false;
        }
        let waits = self.nxt < self.written && self.flight.is_empty();
        if waits && self.persist_at.is_none() {
            self.persist_at = Some(now + self.rto());
        }
    }

    fn transmit(&mut self, start: u64, end: u64, now: u64, out: &mut Vec<Out>) {
        self.flight.push_back(Sent { start, end, at: now, times: 1, sacked: false, lost: false });
        self.send(start, end, false, out);
        self.nxt = end;
        self.timer_from = Some(now);
    }

    /// Sends again what is marked as lost, at most so many segments.
    fn repair(&mut self, most: usize, now: u64, out: &mut Vec<Out>) {
        for _ in 0..most {
            let Some(place) = self.flight.iter().position(|s| s.lost && !s.sacked) else { return };
            self.again(place, now, out);
        }
    }

    fn again(&mut self, place: usize, now: u64, out: &mut Vec<Out>) {
        let sent = &mut self.flight[place];
        (sent.lost, sent.at) = (false, now);
        sent.times += 1;
        let (start, end) = (sent.start, sent.end);
        self.send(start, end, true, out);
        self.timer_from = Some(now);
    }

    /// Time passed.
    pub fn tick(&mut self, now: u64, out: &mut Vec<Out>) {
        if self.ack_at.is_some_and(|at| at <= now) {
            self.acknowledge(now, out);
        }
        if self.persist_at.is_some_and(|at| at <= now) {
            self.backoff += 1;
            self.persist_at = Some(now + self.rto());
            let probe = match self.probe {
                Probe::Empty => Out { start: self.nxt - 1, probe: true, ..self.base() },
                Probe::Byte => Out { len: 1, probe: true, ..self.base() },
            };
            out.push(probe);
        }
        if self.timer().is_some_and(|at| at <= now) {
            if self.probe_after().is_some() {
                self.probed = true;
                self.again(self.flight.len() - 1, now, out);
                return;
            }
            self.backoff += 1;
            self.timed_out = true;
            self.recover = Some(self.nxt);
            self.flight.iter_mut().for_each(|s| s.lost = !s.sacked);
            self.repair(1, now, out);
        }
    }

    /// A packet of the other end arrives.
    pub fn receive(&mut self, p: &Out, now: u64, out: &mut Vec<Out>) {
        let first = !self.heard;
        if first && !p.syn {
            return;
        }
        self.heard = true;
        if p.ack {
            self.acked(p, now, out);
        }
        if p.end() > p.start {
            self.take(p, first, now, out);
        } else if p.start < self.received {
            // A probe: answered at once (RFC 9293, 3.10.7.4).
            self.acknowledge(now, out);
        }
        self.push(now, out);
        if self.ack_at.is_some_and(|at| at <= now) {
            self.acknowledge(now, out);
        }
    }

    fn acked(&mut self, p: &Out, now: u64, out: &mut Vec<Out>) {
        if p.acked < self.una {
            return;
        }
        let same_window = self.peer_window == u64::from(p.window);
        self.peer_window = p.window.into();
        // The byte of a probe may have been taken.
        self.nxt = self.nxt.max(p.acked);
        for (left, right) in &p.sack {
            for sent in &mut self.flight {
                sent.sacked |= *left <= sent.start && sent.end <= *right;
            }
        }
        if p.acked > self.una {
            self.una = p.acked;
            while self.flight.front().is_some_and(|s| s.end <= p.acked) {
                let done = self.flight.pop_front().expect("there is one");
                if done.times == 1 {
                    let sample = now - done.at;
                    self.srtt = Some(self.srtt.map_or(sample, |srtt| srtt - srtt / 8 + sample / 8));
                }
            }
            (self.dup_acks, self.backoff, self.probed) = (0, 0, false);
            self.timer_from = Some(now);
            if self.recover.is_some_and(|high| self.una >= high) {
                (self.recover, self.timed_out) = (None, false);
            } else if self.recover.is_some() && !self.flight.iter().any(|s| s.lost) {
                // A partial acknowledgement tells of the next loss (RFC 6582, 3.2).
                let next = self.flight.iter_mut().find(|s| !s.sacked && s.times == 1);
                if let Some(sent) = next {
                    sent.lost = true;
                }
            }
        } else if p.acked == self.una && p.end() == p.start && !self.flight.is_empty() {
            if same_window || !p.sack.is_empty() {
                self.dup_acks += 1;
            }
            if self.dup_acks == 3 && self.recover.is_none() {
                self.recover = Some(self.nxt);
                if let Some(sent) = self.flight.iter_mut().find(|s| !s.sacked) {
                    sent.lost = true;
                }
            }
        }
        if self.recover.is_some() && self.sack && !self.timed_out {
            // Lost is what has three segments above it that arrived (RFC 6675, 4).
            let arrived: Vec<u64> = self.flight.iter().filter(|s| s.sacked).map(|s| s.start).collect();
            for sent in self.flight.iter_mut().filter(|s| !s.sacked && s.times == 1) {
                sent.lost |= arrived.iter().filter(|start| **start > sent.start).count() >= 3;
            }
        }
        if self.peer_window > 0 {
            self.persist_at = None;
        }
        self.repair(2, now, out);
    }

    fn take(&mut self, p: &Out, first: bool, now: u64, out: &mut Vec<Out>) {
        let (start, end) = (p.start, p.end());
        if p.syn && !first {
            // It had not heard our answer: say it again (RFC 9293, 3.10.7.4).
            if !self.client && self.una == 0 {
                self.again(0, now, out);
            } else {
                self.acknowledge(now, out);
            }
            return;
        }
        if p.len > 0 && end > self.received && self.window() == 0 {
            self.acknowledge(now, out);
            return;
        }
        if p.fin {
            self.peer_fin = Some(end);
        }
        let held = self.beyond.iter().any(|(left, right)| *left <= start && end <= *right);
        if end <= self.received || held {
            self.twice = Some((start, end));
            self.acknowledge(now, out);
            return;
        }
        if start > self.received {
            self.hold(start, end);
            self.acknowledge(now, out);
            return;
        }
        let was = self.received;
        let holes = !self.beyond.is_empty();
        self.received = end;
        while let Some(place) = self.beyond.iter().position(|(left, _)| *left <= self.received) {
            let (_, right) = self.beyond.remove(place).expect("it was found");
            self.received = self.received.max(right);
        }
        if !self.reading {
            self.unread += self.received - was;
        }
        self.peer_closed = self.peer_fin.is_some_and(|fin| self.received >= fin);
        self.unacked += p.segments;
        let at_once = holes || p.fin || self.unacked >= self.ack_every || self.window() < 2 * MSS as u16;
        if p.syn {
            // Answered by a SYN, or by the last part of the handshake.
            self.ack_at = Some(now);
        } else {
            self.ack_at = Some(if at_once { now } else { self.ack_at.unwrap_or(now + DELAYED_ACK) });
        }
    }

    /// Keeps what lies beyond a hole, the newest first (RFC 2018, 4).
    fn hold(&mut self, start: u64, end: u64) {
        let (mut left, mut right) = (start, end);
        self.beyond.retain(|(l, r)| {
            let joins = *l <= right && left <= *r;
            if joins {
                (left, right) = (left.min(*l), right.max(*r));
            }
            !joins
        });
        self.beyond.push_front((left, right));
    }

    /// A keepalive, when nothing is outstanding (Linux `tcp_keepalive_timer`).
    pub fn keep_alive(&self, byte: bool, out: &mut Vec<Out>) {
        if self.una == self.nxt && self.nxt > 1 && !self.closed {
            out.push(Out { start: self.nxt - 1, len: byte.into(), probe: true, ..self.base() });
        }
    }
}
