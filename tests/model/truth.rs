//! What each packet at the point is, known from how it was made and from what had passed before it.

use crate::world::Passed;

/// Identifications of which the core keeps whether it saw them.
const WINDOW: u16 = 32;

/// The truth about a packet that takes sequence space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Truth {
    /// Begins at the end of what its sender has shown here, or beyond. It may have been sent again: the first copy was
    /// lost before this point, which nobody here can know.
    Onward {
        /// There is space between.
        gap: bool,
    },
    /// Made before what has passed, for the first time, and its bytes are missing here.
    Overtaken,
    /// Made before what has passed, for the first time; its own repeat overtook it and brought its bytes.
    OvertakenByRepeat,
    /// The same, and the repeat went on where its half had ended, which showed nothing of what it was.
    OvertakenByHiddenRepeat,
    /// Sent again, and some of its bytes are missing here.
    Fills,
    /// Sent again; its bytes have passed, and the other side has not said here that it has them.
    Repeats,
    /// Sent again; the other side has acknowledged its bytes here.
    Needless,
    /// The same, by SACK only.
    NeedlessBySack,
    /// The network's copy of what has passed.
    Copy,
    /// The same, and its sender has made [`WINDOW`] packets or more since.
    OldCopy,
    /// Against a closed window, or only to see whether the other end lives.
    Probe,
    /// A probe that data overtook, or a copy of one.
    LateProbe,
    /// Begins with a byte that went ahead as a probe, when the window was open as far as this point had seen: the
    /// probe and the news of the window passed each other.
    AfterProbe,
    /// Takes no sequence space.
    None,
    /// The same, and a segment of one byte or a FIN overtook it.
    LateAck,
    /// The same, and its number is beyond all that has passed.
    Tells,
}

/// Numbers as a point has seen them, by sender.
#[derive(Default)]
pub struct Seen {
    /// What passed, as ranges that do not touch.
    bytes: [Vec<(u64, u64)>; 2],
    /// What of it was sent again and nothing showed it.
    hidden: [Vec<(u64, u64)>; 2],
    window: [u16; 2],
    /// Last byte that went ahead as a probe, and the last one that did so with the window open.
    tried: [Option<u64>; 2],
    probed: [Option<u64>; 2],
    last_id: [u16; 2],
    high: [u64; 2],
    acked: [u64; 2],
    sacked: [Vec<(u64, u64)>; 2],
}

impl Seen {
    /// Takes the next packet, and says what it is.
    pub fn next(&mut self, p: &Passed) -> Truth {
        let truth = self.judge(p);
        let (me, out) = (p.packet.from, &p.packet.out);
        if out.ack {
            self.acked[1 - me] = self.acked[1 - me].max(out.acked);
            self.sacked[1 - me].extend(&out.sack);
        }
        self.window[me] = out.window;
        if !p.copy && !out.syn {
            self.last_id[me] = p.packet.id.wrapping_add(out.segments as u16 - 1);
        }
        if out.probe && out.len == 1 && out.start == self.high[me] {
            self.tried[me] = Some(out.start);
            if self.window[1 - me] > 0 {
                self.probed[me] = Some(out.start);
            }
        }
        if truth == Truth::Tells {
            self.high[me] = out.start;
        }
        if out.resend && matches!(truth, Truth::Onward { .. }) {
            join(&mut self.hidden[me], out.start, out.end());
        }
        if out.end() > out.start && !out.probe {
            join(&mut self.bytes[me], out.start, out.end());
            self.high[me] = self.high[me].max(out.end());
        }
        truth
    }

    fn judge(&self, p: &Passed) -> Truth {
        let (me, out) = (p.packet.from, &p.packet.out);
        let (start, end) = (out.start, out.end());
        if out.probe {
            let late = out.len == 1 && end < self.high[me];
            return if late || p.copy { Truth::LateProbe } else { Truth::Probe };
        }
        if start == end {
            return match start {
                _ if start + 1 == self.high[me] => Truth::LateAck,
                _ if start > self.high[me] && self.high[me] > 0 && out.ack => Truth::Tells,
                _ => Truth::None,
            };
        }
        if p.copy {
            let behind = self.last_id[me].wrapping_sub(p.packet.id);
            return if behind < WINDOW { Truth::Copy } else { Truth::OldCopy };
        }
        if self.probed[me] == Some(start) {
            return Truth::AfterProbe;
        }
        if start >= self.high[me] {
            // A probe's byte that the other side took is no hole.
            let taken = self.tried[me] == Some(self.high[me]) && start == self.high[me] + 1;
            return Truth::Onward { gap: start > self.high[me] && !taken };
        }
        let within =
            |ranges: &[(u64, u64)]| ranges.iter().any(|(left, right)| *left <= start && end <= *right);
        match (out.resend, !within(&self.bytes[me])) {
            (false, true) => Truth::Overtaken,
            (false, false) if within(&self.hidden[me]) => Truth::OvertakenByHiddenRepeat,
            (false, false) => Truth::OvertakenByRepeat,
            (true, true) => Truth::Fills,
            (true, false) if self.acked[me] >= end => Truth::Needless,
            (true, false) => {
                if within(&self.sacked[me]) {
                    Truth::NeedlessBySack
                } else {
                    Truth::Repeats
                }
            }
        }
    }
}

/// Adds a range to ranges.
fn join(ranges: &mut Vec<(u64, u64)>, mut start: u64, mut end: u64) {
    ranges.retain(|(left, right)| {
        let joins = *left <= end && start <= *right;
        if joins {
            (start, end) = (start.min(*left), end.max(*right));
        }
        !joins
    });
    ranges.push((start, end));
}
