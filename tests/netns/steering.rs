//! The processor that takes a connection's packets changes again and again (RPS): what XDP saw in order stays in order, and
//! no segment is lost between two processors.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use harness::Gateway;
use harness::tcp::{self, Serve, Server};
use harness::topology::SERVER;
use harness::truth::Counters;

use crate::watch::{Hook, POINTS, SIDES, Watch};

/// Each way in a piece: fewer segments than any queue on the way holds.
const PIECE: u64 = 60_000;
const PIECES: u64 = 100;

#[test]
fn packets_that_change_processors_stay_in_order_and_are_all_counted() {
    let world = Gateway::plan().many_cpus().patient().build();
    let watch = Watch::configured(&world, Hook::Xdp, "");
    let server = Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
    let done = AtomicBool::new(false);
    let turns = thread::scope(|scope| {
        let flipping = scope.spawn(|| {
            let mut turns = 0;
            while !done.load(Ordering::Relaxed) {
                for interface in POINTS {
                    world.gateway.steer(interface, turns % 2);
                }
                turns += 1;
                thread::park_timeout(Duration::from_millis(5));
            }
            turns
        });
        let mut conn = tcp::connect(&world.client, server.address());
        for _ in 0..PIECES {
            tcp::echo(&mut conn, PIECE);
        }
        conn.half_close();
        assert_eq!(conn.receive_to_end(), 0);
        done.store(true, Ordering::Relaxed);
        flipping.join().expect("interfaces can be steered")
    });
    assert!(turns > 10, "{turns} turns in {PIECES} pieces");
    let counted = watch.at_the_end();
    counted.complete();
    for (from, sender) in SIDES.into_iter().zip([&world.client, &world.server]) {
        let kernel = Counters::of(sender);
        let [sent, again] =
            ["TcpOutSegs", "TcpRetransSegs"].map(|name| u64::try_from(kernel.get(name)).expect("a count"));
        println!("{turns} turns: the {from} sent {sent} segments and {again} again");
        for point in POINTS {
            assert_eq!(counted.tcp(point, from, "segments"), sent + again, "{point} {from}");
        }
        // Who sends it hands it to XDP on the nearer wire, where nobody has had the time to overtake. Behind that the kernel
        // itself changes the order, when it gives a later packet to a processor that has nothing else to do.
        let near = if from == "client" { "outside" } else { "inside" };
        for wrong in ["gaps", "out_of_order_segments", "late_fill_segments", "duplicate_segments"] {
            assert_eq!(counted.tcp(near, from, wrong), 0, "{near} {from} {wrong}");
        }
        assert_eq!(counted.sent_again(near, from), again, "{near} {from}");
    }
    watch.agent.stop();
}
