//! Frames that are no TCP segment, or cannot be judged: each is skipped under its own reason, and none is lost count of.

use std::collections::BTreeMap;

use harness::Gateway;
use harness::impair::flags;
use harness::raw::{Extension, Frame, RawPort};
use harness::topology::{CLIENT, SERVER};

use crate::watch::{Counted, Hook, Watch};

/// Where the IP header begins in a frame without tags.
const IP: usize = 14;

fn v4() -> Frame {
    Frame::new((CLIENT.v4, 40_000), (SERVER.v4, 443)).flags(flags::ACK).seq(1).ack(1)
}

fn v6() -> Frame {
    Frame::new((CLIENT.v6, 40_000), (SERVER.v6, 443)).flags(flags::ACK).seq(1).ack(1)
}

/// The frame of this segment with some bytes changed.
fn with(frame: &Frame, changes: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = frame.build();
    for (place, byte) in changes {
        bytes[*place] = *byte;
    }
    bytes
}

/// The first bytes of the frame of this segment.
fn cut(frame: &Frame, length: usize) -> Vec<u8> {
    frame.build()[..length].to_vec()
}

/// Every frame with the reason for which it is to be skipped; none where it is to be counted.
fn frames() -> Vec<(Option<&'static str>, Vec<u8>)> {
    let of = |reason: &'static str, frames: Vec<Vec<u8>>| {
        frames.into_iter().map(move |frame| (Some(reason), frame))
    };
    let mut deep = v4();
    for tag in 1..=5 {
        deep = deep.vlan(0x8100, tag);
    }
    let long = v4().payload(vec![0; 64]);
    let mut extended = v6();
    for _ in 0..7 {
        extended = extended.extension(Extension::Destination(0));
    }
    let with_type = |kind: u16| {
        let mut frame = v4().build();
        frame[12..14].copy_from_slice(&kind.to_be_bytes());
        frame
    };
    let mut all: Vec<(Option<&'static str>, Vec<u8>)> = Vec::new();
    all.extend(of("not_ip", vec![with_type(0x0806), with_type(0x88cc), with_type(0x1234)]));
    all.extend(of(
        "not_tcp",
        vec![
            with(&v4(), &[(IP + 9, 17)]),
            with(&v4(), &[(IP + 9, 1)]),
            with(&v4(), &[(IP + 9, 132)]),
            with(&v4(), &[(IP + 9, 253)]),
            with(&v6(), &[(IP + 6, 17)]),
            with(&v6(), &[(IP + 6, 59)]),
        ],
    ));
    all.extend(of("fragment", long.fragments(32)));
    all.extend(of("fragment", v6().payload(vec![0; 64]).fragments(32)));
    all.extend(of(
        "truncated",
        vec![
            cut(&v4(), IP),
            cut(&v4(), IP + 8),
            cut(&v4(), IP + 19),
            cut(&v6(), IP + 4),
            cut(&v6(), IP + 39),
            {
                let tagged = v4().vlan(0x8100, 5).vlan(0x8100, 6);
                cut(&tagged, IP + 4 + 2)
            },
        ],
    ));
    all.extend(of("vlan_depth", vec![deep.build()]));
    all.extend(of("ipv6_extensions", vec![extended.build()]));
    all.extend(of(
        "bad_ip_header",
        vec![
            with(&v4(), &[(IP, 0x55)]),
            with(&v4(), &[(IP, 0x65)]),
            with(&v4(), &[(IP, 0x44)]),
            with(&v4(), &[(IP, 0x40)]),
            with(&v6(), &[(IP, 0x45)]),
        ],
    ));
    all.extend(of(
        "bad_ip_length",
        vec![
            // More than there is, in part or in whole.
            with(&v4(), &[(IP + 3, 41)]),
            with(&v4(), &[(IP + 2, 0xff)]),
            cut(&long, IP + 20 + 20 + 63),
            cut(&v4(), IP + 20 + 10),
            with(&v6(), &[(IP + 5, 21)]),
            // Less than the headers need.
            with(&v4(), &[(IP + 3, 39)]),
            with(&v4(), &[(IP + 3, 19)]),
            with(&v6(), &[(IP + 5, 19)]),
        ],
    ));
    all.extend(of(
        "bad_tcp_header",
        vec![
            with(&v4(), &[(IP + 20 + 12, 0x40)]),
            with(&v4(), &[(IP + 20 + 12, 0x00)]),
            with(&v4(), &[(IP + 20 + 12, 0x60)]),
            with(&v6(), &[(IP + 40 + 12, 0xf0)]),
        ],
    ));
    // Counted: padded to Ethernet's smallest frame, with IP options, behind extension headers, an atomic fragment.
    let mut padded = v4().build();
    padded.resize(60, 0);
    let mut optioned = v4();
    optioned.ip_options = vec![1; 8];
    let six = (0..6).fold(v6(), |frame, _| frame.extension(Extension::HopByHop(0)));
    let atomic = v6().extension(Extension::Fragment(0, false, 7));
    let good = [padded, optioned.build(), six.build(), atomic.build(), v4().build(), v6().build()];
    all.extend(good.into_iter().map(|frame| (None, frame)));
    all
}

fn skipped(counted: &Counted) -> BTreeMap<String, u64> {
    let labels = [("point", "outside"), ("hook", "ingress")];
    let rows = counted.0.matching("fivetuple_packets_skipped_total", &labels);
    rows.filter(|(_, count)| *count > 0.0)
        .map(|(labels, count)| (labels["reason"].clone(), count as u64))
        .collect()
}

/// The frames come out of the client's interface; their hardware addresses are nobody's, so the gateway forwards none.
fn each_has_its_reason(hook: Hook) {
    let world = Gateway::new();
    // Or the kernel tells of its multicast groups whenever it likes.
    world.client.sysctl("net/ipv6/conf/eth0/disable_ipv6", 1);
    let watch = Watch::configured(&world, hook, "");
    let before = watch.now();
    let frames = frames();
    let port = RawPort::open(&world.client, CLIENT.interface);
    let mut expected = BTreeMap::new();
    for (reason, frame) in &frames {
        port.send(frame);
        if let Some(reason) = reason {
            *expected.entry((*reason).to_owned()).or_insert(0) += 1;
        }
    }
    let at = [("point", "outside"), ("hook", "ingress")];
    let counted = watch.eventually("all frames to be seen", |counted| {
        let seen = counted.exactly("fivetuple_packets_seen_total", &at);
        if seen >= frames.len() as u64 { Ok(()) } else { Err(format!("{seen} of {}", frames.len())) }
    });
    assert_eq!(skipped(&before), BTreeMap::new(), "nothing comes by itself");
    assert_eq!(skipped(&counted), expected);
    let good = frames.iter().filter(|(reason, _)| reason.is_none()).count() as u64;
    assert_eq!(counted.exactly("fivetuple_packets_seen_total", &at), frames.len() as u64);
    assert_eq!(counted.exactly("fivetuple_packets_counted_total", &at), good);
    assert_eq!(counted.tcp("outside", "client", "segments"), good);
    assert_eq!(counted.tcp("outside", "client", "payload_bytes"), 0, "padding is no payload");
    counted.complete();
}

#[test]
fn each_frame_is_skipped_under_its_reason_at_tc() {
    each_has_its_reason(Hook::Tc);
}

#[test]
fn each_frame_is_skipped_under_its_reason_at_xdp() {
    each_has_its_reason(Hook::Xdp);
}
