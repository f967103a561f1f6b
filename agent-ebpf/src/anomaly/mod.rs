//! The anomaly table: one row each. Enumeration, series, help text, labels, counter places, records and the README's
//! list derive from it; the rule stands in the row's own file.

use crate::{
    counter::counters,
    facts::{Facts, RetransKind},
    label::Side,
};

pub use reset::{Cause, Origin};
pub use reuse::{Holder, Outcome};

/// What a rule found in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// How much to add to the counter; 0 when the rule does not fit.
    pub count: u32,
    /// Which of the family's label combinations.
    pub sub: usize,
    /// Whom to count it for; `None` for the segment's sender.
    pub side: Option<Side>,
}

impl Hit {
    /// The rule does not fit.
    pub const NONE: Self = Self { count: 0, sub: 0, side: None };

    /// The rule fits `count` times when `fits`.
    #[inline(always)]
    pub const fn when(fits: bool, count: u32, sub: usize) -> Self {
        Self { count: if fits { count } else { 0 }, sub, side: None }
    }
}

macro_rules! anomalies {
    ($( $module:ident, $variant:ident = $series:literal [$($label:ty),*], $record:literal: $help:literal; )+) => {
        $( pub mod $module; )+

        counters! {
            /// An anomaly of TCP.
            Anomaly at 0 => {
                $( $variant = $series [$($label),*]: $help, )+
            }
        }

        impl Anomaly {
            /// Name of its file, its flag in records and its value in filters.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($module)),+ }
            }

            /// Whether each one is put on the ring, or only counted because it can be as frequent as packets.
            pub const fn recorded(self) -> bool {
                match self { $(Self::$variant => $record),+ }
            }
        }

        /// Asks every row about one segment; `found` is told each anomaly with its counter and how much to add.
        #[inline(always)]
        pub fn detect(f: &Facts, mut found: impl FnMut(Anomaly, usize, u32)) {
            $( {
                // Read anew for each row, or the kernel's verifier follows each combination of rows by itself.
                let f = core::hint::black_box(f);
                let hit = $module::detect(f);
                if hit.count > 0 {
                    let side = match hit.side { Some(s) => s, None => f.side };
                    found(Anomaly::$variant, Anomaly::$variant.place(side, hit.sub), hit.count);
                }
            } )+
        }
    };
}

anomalies! {
    gap, Gap = "gaps" [], true: "Segments that began beyond the highest sequence number seen: something before them was lost or overtaken.";
    out_of_order, OutOfOrder = "out_of_order_segments" [], true: "Segments that filled a hole and were sent before the segment that opened it: the network reordered them.";
    late_fill, LateFill = "late_fill_segments" [RetransKind], true: "Segments that filled a hole and were sent again: the first copy was lost before this point.";
    retransmission, Retransmission = "retransmitted_segments" [RetransKind], true: "Segments that repeated bytes seen here and not acknowledged: lost after this point.";
    spurious, Spurious = "spurious_segments" [RetransKind], true: "Segments that repeated bytes the other side had acknowledged: sent again without need.";
    duplicate, Duplicate = "duplicate_segments" [], true: "The very same packet seen again: the network or a mirror copied it, nobody sent it again.";
    unknown, Unknown = "unknown_segments" [], true: "Segments below the highest sequence number of which nothing tells whether they were sent again, overtaken or copied.";
    keepalive, Keepalive = "keepalives" [], false: "Keepalives: at most one byte just before the highest sequence number; never a retransmission.";
    zero_window_probe, ZeroWindowProbe = "zero_window_probes" [], false: "Probes of a closed window: at most one byte while the other side's window was 0.";
    duplicate_ack, DuplicateAck = "duplicate_acks" [], false: "Acknowledgements repeated while data was outstanding: the receiver got something out of order.";
    duplicate_sack, DuplicateSack = "duplicate_sacks" [], true: "D-SACK reports: the receiver got bytes twice, sent again without need or copied.";
    zero_window, ZeroWindow = "zero_windows" [], true: "Segments with window 0: the receiving application does not read.";
    syn_retransmission, SynRetransmission = "syn_retransmissions" [], true: "SYNs sent again with the same initial sequence number; also among the retransmissions, kind syn.";
    syn_ack_retransmission, SynAckRetransmission = "syn_ack_retransmissions" [], true: "SYN-ACKs sent again; also among the retransmissions, kind syn.";
    reset, Reset = "resets" [Cause, Origin], true: "RSTs, by why (cause) and from where (origin); the side is the one the RST names as its sender.";
    reuse, Reuse = "five_tuple_reuses" [Holder, Outcome], true: "SYNs with a new initial sequence number on a five-tuple within its TIME-WAIT window, by who held it and how they were answered.";
    unanswered, UnansweredRequest = "unanswered_requests" [], true: "Requests (client payload) that no server payload followed before the connection ended.";
}

