//! The accuracy benchmark's labels of a packet, from the core's facts.
//!
//! A label stands only where the core claims it: a segment judged `unknown` has none.

use crate::source::host::Judged;
use agent_ebpf::facts::{RetransKind, Verdict};
use serde::{Serialize, Serializer};

macro_rules! labels {
    ($( $name:ident = $text:literal: $doc:literal; )+) => {
        /// A set of labels.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Labels(u32);

        #[repr(u8)]
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum Place { $( $name ),+ }

        impl Labels {
            $( #[doc = $doc] pub const $name: Self = Self(1 << Place::$name as u32); )+
            const TEXTS: &'static [&'static str] = &[$( $text ),+];
        }
    };
}

labels! {
    RETRANSMISSION = "retransmission": "Sent again: lost before this point, lost after it, or needlessly.";
    FAST_RETRANSMISSION = "fast_retransmission": "Sent again because duplicate ACKs or SACK had told the sender.";
    SPURIOUS_RETRANSMISSION = "spurious_retransmission": "Sent again needlessly, as is known when it passes.";
    OUT_OF_ORDER = "out_of_order": "Sent before the segment that overtook it.";
    LOST_SEGMENT = "lost_segment": "Begins beyond what was seen: something before it is missing.";
    DUPLICATE_ACK = "duplicate_ack": "Repeats an acknowledgement while data is outstanding.";
    ZERO_WINDOW = "zero_window": "Closes the window.";
    ZERO_WINDOW_PROBE = "zero_window_probe": "Probes a closed window.";
    KEEP_ALIVE = "keep_alive": "Keeps the connection alive.";
    REUSED_PORTS = "reused_ports": "A SYN with a new initial number on end points that were used before.";
    RST = "rst": "An RST.";
    SYN_RETRANSMISSION = "syn_retransmission": "A SYN or SYN-ACK sent again.";
    NET_DUPLICATE = "net_duplicate": "The very same packet again: nobody sent it again.";
}

impl Labels {
    /// The labels of a packet; `reused` when it begins a connection on end points that were used before.
    pub fn of(judged: &Judged<'_>, reused: bool) -> Self {
        let (s, f) = (judged.segment, judged.facts);
        let again = matches!(f.verdict, Verdict::LateFill | Verdict::Retransmission | Verdict::Spurious);
        let verdict = |v: Verdict| f.verdict == v;
        let all = [
            (again, Self::RETRANSMISSION),
            (again && f.kind == RetransKind::Fast, Self::FAST_RETRANSMISSION),
            (verdict(Verdict::Spurious), Self::SPURIOUS_RETRANSMISSION),
            (verdict(Verdict::OutOfOrder), Self::OUT_OF_ORDER),
            (verdict(Verdict::Gap), Self::LOST_SEGMENT),
            (f.dup_ack, Self::DUPLICATE_ACK),
            (f.zero_window, Self::ZERO_WINDOW),
            (verdict(Verdict::ZeroWindowProbe), Self::ZERO_WINDOW_PROBE),
            (verdict(Verdict::Keepalive), Self::KEEP_ALIVE),
            (reused, Self::REUSED_PORTS),
            (s.flags.rst(), Self::RST),
            (again && s.flags.syn(), Self::SYN_RETRANSMISSION),
            (verdict(Verdict::Duplicate), Self::NET_DUPLICATE),
        ];
        Self(all.iter().fold(0, |set, (fits, label)| if *fits { set | label.0 } else { set }))
    }

    /// Whether all of `labels` are in it.
    pub const fn has(self, labels: Self) -> bool {
        self.0 & labels.0 == labels.0
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let named = Self::TEXTS.iter().enumerate().filter(|(place, _)| self.0 & 1 << place != 0);
        serializer.collect_seq(named.map(|(_, text)| text))
    }
}
