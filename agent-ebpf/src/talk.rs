//! A connection for unit tests, segment by segment through `before` and `observe`, as the pipeline takes them.
//!
//! Half 0 is the client's. Both initial sequence numbers are 0, so that the first byte is number 1. Without
//! identifications, timestamps or SACK unless a test gives them, so that each kind of evidence can stand alone.

use crate::{
    before::{Before, before},
    close::end,
    facts::Facts,
    flow::{Closed, Flow},
    label::{Direction, Side},
    observe::observe,
    scoreboard::Scoreboard,
    seq::SeqNum,
    sighting::{Settings, Sighting},
    time::Nanos,
    traffic::Close,
    wire::{Flags, Segment},
};

pub(crate) const C: usize = 0;
pub(crate) const S: usize = 1;
pub(crate) const MS: u32 = 1_000;

pub(crate) struct Talk {
    pub flow: Flow,
    pub score: Scoreboard,
    /// What is known of an earlier connection.
    pub prior: Option<Closed>,
    /// How flows ended, in order.
    pub ended: Vec<Close>,
    pub now: Nanos,
}

impl Talk {
    /// Nothing said yet.
    pub fn new() -> Self {
        let now = Nanos(1_000_000_000);
        let (flow, score) = (Flow::default(), Scoreboard::default());
        Self { flow, score, prior: None, ended: Vec::new(), now }
    }

    /// After a handshake in which each way took a millisecond, there and back from the point.
    pub fn established() -> Self {
        let mut talk = Self::new();
        talk.hear(0, C, syn(0));
        talk.hear(MS, S, syn_ack(0, 1));
        talk.hear(MS, C, segment(1, 1, 0));
        talk
    }

    /// A segment of a half, so many microseconds after the one before.
    pub fn hear(&mut self, after_us: u32, dir: usize, s: Segment) -> Facts {
        self.now.0 += u64::from(after_us) * 1_000;
        let direction = if dir == C { Direction::Ingress } else { Direction::Egress };
        let at = Sighting {
            dir,
            now: self.now,
            prior: self.prior,
            settings: Settings::default(),
            ..Sighting::blank(direction)
        };
        let mut scored = false;
        match before(&self.flow, &s, dir, false) {
            Before::Go => {}
            Before::Score => scored = true,
            Before::End(close) => {
                end(&mut self.flow, close);
                self.ended.push(close);
            }
            Before::Raced => unreachable!("there is one processor"),
        }
        let mut f = Facts::blank(Side::Client, 0, 0);
        observe(&mut self.flow, scored.then_some(&mut self.score), &s, &at, &mut f);
        self.ended.extend(f.closed);
        f
    }
}

/// An ACK with so many bytes of payload.
pub(crate) fn segment(seq: u32, ack: u32, payload: u32) -> Segment {
    Segment { seq: SeqNum(seq), ack: SeqNum(ack), payload, v6: true, ..crate::test_segment() }
}

pub(crate) fn syn(seq: u32) -> Segment {
    Segment { flags: Flags(Flags::SYN), ..segment(seq, 0, 0) }
}

pub(crate) fn syn_ack(seq: u32, ack: u32) -> Segment {
    Segment { flags: Flags(Flags::SYN | Flags::ACK), ..segment(seq, ack, 0) }
}

pub(crate) fn fin(seq: u32, ack: u32) -> Segment {
    Segment { flags: Flags(Flags::FIN | Flags::ACK), ..segment(seq, ack, 0) }
}

pub(crate) fn rst(seq: u32, ack: u32) -> Segment {
    Segment { flags: Flags(Flags::RST | Flags::ACK), ..segment(seq, ack, 0) }
}

/// With an IPv4 identification.
pub(crate) fn id(ip_id: u16, s: Segment) -> Segment {
    Segment { ip_id, v6: false, ..s }
}

/// With a TSval.
pub(crate) fn ts(ts_val: u32, mut s: Segment) -> Segment {
    (s.options.timestamps, s.options.ts_val) = (true, ts_val);
    s
}

/// With a SACK block.
pub(crate) fn sack(left: u32, right: u32, mut s: Segment) -> Segment {
    s.options.sack_blocks = 1;
    s.options.sack[0] = [SeqNum(left), SeqNum(right)];
    s
}
