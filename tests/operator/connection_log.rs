//! The connection log: a line at each point for each connection that ended, with what its client did; a rotated file is
//! let go of, and what is sampled out is counted.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use harness::agent::{Agent, Launch};
use harness::tcp::{self, Dial, Serve, Server};
use harness::topology::{CLIENT, SERVER};
use harness::{Gateway, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::watch::{DEADLINE, POINTS, configuration, services};

/// What a client did, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Did {
    point: String,
    port: u16,
    result: String,
    close: String,
    sent: u64,
    received: u64,
}

/// The lines of a file, once there are so many.
#[track_caller]
fn logged(path: &Path, count: usize) -> BTreeSet<Did> {
    let text = eventually(DEADLINE, "the lines of the connections that ended", || {
        let text = fs::read_to_string(path).unwrap_or_default();
        if text.lines().count() >= count { Ok(text) } else { Err(text) }
    });
    let read = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let word = |key: &str| line[key].as_str().unwrap_or_else(|| panic!("no {key} in {line}")).to_owned();
        let number = |key: &str| line[key].as_u64().unwrap_or_else(|| panic!("no {key} in {line}"));
        assert_eq!((word("client"), word("svc")), (CLIENT.v4.to_string(), "card".to_owned()), "{line}");
        assert!(line["duration_seconds"].as_f64().is_some_and(|s| s < 60.0), "{line}");
        Did {
            point: word("point"),
            port: number("client_port").try_into().expect("a port"),
            result: word("result"),
            close: word("close"),
            sent: number("client_bytes"),
            received: number("server_bytes"),
        }
    };
    let all: Vec<Did> = text.lines().map(read).collect();
    assert_eq!(all.len(), count, "{text}");
    all.into_iter().collect()
}

/// The same at both points.
fn at_each_point(did: &[(u16, &str, &str, u64, u64)]) -> BTreeSet<Did> {
    let each = did.iter().flat_map(|&(port, result, close, sent, received)| {
        POINTS.map(|point| Did {
            point: point.to_owned(),
            port,
            result: result.to_owned(),
            close: close.to_owned(),
            sent,
            received,
        })
    });
    each.collect()
}

fn echoed(world: &Gateway, server: &Server, port: u16, bytes: u64) {
    let mut conn = Dial::default().from((CLIENT.v4, port)).connect(&world.client, server.address());
    tcp::echo(&mut conn, bytes);
    conn.close();
}

fn refused(world: &Gateway, port: u16) {
    let error = Dial::default().from((CLIENT.v4, port)).try_connect(&world.client, (SERVER.v4, 444));
    assert_eq!(error.expect_err("nobody listens").kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn each_connection_that_ended_has_a_line_that_says_what_its_client_did() {
    let world = Gateway::new();
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let path = directory.path().join("connections.jsonl");
    let with = |more: &str| {
        let services = services([("card", 443)]).replace("[443]", "[443, 444, 445]");
        configuration(&format!("{services}connection_log:\n  path: {}\n{more}", path.display()))
    };
    let agent = Launch::configuration(with("")).start(&world.gateway);
    let echo = Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
    let sink = Server::start(&world.server, (SERVER.v4, 445), Serve::Sink);

    for (port, bytes) in [(30_000, 100), (30_001, 1), (30_002, 20_000)] {
        echoed(&world, &echo, port, bytes);
    }
    refused(&world, 30_003);
    let mut unanswered = Dial::default().from((CLIENT.v4, 30_004)).connect(&world.client, sink.address());
    unanswered.send(700);
    unanswered.close();
    Dial::default().from((CLIENT.v4, 30_005)).connect(&world.client, echo.address()).close();
    let first = at_each_point(&[
        (30_000, "answered", "fin_client", 100, 100),
        (30_001, "answered", "fin_client", 1, 1),
        (30_002, "answered", "fin_client", 20_000, 20_000),
        (30_003, "refused", "rst_server", 0, 0),
        (30_004, "unanswered", "fin_client", 700, 0),
        (30_005, "unused", "fin_client", 0, 0),
    ]);
    assert_eq!(logged(&path, 12), first);

    let old = directory.path().join("connections.jsonl.1");
    fs::rename(&path, &old).expect("a file can be renamed");
    agent.signal(Signal::SIGHUP);
    eventually(DEADLINE, "the file to be opened anew", || path.exists());
    echoed(&world, &echo, 30_006, 50);
    assert_eq!(logged(&path, 2), at_each_point(&[(30_006, "answered", "fin_client", 50, 50)]));
    assert_eq!(logged(&old, 12), first);

    agent.rewrite_configuration(&with("  sample_good: 0\n"));
    assert_eq!(agent.reload().status, 200);
    echoed(&world, &echo, 30_007, 50);
    refused(&world, 30_008);
    let both =
        at_each_point(&[(30_006, "answered", "fin_client", 50, 50), (30_008, "refused", "rst_server", 0, 0)]);
    assert_eq!(logged(&path, 4), both);
    eventually(DEADLINE, "every line to be accounted for", || {
        let counts = ["written", "sampled_out", "failed"].map(|result| lines(&agent, result));
        if counts == [16.0, 2.0, 0.0] { Ok(()) } else { Err(format!("{counts:?}")) }
    });

    agent.rewrite_configuration(&with("").replace(&*path.to_string_lossy(), "/nonexistent/log"));
    let refused = agent.reload();
    assert!(refused.status == 500 && refused.body.contains("connection_log.path"), "{refused:?}");
    agent.stop();
}

fn lines(agent: &Agent<'_>, result: &str) -> f64 {
    agent.metrics().get("fivetuple_connection_log_lines_total", &[("result", result)])
}
