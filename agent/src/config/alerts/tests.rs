//! Tests of the alerts' configuration: what is read, and how each fault is told.

use crate::{
    alert::{
        Settings,
        deliver::SinkKind,
        rule::{Against, Kind, Limit, Severity},
    },
    config::file::{self, FileSettings, Problem},
};
use std::{path::Path, time::Duration};

/// What precedes a rule: a point and a service.
const HEAD: &str =
    "interfaces: [{name: eth0, point: outside}]\nservices: [{name: card, prefixes: [192.0.2.0/24]}]\n";

fn parse(text: &str) -> Result<FileSettings, Vec<Problem>> {
    file::parse(text, Path::new("/etc/fivetuple"))
}

fn read(alerts: &str) -> Settings {
    parse(&format!("{HEAD}{alerts}")).unwrap_or_else(|problems| panic!("{problems:?}\n{alerts}")).alerts
}

#[track_caller]
fn problem(alerts: &str) -> String {
    let all = parse(&format!("{HEAD}{alerts}")).unwrap_err();
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].to_string()
}

/// A rule that is right; its lines are 5 and on.
const RULE: &str = "\
alerts:
  rules:
    - name: few
      severity: page
      kind: ratio
      metric: fivetuple_tcp_connection_results_total
      where: {result: answered, svc: card}
      of:
        metric: fivetuple_tcp_connection_results_total
        where: {svc: card}
      window: 30s
      minimum: 5
      below: 90%
      clear: 95%
      for: 10s
      keep_firing: 1m
      by: [svc, point]
      labels: {team: payments}
      runbook: https://wiki.example.net/few
";

#[test]
fn a_rule_is_read() {
    let settings = read(RULE);
    let rule = settings.rules.last().unwrap();
    assert_eq!((rule.name.as_str(), rule.severity, rule.kind), ("few", Severity::Page, Kind::Ratio));
    assert_eq!((rule.fire, rule.clear, rule.minimum), (Limit::Below(0.9), 0.95, 5.0));
    let seconds = [rule.window, rule.pending, rule.keep_firing].map(|d| d.as_secs());
    assert_eq!(seconds, [30, 10, 60]);
    assert!(rule.by.svc && rule.by.point);
    assert_eq!(rule.labels["team"], "payments");
    assert_eq!(rule.runbook, "https://wiki.example.net/few");
    let text = rule.events.to_string();
    assert_eq!(text, "fivetuple_tcp_connection_results_total{result=\"answered\",svc=\"card\"}");
    assert_eq!(settings.rules.len(), 1 + Settings::default().rules.len());
}

#[test]
fn each_kind_is_read() {
    for (rest, kind, fire) in [
        ("kind: count, window: 1m, above: 3", Kind::Count, Limit::Above(3.0)),
        ("kind: rate, window: 1m, above: 0.5", Kind::Rate, Limit::Above(0.5)),
        ("kind: drop_to_zero, window: 1m", Kind::DropToZero, Limit::Below(1.0)),
        (
            "kind: change, against: previous, window: 10s, below: 0.5",
            Kind::Change(Against::Previous),
            Limit::Below(0.5),
        ),
        (
            "kind: change, against: last_week, window: 1h, above: 3, clear: 2",
            Kind::Change(Against::LastWeek),
            Limit::Above(3.0),
        ),
        (
            "kind: streak, of: {metric: fivetuple_tcp_connections_closed_total}, above: 4",
            Kind::Streak,
            Limit::Above(4.0),
        ),
    ] {
        let metric = "fivetuple_tcp_gaps_total";
        let text = format!("alerts:\n  rules: [{{name: a, severity: watch, metric: {metric}, {rest}}}]\n");
        let rule = read(&text).rules.pop().unwrap();
        assert_eq!((rule.kind, rule.fire), (kind, fire), "{rest}");
    }
}

#[test]
fn a_rule_takes_the_place_of_a_built_in_one_and_others_are_switched_off() {
    let count = Settings::default().rules.len();
    let own = RULE.replace("few", "FivetupleRefused");
    assert_eq!(read(&own).rules.len(), count);
    let off = read("alerts:\n  off: [FivetupleRefused, FivetupleStalled]\n");
    assert_eq!(off.rules.len(), count - 2);
    assert_eq!(read("alerts: {built_in: false}").rules, []);
    let elsewhere = read("alerts: {runbooks: https://wiki.example.net/alerts/}");
    assert_eq!(elsewhere.rules[0].runbook, "https://wiki.example.net/alerts#fivetuplesuccessrate");
}

