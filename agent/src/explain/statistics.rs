//! The statistics: tables of two by two, exact tests, their correction for many tests, intervals. They know nothing of
//! connections.

use serde::{Deserialize, Serialize};

/// The normal distribution's quantile of a two-sided interval of 95 %.
const Z: f64 = 1.959_963_984_540_054;
/// Probabilities this close are equal: they come from sums of logarithms.
const EQUAL: f64 = 1.0 + 1e-7;
/// Probabilities below this one move no sum that is compared with a level.
const NOTHING: f64 = 1e-25;

/// How many of a group failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Those that failed.
    pub failed: u64,
    /// The group.
    pub all: u64,
}

impl Rate {
    /// One more.
    pub fn add(&mut self, failed: bool) {
        self.failed += u64::from(failed);
        self.all += 1;
    }

    /// The share that failed, 0 of an empty group.
    pub fn share(self) -> f64 {
        if self.all == 0 { 0.0 } else { self.failed as f64 / self.all as f64 }
    }

    /// Where the share lies with 95 % confidence: Wilson's score interval.
    fn wilson(self) -> Interval {
        let (n, p) = (self.all as f64, self.share());
        let middle = p + Z * Z / (2.0 * n);
        let reach = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        // Rounding must not put 0 or all outside of their own interval.
        Interval {
            value: p,
            low: ((middle - reach) / scale).clamp(0.0, p),
            high: ((middle + reach) / scale).clamp(p, 1.0),
        }
    }
}

/// A share or a difference of shares, and where it lies with 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// As observed.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Those with something, and those without it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Table {
    /// Those with it.
    pub with: Rate,
    /// Those without it.
    pub without: Rate,
}

impl Table {
    /// Of connections: whether they have it, and whether they failed.
    pub fn of(those: impl IntoIterator<Item = (bool, bool)>) -> Self {
        let mut table = Self::default();
        for (has, failed) in those {
            if has { table.with.add(failed) } else { table.without.add(failed) }
        }
        table
    }

    /// The same of its opposite.
    pub fn flipped(self) -> Self {
        Self { with: self.without, without: self.with }
    }

    /// How strongly having it and failing go together: the phi coefficient, from -1 to 1.
    pub fn phi(&self) -> f64 {
        let Self { with, without } = self;
        let cell = |n: u64| n as f64;
        let (a, b) = (cell(with.failed), cell(with.all - with.failed));
        let (c, d) = (cell(without.failed), cell(without.all - without.failed));
        let margins = (a + b) * (c + d) * (a + c) * (b + d);
        if margins == 0.0 { 0.0 } else { (a * d - b * c) / margins.sqrt() }
    }

    /// How much larger the share of failures is with it, and where that lies with 95 % confidence: Newcombe's hybrid
    /// score interval (Statistics in Medicine 17, 1998, method 10).
    pub fn difference(&self) -> Interval {
        let (a, b) = (self.with.wilson(), self.without.wilson());
        let value = a.value - b.value;
        Interval {
            value,
            low: value - distance(a.value - a.low, b.high - b.value),
            high: value + distance(a.high - a.value, b.value - b.low),
        }
    }
}

/// Not `f64::hypot`: that would ask for glibc 2.35, for which distributions still in use are too old.
fn distance(x: f64, y: f64) -> f64 {
    (x * x + y * y).sqrt()
}

/// Exact tests, on tables up to a size.
pub struct Exact {
    /// The logarithms of the factorials.
    ln_factorial: Vec<f64>,
}

impl Exact {
    /// For tables of at most `n`.
    pub fn up_to(n: usize) -> Self {
        let logarithms = (1..=n).scan(0.0, |sum, i| {
            *sum += (i as f64).ln();
            Some(*sum)
        });
        Self { ln_factorial: std::iter::once(0.0).chain(logarithms).collect() }
    }

    fn ln_choose(&self, n: u64, k: u64) -> f64 {
        let ln = |n: u64| self.ln_factorial[n as usize];
        ln(n) - ln(k) - ln(n - k)
    }

