//! Figures one by one: what `--json` prints, one object a line.

use serde_json::{Value, json};

use super::sample::Sample;

/// One figure, and what it is measured by.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What it belongs to, and what it is, with slashes between.
    pub name: String,
    /// The number; of several rounds the median.
    pub value: Option<f64>,
    /// What is counted.
    pub unit: &'static str,
    /// What it is measured by, in the same run.
    pub baseline: Option<f64>,
    /// Value by baseline; of several rounds the median of the ratios of each, which need not be that of the medians.
    pub ratio: Option<f64>,
}

impl Figure {
    /// Of one sample, and of what it is measured by.
    pub fn new(name: String, unit: &'static str, sample: &Sample, baseline: Option<&Sample>) -> Self {
        Self {
            name,
            value: sample.median(),
            unit,
            baseline: baseline.and_then(Sample::median),
            ratio: baseline.and_then(|floor| sample.ratio(floor).median()).filter(|r| r.is_finite()),
        }
    }

    /// Of one count, and what it should be.
    pub fn count(name: impl Into<String>, unit: &'static str, value: f64, truth: Option<f64>) -> Self {
        let ratio = truth.map(|truth| value / truth).filter(|ratio| ratio.is_finite());
        Self { name: name.into(), value: Some(value), unit, baseline: truth, ratio }
    }

    /// The object that `--json` prints.
    pub fn json(&self) -> Value {
        let short = |n: Option<f64>| n.map(|n| (n * 1_000.0).round() / 1_000.0);
        json!({
            "name": self.name,
            "value": short(self.value),
            "unit": self.unit,
            "baseline": short(self.baseline),
            "ratio": short(self.ratio),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_five_fields() {
        let (ours, floor) = (Sample(vec![50.0, 40.0, 60.12345]), Sample(vec![40.0, 40.0, 40.0]));
        let figure = Figure::new("packet/ack/xdp/ours".to_owned(), "ns", &ours, Some(&floor));
        assert_eq!(
            figure.json().to_string(),
            r#"{"baseline":40.0,"name":"packet/ack/xdp/ours","ratio":1.25,"unit":"ns","value":50.0}"#
        );
    }

    #[test]
    fn what_has_no_baseline_has_no_ratio() {
        let line = Figure::new("a".to_owned(), "ns", &Sample(vec![7.0]), None).json();
        assert!(line["baseline"].is_null() && line["ratio"].is_null());
        let line = Figure::new("a".to_owned(), "ns", &Sample(vec![7.0]), Some(&Sample(vec![0.0]))).json();
        assert!(line["ratio"].is_null(), "nothing is divided by nothing");
        assert_eq!(Figure::count("a", "resets", 3.0, Some(4.0)).ratio, Some(0.75));
        assert_eq!(Figure::count("a", "resets", 0.0, Some(0.0)).ratio, None);
    }
}
