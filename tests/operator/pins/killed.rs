//! Killed again and again while much passes: no connection notices, and no count is lost or doubled.
//!
//! `FIVETUPLE_KILLS=100` for the long one.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use agent::sys::pin::{self, Facts};
use harness::agent::{Launch, binary, left_attached};
use harness::tcp::{self, Serve, Server};
use harness::topology::SERVER;
use harness::truth::Counters;
use harness::{Bpffs, Gateway};
use nix::sys::signal::Signal;

use super::{detach, echoed, opened};
use crate::watch::{configuration, eventually_exactly, exactly};

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

#[test]
fn again_and_again_under_traffic() {
    let kills: u32 = std::env::var("FIVETUPLE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let world = Gateway::plan().patient().build();
    let bpffs = Bpffs::new();
    let server = Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
    let text = configuration("");
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    std::fs::write(file.path(), text).expect("it can be written");
    // Not as a configuration of the guard's: that would capture all of this.
    let launch = || {
        let path = file.path().display();
        let script = format!(
            "mount --bind {} /sys/fs/bpf && exec \"$0\" run --pin --config.file={path} \"$@\"",
            bpffs.path().display()
        );
        Launch::default().program(binary()).under(&["unshare", "--mount", "sh", "-c", &script])
    };
    let before = [Counters::of(&world.client), Counters::of(&world.server)];
    let agent = launch().start(&world.gateway);
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
            while !stop.load(Ordering::Relaxed) {
                let mut conn = tcp::connect(&world.client, server.address());
                tcp::echo(&mut conn, SHORT.into());
                conn.half_close();
                assert_eq!(conn.receive_to_end(), 0);
                shorts.fetch_add(1, Ordering::Relaxed);
                thread::park_timeout(PAUSE);
            }
        });
        for _ in 0..kills {
            agent.signal(Signal::SIGKILL);
            agent.wait();
            assert_eq!(left_attached(&world.gateway).len(), 4, "both directions of both points");
            let began = Instant::now();
            agent = launch().start(&world.gateway);
            slowest = slowest.max(began.elapsed());
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
    let ends = server.finished();
    assert_eq!(ends.len(), shorts as usize + 1);
    assert!(ends.iter().all(Result::is_ok), "{:?}", ends.iter().find(|end| end.is_err()));
    for (host, before) in [&world.client, &world.server].into_iter().zip(&before) {
        let since = Counters::of(host).since(before);
        assert_eq!((since.get("TcpEstabResets"), since.get("TcpOutRsts")), (0, 0));
    }
    assert_eq!(objects(&bpffs), first, "the same tables and links");
    super::end(agent);
    detach(&world, &bpffs);
}
