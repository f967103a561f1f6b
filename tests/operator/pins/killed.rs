//! Killed again and again while much passes: no connection notices, and no count is lost or doubled.
//!
//! `FIVETUPLE_KILLS=100` for the long one.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use agent::pins::journal::Journal;
use agent::sys::cell::Cell;
use agent::sys::pin::{self, Facts};
use agent_ebpf::flow::{Flow, FlowKey4};
use agent_ebpf::phase::Phase;
use agent_ebpf::time::Nanos;
use harness::agent::{Agent, Launch, binary, left_attached};
use harness::tcp::{self, Serve, Server};
use harness::topology::SERVER;
use harness::truth::Counters;
use harness::{Bpffs, Gateway, eventually};
use nix::sys::signal::Signal;

use super::{detach, echoed, opened};
use crate::watch::{DEADLINE, configuration, eventually_exactly, exactly, services};

/// Bytes of a piece of the bulk transfer, of which every one comes back.
const PIECE: u32 = 16_000;

/// Bytes of a short connection.
const SHORT: u32 = 100;

/// Pauses between the short connections and between the pieces: up to 200 of them a second.
const PAUSE: Duration = Duration::from_millis(5);

/// Ends the traffic, also where the test fails.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What the kernel calls the maps and links that are pinned.
fn objects(bpffs: &Bpffs) -> Vec<String> {
    let id = |path: &Path| {
        let fd = pin::get(&bpffs.path().join(path)).ok().flatten().expect("it is pinned");
        let facts = Facts::of(fd.as_fd()).expect("it can be asked");
        let number = ["map_id", "link_id"].iter().find_map(|name| facts.number(name));
        format!("{} {number:?}", path.display())
    };
    // The description is a new map each time.
    bpffs.pins().iter().filter(|pin| !pin.ends_with("DESCRIPTION")).map(|pin| id(pin)).collect()
}

/// Opens and closes connections to a server of its own, which has a thread for each of them to its end; how many.
fn short_connections(world: &Gateway, port: u16, stop: &AtomicBool) -> u32 {
    let server = Server::start(&world.server, (SERVER.v4, port), Serve::Echo);
    let mut count = 0;
    while count < 4_000 && !stop.load(Ordering::Relaxed) {
        let mut conn = tcp::connect(&world.client, server.address());
        tcp::echo(&mut conn, SHORT.into());
        conn.half_close();
        assert_eq!(conn.receive_to_end(), 0);
        count += 1;
        thread::park_timeout(PAUSE);
    }
    let ends = server.finished();
    assert!(ends.iter().all(Result::is_ok), "{:?}", ends.iter().find(|end| end.is_err()));
    count
}