    /// The least number of failures with it that the table's margins allow, and the probability of it and of each
    /// larger number when failing has nothing to do with it: the hypergeometric distribution.
    fn distribution(&self, table: &Table) -> (u64, Vec<f64>) {
        let (with, all) = (table.with.all, table.with.all + table.without.all);
        let failed = table.with.failed + table.without.failed;
        let least = (with + failed).saturating_sub(all);
        let every = self.ln_choose(all, failed);
        let probability =
            |x: u64| (self.ln_choose(with, x) + self.ln_choose(all - with, failed - x) - every).exp();
        (least, (least..=with.min(failed)).map(probability).collect())
    }

    /// Fisher's exact test, two-sided: the probability of a table at most as likely as this one when failing has
    /// nothing to do with it.
    pub fn fisher(&self, table: &Table) -> f64 {
        let (least, distribution) = self.distribution(table);
        let observed = distribution[(table.with.failed - least) as usize] * EQUAL;
        distribution.iter().filter(|p| **p <= observed).sum::<f64>().min(1.0)
    }

    /// The smallest value that [`Self::fisher`] can take with the margins of this table.
    pub fn attainable(&self, table: &Table) -> f64 {
        let (_, distribution) = self.distribution(table);
        let [first, .., last] = distribution[..] else { return 1.0 };
        let (low, high) = (first.min(last), first.max(last));
        // The distribution has one peak: nothing else is as unlikely as its ends.
        if high <= low * EQUAL { low + high } else { low }
    }

    /// The same test of several tables at once, each a stratum of those that are alike in something else, for more
    /// failures with it: exact, conditional on all margins; twice the one-sided probability. The tables' sizes together
    /// must not exceed the size that this was made for.
    pub fn stratified(&self, strata: &[Table]) -> f64 {
        let mut sum = vec![1.0];
        let mut observed = 0;
        for table in strata {
            let (least, distribution) = self.distribution(table);
            observed += (table.with.failed - least) as usize;
            sum = convolve(&sum, &distribution);
        }
        (2.0 * sum[observed..].iter().sum::<f64>()).min(1.0)
    }

    /// The test's value when something holds for `covered` of `failed` failures and for no other connection of `all`.
    pub fn pure(&self, covered: u64, failed: u64, all: u64) -> f64 {
        self.fisher(&Table {
            with: Rate { failed: covered, all: covered },
            without: Rate { failed: failed - covered, all: all - covered },
        })
    }
}

fn convolve(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut sum = vec![0.0; a.len() + b.len() - 1];
    for (i, p) in a.iter().enumerate().filter(|(_, p)| **p > NOTHING) {
        for (j, q) in b.iter().enumerate().filter(|(_, q)| **q > NOTHING) {
            sum[i + j] += p * q;
        }
    }
    sum
}

/// By how many tests a level is divided so that none of those counts that could never succeed: Tarone's number
/// (Biometrics 46, 1990), from the smallest values that they can attain.
pub fn tarone(attainable: &[f64], level: f64) -> usize {
    let could = |k: usize| attainable.iter().filter(|p| **p <= level / k as f64).count();
    (1..=attainable.len()).find(|k| could(*k) <= *k).unwrap_or(1)
}