#[test]
fn receivers_are_read() {
    let settings = read(
        "alerts:\n  alertmanagers:\n    - url: http://10.0.0.1:9093\n    - url: http://10.0.0.2:9093/am\n      name: second\n      timeout: 3s\n  webhooks: [{url: 'http://pager/hook'}]\n  labels: {cluster: a}\n  state_file: /var/lib/fivetuple/alerts.json\n",
    );
    let sinks: Vec<_> =
        settings.sinks.iter().map(|s| (s.name.as_str(), s.kind, s.timeout.as_secs())).collect();
    let want = [
        ("log", SinkKind::Log, 10),
        ("10.0.0.1:9093", SinkKind::Alertmanager, 10),
        ("second", SinkKind::Alertmanager, 3),
        ("pager:80", SinkKind::Webhook, 10),
    ];
    assert_eq!(sinks, want);
    assert_eq!(settings.labels["cluster"], "a");
    assert_eq!(settings.state_file.unwrap().to_str(), Some("/var/lib/fivetuple/alerts.json"));
    assert_eq!(read("alerts: {log: false}").sinks, []);
}

/// Each fault with its line, its key, and what to write instead.
#[test]
fn faults_are_told_with_line_and_key() {
    for (from, to, start, part) in [
        (
            "connection_results_total\n      where: {result",
            "connection_result_total\n      where: {result",
            "line 8: alerts.rules[0].metric: there is no metric",
            "did you mean fivetuple_tcp_connection_results_total?",
        ),
        (
            "metric: fivetuple_tcp_connection_results_total\n      where",
            "metric: tcp_connection_results\n      where",
            "line 8: alerts.rules[0].metric: there is no metric \"tcp_connection_results\"",
            "did you mean fivetuple_tcp_connection_results_total?",
        ),
        (
            "result: answered",
            "result: anserwed",
            "line 9: alerts.rules[0].where.result: there is no result \"anserwed\"",
            "did you mean answered?",
        ),
        (
            "result: answered",
            "reslut: answered",
            "line 9: alerts.rules[0].where.reslut: ",
            "has no label reslut; did you mean result?",
        ),
        (
            "svc: card}\n      window",
            "svc: crad}\n      window",
            "line 12: alerts.rules[0].of.where.svc: there is no svc",
            "did you mean card?",
        ),
        (
            "svc: card}\n      window",
            "point: outsied}\n      window",
            "line 12: alerts.rules[0].of.where.point: there is no point",
            "did you mean outside?",
        ),
        ("window: 30s", "window: 0s", "line 13: alerts.rules[0].window: 0s is no time at all", ""),
        ("window: 30s", "window: 30", "line 13: alerts.rules[0].window: 30 has no unit", ""),
        ("window: 30s", "window: 8d", "line 13: alerts.rules[0].window: 8d cannot be", "write 1s to 7days"),
        (
            "clear: 95%",
            "clear: 85%",
            "line 16: alerts.rules[0].clear: 0.85 is on the wrong side",
            "write at least 0.9",
        ),
        (
            "below: 90%\n      clear: 95%",
            "above: 90%\n      clear: 95%",
            "line 16: alerts.rules[0].clear: 0.95 is on the wrong side",
            "write at most 0.9",
        ),
        ("below: 90%", "below: many", "line 15: alerts.rules[0].below: \"many\" is not a number", ""),
        ("below: 90%", "below: -1", "line 15: alerts.rules[0].below: \"-1\" is not a number", ""),
        ("clear: 95%", "above: 95%", "line 15: alerts.rules[0].below: above is there as well", ""),
        ("below: 90%\n      clear: 95%", "", "line 5: alerts.rules[0].above: this key is missing", ""),
        (
            "by: [svc, point]",
            "by: [result]",
            "line 19: alerts.rules[0].by: ",
            "cannot be told apart by result",
        ),
        (
            "team: payments",
            "severity: high",
            "line 20: alerts.rules[0].labels.severity: the agent sets this label itself",
            "",
        ),
        ("kind: ratio", "kind: ration", "line 7: ", "\"ration\" is not one of count, rate, ratio"),
        ("severity: page", "severity: loud", "line 6: ", "is no severity; write page or watch"),
        ("minimum: 5", "minmum: 5", "line 14: minmum: unknown key; did you mean minimum?", ""),
        ("kind: ratio", "kind: rate\n      minimum: 5", "line 15: minimum: this key is here twice", ""),
        (
            "fivetuple_tcp_connection_results_total\n      where: {result: answered, svc: card}\n      of",
            "fivetuple_tcp_open_connections\n      of",
            "line 8: alerts.rules[0].metric: fivetuple_tcp_open_connections goes up and down; take the kind value",
            "",
        ),
        (
            "metric: fivetuple_tcp_connection_results_total\n        where: {svc: card}",
            "metric: fivetuple_ring_lost_total",
            "line 11: alerts.rules[0].of.metric: its metric has the labels ",
            "",
        ),
    ] {
        assert!(RULE.contains(from), "{from}");
        let found = problem(&RULE.replacen(from, to, 1));
        assert!(found.starts_with(start) && found.contains(part), "{to}: {found}");
    }
}

