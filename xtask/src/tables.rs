//! The README's tables, made from the tables of the core.

use agent_ebpf::{
    anomaly::{Anomaly, Cause, Holder, Origin, Outcome},
    counter::Series,
    facts::RetransKind,
    health::{Health, Kind},
    histogram::Histogram,
    label::LabelTable,
    traffic::{Close, Served, Traffic},
};

/// One row for each anomaly.
pub fn anomalies() -> String {
    let rows = Anomaly::ALL.iter().map(|a| row(*a, &format!("`{}`", a.name())));
    table(
        "| anomaly | series (`fivetuple_tcp_…_total`) | labels beside `point`, `svc`, `from` | what it counts |",
        rows,
    )
}

/// One row for each ordinary count and each histogram.
pub fn traffic() -> String {
    let counters = Traffic::ALL.iter().map(|t| row(*t, "counter"));
    let histograms =
        Histogram::ALL.iter().map(|h| format!("| histogram | `{}` | no `from` | {} |", h.series(), h.help()));
    table(
        "| kind | series (`fivetuple_tcp_…`) | labels beside `point`, `svc`, `from` | what it counts |",
        counters.chain(histograms),
    )
}

/// The labels' values and what they mean.
pub fn labels() -> String {
    let tables = [
        Cause::TABLE,
        Origin::TABLE,
        Holder::TABLE,
        Outcome::TABLE,
        RetransKind::TABLE,
        Close::TABLE,
        Served::TABLE,
    ];
    let rows = tables.iter().flat_map(|t| {
        t.values
            .iter()
            .zip(t.meanings)
            .map(|(value, meaning)| format!("| `{}` | `{value}` | {meaning} |", t.key))
    });
    table("| label | value | meaning |", rows)
}

/// Why a packet is skipped, and what can go short.
pub fn health() -> String {
    let rows = Health::ALL.iter().filter_map(|h| {
        let kind = match h.kind() {
            Kind::Skipped => "skipped",
            Kind::Short => "short",
            Kind::Seen | Kind::Counted | Kind::Ring => return None,
        };
        Some(format!("| `{}` | {kind} | {} |", h.name(), h.help()))
    });
    table("| reason | packets | meaning |", rows)
}

fn row<S: Series>(s: S, first: &str) -> String {
    let labels: Vec<String> = s.labels().iter().map(|t: &LabelTable| format!("`{}`", t.key)).collect();
    format!("| {first} | `{}` | {} | {} |", s.series(), labels.join(", "), s.help())
}

fn table(header: &str, rows: impl Iterator<Item = String>) -> String {
    let columns = header.matches('|').count() - 1;
    let mut text = format!("{header}\n|{}\n", "---|".repeat(columns));
    for r in rows {
        text += &r;
        text.push('\n');
    }
    text
}
