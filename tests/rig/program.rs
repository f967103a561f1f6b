//! The guard around the agent, proved with a program of the same family.

use harness::NetNs;
use harness::agent::{Launch, Metrics};

#[test]
fn a_program_is_started_asked_reloaded_and_stopped() {
    let namespace = NetNs::new("prometheus");
    let storage = tempfile::tempdir().unwrap();
    let launch = Launch::configuration("global:\n  scrape_interval: 15s\n")
        .program("/usr/bin/prometheus")
        .argument("--web.enable-lifecycle")
        .argument(format!("--storage.tsdb.path={}", storage.path().display()));
    let program = launch.start(&namespace);
    let before = program.metrics();
    assert_eq!(before.get("prometheus_config_last_reload_successful", &[]), 1.0);
    assert_eq!(before.type_of("prometheus_http_requests_total"), Some("counter"));
    program.rewrite_configuration("nonsense");
    assert_eq!(program.reload().status, 500);
    let after = program.metrics().since(&before);
    assert_eq!(
        after.sum("prometheus_http_requests_total", &[("handler", "/-/reload"), ("code", "500")]),
        1.0
    );
    assert_eq!(program.get_json("/api/v1/status/runtimeinfo")["status"], "success");
    assert!(!program.log().is_empty());
    program.stop();
}

#[test]
fn a_program_that_ends_at_once_is_told_with_its_log() {
    let namespace = NetNs::new("broken");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        Launch::configuration("nonsense").program("/usr/bin/prometheus").start(&namespace);
    }));
    let message = *panicked.expect_err("it cannot start").downcast::<String>().unwrap();
    assert!(message.contains("ended before it was ready") && message.contains("nonsense"), "{message}");
}

#[test]
fn metrics_are_read_with_all_their_oddities() {
    let text = "# HELP x what\n# TYPE x counter\nx_total{a=\"1\",b=\"q\\\"u\\\\o\\n,}\"} 5 # {id=\"9\"} 1.0 1700.0\n\
                x_total{a=\"2\",b=\"\"} 1e3\ny 7\nz_bucket{le=\"+Inf\"} 3\nw NaN\n# EOF\n";
    let metrics = Metrics::parse(text).unwrap();
    assert_eq!(metrics.sum("x_total", &[]), 1005.0);
    assert_eq!(metrics.get("x_total", &[("b", "q\"u\\o\n,}")]), 5.0);
    assert_eq!(metrics.get("z_bucket", &[("le", "+Inf")]), 3.0);
    assert_eq!((metrics.count("x_total", &[("a", "2")]), metrics.count("v", &[])), (1, 0));
    assert_eq!(metrics.names(), ["w", "x_total", "y", "z_bucket"]);
    assert!(Metrics::parse("y 1\ny 1\n").is_err(), "a sample that comes twice");
    assert!(Metrics::parse("y{a=\"} 1\n").is_err());
}