/// Kills and starts under traffic; `configured` is what each start finds, by its number. Whether the same objects were
/// pinned in the end as at the beginning.
#[track_caller]
fn kill(kills: u16, configured: impl Fn(u16) -> String) -> bool {
    let world = Gateway::plan().patient().build();
    let bpffs = Bpffs::new();
    let server = Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    // Not as a configuration of the guard's: that would capture all of this.
    let launch = |number| {
        std::fs::write(file.path(), configured(number)).expect("it can be written");
        let path = file.path().display();
        let script = format!(
            "mount --bind {} /sys/fs/bpf && exec \"$0\" run --pin --config.file={path} \"$@\"",
            bpffs.path().display()
        );
        Launch::default().program(binary()).under(&["unshare", "--mount", "sh", "-c", &script])
    };
    let before = [Counters::of(&world.client), Counters::of(&world.server)];
    let agent = launch(0).start(&world.gateway);
    let first = objects(&bpffs);
    let stop = AtomicBool::new(false);
    let (pieces, shorts) = (AtomicU32::new(0), AtomicU32::new(0));
    let mut slowest = Duration::ZERO;
    let agent = thread::scope(|scope| {
        let (_stops, mut agent) = (Stops(&stop), agent);
        scope.spawn(|| {
            let mut bulk = tcp::connect(&world.client, server.address());
            while !stop.load(Ordering::Relaxed) {
                tcp::echo(&mut bulk, PIECE.into());
                pieces.fetch_add(1, Ordering::Relaxed);
                thread::park_timeout(PAUSE);
            }
            bulk.half_close();
            assert_eq!(bulk.receive_to_end(), 0);
        });
        scope.spawn(|| {
            for port in 1_000.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                shorts.fetch_add(short_connections(&world, port, &stop), Ordering::Relaxed);
            }
        });
        for number in 1..=kills {
            agent.signal(Signal::SIGKILL);
            agent.wait();
            assert_eq!(left_attached(&world.gateway).len(), 4, "both directions of both points");
            let began = Instant::now();
            agent = launch(number).start(&world.gateway);
            slowest = slowest.max(began.elapsed());
            // Nobody else lets go of what has ended: without one sweep in each life the tables fill up.
            let swept =
                |agent: &Agent| agent.metrics().sum("fivetuple_table_entries", &[("table", "flows4")]);
            eventually(DEADLINE, "a sweep", || swept(&agent) > 0.0);
        }
        stop.store(true, Ordering::Relaxed);
        agent
    });
    let shorts = shorts.into_inner();
    let bytes = pieces.into_inner() * PIECE + shorts * SHORT;
    println!("{kills} kills, {shorts} short connections, {bytes} bytes each way; slowest start {slowest:?}");

    echoed(&agent, bytes);
    eventually_exactly(&agent, "connections_opened_total", &[], &opened(shorts + 1, 0));
    eventually_exactly(&agent, "connections_closed_total", &[], &[(&[("close", "fin_client")], shorts + 1)]);
    for anomaly in ["resets_total", "gaps_total", "duplicate_segments_total", "unknown_segments_total"] {
        exactly(&agent, anomaly, &[], &[]);
    }
    assert_eq!(server.finished().iter().filter(|end| end.is_ok()).count(), 1, "the bulk transfer");
    for (host, before) in [&world.client, &world.server].into_iter().zip(&before) {
        let since = Counters::of(host).since(before);
        assert_eq!((since.get("TcpEstabResets"), since.get("TcpOutRsts")), (0, 0));
    }
    let last = objects(&bpffs);
    assert_eq!(last.len(), first.len(), "{last:?}");
    super::end(agent);
    detach(&world, &bpffs);
    last == first
}

#[test]
fn again_and_again_under_traffic() {
    let kills = std::env::var("FIVETUPLE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    assert!(kill(kills, |_| configuration("")), "the same tables and links");
}

/// Each start finds more services than there is room for: new tables for totals, and the old ones' counts on top.
#[test]
fn again_and_again_with_other_tables() {
    let configured = |number: u16| {
        let names: Vec<_> = (0..number * 40).map(|i| (format!("more{i}"), 20_000 + i)).collect();
        let more = services(names.iter().map(|(name, port)| (name.as_str(), *port)));
        configuration(if names.is_empty() { "" } else { &more })
    };
    assert!(!kill(3, configured), "other tables");
}

/// Killed in the middle of a sweep: a flow is out of its table, and its end is not among the kept counts.
#[test]
fn an_end_that_was_about_to_be_counted_is_counted_once() {
    let world = Gateway::new();
    let bpffs = Bpffs::new();
    let launch = || bpffs.pin(Launch::configuration(configuration("")));
    drop(launch().start(&world.gateway));
    let pin = bpffs.pins().into_iter().find(|pin| pin.ends_with("OWN")).expect("there are counts");
    let generation = bpffs.path().join(pin.parent().expect("they are in a directory"));
    let counts = Cell::pinned(&generation.join("OWN")).ok().flatten().and_then(|cell| cell.get().ok());
    let swept = counts.and_then(|bytes| Some(u64::from_ne_bytes(bytes.get(8..16)?.try_into().ok()?)));
    let journal = Journal::pinned(&generation).expect("there is a journal");
    journal.begin(swept.expect("a number stands there")).expect("it can be cleared");
    let key = FlowKey4 { low: 1, high: 2, ports: 3, scope: 1 << 24 };
    let flow = Flow { phase: Phase::SynSent as u8, bits: Flow::USED, opened: Nanos(7), ..Flow::default() };
    journal.note(&key, &flow, true).expect("it takes a note");

    for _ in 0..2 {
        let agent = launch().start(&world.gateway);
        let counted = |point| {
            let labels = [("point", point), ("close", "handshake_silence")];
            agent.metrics().sum("fivetuple_tcp_connections_closed_total", &labels)
        };
        assert_eq!((counted("outside"), counted("inside")), (0.0, 1.0));
        super::end(agent);
    }
    detach(&world, &bpffs);
}
