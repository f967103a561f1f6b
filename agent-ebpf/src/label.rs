//! Enumerations that become Prometheus labels: variant, name and meaning stand in one row each.

/// A label's values, as far as a metric family needs them.
#[derive(Clone, Copy, Debug)]
pub struct LabelTable {
    /// The label's name.
    pub key: &'static str,
    /// Its values, in the order of their codes.
    pub values: &'static [&'static str],
    /// What each value means, in the same order.
    pub meanings: &'static [&'static str],
}

/// An enumeration made by the table below, for those who take any.
pub trait Label: Copy + 'static {
    /// All values, in the order of their codes.
    const VALUES: &'static [Self];
    /// The label's value.
    fn value(self) -> &'static str;
}

/// Declares an enumeration whose codes run from 0 without gaps, and its [`LabelTable`].
macro_rules! labels {
    (
        $(#[$meta:meta])*
        $name:ident($key:literal) {
            $( $variant:ident = $value:literal: $meaning:literal, )+
        }
    ) => {
        $(#[$meta])*
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $( #[doc = $meaning] $variant, )+
        }

        impl $name {
            /// All values, in the order of their codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// Name, values and meanings.
            pub const TABLE: $crate::label::LabelTable = $crate::label::LabelTable {
                key: $key,
                values: &[$($value),+],
                meanings: &[$($meaning),+],
            };

            /// The value of a code that crossed a border, `None` when it names none.
            pub fn from_code(code: u8) -> Option<Self> {
                Self::ALL.get(code as usize).copied()
            }

            /// The label's value.
            pub fn name(self) -> &'static str {
                Self::TABLE.values[self as usize]
            }
        }

        impl $crate::label::Label for $name {
            const VALUES: &'static [Self] = Self::ALL;
            fn value(self) -> &'static str {
                self.name()
            }
        }
    };
}
pub(crate) use labels;

labels! {
    /// Which side of a connection sent something.
    Side("from") {
        Client = "client": "the side that sent the first SYN (inferred for a flow met mid-way)",
        Server = "server": "the other side",
    }
}

impl Side {
    /// The other one.
    #[inline(always)]
    pub const fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

labels! {
    /// Which way a packet passes a point.
    Direction("direction") {
        Ingress = "ingress": "from the wire into this host (XDP, or tc ingress)",
        Egress = "egress": "from this host to the wire (tc egress)",
    }
}
