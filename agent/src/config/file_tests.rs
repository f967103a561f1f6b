//! Tests of the configuration file: what is read, and how each fault is told.

use super::*;
use crate::{config::Watch, connection_log::sample::Rate, probe::tables};
use std::time::Duration;

/// As of a file in a folder that is not there.
fn parse(text: &str) -> Result<FileSettings, Vec<Problem>> {
    super::parse(text, Path::new("/nonexistent"))
}

const EXAMPLE: &str = include_str!("../../fivetuple.example.yaml");

fn problems(text: &str) -> Vec<String> {
    parse(text).unwrap_err().iter().map(ToString::to_string).collect()
}

/// The only problem of a text.
fn problem(text: &str) -> String {
    let all = problems(text);
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].clone()
}

#[test]
fn an_empty_file_is_all_defaults() {
    assert_eq!(parse("").unwrap(), FileSettings::default());
    assert_eq!(parse("# nothing yet\n").unwrap(), FileSettings::default());
}

#[test]
fn the_example_loads() {
    let example = parse(EXAMPLE).unwrap();
    assert_eq!(example.interfaces.len(), 2);
    assert_eq!(example.services.len(), 2);
    assert_eq!(example.limits, Limits::default(), "the example shows the defaults");
    let sizes = |tables| tables::sizes(&Watch { tables, ..Watch::default() }).unwrap();
    assert_eq!(sizes(example.tables), sizes(Tables::default()), "the example shows the defaults");
    assert_eq!(example.addresses, Shown::default(), "the example shows the defaults");
    assert_eq!(example.connection_log, None, "off by default");
    assert_eq!(example.alerts, alert::Settings::default(), "the example shows the defaults");
    assert_eq!(example.services[0].allowed_clients.len(), 2);
}

/// Those that packages bring, too.
#[test]
fn the_other_files_load() {
    let gateway = parse(include_str!("../../examples/payment-gateway.yaml")).unwrap();
    assert_eq!((gateway.interfaces.len(), gateway.services.len()), (2, 5));
    assert!(gateway.connection_log.is_some());
    let packaged = include_str!("../../../packaging/fivetuple.yaml");
    assert_eq!(parse(packaged).unwrap(), FileSettings::default());
    let uncommented: String =
        packaged.lines().filter_map(|l| Some(format!("{}\n", l.strip_prefix('#')?))).collect();
    let uncommented = uncommented.split_once("\ninterfaces").unwrap().1;
    assert_eq!(parse(&format!("interfaces{uncommented}")).unwrap().services.len(), 1);
}

/// The keys come from serde's own list of them, so that no key can be forgotten.
#[test]
fn the_example_mentions_every_key() {
    for section in [
        "{zz: 1}",
        "interfaces: [{zz: 1}]",
        "services: [{zz: 1}]",
        "limits: {zz: 1}",
        "tables: {zz: 1}",
        "addresses: {zz: 1}",
        "connection_log: {zz: 1}",
        "alerts: {zz: 1}",
        "alerts: {rules: [{zz: 1}]}",
        "alerts: {rules: [{name: a, of: {zz: 1}}]}",
        "alerts: {webhooks: [{zz: 1}]}",
        "alerts: {webhooks: [{http_config: {zz: 1}}]}",
    ] {
        let text = problem(section);
        let keys = text.split("keys here: ").nth(1).unwrap().trim_end_matches(')');
        for key in keys.split(", ") {
            let mentioned = EXAMPLE
                .lines()
                .any(|l| l.trim_start_matches([' ', '-', '#']).starts_with(&format!("{key}:")));
            assert!(mentioned, "{key} is not in fivetuple.example.yaml");
        }
    }
}