/// A set of anomalies, one bit per row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnomalySet(pub u32);
const _: () = assert!(Anomaly::ALL.len() <= 32);

impl AnomalySet {
    /// Those that go on the ring.
    pub const RECORDED: Self = {
        let (mut set, mut i) = (0, 0);
        while i < Anomaly::ALL.len() {
            if Anomaly::ALL[i].recorded() {
                set |= 1 << i;
            }
            i += 1;
        }
        Self(set)
    };

    /// Adds `a`; kept in memory, where the kernel's verifier does not follow each combination by itself.
    #[inline(always)]
    pub fn add(&mut self, a: Anomaly) {
        let set: *mut u32 = &mut self.0;
        // SAFETY: a reference is valid for both.
        unsafe { set.write_volatile(set.read_volatile() | 1 << a as u32) }
    }

    /// Whether `a` is in it.
    pub const fn has(self, a: Anomaly) -> bool {
        self.0 & (1 << a as u32) != 0
    }

    /// Whether any of it goes on the ring.
    #[inline(always)]
    pub const fn to_record(self) -> bool {
        self.0 & Self::RECORDED.0 != 0
    }

    /// The anomalies in it.
    pub fn iter(self) -> impl Iterator<Item = Anomaly> {
        Anomaly::ALL.iter().copied().filter(move |a| self.has(*a))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{counter::Series, facts::Verdict};

    #[test]
    fn names_are_label_safe_and_unique() {
        for (i, a) in Anomaly::ALL.iter().enumerate() {
            assert!(a.series().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            assert!(!Anomaly::ALL[..i].iter().any(|b| b.series() == a.series() || b.name() == a.name()));
        }
    }

    #[test]
    fn each_verdict_hits_its_row_only() {
        for (verdict, want) in [
            (Verdict::Gap, Anomaly::Gap),
            (Verdict::OutOfOrder, Anomaly::OutOfOrder),
            (Verdict::LateFill, Anomaly::LateFill),
            (Verdict::Retransmission, Anomaly::Retransmission),
            (Verdict::Spurious, Anomaly::Spurious),
            (Verdict::Duplicate, Anomaly::Duplicate),
            (Verdict::Unknown, Anomaly::Unknown),
            (Verdict::Keepalive, Anomaly::Keepalive),
            (Verdict::ZeroWindowProbe, Anomaly::ZeroWindowProbe),
        ] {
            let f = Facts { verdict, kind: RetransKind::Fast, ..Facts::blank(Side::Server, 0, 3) };
            let (mut set, mut places) = (AnomalySet(0), Vec::new());
            detect(&f, |a, place, n| {
                set.add(a);
                places.push((place, n));
            });
            assert!(f.notable());
            assert_eq!(set.iter().collect::<Vec<_>>(), [want]);
            assert_eq!(places[0].0, want.place(Side::Server, 0));
        }
        for verdict in [Verdict::None, Verdict::InOrder] {
            let f = Facts { verdict, ..Facts::blank(Side::Client, 0, 1) };
            assert!(!f.notable());
            detect(&f, |a, _, _| panic!("{a:?}"));
        }
    }

    fn found(f: &Facts) -> AnomalySet {
        let mut set = AnomalySet(0);
        detect(f, |a, _, _| set.add(a));
        set
    }

    #[test]
    fn a_repeated_syn_is_both_a_retransmission_and_a_syn_retransmission() {
        let mut f = Facts { verdict: Verdict::Retransmission, syn: true, ..Facts::blank(Side::Client, 0, 1) };
        let set = found(&f);
        assert!(set.has(Anomaly::Retransmission) && set.has(Anomaly::SynRetransmission));
        assert!(!set.has(Anomaly::SynAckRetransmission));
        f.syn_ack = true;
        let set = found(&f);
        assert!(set.has(Anomaly::SynAckRetransmission) && !set.has(Anomaly::SynRetransmission));
    }
}
