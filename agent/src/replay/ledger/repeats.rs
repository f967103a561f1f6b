//! Repeats that turn out to have been needless only after they passed.

use agent_ebpf::{seq::SeqNum, wire::Segment};

/// Repeats of one half that are kept.
const KEPT: usize = 16;

/// The latest repeats of a half that were not known to be needless when they passed.
#[derive(Clone, Debug, Default)]
pub(super) struct Repeats {
    /// The oldest first.
    kept: Vec<Repeat>,
}

#[derive(Clone, Copy, Debug)]
struct Repeat {
    start: SeqNum,
    end: SeqNum,
    /// TSval it was sent with, as long as the first acknowledgement of it may still tell which copy came.
    ts_val: Option<u32>,
}

impl Repeats {
    /// Keeps a repeat, in place of the oldest if need be.
    pub(super) fn note(&mut self, s: &Segment) {
        let ts_val = s.options.timestamps.then_some(s.options.ts_val);
        if self.kept.len() == KEPT {
            self.kept.remove(0);
        }
        self.kept.push(Repeat { start: s.seq, end: s.end(), ts_val });
    }

    /// How many of them a segment of the other side shows to have been needless: a D-SACK says that their bytes came
    /// twice (RFC 2883, 4), or the first acknowledgement of them echoes a time before they were sent, and so answers an
    /// earlier copy (RFC 3522, 3.2).
    pub(super) fn answered(&mut self, s: &Segment, dsack: bool) -> u64 {
        if self.kept.is_empty() || !s.flags.ack() {
            return 0;
        }
        let before = self.kept.len();
        let [left, right] = s.options.sack[0];
        // Each report is of one arrival: of as many bytes as it names, whichever of their repeats that was.
        let mut reported = if dsack { right.distance(left) } else { 0 };
        self.kept.retain_mut(|repeat| {
            let length = repeat.end.distance(repeat.start);
            if length <= reported && repeat.start.at_or_after(left) && right.at_or_after(repeat.end) {
                reported -= length;
                return false;
            }
            if s.options.timestamps && s.ack.at_or_after(repeat.end) {
                let sent = repeat.ts_val.take();
                return sent.is_none_or(|sent| s.options.ts_ecr.wrapping_sub(sent).cast_signed() >= 0);
            }
            true
        });
        (before - self.kept.len()) as u64
    }

    /// How many of them a segment of the same side shows to have been needless: one with bytes that were had already,
    /// sent before and overtaken, is the first copy of what was sent again.
    pub(super) fn overtook(&mut self, s: &Segment) -> u64 {
        let before = self.kept.len();
        self.kept.retain(|repeat| !(repeat.start.at_or_after(s.seq) && s.end().at_or_after(repeat.end)));
        (before - self.kept.len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_ebpf::wire::{Flags, Options};

    fn segment(seq: u32, payload: u32, ack: u32, times: Option<(u32, u32)>) -> Segment {
        let (ts_val, ts_ecr) = times.unwrap_or_default();
        let mut s = Segment::blank();
        (s.seq, s.ack, s.payload, s.flags) = (SeqNum(seq), SeqNum(ack), payload, Flags(Flags::ACK));
        s.options = Options { timestamps: times.is_some(), ts_val, ts_ecr, ..Options::blank() };
        s
    }

    #[test]
    fn the_echo_of_an_earlier_time_answers_an_earlier_copy() {
        let mut repeats = Repeats::default();
        repeats.note(&segment(100, 50, 1, Some((9_000, 1))));
        repeats.note(&segment(150, 50, 1, Some((9_001, 1))));
        assert_eq!(repeats.answered(&segment(1, 0, 149, Some((5, 8_999))), false), 0, "of neither");
        assert_eq!(repeats.answered(&segment(1, 0, 150, Some((5, 8_999))), false), 1);
        assert_eq!(repeats.answered(&segment(1, 0, 200, Some((5, 9_001))), false), 0, "of this very copy");
        assert_eq!(
            repeats.answered(&segment(1, 0, 200, Some((5, 8_000))), false),
            0,
            "the first one counted"
        );
    }

    #[test]
    fn a_first_copy_that_comes_late_was_repeated_for_nothing() {
        let mut repeats = Repeats::default();
        repeats.note(&segment(100, 50, 1, None));
        assert_eq!(repeats.overtook(&segment(150, 50, 1, None)), 0, "of other bytes");
        assert_eq!(repeats.overtook(&segment(100, 50, 1, None)), 1);
        assert_eq!(repeats.overtook(&segment(100, 50, 1, None)), 0);
    }

    #[test]
    fn a_d_sack_counts_whenever_it_comes_and_needs_no_times() {
        let mut repeats = Repeats::default();
        for seq in 0..20 {
            repeats.note(&segment(100 * seq, 100, 1, None));
        }
        let mut report = segment(1, 0, 5_000, None);
        assert_eq!(repeats.answered(&report, false), 0);
        report.options.sack_blocks = 1;
        report.options.sack[0] = [SeqNum(1_900), SeqNum(2_000)];
        assert_eq!(repeats.answered(&report, true), 1);
        assert_eq!(repeats.answered(&report, true), 0);
        report.options.sack[0] = [SeqNum(0), SeqNum(100)];
        assert_eq!(repeats.answered(&report, true), 0, "too long ago");
        for _ in 0..2 {
            repeats.note(&segment(1_900, 100, 1, None));
        }
        report.options.sack[0] = [SeqNum(1_900), SeqNum(2_000)];
        assert_eq!(repeats.answered(&report, true), 1, "one of the two came twice");
    }
}