#[test]
fn an_unknown_key_is_told_with_its_line_and_the_nearest_one() {
    let text = problem("interfaces:\n  - name: eth0\nlimits:\n  time_wiat: 60s\n");
    assert!(text.starts_with("line 4: time_wiat: unknown key; did you mean time_wait?"), "{text}");
    let text = problem("interfaces:\n  - name: eth0\n    poind: outside\n");
    assert!(text.starts_with("line 3: poind: unknown key; did you mean point?"), "{text}");
    let text = problem("webserver: 1");
    assert!(text.starts_with("line 1: webserver: unknown key (keys here: interfaces, "), "{text}");
}

#[test]
fn prefix_lengths_fit_their_addresses() {
    let shown = parse("addresses: {ipv4_prefix: 24, ipv6_prefix: 0}").unwrap().addresses;
    assert_eq!(shown, Shown { ipv4_prefix: 24, ipv6_prefix: 0 });
    for (bad, whole) in [("ipv4_prefix: 33", "32"), ("ipv6_prefix: 129", "128"), ("ipv4_prefix: -1", "32")] {
        let text = problem(&format!("addresses: {{{bad}}}"));
        assert!(text.contains("is not a prefix length") && text.contains(whole), "{text}");
    }
}

#[test]
fn faults_of_shape_are_told() {
    assert!(problem("interfaces: [{point: a}]").contains("name: this key is missing"));
    assert!(
        problem("interfaces: [{name: eth0, ingress: xpd}]").contains("\"xpd\" is not one of auto, xdp, tc")
    );
    assert!(
        problem("limits: {idle: 3s}\nlimits: {idle: 4s}")
            .starts_with("line 2: limits: this key is here twice")
    );
    assert!(problem("interfaces: [").starts_with("line "));
    assert!(problem("interfaces: eth0").starts_with("line 1: "));
}

#[test]
fn values_are_read() {
    let file = parse(
        "services:\n  - name: card\n    prefixes: [192.0.2.0/24, '2001:db8::/64']\n    ports: [443, \"8000-8010\"]\n  - name: rest\n    prefixes: [198.51.100.7]\nlimits: {time_wait: 100ms, idle: 1m}\ntables: {flows: 1_000_000, ring_bytes: 64KiB}\n",
    )
    .unwrap();
    assert_eq!(file.services[0].ports, [443..=443, 8000..=8010]);
    assert_eq!(file.services[0].prefixes.len(), 2);
    assert_eq!(file.services[1].ports, [], "no ports means every port");
    assert_eq!(file.limits.time_wait, Duration::from_millis(100));
    assert_eq!(file.tables.flows, Some(1_000_000));
    assert_eq!(file.tables.ring_bytes, Some(65_536));
}

/// What the example shows of alerts behind its comment signs is valid, too.
#[test]
fn the_example_of_alerts_loads() {
    let from = EXAMPLE.find("#alerts:").unwrap();
    let alerts: String =
        EXAMPLE[from..].lines().map(|line| line.trim_start_matches('#').to_owned() + "\n").collect();
    let settings = parse(&format!("{}{alerts}", &EXAMPLE[..from])).unwrap().alerts;
    assert_eq!(settings.rules.len(), alert::Settings::default().rules.len() + 2 - 1);
    assert_eq!(settings.sinks.len(), 3);
}

#[test]
fn a_connection_log_is_off_unless_asked_for() {
    let log = |text: &str| parse(text).unwrap().connection_log.unwrap();
    let whole = log("connection_log: {path: /var/log/connections.jsonl}");
    assert_eq!((whole.path.to_str(), whole.sample_good), (Some("/var/log/connections.jsonl"), Rate::EVERY));
    let sampled = log("connection_log: {path: '-', sample_good: 0.01}");
    assert_eq!(sampled.sample_good, Rate::new(0.01).unwrap());
    for (text, start) in [
        ("connection_log: {path: ''}", "line 1: connection_log.path: is empty"),
        (
            "connection_log: {path: a, sample_good: 2}",
            "line 1: connection_log.sample_good: \"2\" is not a share",
        ),
        ("connection_log: {path: a, sample_good: all}", "line 1: connection_log.sample_good: \"all\" is not"),
        ("connection_log: {sample_good: 1}", "line 1: path: this key is missing"),
        (
            "connection_log: {path: a, sampel_good: 1}",
            "line 1: sampel_good: unknown key; did you mean sample_good?",
        ),
    ] {
        let found = problem(text);
        assert!(found.starts_with(start), "{found}");
    }
    assert_eq!(parse("").unwrap().connection_log, None);
}

