//! A thousand reloads: nothing is opened and forgotten, nothing that happens meanwhile is lost.

use std::fs;

use harness::agent::{Launch, Loaded};
use harness::tcp::Dial;
use harness::topology::{CLIENT, SERVER};
use harness::{Gateway, eventually};
use nix::unistd::Pid;

use crate::watch::{DEADLINE, configuration, exactly, services};

const RELOADS: u16 = 1_000;
/// Each makes four records.
const REFUSED: u16 = RELOADS / 5;

fn descriptors(process: Pid) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).expect("the process runs").count()
}

#[test]
fn a_thousand_reloads_open_nothing_and_lose_nothing() {
    let world = Gateway::new();
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let path = directory.path().join("connections.jsonl");
    let log = format!("connection_log: {{path: {}}}\n", path.display());
    let one = configuration(&(services([("card", 443)]) + &log));
    let two = configuration(&(services([("card", 443), ("bank", 444)]) + &log + "limits: {idle: 10s}\n"));
    let wrong = one.replace("services", "servcies");
    let agent = Launch::configuration(one.clone()).start(&world.gateway);
    let reload = |text: &str, status: u16| {
        agent.rewrite_configuration(text);
        assert_eq!(agent.reload().status, status);
    };
    for text in [&two, &one] {
        reload(text, 200);
    }
    let (files, maps) = (descriptors(agent.pid()), Loaded::by(agent.pid()).maps());
    for n in 0..RELOADS {
        match n % 10 {
            9 => reload(&wrong, 500),
            n if n % 2 == 0 => reload(&two, 200),
            _ => reload(&one, 200),
        }
        if n % (RELOADS / REFUSED) == 0 {
            let dial = Dial::default().from((CLIENT.v4, 20_000 + n));
            assert!(dial.try_connect(&world.client, (SERVER.v4, 81)).is_err(), "nobody listens");
        }
    }
    assert_eq!(
        agent.metrics().get("fivetuple_config_last_reload_successful", &[]),
        0.0,
        "the last was wrong"
    );
    reload(&one, 200);
    exactly(&agent, "resets_total", &[], &[(&[("cause", "refused")], REFUSED.into())]);
    let metrics = agent.metrics();
    let [submitted, received, lost] = ["submitted", "received", "lost"]
        .map(|what| metrics.get(&format!("fivetuple_ring_{what}_total"), &[]));
    assert_eq!((submitted, received, lost), (f64::from(REFUSED) * 4.0, submitted, 0.0));
    eventually(DEADLINE, "a line of each at both points", || {
        let lines = fs::read_to_string(&path).unwrap_or_default().lines().count();
        if lines == 2 * usize::from(REFUSED) { Ok(()) } else { Err(lines) }
    });
    // The descriptor of the last request is closed when the server has heard that nobody asks more.
    eventually(DEADLINE, "as many open files as before", || {
        let now = descriptors(agent.pid());
        if now <= files { Ok(()) } else { Err(format!("{now}, and {files} before")) }
    });
    assert_eq!(Loaded::by(agent.pid()).maps(), maps);
    agent.stop();
}
