//! One number, measured once a round.

/// What the rounds gave, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample(pub Vec<f64>);

impl Sample {
    /// The middle one, or half way between the two in the middle; none of none.
    pub fn median(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            n if n.is_multiple_of(2) => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
            _ => Some(sorted[middle]),
        }
    }

    /// The least and the most.
    pub fn spread(&self) -> Option<(f64, f64)> {
        let least = self.0.iter().copied().min_by(f64::total_cmp)?;
        let most = self.0.iter().copied().max_by(f64::total_cmp)?;
        Some((least, most))
    }

    /// Round by round, for samples of the same rounds.
    pub fn with(&self, other: &Self, work: impl Fn(f64, f64) -> f64) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| work(*a, *b)).collect())
    }

    /// This by the other, in each round.
    pub fn ratio(&self, floor: &Self) -> Self {
        self.with(floor, |a, b| a / b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Sample(vec![9.0, 1.0, 5.0]).median(), Some(5.0));
        assert_eq!(Sample(vec![4.0, 1.0, 2.0, 9.0]).median(), Some(3.0));
        assert_eq!(Sample(vec![7.0]).median(), Some(7.0));
        assert_eq!(Sample::default().median(), None);
    }

    #[test]
    fn the_spread_is_the_ends() {
        assert_eq!(Sample(vec![9.0, 1.0, 5.0]).spread(), Some((1.0, 9.0)));
        assert_eq!(Sample::default().spread(), None);
    }

    /// A slow round is slow for both: the ratio of the medians would hide that.
    #[test]
    fn ratios_are_formed_within_rounds() {
        let (ours, floor) = (Sample(vec![10.0, 90.0, 30.0]), Sample(vec![10.0, 30.0, 20.0]));
        let ratio = ours.ratio(&floor);
        assert_eq!(ratio, Sample(vec![1.0, 3.0, 1.5]));
        assert_eq!(ratio.median(), Some(1.5));
    }
}