#[test]
fn every_wrong_value_is_told_at_once() {
    let all = problems("limits:\n  idle: 30\n  stall: never\ntables:\n  flows: 10\n  ring_bytes: 5000\n");
    let starts = [
        "line 2: limits.idle: 30 has no unit",
        "line 3: limits.stall",
        "line 5: tables.flows",
        "line 6: tables.ring_bytes",
    ];
    assert_eq!(all.len(), starts.len(), "{all:?}");
    for (text, start) in all.iter().zip(starts) {
        assert!(text.starts_with(start), "{text}");
    }
}

#[test]
fn a_flow_must_outlive_the_idle_limit() {
    let text = problem("limits:\n  flow_idle_timeout: 10s\n");
    assert!(text.starts_with("line 2: limits.flow_idle_timeout: must be above limits.idle"), "{text}");
}

#[test]
fn names_are_unique_and_safe() {
    assert!(problem("interfaces: [{name: eth0}, {name: eth0}]").contains("eth0 is listed twice"));
    let text = problem("interfaces:\n  - {name: eth0, point: a}\n  - {name: eth1, point: a}\n");
    assert!(text.starts_with("line 3: interfaces[1].point: two points are called a"), "{text}");
    assert!(
        problem("interfaces: [{name: eth0, point: eth1}, {name: eth1}]")
            .contains("interfaces[1].name: two points")
    );
    assert!(problem("interfaces: [{name: eth0, point: 'a b'}]").contains("cannot be a name"));
    assert!(
        problem("interfaces: [{name: eth0, point: none}]").contains("interfaces[0].point: none is the point")
    );
    let service = |name: &str| format!("services: [{{name: {name}, prefixes: [192.0.2.1]}}]");
    assert!(problem(&service("other")).contains("services[0].name: other is the name of all"));
    let twice = "services: [{name: a, prefixes: [192.0.2.1]}, {name: a, prefixes: [192.0.2.2]}]";
    assert!(problem(twice).contains("two services are called a"));
}

#[test]
fn a_server_belongs_to_one_service() {
    let text = problem(
        "services:\n  - name: a\n    prefixes: [192.0.2.0/24]\n    ports: [443, 8000-8010]\n  - name: b\n    prefixes: [192.0.2.0/24]\n    ports: [8005]\n",
    );
    assert!(text.starts_with("line 6: services[1].prefixes: 192.0.2.0/24 with port 8005 is listed already, with ports 8000-8010 in service a"), "{text}");
    // A longer prefix inside is no clash: the longest match decides.
    parse("services: [{name: a, prefixes: [192.0.2.0/24]}, {name: b, prefixes: [192.0.2.7]}]").unwrap();
    // Nor are listed ports a clash with a service that has the rest.
    let rest = "services: [{name: a, prefixes: [192.0.2.7], ports: [443]}, {name: b, prefixes: [192.0.2.7]}]";
    assert_eq!(parse(rest).unwrap().services[1].ports, []);
    let twice = "services: [{name: a, prefixes: [192.0.2.7]}, {name: b, prefixes: [192.0.2.7], ports: [\"1-65535\"]}]";
    assert!(
        problem(twice)
            .contains("192.0.2.7/32 with every port is listed already, with every port in service a")
    );
    assert!(problem("services: [{name: a, prefixes: []}]").contains("list at least one"));
    assert!(problem("services: [{name: a, prefixes: [192.0.2.1], ports: []}]").contains("leave the key out"));
}
