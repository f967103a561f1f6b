//! Samples of one figure, and how figures are shown.

use std::fmt;

/// The same thing measured several times, nanoseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples(pub Vec<f64>);

impl Samples {
    /// The middle one; of an even number the mean of the two in the middle.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
    }

    /// The smallest and the largest.
    #[must_use]
    pub fn spread(&self) -> (f64, f64) {
        self.0.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(*x), high.max(*x)))
    }

    /// Round by round, both taken in the same round: drift of the machine falls out.
    #[must_use]
    pub fn with(&self, other: &Self, both: impl Fn(f64, f64) -> f64) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| both(*a, *b)).collect())
    }
}

/// One line of the result.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What was measured, `bench/case/hook`.
    pub name: String,
    /// Nanoseconds a packet.
    pub ours: Samples,
    /// The yardstick's, in the same rounds.
    pub floor: Samples,
}

impl Figure {
    /// Ours by the yardstick's, round by round.
    #[must_use]
    pub fn ratio(&self) -> Samples {
        self.ours.with(&self.floor, |a, b| a / b)
    }

    /// As one JSON object.
    #[must_use]
    pub fn json(&self) -> String {
        let round = |x: f64| (x * 1_000.0).round() / 1_000.0;
        serde_json::json!({
            "name": self.name,
            "value": round(self.ours.median()),
            "unit": "ns/packet",
            "baseline": round(self.floor.median()),
            "ratio": round(self.ratio().median()),
        })
        .to_string()
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = |s: &Samples, digits: usize| {
            let (low, high) = s.spread();
            format!("{:.digits$} ({low:.digits$}..{high:.digits$})", s.median())
        };
        let (ours, floor, ratio) = (column(&self.ours, 0), column(&self.floor, 0), column(&self.ratio(), 2));
        write!(f, "{:<34} {ours:>18} {floor:>18} {ratio:>20}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_spreads_and_ratios() {
        let s = Samples(vec![4.0, 1.0, 3.0]);
        assert_eq!((s.median(), s.spread()), (3.0, (1.0, 4.0)));
        assert_eq!(Samples(vec![1.0, 2.0]).median(), 1.5);
        // Twice as much in each round, however the rounds differ.
        let figure = Figure { name: "x".into(), ours: s, floor: Samples(vec![2.0, 0.5, 1.5]) };
        assert_eq!(figure.ratio().median(), 2.0);
        assert_eq!(
            figure.json(),
            r#"{"baseline":1.5,"name":"x","ratio":2.0,"unit":"ns/packet","value":3.0}"#
        );
    }
}
