//! Reloads: other interfaces are watched, or nothing of the file is in force; and a thousand of them open nothing that is
//! forgotten, and lose nothing that happens meanwhile.

use std::fs;

use harness::agent::{Launch, Loaded, left_attached};
use harness::tcp::Dial;
use harness::topology::{CLIENT, SERVER};
use harness::{Bpffs, Gateway, Pair, eventually};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::interfaces::{AT_ONCE, watched};
use crate::patterns::{HERE, be_refused, plug, refused, unasked};
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

/// A reload may ask for other interfaces, as far as there is room; one that asks for more has none of what it brings.
#[test]
fn a_reload_takes_the_interfaces_it_asks_for_or_nothing() {
    let (pair, bpffs) = (Pair::new(), Bpffs::new());
    let asked = |entries: &[&str]| {
        let entries = entries.iter().map(|entry| format!("  - {{{entry}}}\n"));
        format!("interfaces:\n{}", entries.collect::<String>())
    };
    let agent = bpffs.pin(Launch::configuration(asked(&["name: 'veth*'"]))).start(&pair.left);
    let reload = |text: &str| {
        agent.rewrite_configuration(text);
        agent.reload()
    };
    plug(&pair, "veth1");
    pair.left.ip("link add dmz1 type veth peer name dmz2\nlink set dmz1 up\nlink set dmz2 up\n");
    watched(&agent, "veth1", 2.0, AT_ONCE);
    be_refused(&pair);
    refused(&agent, "veth1", 1.0);

    let both = asked(&["name: 'veth*'", "name: dmz1, point: dmz"]);
    assert_eq!(reload(&both).status, 200);
    watched(&agent, "dmz", 2.0, AT_ONCE);
    let on = |interface: &str| {
        left_attached(&pair.left).iter().filter(|line| line.starts_with(&format!("{interface}: "))).count()
    };
    assert_eq!((on("veth1"), on("dmz1"), on("dmz2")), (2, 2, 0));

    // Too many, and a hook whose program is not loaded: told with what to do, and the service is not there either.
    let service = format!("services:\n  - name: late\n    prefixes: [{HERE}]\n    ports: [81]\n");
    let many: Vec<_> = (0..9).map(|n| format!("name: eth{n}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    for (entries, why) in [
        (&*many, "9 are asked for, and the running agent has room for 8 points; restart it"),
        (
            &["name: dmz1, ingress: xdp"],
            "dmz1 asks for XDP, and no interface asked for XDP when the agent started",
        ),
    ] {
        let answer = reload(&(asked(entries) + &service));
        assert!(answer.status == 500 && answer.body.contains(why), "{answer:?}");
        let metrics = agent.metrics();
        assert_eq!(metrics.count("fivetuple_tcp_segments_total", &[("svc", "late")]), 0);
        assert_eq!(metrics.get("fivetuple_config_last_reload_successful", &[]), 0.0);
        assert_eq!((on("veth1"), on("dmz1")), (2, 2));
    }

    // Another interface for a point that there is, and none for one that there was: its series stay for a while.
    assert_eq!(reload(&asked(&["name: dmz2, point: dmz"])).status, 200);
    eventually(AT_ONCE, "dmz2 to be watched, and nothing else", || {
        let there = (on("veth1"), on("dmz1"), on("dmz2"));
        if there == (0, 0, 2) { Ok(()) } else { Err(format!("{there:?} {:?}", agent.log())) }
    });
    watched(&agent, "dmz", 2.0, AT_ONCE);
    unasked(&agent, "veth1");
    refused(&agent, "veth1", 1.0);
    assert_eq!(reload(&format!("{both}tables: {{flows: 4096}}\n")).status, 200);
    let told = |line: &String| line.contains("tables changed in the configuration: that takes effect when");
    assert!(agent.log().iter().any(told), "{:?}", agent.log());
    watched(&agent, "veth1", 2.0, AT_ONCE);
    be_refused(&pair);
    refused(&agent, "veth1", 2.0);
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.wait().0.code(), Some(0));
    assert!(bpffs.run_to_end(&pair.left, &["detach"]).status.success());
    assert_eq!(left_attached(&pair.left), Vec::<String>::new());
}
