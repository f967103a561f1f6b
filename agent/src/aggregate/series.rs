//! Families and series, as prometheus-client encodes them.

use super::snapshot::Exemplar;
use agent_ebpf::label::LabelTable;
use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeCounterValue},
    metrics::{MetricType, exemplar::CounterWithExemplar},
};
use std::fmt::Result;

/// Names and values of a series' labels.
pub type Labels<'a> = Vec<(&'a str, &'a str)>;
/// The type of an exemplar that is not there.
pub type NoExemplar = prometheus_client::metrics::exemplar::Exemplar<Vec<(String, String)>, u64>;

/// Names and values of a label combination (row-major over the labels' codes).
pub fn decode(tables: &[LabelTable], mut sub: usize) -> Vec<(&'static str, &'static str)> {
    let mut out: Vec<_> = tables
        .iter()
        .rev()
        .map(|table| {
            let code = sub % table.values.len();
            sub /= table.values.len();
            (table.key, table.values[code])
        })
        .collect();
    out.reverse();
    out
}

/// A counter with an exemplar of 1; none while the counter is not above 0 (the event is newer than the count).
pub fn with_exemplar(
    value: u64,
    exemplar: Exemplar,
) -> Option<CounterWithExemplar<Vec<(&'static str, String)>>> {
    let before = value.checked_sub(1)?;
    let counter = CounterWithExemplar::default();
    counter.inc_by(before, None, None);
    let labels = vec![("event_id", exemplar.event_id.to_string())];
    counter.inc_by(1, Some(labels), Some(exemplar.at));
    Some(counter)
}

/// A family of counters.
pub fn counters<'a, V: EncodeCounterValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: impl IntoIterator<Item = (Labels<'a>, V)>,
) -> Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in series {
        if labels.is_empty() {
            family.encode_counter(&value, None::<&NoExemplar>)?;
        } else {
            family.encode_family(&labels)?.encode_counter(&value, None::<&NoExemplar>)?;
        }
    }
    Ok(())
}

/// A family of gauges.
pub fn gauges<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: impl IntoIterator<Item = (Labels<'a>, u64)>,
) -> Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in series {
        if labels.is_empty() {
            family.encode_gauge(&value)?;
        } else {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
    }
    Ok(())
}

/// A gauge without labels.
pub fn gauges_f64(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> Result {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
}
