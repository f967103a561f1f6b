//! Tests of the exposition: every series is there from the start, and each figure stands at its own.

use super::*;
use crate::{
    aggregate::snapshot::{Attached, Exemplar, OpenFlows, ProgramRun, Ring, Table},
    http::negotiate::to_text,
};
use std::time::Duration;

/// A snapshot of two points and two services in which nothing happened yet.
pub fn snapshot() -> Snapshot {
    Snapshot {
        points: vec!["outside".into(), "dmz".into()],
        services: vec!["other".into(), "card".into()],
        totals: vec![Totals::default(); 4],
        open: vec![OpenFlows::default(); 4],
        health: vec![[[0; Health::COUNT]; 2]; 3],
        attached: vec![
            Attached { point: "outside".into(), hook: "ingress", mode: Some(Mode::Xdp) },
            Attached { point: "outside".into(), hook: "egress", mode: None },
        ],
        tables: vec![Table { name: "flows4", entries: 3, capacity: 65_536 }],
        ..Snapshot::default()
    }
}

fn text(snapshot: Snapshot) -> String {
    to_text(&render(snapshot).unwrap())
}

fn has(text: &str, line: &str) {
    assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
}

#[test]
fn every_series_is_there_from_the_start() {
    let text = text(snapshot());
    for point in ["outside", "dmz"] {
        for svc in ["other", "card"] {
            has(
                &text,
                &format!("fivetuple_tcp_gaps_total{{point=\"{point}\",svc=\"{svc}\",from=\"server\"}} 0"),
            );
            has(
                &text,
                &format!(
                    "fivetuple_tcp_resets_total{{point=\"{point}\",svc=\"{svc}\",from=\"client\",cause=\"time_wait\",origin=\"middlebox\"}} 0"
                ),
            );
            has(
                &text,
                &format!(
                    "fivetuple_tcp_reuse_gap_seconds_bucket{{le=\"+Inf\",point=\"{point}\",svc=\"{svc}\"}} 0"
                ),
            );
        }
    }
    has(&text, "fivetuple_packets_skipped_total{point=\"dmz\",hook=\"egress\",reason=\"not_tcp\"} 0");
    has(
        &text,
        "fivetuple_packets_skipped_total{point=\"none\",hook=\"egress\",reason=\"unknown_interface\"} 0",
    );
    has(&text, "fivetuple_packets_seen_total{point=\"dmz\",hook=\"ingress\"} 0");
    has(&text, "fivetuple_tracking_losses_total{point=\"dmz\",hook=\"ingress\",reason=\"map_error\"} 0");
    has(&text, "fivetuple_config_last_reload_successful 1");
    assert!(!text.contains("fivetuple_program_runs"), "not without the kernel's count");
}

#[test]
fn the_pages_name_every_family() {
    let mut s = snapshot();
    s.programs.push(ProgramRun { program: "ft_xdp_in", runs: 1, nanos: 1 });
    let text = text(s);
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_whitespace().next());
    let families: Vec<&str> = families.filter(|family| !family.starts_with("process_")).collect();
    for (page, text) in [
        ("README.md", include_str!("../../../README.md")),
        ("docs/metrics.md", include_str!("../../../docs/metrics.md")),
    ] {
        for family in &families {
            let short = family.trim_start_matches("fivetuple_").trim_start_matches("tcp_");
            let short = short.trim_end_matches("_total");
            let named = [format!("`{short}"), format!("`tcp_{short}")].iter().any(|name| text.contains(name));
            assert!(named, "{page} does not name {family}");
        }
    }
}

