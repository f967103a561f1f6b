//! What leaves the host without being asked for: no address in metrics and logs, nothing but loopback served, and no file
//! that everybody may read.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use harness::agent::Launch;
use harness::tcp::{self, Dial, Serve, Server};
use harness::topology::{CLIENT, OUTSIDE, SERVER, Version};
use harness::{Gateway, Pair, eventually};
use nix::sys::signal::Signal;

use crate::watch::{DEADLINE, configuration, services};

/// The ways in which a scraper may ask for the metrics.
const FORMATS: [&str; 3] = [
    "text/plain;version=0.0.4",
    "application/openmetrics-text;version=1.0.0",
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
];

#[test]
fn metrics_and_logs_name_no_address_and_only_this_host_is_served() {
    let world = Gateway::new();
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let [log, state] = ["connections.jsonl", "alerts.json"].map(|name| directory.path().join(name));
    let text = configuration(&format!(
        "{}connection_log: {{path: {}}}\nalerts:\n  state_file: {}\n  rules:\n    - {{name: Any, severity: page, kind: \
         count, metric: fivetuple_tcp_resets_total, window: 1m, above: 0}}\n",
        services([("card", 443)]),
        log.display(),
        state.display()
    ));
    let agent = Launch::configuration(text).default_listen_address().start(&world.gateway);
    let ends =
        [CLIENT.ip(Version::V4), CLIENT.ip(Version::V6), SERVER.ip(Version::V4), SERVER.ip(Version::V6)];
    for version in [Version::V4, Version::V6] {
        let server = Server::start(&world.server, (SERVER.ip(version), 443), Serve::Echo);
        let dial = || Dial::default().from((CLIENT.ip(version), 0));
        let mut conn = dial().connect(&world.client, server.address());
        tcp::echo(&mut conn, 100);
        conn.reset();
        assert!(dial().try_connect(&world.client, (SERVER.ip(version), 81)).is_err(), "nobody listens");
    }
    let lines = eventually(DEADLINE, "four ends at both points, and the alert", || {
        let (lines, alerts) =
            (fs::read_to_string(&log).unwrap_or_default(), fs::read(&state).unwrap_or_default());
        if lines.lines().count() == 8 && alerts.len() > 2 { Ok(lines) } else { Err(lines) }
    });
    let whole = ends.map(|end| end.to_string());
    assert!(whole.iter().all(|end| lines.contains(end)), "the log that was asked for names them: {lines}");
    for path in [&log, &state] {
        let mode = fs::metadata(path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o137, 0, "{}: {mode:o}", path.display());
    }
    for format in FORMATS {
        let mut curl: Command = world.gateway.cmd("curl");
        let asked = curl.args(["-sSf", "-H", &format!("Accept: {format}"), "http://127.0.0.1:10435/metrics"]);
        let output = asked.output().expect("curl is there");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("fivetuple_tcp_resets_total"), "{said}");
        assert_eq!(whole.iter().find(|end| said.contains(*end)), None, "{format}");
    }
    // Its own ports alone: a namespace has no others.
    let sockets = world.gateway.exec("ss -Hltun");
    let [socket] = sockets.lines().collect::<Vec<_>>()[..] else { panic!("{sockets}") };
    assert!(socket.starts_with("tcp") && socket.contains(" 127.0.0.1:10435 "), "{socket}");
    let stranger = Dial::default().try_connect(&world.client, (OUTSIDE.v4, 10_435));
    assert!(stranger.is_err(), "a client of the payments is served no metrics");

    agent.signal(Signal::SIGTERM);
    let (status, said) = agent.wait();
    assert!(status.success());
    let said = said.join("\n");
    assert!(!said.is_empty());
    assert_eq!(whole.iter().find(|end| said.contains(*end)), None, "{said}");
}

/// Who opens it to others is told what they can read, before anything is attached.
#[test]
fn an_address_that_others_reach_is_warned_of() {
    let pair = Pair::new();
    let launch = Launch::interfaces(&["eth0"]).default_listen_address();
    let agent = launch.argument("--web.listen-address=0.0.0.0:10436").spawn(&pair.left);
    eventually(DEADLINE, "the warning", || {
        let warned =
            |line: &String| line.contains("level=warn") && line.contains("anyone who reaches this address");
        if agent.log().iter().any(warned) { Ok(()) } else { Err(agent.log().join("\n")) }
    });
    agent.signal(Signal::SIGTERM);
    assert!(agent.wait().0.success());
}
