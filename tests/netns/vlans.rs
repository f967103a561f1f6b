//! VLAN tags, none to four: one connection whose frames are tagged differently is one flow, at either hook.

use harness::Gateway;
use harness::raw::{RawPort, Vlan};
use harness::script::Script;
use harness::topology::CLIENT;

use crate::watch::{Hook, Watch};

/// Every other frame of a connection, and both its halves, with other tags; the third segment is lost and comes late.
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

/// Outermost first: 802.1ad outside, 802.1Q inside, as providers do.
fn tags(depth: usize) -> Vec<Vlan> {
    let all = [(0x88a8, 100), (0x8100, 200), (0x8100, 300), (0x8100, 400), (0x8100, 500)];
    all[5 - depth..].iter().map(|(protocol, tag)| Vlan { protocol: *protocol, tag: *tag }).collect()
}

/// Plays the case out of the client's interface, each frame with as many tags as told; the frames' hardware addresses are
/// nobody's. Says how the agent's one flow, or what it skipped, looks.
fn played(hook: Hook, depth: impl Fn(usize) -> usize) -> (Gateway, u64) {
    let world = Gateway::new();
    let steps = Script::default().steps(CASE);
    let watch = Watch::configured(&world, hook, "");
    let port = RawPort::open(&world.client, CLIENT.interface);
    let mut too_deep = 0;
    for (place, step) in steps.iter().enumerate() {
        let mut frame = step.frame.clone();
        frame.vlans = tags(depth(place));
        too_deep += u64::from(frame.vlans.len() > 4);
        port.send(&frame.build());
    }
    let at = [("point", "outside"), ("hook", "ingress")];
    let reason = |reason| [at[0], at[1], ("reason", reason)];
    let counted = watch.eventually("all frames to be seen", |counted| {
        let seen = counted.exactly("fivetuple_packets_counted_total", &at)
            + counted.exactly("fivetuple_packets_skipped_total", &reason("vlan_depth"));
        if seen >= steps.len() as u64 { Ok(()) } else { Err(format!("{seen} of {}", steps.len())) }
    });
    assert_eq!(counted.exactly("fivetuple_packets_skipped_total", &reason("vlan_depth")), too_deep);
    let judged = steps.len() as u64 - too_deep;
    assert_eq!(counted.labelled("segments", &[("point", "outside")]), judged);
    counted.complete();
    if too_deep == 0 {
        assert_eq!(counted.labelled("connections_opened", &[("point", "outside")]), 1, "one flow");
        assert_eq!(counted.labelled("connections_established", &[("point", "outside")]), 1);
        assert_eq!(counted.labelled("connections_closed", &[("point", "outside"), ("close", "fin_client")]), 1);
        assert_eq!(counted.tcp("outside", "client", "payload_bytes"), 400);
        assert_eq!(counted.tcp("outside", "server", "payload_bytes"), 500);
        counted.only("outside", "client", &[("gaps", 1), ("late_fill_segments", 1)]);
        // The first of the three acknowledges something new.
        counted.only("outside", "server", &[("duplicate_acks", 2)]);
        let flows = watch.agent.get_json("/api/v1/flows");
        assert!(flows["total"].as_u64() <= Some(1), "{flows}");
    }
    drop(watch);
    (world, too_deep)
}

#[test]
fn any_number_of_tags_up_to_four_is_the_same_flow_at_tc() {
    played(Hook::Tc, |place| [0, 1, 2, 3, 4][place % 5]);
}

#[test]
fn any_number_of_tags_up_to_four_is_the_same_flow_at_xdp() {
    played(Hook::Xdp, |place| [0, 1, 2, 3, 4][place % 5]);
}

#[test]
fn four_tags_on_every_frame() {
    played(Hook::Xdp, |_| 4);
    played(Hook::Tc, |_| 4);
}

#[test]
fn five_tags_are_too_deep_at_tc() {
    let (_, too_deep) = played(Hook::Tc, |place| if place % 2 == 0 { 5 } else { 1 });
    assert_eq!(too_deep, 8);
}

#[test]
fn five_tags_are_too_deep_at_xdp() {
    let (_, too_deep) = played(Hook::Xdp, |place| if place % 2 == 0 { 5 } else { 1 });
    assert_eq!(too_deep, 8);
}
