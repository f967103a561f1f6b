//! Connections played by hand through the gateway, where no kernel can be had to do what is needed: sequence numbers that
//! wrap in the middle of a loss.

use std::time::Duration;

use harness::Gateway;
use harness::impair::{Direction, TcpFacts};
use harness::raw::RawPort;
use harness::script::{Script, Step};
use harness::topology::{CLIENT, INSIDE, OUTSIDE, SERVER};
use harness::truth::Nft;

use crate::watch::{POINTS, Watch};

const DEADLINE: Duration = Duration::from_secs(10);
/// Two segments swapped, one lost and sent again, one sent again that was lost further on; a hundred bytes each.
const CASE: &str = "
0     C S   mss=1460 sackok
+1ms  S S.  mss=1460 sackok
+1ms  C .
+1ms  C P.  len=100
+1ms  S .   ack=101
+1ms  C P.  len=100 seq=201 id=2005
+1ms  S .   ack=101 sack=201-301
+1ms  C P.  len=100 seq=101 id=2004
+1ms  S .   ack=301
+1ms  C P.  len=100 seq=401 id=2010
+1ms  S .   ack=301 sack=401-501
+1ms  C P.  len=100 seq=501 id=2011
+1ms  S .   ack=301 sack=401-601
+1ms  C P.  len=100 seq=601 id=2012
+1ms  S .   ack=301 sack=401-701
+1ms  C P.  len=100 seq=301 id=2013
+1ms  S .   ack=701
+1ms  C P.  len=100 seq=701 id=2014
+1ms  C P.  len=100 seq=801 id=2015
+1ms  C P.  len=100 seq=901 id=2016
+1ms  C P.  len=100 seq=1001 id=2017
+1ms  S .   ack=801
+1ms  S .   ack=801 sack=901-1001
+1ms  S .   ack=801 sack=901-1101
+1ms  S .   ack=801 sack=901-1101
+1ms  C P.  len=100 seq=801 id=2018
+1ms  S .   ack=1101
+1ms  S P.  len=700
+1ms  C .
+1ms  C F.
+1ms  S F.
+1ms  C .
";

/// Sends each segment from its end, and goes on when it has come through the gateway: the points see them in this order.
#[track_caller]
fn play(ports: &mut [RawPort; 2], steps: &[Step]) {
    for step in steps {
        let (from, to) = match step.direction {
            Direction::ToServer => (0, 1),
            Direction::ToClient => (1, 0),
        };
        let wanted = TcpFacts::parse(&step.frame.build()).expect("a script is TCP");
        ports[from].send(&step.frame.build());
        ports[to].receive_tcp(DEADLINE, "segment of the script", |tcp| {
            (tcp.source, tcp.seq, tcp.ack, tcp.flags, tcp.ip_id)
                == (wanted.source, wanted.seq, wanted.ack, wanted.flags, wanted.ip_id)
        });
    }
}

#[test]
fn loss_and_reordering_across_the_wrap_of_sequence_numbers() {
    let world = Gateway::new();
    // Each connection wraps fifty bytes further on, so at and within every segment of the case.
    let connections: Vec<u16> = (0..23).collect();
    let first_port = 40_000;
    let _quiet: Vec<_> = connections
        .iter()
        .map(|number| Nft::silence(&world.client, first_port + number))
        .chain([Nft::silence(&world.server, 443)])
        .collect();
    let watch = Watch::start(&world);
    let mut ports =
        [RawPort::open(&world.client, CLIENT.interface), RawPort::open(&world.server, SERVER.interface)];
    for number in &connections {
        let isn = 0_u32.wrapping_sub(1 + 50 * u32::from(*number));
        let mut script = Script::between((CLIENT.v4, first_port + number), (SERVER.v4, 443)).isn(isn, isn);
        script = script.ip_id(2000, 7000);
        let mut steps = script.steps(CASE);
        for step in &mut steps {
            step.frame.macs = match step.direction {
                Direction::ToServer => (CLIENT.mac, OUTSIDE.mac),
                Direction::ToClient => (SERVER.mac, INSIDE.mac),
            };
        }
        play(&mut ports, &steps);
    }
    let counted = watch.now();
    let n = connections.len() as u64;
    for point in POINTS {
        counted.only(
            point,
            "client",
            &[
                ("gaps", 2 * n),
                ("out_of_order_segments", n),
                ("late_fill_segments", n),
                ("retransmitted_segments", n),
            ],
        );
        // One for the swap, three for the loss before the points, three for the one beyond them.
        counted.only(point, "server", &[("duplicate_acks", 7 * n)]);
        assert_eq!(counted.labelled("retransmitted_segments", &[("point", point), ("kind", "fast")]), n);
        assert_eq!(counted.labelled("late_fill_segments", &[("point", point), ("kind", "fast")]), n);
        assert_eq!(counted.labelled("connections_opened", &[("point", point), ("by", "syn")]), n);
        assert_eq!(counted.labelled("connections_closed", &[("point", point), ("close", "fin_client")]), n);
        assert_eq!(counted.tcp(point, "client", "payload_bytes"), 1200 * n);
    }
    counted.complete();
}
