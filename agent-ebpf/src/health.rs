//! The agent's own losses and limits: one row each, counted where they happen.

/// What a row says about the packets it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All packets a program was run for.
    Seen,
    /// Packets counted as TCP segments.
    Counted,
    /// Packets skipped: `seen = counted + all skipped`, exactly.
    Skipped,
    /// Something of the agent's own went short; the packet itself was counted.
    Short,
    /// Ring buffer bookkeeping.
    Ring,
}

macro_rules! health {
    ($( $variant:ident = $name:literal, $kind:ident: $help:literal, )+) => {
        /// A self-counter, per point and direction.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Health {
            $( #[doc = $help] $variant, )+
        }

        impl Health {
            /// All rows, in the order of their codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// Label value or series name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
            /// One line on what it means and what to do.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help),+ }
            }
            /// What it says about packets.
            pub const fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind),+ }
            }
        }
    };
}

health! {
    Seen = "seen", Seen: "packets the program was run for",
    Counted = "counted", Counted: "packets counted as TCP segments",
    NotIp = "not_ip", Skipped: "not IPv4 or IPv6",
    NotTcp = "not_tcp", Skipped: "IP, but not TCP",
    Fragment = "fragment", Skipped: "IP fragment: a piece of a segment cannot be judged",
    Truncated = "truncated", Skipped: "frame ends before its headers do",
    VlanDepth = "vlan_depth", Skipped: "more than four VLAN tags",
    Ipv6Extensions = "ipv6_extensions", Skipped: "more than six IPv6 extension headers",
    BadIpHeader = "bad_ip_header", Skipped: "IP version or header length is wrong",
    BadIpLength = "bad_ip_length", Skipped: "IP length does not fit the frame or its headers",
    BadTcpHeader = "bad_tcp_header", Skipped: "TCP data offset is wrong",
    UnknownInterface = "unknown_interface", Skipped: "came on an interface that is not configured as a point",
    Hairpin = "hairpin", Short: "segment seen a second time on its way back out of the same interface: counted, not judged",
    FlowTableFull = "flow_table_full", Short: "established connection kept among the half-open ones, the flow table is full: raise tables.flows",
    HalfOpenFull = "half_open_full", Short: "segment counted but its connection not followed, the half-open table is full: a SYN flood, or raise tables.half_open",
    ClosedFull = "closed_full", Short: "closed connection not remembered, so that a reuse of its five-tuple goes unnoticed: raise tables.closed",
    ScoreboardFull = "scoreboard_full", Short: "segment counted but not judged, no room for its flow's scoreboard: raise tables.flows",
    LostRace = "lost_race", Short: "segment counted but not judged, two other processors changed its flow at that moment, or one that held it stood still",
    HolesForgotten = "holes_forgotten", Short: "more holes at once than a flow's scoreboard keeps; fills of the dropped ones are judged unknown",
    MapError = "map_error", Short: "a kernel map refused an operation it should allow",
    RingSubmitted = "ring_submitted", Ring: "records made for the ring buffer",
    RingLost = "ring_lost", Ring: "records not delivered, the ring buffer was full",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_label_safe() {
        for (i, a) in Health::ALL.iter().enumerate() {
            assert!(a.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit()));
            assert!(!Health::ALL[..i].iter().any(|b| a.name() == b.name()));
            assert_eq!(*a as usize, i);
        }
    }
}
