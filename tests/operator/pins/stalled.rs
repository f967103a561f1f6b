//! Stopped while much passes, then killed, as a watchdog does it: what passed meanwhile is counted by who comes next.

use harness::agent::Launch;
use harness::tcp::{self, Dial, Serve, Server};
use harness::topology::{CLIENT, SERVER};
use harness::{Bpffs, Gateway, eventually};
use nix::sys::signal::Signal;

use super::{detach, echoed, end, opened};
use crate::watch::{DEADLINE, Expected, configuration, eventually_exactly};

/// Connections of either kind while it stands still; what is refused stays half-open until somebody sweeps.
const SHORT: u32 = 1_500;
const REFUSED: u32 = 3_000;
/// Bytes of a short one.
const BYTES: u32 = 100;

#[test]
fn what_passes_while_it_stands_still_is_counted_after_the_restart() {
    let world = Gateway::plan().patient().build();
    let bpffs = Bpffs::new();
    let launch = || bpffs.pin(Launch::configuration(configuration("")));
    let server = Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
    let short = || {
        let mut conn = tcp::connect(&world.client, server.address());
        tcp::echo(&mut conn, BYTES.into());
        conn.half_close();
        assert_eq!(conn.receive_to_end(), 0);
    };
    // The same ports again, soon: whom the last connection on one was refused, too, waits for nobody.
    let refused = |number: u32| {
        let dial = Dial::default().from((CLIENT.v4, 20_000 + (number % 2_000) as u16));
        dial.try_connect(&world.client, (SERVER.v4, 445)).expect_err("nobody listens");
    };

    let first = launch().start(&world.gateway);
    short();
    refused(0);
    echoed(&first, BYTES);
    first.signal(Signal::SIGSTOP);
    (1..SHORT).for_each(|_| short());
    (1..REFUSED).for_each(refused);
    first.signal(Signal::SIGKILL);
    let (status, _) = first.wait();
    assert_eq!(status.code(), None, "killed");
    short();
    refused(REFUSED);

    let second = launch().start(&world.gateway);
    short();
    refused(REFUSED + 1);
    echoed(&second, (SHORT + 2) * BYTES);
    let reset: [Expected; 1] = [(&[("cause", "refused")], REFUSED + 2)];
    eventually_exactly(&second, "resets_total", &[], &reset);
    eventually_exactly(&second, "connections_opened_total", &[], &opened(SHORT + REFUSED + 4, 0));
    let labels: [Expected; 2] =
        [(&[("close", "fin_client")], SHORT + 2), (&[("close", "rst_server")], REFUSED + 2)];
    eventually_exactly(&second, "connections_closed_total", &[], &labels);
    let losses = second.metrics().sum("fivetuple_tracking_losses_total", &[]);
    assert_eq!(losses, 0.0);
    // What ended while nobody swept is let go of.
    let entries = |agent: &harness::agent::Agent| {
        ["flows4", "half_open4"].map(|t| agent.metrics().sum("fivetuple_table_entries", &[("table", t)]))
    };
    eventually(DEADLINE, "the tables to be empty", || {
        let there = entries(&second);
        if there == [0.0; 2] { Ok(()) } else { Err(format!("{there:?}")) }
    });
    end(second);
    detach(&world, &bpffs);
}
