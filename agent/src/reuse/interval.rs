//! How far a share or a count may be from what was counted: 95 % intervals.

use serde::{Deserialize, Serialize};

/// Standard deviations within which 95 % of a normal distribution lie.
const Z: f64 = 1.959_964;

/// A share, estimated from counted cases.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Cases in which it was so.
    pub met: u64,
    /// All cases.
    pub of: u64,
    /// The share.
    pub share: f64,
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Share {
    /// Of counted cases, with Wilson's score interval: it is right also near 0 and 1 and for few cases. Of no cases
    /// nothing is known: all shares from 0 to 1.
    pub fn of(met: u64, of: u64) -> Self {
        if of == 0 {
            return Self { met, of, share: 0.5, low: 0.0, high: 1.0 };
        }
        let (n, p) = (of as f64, met as f64 / of as f64);
        let scale = 1.0 + Z * Z / n;
        let centre = (p + Z * Z / (2.0 * n)) / scale;
        let half = Z / scale * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        // At the ends the formula gives them but for rounding.
        let low = if met == 0 { 0.0 } else { (centre - half).max(0.0) };
        let high = if met == of { 1.0 } else { (centre + half).min(1.0) };
        Self { met, of, share: p, low, high }
    }

    /// A share that is known.
    pub fn known(share: f64) -> Self {
        Self { met: 0, of: 0, share, low: share, high: share }
    }
}

/// Quantile of what will be counted in a stretch of traffic like the one in which `counted` cases were, each of which
/// is taken with probability `share`.
///
/// The coming count is a Poisson variable whose rate is itself known only from `counted`: a negative binomial one, with
/// Jeffreys' prior for the rate. So even where nothing was counted, a few are possible.
pub fn quantile(counted: u64, share: f64, quantile: f64) -> u64 {
    if share <= 0.0 {
        return 0;
    }
    let shape = counted as f64 + 0.5;
    // Weights from the most likely count on, in both directions: no factorial, and nothing that is too small for a
    // number as the weight of 0 is where the mean is large.
    let odds = share / (1.0 + share);
    let mode = ((shape - 1.0) * share).max(0.0).floor() as u64;
    let mut below = Vec::new();
    let mut weight = 1.0;
    for k in (1..=mode).rev() {
        weight *= k as f64 / ((shape + k as f64 - 1.0) * odds);
        if weight < 1e-15 {
            break;
        }
        below.push(weight);
    }
    let first = mode - below.len() as u64;
    let mut weights: Vec<f64> = below.into_iter().rev().chain([1.0]).collect();
    weight = 1.0;
    let mut k = mode as f64;
    while weight > 1e-15 {
        weight *= (shape + k) / (k + 1.0) * odds;
        weights.push(weight);
        k += 1.0;
    }
    let all: f64 = weights.iter().sum();
    let mut sum = 0.0;
    let until = weights.iter().position(|weight| {
        sum += weight / all;
        sum >= quantile
    });
    first + until.unwrap_or(weights.len() - 1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 5e-4, "{a} is not {b}");
    }

    /// Against the values that the formula gives by hand and that R's `binom::binom.wilson` prints.
    #[test]
    fn shares_have_wilsons_interval() {
        let half = Share::of(50, 100);
        close(half.low, 0.4038);
        close(half.high, 0.5962);
        let none = Share::of(0, 10);
        close(none.high, 0.2775);
        assert_eq!(none.low, 0.0);
        let all = Share::of(10, 10);
        close(all.low, 0.7225);
        assert_eq!((all.high, Share::of(0, 0).low, Share::of(0, 0).high), (1.0, 0.0, 1.0));
    }

    #[test]
    fn a_count_may_be_off_as_poisson_says_and_twice_over() {
        // Mean 100.5, variance 201: a normal distribution gives 72.7 and 128.3.
        assert_eq!((quantile(100, 1.0, 0.025), quantile(100, 1.0, 0.975)), (74, 130));
        assert_eq!((quantile(0, 1.0, 0.025), quantile(0, 1.0, 0.975)), (0, 3));
        assert_eq!(quantile(100, 0.0, 0.975), 0);
        let (low, high) = (quantile(100_000, 0.5, 0.025), quantile(100_000, 0.5, 0.975));
        assert!((49_400..49_550).contains(&low) && (50_450..50_600).contains(&high), "{low} {high}");
    }
}
