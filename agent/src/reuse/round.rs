//! Values as people set them: 1 s, 500 ms, 60 s.

/// First digits of values, the roundest first.
const DIGITS: [&[f64]; 4] = [&[1.0], &[2.0, 5.0], &[3.0, 6.0], &[1.5, 2.5, 4.0, 7.0, 8.0, 9.0]];

/// The roundest value from `low` to `high`, in seconds, and of several equally round the one in the middle; the middle
/// itself where none is round.
pub fn between(low: f64, high: f64) -> f64 {
    let middle = (low.max(1e-6) * high.max(1e-6)).sqrt();
    let far = |value: &f64| (value / middle).ln().abs();
    let rounds = DIGITS.iter().find_map(|digits| {
        let all = digits.iter().flat_map(|digit| (-6..=4).map(move |exponent| value(*digit, exponent)));
        all.filter(|value| (low..=high).contains(value)).min_by(|a, b| far(a).total_cmp(&far(b)))
    });
    rounds.unwrap_or(middle)
}

/// 1, 2, 5 and their tenfolds from 100 s down to 1 us.
pub fn series() -> impl Iterator<Item = f64> {
    let down = (-6..=1).rev().flat_map(|exponent| [5.0, 2.0, 1.0].map(|digit| value(digit, exponent)));
    std::iter::once(100.0).chain(down)
}

/// Exactly what a decimal fraction reads as.
fn value(digit: f64, exponent: i32) -> f64 {
    if exponent < 0 { digit / 10f64.powi(-exponent) } else { digit * 10f64.powi(exponent) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roundest_value_is_taken() {
        assert_eq!(between(0.93, 1.2), 1.0);
        assert_eq!(between(0.05, 20.0), 1.0);
        assert_eq!(between(45.0, 75.0), 50.0);
        assert_eq!(between(55.0, 75.0), 60.0);
        assert_eq!(between(0.35, 0.41), 0.4);
        assert!((between(0.123, 0.124) - 0.1235).abs() < 1e-4);
    }

    #[test]
    fn the_series_goes_down() {
        let largest: Vec<f64> = series().filter(|value| *value <= 0.131).take(3).collect();
        assert_eq!(largest, [0.1, 0.05, 0.02]);
        assert_eq!((series().next(), series().last()), (Some(100.0), Some(1e-6)));
    }
}