#[test]
fn each_figure_stands_at_its_own() {
    let mut s = snapshot();
    let at = s.index(1, 1);
    let counter = Anomaly::LateFill.place(Side::Server, 1);
    s.totals[at].0[counter] = 7;
    s.totals[at].0[Histogram::HandshakeRtt.bucket(3_000_000)] = 2;
    s.totals[at].0[Histogram::HandshakeRtt.sum()] = 6_000_000;
    s.health[1][1][Health::NotTcp as usize] = 5;
    s.open[at] = OpenFlows { open: 9, stalled: 1 };
    s.connection_log.sampled_out = 6;
    s.ring = Ring { submitted: 10, received: 8, lost: 2, malformed: 0 };
    let text = text(s);
    has(
        &text,
        "fivetuple_tcp_late_fill_segments_total{point=\"dmz\",svc=\"card\",from=\"server\",kind=\"timeout\"} 7",
    );
    has(
        &text,
        "fivetuple_tcp_late_fill_segments_total{point=\"dmz\",svc=\"card\",from=\"server\",kind=\"fast\"} 0",
    );
    has(&text, "fivetuple_tcp_handshake_rtt_seconds_bucket{le=\"0.0025\",point=\"dmz\",svc=\"card\"} 0");
    has(&text, "fivetuple_tcp_handshake_rtt_seconds_bucket{le=\"0.005\",point=\"dmz\",svc=\"card\"} 2");
    has(&text, "fivetuple_tcp_handshake_rtt_seconds_count{point=\"dmz\",svc=\"card\"} 2");
    has(&text, "fivetuple_tcp_handshake_rtt_seconds_sum{point=\"dmz\",svc=\"card\"} 0.006");
    has(&text, "fivetuple_packets_skipped_total{point=\"dmz\",hook=\"egress\",reason=\"not_tcp\"} 5");
    has(&text, "fivetuple_tcp_open_connections{point=\"dmz\",svc=\"card\"} 9");
    has(&text, "fivetuple_tcp_stalled_requests{point=\"dmz\",svc=\"card\"} 1");
    has(&text, "fivetuple_ring_lost_total 2");
    has(&text, "fivetuple_connection_log_lines_total{result=\"sampled_out\"} 6");
    has(&text, "fivetuple_connection_log_lines_total{result=\"failed\"} 0");
    has(&text, "fivetuple_table_entries{table=\"flows4\"} 3");
    has(&text, "fivetuple_attached{point=\"outside\",hook=\"ingress\",mode=\"xdp\"} 1");
    has(&text, "fivetuple_attached{point=\"outside\",hook=\"ingress\",mode=\"tcx\"} 0");
    has(&text, "fivetuple_attached{point=\"outside\",hook=\"egress\",mode=\"clsact\"} 0");
    assert!(!text.contains("hook=\"egress\",mode=\"xdp\""), "XDP has no egress");
}

#[test]
fn an_exemplar_carries_an_event_and_only_in_openmetrics() {
    let mut s = snapshot();
    let counter = Anomaly::Gap.place(Side::Client, 0);
    let at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_500);
    let key = SeriesKey { point: 0, svc: 1, counter };
    s.exemplars.insert(key, Exemplar { event_id: 42, at });
    assert!(!render(s.clone()).unwrap().contains("event_id"), "none before the count is above 0");
    let index = s.index(0, 1);
    s.totals[index].0[counter] = 3;
    let open = render(s.clone()).unwrap();
    has(
        &open,
        "fivetuple_tcp_gaps_total{point=\"outside\",svc=\"card\",from=\"client\"} 3 # {event_id=\"42\"} 1.0 1700000000.5",
    );
    assert!(open.ends_with("# EOF\n"));
    has(&text(s), "fivetuple_tcp_gaps_total{point=\"outside\",svc=\"card\",from=\"client\"} 3");
}

#[test]
fn combinations_are_decoded_row_major() {
    let labels = Anomaly::Reset.labels();
    let per_cause = labels[1].values.len();
    assert_eq!(
        decode(labels, 2 * per_cause + 1),
        [("cause", labels[0].values[2]), ("origin", labels[1].values[1])]
    );
    assert_eq!(decode(&[], 0), []);
}

/// Prometheus's rules, in so far as they can be checked without its tool: one HELP and TYPE before the samples, no
/// series twice.
#[test]
fn the_text_is_well_formed() {
    let text = text(snapshot());
    let mut seen = std::collections::HashSet::new();
    let mut families = std::collections::HashSet::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            current = rest.split(' ').next().unwrap().to_owned();
            assert!(families.insert(current.clone()), "{current} twice");
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(series.starts_with(&current), "{series} is not of {current}");
            assert!(seen.insert(series.to_owned()), "{series} twice");
            value.parse::<f64>().unwrap();
        }
    }
    assert!(families.contains("fivetuple_build_info"));
}
