//! VLAN tags, none to four: the outermost is in the frame at XDP and beside it at tc, and both hooks see the same flows.
//! The same five-tuple on another VLAN is another connection.

use harness::Gateway;
use harness::raw::{RawPort, Vlan};
use harness::script::Script;
use harness::tcp::DEADLINE;
use harness::topology::CLIENT;

use crate::watch::{Hook, Watch};

/// A connection, both its halves, whose third data segment is lost before the point.
const CASE: &str = "
0     C S   mss=1460 ts=10:0
+1ms  S S.  mss=1460 ts=90:10
+1ms  C .
+1ms  C P.  len=100
+1ms  C P.  len=100
+1ms  C P.  len=100 seq=301
+1ms  S .   ack=201
+1ms  S .   ack=201
+1ms  S .   ack=201
+1ms  C P.  len=100 seq=201
+1ms  S P.  len=500
+1ms  C .
+1ms  C F.
+1ms  S F.
+1ms  C .
";
const SEGMENTS: u64 = 15;

/// Outermost first: 802.1ad outside, 802.1Q inside, as providers do.
fn tags(depth: usize) -> Vec<Vlan> {
    let all = [(0x88a8, 100), (0x8100, 200), (0x8100, 300), (0x8100, 400), (0x8100, 500)];
    all[5 - depth..].iter().map(|(protocol, tag)| Vlan { protocol: *protocol, tag: *tag }).collect()
}

/// Plays the case at each depth out of the client's interface; the frames' hardware addresses are nobody's.
fn played(world: &Gateway, watch: &Watch, depths: &[usize]) -> crate::watch::Counted {
    let port = RawPort::open(&world.client, CLIENT.interface);
    for depth in depths {
        for mut step in Script::default().steps(CASE) {
            step.frame.vlans = tags(*depth);
            port.send(&step.frame.build());
        }
    }
    let wanted = SEGMENTS * depths.len() as u64;
    let at = [("point", "outside"), ("hook", "ingress")];
    watch.eventually("all frames to be seen", |counted| {
        let seen = counted.exactly("fivetuple_packets_counted_total", &at)
            + counted.exactly("fivetuple_packets_skipped_total", &[at[0], at[1], ("reason", "vlan_depth")]);
        if seen >= wanted { Ok(()) } else { Err(format!("{seen} of {wanted}")) }
    })
}

fn up_to_four(hook: Hook) {
    let world = Gateway::new();
    let watch = Watch::configured(&world, hook, "");
    let counted = played(&world, &watch, &[0, 1, 2, 3, 4]);
    let outside = ("point", "outside");
    assert_eq!(counted.exactly("fivetuple_packets_skipped_total", &[outside, ("reason", "vlan_depth")]), 0);
    assert_eq!(counted.labelled("segments", &[outside]), 5 * SEGMENTS);
    assert_eq!(counted.labelled("connections_opened", &[outside, ("by", "syn")]), 5);
    assert_eq!(counted.labelled("connections_opened", &[outside]), 5);
    assert_eq!(counted.labelled("connections_established", &[outside]), 5);
    assert_eq!(counted.labelled("connections_closed", &[outside, ("close", "fin_client")]), 5);
    assert_eq!(counted.tcp("outside", "client", "payload_bytes"), 5 * 400);
    assert_eq!(counted.tcp("outside", "server", "payload_bytes"), 5 * 500);
    counted.only("outside", "client", &[("gaps", 5), ("late_fill_segments", 5)]);
    // The first of the three acknowledges something new.
    counted.only("outside", "server", &[("duplicate_acks", 10)]);
    counted.complete();
    let vlans = harness::eventually(DEADLINE, "the ends of all connections", || {
        let list = watch.agent.get_json("/api/v1/events");
        let events = list["events"].as_array().expect("a list of events");
        let ends = events.iter().filter(|event| event["type"] == "end");
        let mut vlans: Vec<_> = ends.map(|event| event["vlans"].to_string()).collect();
        vlans.sort();
        if vlans.len() == 5 { Ok(vlans) } else { Err(format!("{vlans:?}")) }
    });
    // The outer two of each, at either hook.
    assert_eq!(vlans, ["[200,300]", "[300,400]", "[400,500]", "[500]", "[]"]);
}

#[test]
fn none_to_four_tags_at_tc() {
    up_to_four(Hook::Tc);
}

#[test]
fn none_to_four_tags_at_xdp() {
    up_to_four(Hook::Xdp);
}

fn five(hook: Hook) {
    let world = Gateway::new();
    let watch = Watch::configured(&world, hook, "");
    let counted = played(&world, &watch, &[5, 1]);
    let at = [("point", "outside"), ("hook", "ingress")];
    let too_deep =
        counted.exactly("fivetuple_packets_skipped_total", &[at[0], at[1], ("reason", "vlan_depth")]);
    assert_eq!(too_deep, SEGMENTS);
    assert_eq!(counted.labelled("segments", &[at[0]]), SEGMENTS);
    assert_eq!(counted.labelled("connections_opened", &[at[0]]), 1);
    counted.complete();
}

#[test]
fn five_tags_are_too_deep_at_tc() {
    five(Hook::Tc);
}

#[test]
fn five_tags_are_too_deep_at_xdp() {
    five(Hook::Xdp);
}
