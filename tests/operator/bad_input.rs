//! What an operator gets wrong, and what the machine forbids: each time the agent says what and how to mend it, ends
//! with 1 (2 for wrong usage), and leaves nothing behind.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output};

use harness::agent::{Launch, binary, left_attached, run_to_end};
use harness::topology::{CLIENT, SERVER};
use harness::{Gateway, NetNs, Pair, tcp};
use nix::sys::signal::Signal;

use crate::foreign::{Hook, attach};
use crate::watch::configuration;

/// What it said, on both streams.
fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// It ended with this code, said all of these words, and nothing is attached.
#[track_caller]
pub fn refused(namespace: &NetNs, output: &Output, code: i32, words: &[&str]) {
    let said = said(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in what was said:\n{said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(left_attached(namespace), Vec::<String>::new());
}

/// Runs it with this configuration to its end.
#[track_caller]
fn with_file(namespace: &NetNs, verb: &[&str], text: &str) -> Output {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let file = directory.path().join("f.yaml");
    fs::write(&file, text).expect("a temporary file can be written");
    let argument = format!("--config.file={}", file.display());
    run_to_end(namespace, &[verb, &[argument.as_str()]].concat())
}

#[test]
fn an_unknown_interface_is_named_with_the_nearest_one() {
    let pair = Pair::new();
    for verb in ["run", "check"] {
        let output = run_to_end(&pair.left, &[verb, "--interface", "eht0"]);
        refused(
            &pair.left,
            &output,
            1,
            &["eht0", "there is no such interface; did you mean eth0?", "choose one of: "],
        );
    }
}

#[test]
fn a_broken_configuration_is_told_with_line_and_key() {
    let pair = Pair::new();
    let alert = |keys: &str| {
        let rule = format!("{{name: a, severity: page, kind: count, {keys}}}");
        format!("interfaces: [{{name: eth0}}]\nalerts: {{rules: [{rule}]}}\n")
    };
    let twice = alert("metric: fivetuple_tcp_gaps_total, window: 1m, above: 0");
    let twice = twice.replacen("[{name: a", "[{name: a, severity: watch, kind: count, metric: fivetuple_ring_lost_total, window: 1m, above: 0}, {name: a", 1);
    let cases: &[(&str, &[&str])] = &[
        ("interfaces:\n  - name: eth0\nlimts:\n  idle: 3s\n", &["line 3: ", "limts", "did you mean limits?"]),
        (
            "interfaces:\n  - name: eth0\nservices:\n  - name: card\n    prefixes: [10.1.2.3/33]\n",
            &["line 5: ", "services[0].prefixes", "10.1.2.3/33"],
        ),
        (
            "interfaces:\n  - name: eth0\nservices:\n  - name: card\n    prefixes: [10.1.2.3/8]\n",
            &["line 5: ", "services[0].prefixes", "10.0.0.0/8"],
        ),
        ("interfaces:\n  - name: eth0\nlimits:\n  time_wait: 60\n", &["line 4: ", "limits.time_wait"]),
        ("interfaces: [{name: eth0, ingress: dpdk}]\n", &["line 1: ", "dpdk", "auto, xdp, tc"]),
        (
            &alert("metric: fivetuple_tcp_gaps_totl, window: 1m, above: 0"),
            &["line 2: ", "alerts.rules[0].metric", "did you mean fivetuple_tcp_gaps_total?"],
        ),
        (
            &alert("metric: fivetuple_tcp_gaps_total, window: 0s, above: 0"),
            &["line 2: ", "alerts.rules[0].window"],
        ),
        (
            &alert("metric: fivetuple_tcp_gaps_total, window: 1m, above: 5, clear: 9"),
            &["line 2: ", "alerts.rules[0].clear", "wrong side", "write at most 5"],
        ),
        (&twice, &["line 2: ", "alerts.rules[1].name", "two rules are called a"]),
    ];
    for (text, words) in cases {
        for verb in [&["run"][..], &["run", "--config.check"], &["check"]] {
            refused(&pair.left, &with_file(&pair.left, verb, text), 1, words);
        }
        let checked = with_file(&pair.left, &["check"], text);
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        let subjects = said.lines().filter_map(|line| line.split_whitespace().nth(1));
        assert!(!subjects.into_iter().any(|s| s == "programs"), "no points, no word about tables: {said}");
    }
    let missing = run_to_end(&pair.left, &["run", "--config.file=/nonexistent.yaml"]);
    refused(&pair.left, &missing, 1, &["/nonexistent.yaml", "--config.file"]);
}

#[test]
fn checking_answers_with_its_exit_code_and_attaches_nothing() {
    let pair = Pair::new();
    let good = "interfaces:\n  - name: eth0\n    point: outside\n";
    let output = with_file(&pair.left, &["run", "--config.check"], good);
    refused(&pair.left, &output, 0, &["the configuration is valid: points: 1, services: 0"]);
    let output = with_file(&pair.left, &["check"], good);
    refused(&pair.left, &output, 0, &["ok ", "point outside", "the kernel takes the programs"]);
}

#[test]
fn wrong_usage_ends_with_2() {
    let pair = Pair::new();
    for (arguments, word) in [
        (&["rnu"][..], "Usage: fivetuple"),
        (&[][..], "Usage"),
        (&["run", "--interfcae", "eth0"][..], "--interface"),
        (&["run", "--web.listen-address=9100"][..], "127.0.0.1:10435"),
        (&["flows", "--output=xml"][..], "json"),
    ] {
        refused(&pair.left, &run_to_end(&pair.left, arguments), 2, &[word]);
    }
}

/// The binary in the namespace, without these capabilities.
#[track_caller]
fn without(namespace: &NetNs, bounding: &str, arguments: &[&str]) -> Output {
    let mut command: Command = namespace.cmd("setpriv");
    command.arg(format!("--bounding-set={bounding}")).arg(binary()).args(arguments);
    command.output().expect("setpriv is part of util-linux")
}

#[test]
fn missing_capabilities_are_named() {
    let pair = Pair::new();
    let run = ["run", "--interface=eth0", "--web.listen-address=127.0.0.1:0"];
    for (bounding, word) in [
        ("-all", "CAP_BPF and CAP_NET_ADMIN and CAP_PERFMON missing"),
        ("-bpf,-sys_admin", "CAP_BPF missing"),
        ("-net_admin,-sys_admin", "CAP_NET_ADMIN missing"),
        ("-perfmon,-sys_admin", "CAP_PERFMON missing"),
    ] {
        let remedy = "AmbientCapabilities=CAP_BPF CAP_NET_ADMIN CAP_PERFMON";
        refused(&pair.left, &without(&pair.left, bounding, &run), 1, &[word, remedy]);
        let check = without(&pair.left, bounding, &["check", "--interface=eth0"]);
        refused(&pair.left, &check, 1, &[word, remedy]);
    }
}

#[test]
fn a_port_in_use_is_named_with_how_to_find_its_holder() {
    let pair = Pair::new();
    let holder = pair.left.run(|| TcpListener::bind("127.0.0.1:0")).expect("a port is free");
    let taken = holder.local_addr().expect("it is bound");
    let output =
        run_to_end(&pair.left, &["run", "--interface=eth0", &format!("--web.listen-address={taken}")]);
    let find = format!("ss -ltnp 'sport = :{}'", taken.port());
    refused(&pair.left, &output, 1, &[&taken.to_string(), "is in use", &find, "--web.listen-address"]);
}

#[test]
fn no_agent_to_ask_is_said_with_the_remedy() {
    let pair = Pair::new();
    let output = run_to_end(&pair.left, &["flows"]);
    refused(
        &pair.left,
        &output,
        1,
        &["no agent answers at http://127.0.0.1:10435", "fivetuple run", "--url"],
    );
}

/// A stranger's XDP program is never replaced: with `xdp` the agent refuses and says who holds the hook, with `auto` it
/// watches by tc; SIGINT ends it, and the stranger is still there.
#[test]
fn a_stranger_keeps_the_xdp_hook() {
    let world = Gateway::new();
    let _stranger = attach(&world.gateway, "outside", Hook::Xdp);
    let before = left_attached(&world.gateway);
    assert_eq!(before.len(), 1, "{before:?}");
    let id = before[0].rsplit("\"id\":").next().and_then(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().ok()
    });
    let holder = format!("program {}", id.unwrap_or_else(|| panic!("no id in {before:?}")));

    let forced = "interfaces:\n  - name: outside\n    ingress: xdp\n  - name: inside\n";
    for verb in [&["run", "--web.listen-address=127.0.0.1:0"][..], &["check"]] {
        let output = with_file(&world.gateway, verb, forced);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        for word in ["outside", "held by", &holder, "set ingress: tc"] {
            assert!(said.contains(word), "{word:?} is not in what was said:\n{said}");
        }
        assert_eq!(left_attached(&world.gateway), before);
    }

    let agent = Launch::configuration(configuration("")).start(&world.gateway);
    assert!(agent.log().iter().any(|line| line.contains(&holder)), "{:?}", agent.log());
    let ingress = [("point", "outside"), ("hook", "ingress")];
    let by = |mode| agent.metrics().sum("fivetuple_attached", &[&ingress[..], &[("mode", mode)]].concat());
    assert_eq!((by("xdp"), by("tcx") + by("clsact")), (0.0, 1.0));
    assert!(tcp::Dial::default().from((CLIENT.v4, 0)).try_connect(&world.client, (SERVER.v4, 81)).is_err());
    assert_eq!(agent.metrics().sum("fivetuple_tcp_resets_total", &[("cause", "refused")]), 2.0);
    agent.signal(Signal::SIGINT);
    let (status, log) = agent.wait();
    assert_eq!(status.code(), Some(0), "{log:?}");
    assert_eq!(left_attached(&world.gateway), before);
}