/// Values of tests, corrected for their number: Holm's step-down method (Scandinavian Journal of Statistics 6, 1979),
/// which holds whatever the tests have to do with each other.
pub fn holm(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut corrected = vec![1.0; values.len()];
    let mut largest: f64 = 0.0;
    for (rank, index) in order.into_iter().enumerate() {
        largest = largest.max(values[index] * (values.len() - rank) as f64).min(1.0);
        corrected[index] = largest;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(a: u64, b: u64, c: u64, d: u64) -> Table {
        Table { with: Rate { failed: a, all: a + b }, without: Rate { failed: c, all: c + d } }
    }

    fn near(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance * b.abs().max(1e-12), "{a} is not {b}");
    }

    /// Published tables: Fisher's tea (The Design of Experiments, 1935) and his convicts and their twins (1935), as in
    /// R's manual; the two of SciPy's manual; the dieters of Wikipedia. The last two follow from counting.
    #[test]
    fn fisher_gives_published_values() {
        let exact = Exact::up_to(100);
        for (cells, p) in [
            ((3, 1, 1, 3), 0.485_714_285_714),
            ((10, 3, 2, 15), 0.000_536_724_119_143),
            ((6, 2, 1, 4), 0.102_564_102_564),
            ((8, 2, 1, 5), 0.034_965_034_965),
            ((1, 9, 11, 3), 0.002_759_456_185),
            ((0, 5, 5, 0), 0.007_936_507_936_5),
            ((4, 4, 4, 4), 1.0),
        ] {
            let (a, b, c, d) = cells;
            near(exact.fisher(&table(a, b, c, d)), p, 1e-9);
            near(exact.fisher(&table(a, b, c, d).flipped()), p, 1e-9);
        }
        near(exact.attainable(&table(3, 1, 1, 3)), 2.0 / 70.0, 1e-9);
        near(exact.attainable(&table(1, 2, 2, 3)), exact.fisher(&table(3, 0, 0, 5)), 1e-9);
        near(exact.pure(3, 3, 8), 1.0 / 56.0, 1e-9);
        assert_eq!(exact.attainable(&table(0, 0, 3, 5)), 1.0);
    }

    #[test]
    fn large_tables_lose_nothing() {
        let exact = Exact::up_to(200_000);
        let p = exact.fisher(&table(50_000, 50_000, 50_000, 50_000));
        near(p, 1.0, 1e-6);
        assert!(exact.fisher(&table(300, 0, 0, 199_700)) < 1e-300);
    }

    /// Newcombe 1998, table II, method 10: 56/70 against 48/80, 9/10 against 3/10, 10/10 against 0/10.
    #[test]
    fn differences_have_newcombes_intervals() {
        for ((a, n, b, m), low, high) in [
            ((56, 70, 48, 80), 0.0524, 0.3339),
            ((9, 10, 3, 10), 0.1705, 0.8090),
            ((10, 10, 0, 10), 0.6075, 1.0),
            ((10, 10, 0, 20), 0.6791, 1.0),
        ] {
            let got = Table { with: Rate { failed: a, all: n }, without: Rate { failed: b, all: m } };
            let got = got.difference();
            assert!((got.low - low).abs() < 5e-5 && (got.high - high).abs() < 5e-5, "{got:?}");
        }
    }

    #[test]
    fn one_stratum_is_the_plain_test_and_strata_add_up() {
        let exact = Exact::up_to(40);
        near(exact.stratified(&[table(5, 0, 0, 5)]), 2.0 / 252.0, 1e-9);
        near(exact.stratified(&[table(5, 0, 0, 5), table(3, 3, 0, 0)]), 2.0 / 252.0, 1e-9);
        near(exact.stratified(&[table(3, 0, 0, 3), table(3, 0, 0, 3)]), 2.0 / 400.0, 1e-9);
        assert_eq!(
            exact.stratified(&[table(0, 5, 5, 0)]),
            1.0,
            "fewer failures with it are none of its doing"
        );
        assert_eq!(exact.stratified(&[table(3, 3, 0, 0)]), 1.0, "nothing to compare");
    }

    #[test]
    fn corrections() {
        assert_eq!(holm(&[0.01, 0.04, 0.03, 0.5]), [0.04, 0.09, 0.09, 0.5]);
        assert_eq!(holm(&[0.6, 0.7]), [1.0, 1.0]);
        assert_eq!(tarone(&[0.001, 0.001, 0.5, 0.9], 0.05), 2, "two could never succeed");
        assert_eq!(tarone(&[0.001; 7], 0.05), 7);
        assert_eq!(tarone(&[], 0.05), 1);
    }

    #[test]
    fn phi_runs_from_none_to_all() {
        assert_eq!(table(5, 0, 0, 5).phi(), 1.0);
        assert_eq!(table(0, 5, 5, 0).phi(), -1.0);
        assert_eq!(table(2, 2, 2, 2).phi(), 0.0);
        assert_eq!(table(2, 2, 0, 0).phi(), 0.0);
    }
}