#[test]
fn what_a_kind_needs_and_has_no_use_for_is_told() {
    let metric = "fivetuple_tcp_gaps_total";
    for (rest, start) in [
        ("kind: count, above: 1", "alerts.rules[0].window: this key is missing: the kind count needs it"),
        (
            "kind: count, window: 1m, above: 1, minimum: 3",
            "alerts.rules[0].minimum: the kind count has no use for it",
        ),
        (
            "kind: ratio, window: 1m, above: 1",
            "alerts.rules[0].of: this key is missing: the kind ratio needs it",
        ),
        (
            "kind: drop_to_zero, window: 1m, for: 1m",
            "alerts.rules[0].for: the kind drop_to_zero has no use for it",
        ),
        ("kind: drop_to_zero, window: 1m, clear: 0", "alerts.rules[0].clear: one event at least"),
        ("kind: change, window: 1m, above: 2", "alerts.rules[0].against: this key is missing"),
        (
            "kind: change, against: yesterday, window: 1m, above: 2",
            "alerts.rules[0].window: 1m cannot be; write 5m to 1day",
        ),
        ("kind: value, above: 1", "alerts.rules[0].metric: fivetuple_tcp_gaps_total only grows"),
    ] {
        let text = format!("alerts:\n  rules: [{{name: a, severity: watch, metric: {metric}, {rest}}}]\n");
        let found = problem(&text);
        assert!(found.starts_with(&format!("line 4: {start}")), "{rest}: {found}");
    }
}

#[test]
fn names_are_taken_once() {
    let twice = RULE.to_owned() + RULE.split("rules:\n").nth(1).unwrap();
    assert!(
        problem(&twice).starts_with("line 22: alerts.rules[1].name: two rules are called few"),
        "{}",
        problem(&twice)
    );
    let off = problem("alerts:\n  off: [FivetupleRefusd]\n");
    assert_eq!(
        off,
        "line 4: alerts.off[0]: there is no built-in rule \"FivetupleRefusd\"; did you mean FivetupleRefused?"
    );
    let sinks = problem("alerts:\n  webhooks:\n    - url: http://a:1\n    - {url: 'http://a:1/x'}\n");
    assert!(sinks.starts_with("line 6: alerts.webhooks[1].name: two receivers are called a:1"), "{sinks}");
    let tls =
        problem("alerts: {webhooks: [{url: 'https://a', http_config: {tls_config: {ca_file: none.pem}}}]}");
    let file = "alerts.webhooks[0].http_config.tls_config.ca_file: cannot read /etc/fivetuple/none.pem: ";
    assert!(tls.starts_with(&format!("line 3: {file}")), "{tls}");
}

#[test]
fn a_window_may_be_as_short_as_a_look() {
    let rule = |window| {
        format!(
            "alerts:\n  rules: [{{name: a, severity: watch, metric: fivetuple_tcp_gaps_total, kind: count, window: {window}, above: 0}}]"
        )
    };
    assert_eq!(read(&rule("1s")).rules.pop().unwrap().window, Duration::from_secs(1));
    assert!(problem(&rule("900ms")).contains("900ms cannot be; write 1s to 7days"));
}
