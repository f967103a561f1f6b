//! The benchmark's labels, and the classes that are judged by them.

use std::fmt;

use serde::{Deserialize, Deserializer};

/// Every label that is a class of its own, in the order in which classes are reported.
pub const CLASSES: [&str; 15] = [
    "retransmission",
    "fast_retransmission",
    "spurious_retransmission",
    "out_of_order",
    "lost_segment",
    "ack_lost_segment",
    "duplicate_ack",
    "zero_window",
    "zero_window_probe",
    "window_full",
    "keep_alive",
    "reused_ports",
    "rst",
    "syn_retransmission",
    "net_duplicate",
];

/// Any segment that does not advance the sequence, whatever it is called: do two tools differ in finding the segment, or
/// only in naming it?
pub const NOT_ADVANCING: &str = "retransmission_or_out_of_order";
/// Its parts.
pub const NOT_ADVANCING_PARTS: [&str; 3] = ["retransmission", "out_of_order", "net_duplicate"];

/// What a name gets when only segments count that an observer of the wire can find.
pub const VISIBLE: &str = " (visible)";

/// A set of labels. Those that are no class are not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Labels(u16);

impl Labels {
    /// The labels of these names.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let bit = |name| CLASSES.iter().position(|class| *class == name).map_or(0, |at| 1 << at);
        Self(names.into_iter().fold(0, |all, name| all | bit(name)))
    }

    /// Is this one of them?
    pub fn has(self, name: &str) -> bool {
        self.any(Self::of([name]))
    }

    /// Is any of these among them?
    pub fn any(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Those that are in both.
    pub fn and(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = CLASSES.into_iter().filter(|name| self.has(name)).collect();
        f.write_str(if names.is_empty() { "nothing" } else { "" })?;
        f.write_str(&names.join(" + "))
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        Ok(Self::of(names.iter().map(String::as_str)))
    }
}
