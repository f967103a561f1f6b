//! Attaching and detaching while much passes: nothing is lost and nothing sent again, and interfaces are afterwards what
//! they were.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use harness::tcp::{self, DEADLINE, Serve, Server};
use harness::topology::SERVER;
use harness::truth::Counters;
use harness::{Gateway, eventually};

use crate::watch::{Hook, Watch, closed};

/// Each way in a piece of the bulk transfer, whose 16 segments fit any queue.
const PIECE: u64 = 20_000;
/// Pieces that pass before and after each change.
const PIECES: u32 = 100;

/// The features of every interface on the way, as `ethtool -k` has them.
#[track_caller]
fn features(world: &Gateway) -> BTreeSet<String> {
    let ends = [
        ("client", &world.client, "eth0"),
        ("gateway", &world.gateway, "outside"),
        ("gateway", &world.gateway, "inside"),
        ("server", &world.server, "eth0"),
    ];
    let of = |(host, namespace, interface): (&str, &harness::NetNs, &str)| {
        let text = namespace.exec(&format!("ethtool -k {interface}"));
        text.lines().skip(1).map(|line| format!("{host} {interface} {}", line.trim())).collect::<Vec<_>>()
    };
    ends.into_iter().flat_map(of).collect()
}

/// Starts and ends the agent under traffic; the features that changed while it watched.
#[track_caller]
fn watched(hook: Hook) -> Vec<String> {
    let world = Gateway::plan().offloads(true).patient().build();
    let [bulk, short] = [443, 444].map(|port| Server::start(&world.server, (SERVER.v4, port), Serve::Echo));
    let before = features(&world);
    let (done, pieces, shorts) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    let changed = thread::scope(|scope| {
        scope.spawn(|| {
            let mut conn = tcp::connect(&world.client, bulk.address());
            while !done.load(Ordering::Relaxed) {
                tcp::echo(&mut conn, PIECE);
                pieces.fetch_add(1, Ordering::Relaxed);
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let mut conn = tcp::connect(&world.client, short.address());
                tcp::echo(&mut conn, 100);
                shorts.fetch_add(1, Ordering::Relaxed);
                thread::park_timeout(Duration::from_millis(2));
            }
        });
        let more = || {
            let until = pieces.load(Ordering::Relaxed) + PIECES;
            eventually(DEADLINE, "traffic to pass", || pieces.load(Ordering::Relaxed) >= until);
        };
        more();
        let watch = Watch::configured(&world, hook, "");
        let while_it_watches = features(&world);
        more();
        watch.agent.stop();
        more();
        done.store(true, Ordering::Relaxed);
        while_it_watches.difference(&before).cloned().collect()
    });
    closed(&world.client, &world.server);
    let sent = [&world.client, &world.server].map(|end| {
        let kernel = Counters::of(end);
        ["TcpOutSegs", "TcpRetransSegs"].map(|name| kernel.get(name))
    });
    println!(
        "{hook:?}: {pieces:?} pieces, {shorts:?} short connections, segments and repeats {sent:?}; {changed:?}"
    );
    assert_eq!(sent.map(|[_, again]| again), [0, 0], "sent again");
    assert_eq!(features(&world), before);
    changed
}

#[test]
fn tc_programs_come_and_go_without_a_trace() {
    assert_eq!(watched(Hook::Tc), Vec::<String>::new());
}

/// The one thing that XDP on a veth costs, and what the agent says of it: see `preflight`.
#[test]
fn xdp_programs_come_and_go_without_a_loss() {
    let changed = watched(Hook::Xdp);
    let tso = "tcp-segmentation-offload: off";
    for end in ["client eth0", "server eth0"] {
        assert!(changed.contains(&format!("{end} {tso}")), "{changed:?}");
    }
}
