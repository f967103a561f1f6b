//! A second opinion on frames: etherparse, written by others, reads the same bytes.

use agent_ebpf::health::Health;
use agent_ebpf::wire::Segment;
use etherparse::{Ethernet2HeaderSlice, NetSlice, SingleVlanHeaderSlice, SlicedPacket, TransportSlice};
use fastrand::Rng;
use harness::raw::{Extension, Frame, TcpOption};
use harness::topology::{CLIENT, SERVER};

const FRAMES: u64 = 100_000;

/// What both must say of a frame that holds a whole TCP segment.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    ends: [(Vec<u8>, u16); 2],
    vlans: u32,
    numbers: [u32; 2],
    flags: u8,
    window: u16,
    id: u16,
    ttl: u8,
    payload: usize,
}

/// By etherparse; none for what is no whole TCP segment to it, or is against the letter of a rule that says how to send
/// and changes nothing in how to read: hop-by-hop options anywhere but first (RFC 8200, 4.1), an authentication header
/// too short for its own fields (RFC 4302, 2.2).
fn theirs(bytes: &[u8], strict: &mut bool) -> Option<Said> {
    let link = Ethernet2HeaderSlice::from_slice(bytes).ok()?;
    let (mut protocol, mut rest) = (link.ether_type().0, &bytes[14..]);
    let (mut vlans, mut tags) = (0, 0);
    while [0x8100, 0x88a8, 0x9100].contains(&protocol) {
        let tag = SingleVlanHeaderSlice::from_slice(rest).ok()?;
        if tags < 2 {
            vlans |= u32::from(tag.vlan_identifier().value()) << (12 * tags);
        }
        (protocol, rest, tags) = (tag.ether_type().0, &rest[4..], tags + 1);
    }
    let version = match protocol {
        0x0800 => 4,
        0x86dd => 6,
        _ => return None,
    };
    if rest.first()? >> 4 != version || tags > 4 {
        return None;
    }
    let packet = SlicedPacket::from_ip(rest);
    if let Err(error) = &packet {
        let error = format!("{error:?}");
        *strict = ["HopByHopNotAtStart", "ZeroPayloadLen"].iter().any(|rule| error.contains(rule));
    }
    let packet = packet.ok()?;
    let Some(TransportSlice::Tcp(tcp)) = packet.transport else { return None };
    let (source, destination, id, ttl) = match packet.net? {
        NetSlice::Ipv4(ip) => {
            let h = ip.header();
            (h.source().to_vec(), h.destination().to_vec(), h.identification(), h.ttl())
        }
        NetSlice::Ipv6(ip) => {
            let h = ip.header();
            (h.source().to_vec(), h.destination().to_vec(), 0, h.hop_limit())
        }
        NetSlice::Arp(_) => return None,
    };
    Some(Said {
        ends: [(source, tcp.source_port()), (destination, tcp.destination_port())],
        vlans,
        numbers: [tcp.sequence_number(), tcp.acknowledgment_number()],
        flags: tcp.slice()[13],
        window: tcp.window_size(),
        id,
        ttl,
        payload: tcp.payload().len(),
    })
}

fn ours(bytes: &[u8]) -> Result<Said, Health> {
    let mut s = Segment::blank();
    s.read(&bytes)?;
    let octets = |addr: agent_ebpf::wire::Addr| {
        let all = addr.octets();
        if s.v6 { all.to_vec() } else { all[12..].to_vec() }
    };
    Ok(Said {
        ends: [(octets(s.src), s.sport), (octets(s.dst), s.dport)],
        vlans: s.vlans,
        numbers: [s.seq.0, s.ack.0],
        flags: s.flags.0,
        window: s.window,
        id: s.ip_id,
        ttl: s.ttl,
        payload: s.payload as usize,
    })
}

fn frame(rng: &mut Rng) -> Vec<u8> {
    let v6 = rng.bool();
    let port = rng.u16(..);
    let mut frame = if v6 {
        Frame::new((CLIENT.v6, port), (SERVER.v6, 443))
    } else {
        Frame::new((CLIENT.v4, port), (SERVER.v4, 443))
    };
    frame = frame.flags(rng.u8(..)).seq(rng.u32(..)).ack(rng.u32(..)).window(rng.u16(..));
    frame = frame.ip_id(rng.u16(..)).ttl(rng.u8(..)).payload(vec![7; rng.usize(..200)]);
    for tag in 0..[0, 0, 1, 2, 3, 4, 5][rng.usize(..7)] {
        frame = frame.vlan([0x8100, 0x88a8, 0x9100][rng.usize(..3)], rng.u16(..) ^ tag);
    }
    if rng.bool() {
        frame = frame.option(TcpOption::Timestamps(rng.u32(..), 1)).option(TcpOption::Mss(1460));
    }
    if v6 {
        // Hop-by-hop options come first or not at all (RFC 8200, 4.1).
        if rng.u8(..4) == 0 {
            frame = frame.extension(Extension::HopByHop(rng.u8(..3)));
        }
        for _ in 0..[0, 0, 1, 2, 4, 6, 7][rng.usize(..7)] {
            frame = frame.extension(match rng.u8(..4) {
                0 => Extension::Routing,
                1 => Extension::Destination(rng.u8(..4)),
                2 => Extension::Fragment(0, false, rng.u32(..)),
                _ => Extension::Authentication,
            });
        }
    } else if rng.u8(..3) == 0 {
        frame.ip_options = vec![1; 4 * rng.usize(1..=10)];
    }
    if rng.u8(..12) == 0 {
        return frame.fragments(24).swap_remove(0);
    }
    let mut bytes = frame.build();
    match rng.u8(..6) {
        0 => bytes.truncate(rng.usize(..=bytes.len())),
        1 => bytes.extend(vec![0; rng.usize(..20)]),
        2 => {
            let place = rng.usize(12..bytes.len().min(80));
            bytes[place] = rng.u8(..);
        }
        _ => {}
    }
    bytes
}

#[test]
fn another_parser_reads_the_same_out_of_every_frame() {
    let (mut accepted, mut refused) = (0, [0u32; Health::COUNT]);
    for seed in 0..FRAMES {
        let bytes = frame(&mut Rng::with_seed(seed));
        let mut strict = false;
        match (ours(&bytes), theirs(&bytes, &mut strict)) {
            (Ok(ours), Some(theirs)) => {
                assert_eq!(ours, theirs, "seed {seed}: {bytes:02x?}");
                accepted += 1;
            }
            (Err(why), None) => refused[why as usize] += 1,
            (_, None) if strict => {}
            // Limits that are ours alone.
            (Err(Health::Ipv6Extensions), Some(_)) => refused[Health::Ipv6Extensions as usize] += 1,
            (ours, theirs) => panic!("seed {seed}: {ours:?}, but {theirs:?} of {bytes:02x?}"),
        }
    }
    assert!(accepted > FRAMES / 2, "{accepted} accepted");
    let skipped = Health::ALL.iter().filter(|h| h.kind() == agent_ebpf::health::Kind::Skipped);
    for why in skipped.filter(|h| **h != Health::UnknownInterface) {
        assert!(refused[*why as usize] > 0, "no frame was refused as {}", why.name());
    }
}
