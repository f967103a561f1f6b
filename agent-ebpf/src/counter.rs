//! Where each count stands in the per-CPU totals: anomalies, then ordinary traffic, then histograms.
//!
//! Every place is derived from the tables; nothing here is typed by hand.

use crate::{
    anomaly::Anomaly,
    histogram::Histogram,
    label::{LabelTable, Side},
    traffic::Traffic,
};

/// What a row of counters is called and labelled.
pub trait Series: Copy {
    /// Metric name without the `fivetuple_tcp_` prefix and the `_total` suffix.
    fn series(self) -> &'static str;
    /// One line for `# HELP`.
    fn help(self) -> &'static str;
    /// Enumerated labels beside `point`, `svc` and `from`.
    fn labels(self) -> &'static [LabelTable];
    /// First counter of the row.
    fn base(self) -> usize;
}

/// How many counters a row takes: one per side and combination of its labels' values.
pub const fn width(labels: &[LabelTable]) -> usize {
    let mut n = Side::ALL.len();
    let mut i = 0;
    while i < labels.len() {
        n *= labels[i].values.len();
        i += 1;
    }
    n
}

/// The counter of one side and label combination (`sub`: row-major over the labels' codes).
#[inline(always)]
pub const fn place(base: usize, width: usize, side: Side, sub: usize) -> usize {
    base + (side as usize) * (width / 2) + sub
}

/// First counter of ordinary traffic.
pub const TRAFFIC_BASE: usize = Anomaly::COUNTERS;
/// First counter of the histograms.
pub const HISTOGRAM_BASE: usize = TRAFFIC_BASE + Traffic::COUNTERS;
/// Counters of one point, service and direction.
pub const COUNTERS: usize = HISTOGRAM_BASE + Histogram::COUNTERS;

/// Declares a table of counter rows: enumeration, series, help and labels from one row each.
macro_rules! counters {
    (
        $(#[$meta:meta])*
        $name:ident at $first:expr => {
            $( $variant:ident = $series:literal [$($label:ty),*]: $help:literal, )+
        }
    ) => {
        $(#[$meta])*
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $( #[doc = $help] $variant, )+
        }

        impl $name {
            /// All rows, in the order of their codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            const WIDTHS: &'static [usize] = &[$($crate::counter::width(&[$(<$label>::TABLE),*])),+];
            /// Counters of the whole table.
            pub const COUNTERS: usize = Self::sum(Self::WIDTHS.len());

            const fn sum(rows: usize) -> usize {
                let (mut n, mut i) = (0, 0);
                while i < rows {
                    n += Self::WIDTHS[i];
                    i += 1;
                }
                n
            }

            /// The counter of one side and label combination; constant where the row is.
            #[inline(always)]
            pub const fn place(self, side: $crate::label::Side, sub: usize) -> usize {
                match self {
                    $( Self::$variant => {
                        const BASE: usize = $first + $name::sum($name::$variant as usize);
                        const WIDTH: usize = $crate::counter::width(&[$(<$label>::TABLE),*]);
                        $crate::counter::place(BASE, WIDTH, side, sub)
                    } )+
                }
            }
        }

        impl $crate::counter::Series for $name {
            fn series(self) -> &'static str {
                match self { $(Self::$variant => $series),+ }
            }
            fn help(self) -> &'static str {
                match self { $(Self::$variant => $help),+ }
            }
            fn labels(self) -> &'static [$crate::label::LabelTable] {
                match self { $(Self::$variant => &[$(<$label>::TABLE),*]),+ }
            }
            fn base(self) -> usize {
                self.place($crate::label::Side::Client, 0)
            }
        }
    };
}
pub(crate) use counters;

#[cfg(test)]
mod tests {
    use super::*;

    /// Every counter belongs to exactly one row, side and combination of labels.
    #[test]
    fn places_tile_the_totals() {
        let mut taken = [0u32; COUNTERS];
        fn fill<S: Series>(rows: &[S], taken: &mut [u32]) {
            for r in rows {
                let n = width(r.labels());
                for side in [Side::Client, Side::Server] {
                    for sub in 0..n / 2 {
                        taken[place(r.base(), n, side, sub)] += 1;
                    }
                }
            }
        }
        fill(Anomaly::ALL, &mut taken);
        fill(Traffic::ALL, &mut taken);
        for h in Histogram::ALL {
            for slot in &mut taken[h.base()..h.base() + Histogram::SLOTS] {
                *slot += 1;
            }
        }
        assert!(taken.iter().all(|n| *n == 1), "{taken:?}");
    }
}
