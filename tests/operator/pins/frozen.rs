//! A sweep that fails half way: what it found is counted and told, and counted once.

use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use agent::sys::pin;
use harness::agent::Launch;
use harness::impair::flags::{ACK, FIN};
use harness::topology::Version;
use harness::{Bpffs, Gateway, eventually};
use nix::sys::signal::Signal;

use super::{detach, end};
use crate::hand::{By, Hand, quiet};
use crate::watch::{DEADLINE, Expected, configuration, eventually_exactly, exactly};

/// Nobody but programs may write to a pinned map any more.
#[track_caller]
fn freeze(map: &Path) {
    const MAP_FREEZE: libc::c_int = 22;
    let map = pin::get(map).expect("it can be opened").expect("it is there");
    let descriptor = map.as_raw_fd();
    // SAFETY: the kernel reads four bytes of an attribute that outlives the call.
    let done = unsafe { libc::syscall(libc::SYS_bpf, MAP_FREEZE, &raw const descriptor, 4) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
}

#[test]
fn an_end_is_counted_and_told_although_the_sweep_that_finds_it_fails() {
    let world = Gateway::new();
    quiet(&world);
    let bpffs = Bpffs::new();
    let launch = || bpffs.pin(Launch::configuration(configuration("limits:\n  handshake_timeout: 1s\n")));
    let first = launch().start(&world.gateway);
    let closed = bpffs.pins().into_iter().find(|pin| pin.ends_with("CLOSED4")).expect("it is pinned");
    freeze(&bpffs.path().join(closed));

    // Its last ACK is lost: it ends by the sweep, which cannot remember its five-tuple.
    let mut hand = Hand::new(&world, Version::V4, 40_000, 443);
    hand.handshake();
    hand.exchange();
    hand.say(By::Client, FIN | ACK, 0);
    hand.say(By::Server, FIN | ACK, 0);
    let ended: [Expected; 1] = [(&[("close", "fin_client")], 1)];
    eventually_exactly(&first, "connections_closed_total", &[], &ended);
    let told = || {
        let all = first.get_json("/api/v1/connections");
        let ends = all["connections"].as_array().into_iter().flatten();
        ends.filter(|one| one["close"] == "fin_client").count()
    };
    eventually(DEADLINE, "its end to be told at both points", || told() == 2);
    first.signal(Signal::SIGKILL);
    let (_, log) = first.wait();
    assert!(log.iter().any(|line| line.contains("cannot sweep the tables")), "{log:?}");

    let second = launch().start(&world.gateway);
    exactly(&second, "connections_closed_total", &[], &ended);
    end(second);
    detach(&world, &bpffs);
}
