//! One segment behind every link layer and in every tunnel: it must read the same behind all of them.

use super::{Addr, Flags, Frame, Link, QUOTED, Segment, tcp};
use crate::{health::Health, seq::SeqNum};
use proptest::prelude::*;

/// A frame as a capture has it.
struct Captured<'a> {
    bytes: &'a [u8],
    link: Link,
    tunnels: bool,
}

impl Frame for Captured<'_> {
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.bytes.load(offset)
    }
    fn wire_len(&self) -> u32 {
        self.bytes.wire_len()
    }
    fn link(&self) -> Link {
        self.link
    }
    fn tunnels(&self) -> bool {
        self.tunnels
    }
}

/// Reads a frame that ends with its payload.
fn read(bytes: &[u8], link: Link, tunnels: bool) -> Result<Segment, Health> {
    let (s, payload) = read_any(bytes, link, tunnels)?;
    assert_eq!(payload, bytes[bytes.len() - payload.len()..], "the payload is where it is said to be");
    Ok(s)
}

/// Reads any bytes; the segment, and what is quoted of it.
fn read_any(bytes: &[u8], link: Link, tunnels: bool) -> Result<(Segment, Vec<u8>), Health> {
    let mut s = Segment::blank();
    let frame = Captured { bytes, link, tunnels };
    s.read(&frame)?;
    let mut quoted = [0; QUOTED];
    let n = frame.quote(s.payload_at, s.payload, &mut quoted);
    if s.payload > 0 {
        s.first = tcp::first(&frame, s.payload_at - 1);
    }
    (s.cursor, s.payload_at) = (0, 0);
    Ok((s, quoted[..n as usize].to_vec()))
}

/// 192.0.2.1:40000 to 198.51.100.2:443, or 2001:db8::1 to 2001:db8::2, with four bytes of payload.
const TCP: &[u8] =
    &[0x9c, 0x40, 1, 0xbb, 1, 2, 3, 4, 5, 6, 7, 8, 0x50, 0x18, 0x20, 0, 0, 0, 0, 0, b'a', b'b', b'c', b'd'];

fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = (20 + payload.len() as u16).to_be_bytes();
    let header =
        [0x45, 0, len[0], len[1], 0x12, 0x34, 0x40, 0, 63, protocol, 0, 0, 192, 0, 2, 1, 198, 51, 100, 2];
    [&header[..], payload].concat()
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u16).to_be_bytes();
    let mut b = vec![0x60, 0, 0, 0, len[0], len[1], next, 63];
    for last in [1, 2] {
        b.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    [&b[..], payload].concat()
}

/// What both packets hold.
fn expected(v6: bool) -> Segment {
    let address = |n: u8| {
        let mut b = [0; 16];
        b[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        b[15] = n;
        Addr::v6(b)
    };
    let (src, dst) = match v6 {
        true => (address(1), address(2)),
        false => (Addr::v4([192, 0, 2, 1]), Addr::v4([198, 51, 100, 2])),
    };
    Segment {
        src,
        dst,
        sport: 40_000,
        dport: 443,
        v6,
        ip_id: if v6 { 0 } else { 0x1234 },
        ttl: 63,
        flags: Flags(Flags::ACK | Flags::PSH),
        seq: SeqNum(0x0102_0304),
        ack: SeqNum(0x0506_0708),
        window: 0x2000,
        payload: 4,
        first: b'a',
        bytes: if v6 { 64 } else { 44 },
        ..Segment::blank()
    }
}

/// How each link layer begins before IPv4 and before IPv6; most end with an EtherType.
fn prefixes(link: Link) -> [Vec<Vec<u8>>; 2] {
    let typed = |before: &[u8], after: &[u8]| {
        [[8, 0], [0x86, 0xdd]].map(|ether_type: [u8; 2]| vec![[before, &ether_type, after].concat()])
    };
    let snap = |before: &[u8]| typed(&[before, &[0xaa, 0xaa, 3, 0, 0, 0]].concat(), &[]);
    let both = |of: &dyn Fn(bool) -> Vec<Vec<u8>>| [of(false), of(true)];
    let ppp = |v6: bool| if v6 { 0x57 } else { 0x21 };
    // A data frame to an access point, its type in the first byte.
    let wifi = |kind: u8, flags: u8, more: usize| {
        let mut b = vec![kind, flags];
        b.resize(24 + more, 0);
        b
    };
    match link {
        Link::Ethernet => typed(&[0; 12], &[]),
        Link::LinuxSll => typed(&[0, 4, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0], &[]),
        Link::LinuxSll2 => typed(&[], &[0; 18]),
        Link::Raw => [vec![vec![]], vec![vec![]]],
        Link::Null => both(&|v6| {
            let families: &[u8] = if v6 { &[10, 24, 28, 30] } else { &[2] };
            families.iter().flat_map(|&n| [vec![n, 0, 0, 0], vec![0, 0, 0, n]]).collect()
        }),
        Link::Ppp => both(&|v6| vec![vec![0xff, 3, 0, ppp(v6)], vec![0, ppp(v6)], vec![ppp(v6)]]),
        Link::PppSerial => both(&|v6| {
            let ether_type: [u8; 2] = if v6 { [0x86, 0xdd] } else { [8, 0] };
            vec![vec![0xff, 3, 0, ppp(v6)], [&[0x0f, 0], &ether_type[..]].concat()]
        }),
        Link::CiscoHdlc => typed(&[0x8f, 0], &[]),
        Link::PppoeSession => both(&|v6| vec![vec![0x11, 0, 0, 7, 0, 46, 0, ppp(v6)]]),
        Link::Fddi => snap(&[0x50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        Link::Ieee80211 => {
            // Plain; between access points; with quality of service; with that and HT control.
            let frames =
                [wifi(0x08, 1, 0), wifi(0x08, 3, 6), wifi(0x88, 1, 2), wifi(0x88, 0x81, 6)].map(|f| snap(&f));
            [0, 1].map(|family| frames.iter().flat_map(|f| f[family].clone()).collect())
        }
        Link::Radiotap => snap(&[&[0, 0, 12, 0, 4, 0, 0, 0, 2, 0, 0, 0], &wifi(0x08, 2, 0)[..]].concat()),
        Link::Prism => snap(&[&[0; 144], &wifi(0x08, 2, 0)[..]].concat()),
    }
}

#[test]
fn every_link_layer_leads_to_the_same_segment() {
    for &link in Link::ALL {
        for (v6, prefixes) in [false, true].into_iter().zip(prefixes(link)) {
            assert!(!prefixes.is_empty());
            let packet = if v6 { ipv6(6, TCP) } else { ipv4(6, TCP) };
            for prefix in prefixes {
                let frame = [&prefix[..], &packet].concat();
                for tunnels in [false, true] {
                    assert_eq!(read(&frame, link, tunnels), Ok(expected(v6)), "{link:?} {prefix:02x?}");
                }
                // Cut anywhere before the last byte of the TCP header, it is never taken for a segment.
                for len in 0..frame.len() - 4 {
                    assert!(read(&frame[..len], link, true).is_err(), "{link:?} {prefix:02x?} cut at {len}");
                }
            }
        }
    }
}

#[test]
fn numbers_of_link_layers_are_of_one_each() {
    for &link in Link::ALL {
        for &number in link.numbers() {
            assert_eq!(Link::of(number), Some(link));
        }
    }
    assert_eq!(Link::of(147), None);
}

#[test]
fn wireless_frames_that_hold_no_whole_packet_are_refused() {
    let [good, _] = prefixes(Link::Ieee80211);
    let frame = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut f = [&good[0][..], &ipv4(6, TCP)].concat();
        change(&mut f);
        read(&f, Link::Ieee80211, false)
    };
    assert_eq!(frame(&|_| {}), Ok(expected(false)));
    assert_eq!(frame(&|f| f[1] |= 0x40), Err(Health::NotIp), "encrypted");
    assert_eq!(frame(&|f| f[1] |= 0x04), Err(Health::Fragment), "more fragments");
    assert_eq!(frame(&|f| f[22] = 1), Err(Health::Fragment), "a later fragment");
    assert_eq!(frame(&|f| f[0] = 0x80), Err(Health::NotIp), "a beacon");
    assert_eq!(frame(&|f| f[0] = 0x48), Err(Health::NotIp), "no data");
}

fn eth(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&[2; 12], &ether_type.to_be_bytes()[..], payload].concat()
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len() as u16).to_be_bytes();
    let port = port.to_be_bytes();
    ipv4(17, &[&[0xc0, 1, port[0], port[1], len[0], len[1], 0, 0], payload].concat())
}

fn gre(flags: u8, version: u8, ether_type: u16, rest: &[u8]) -> Vec<u8> {
    [&[flags, version], &ether_type.to_be_bytes()[..], rest].concat()
}

/// A packet in every tunnel, as Ethernet frames, with what the frame is skipped as where tunnels are not asked for.
fn tunnels(v6: bool) -> Vec<(&'static str, Vec<u8>, Health)> {
    let ip = if v6 { ipv6(6, TCP) } else { ipv4(6, TCP) };
    let (ether_type, protocol, ppp) = if v6 { (0x86dd, 41, 0x57) } else { (0x0800, 4, 0x21) };
    let inner = eth(ether_type, &ip);
    let tagged = [&[2; 12], &[0x81, 0, 0, 9][..], &ether_type.to_be_bytes(), &ip].concat();
    let v4 = |protocol: u8, payload: &[u8]| eth(0x0800, &ipv4(protocol, payload));
    let over_udp =
        |port: u16, head: &[u8], payload: &[u8]| eth(0x0800, &udp(port, &[head, payload].concat()));
    let vxlan = [0x08, 0, 0, 0, 0, 0, 7, 0];
    let geneve = [0x02, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 1, 0, 1, 9, 9, 9, 9];
    let [hi, lo] = ether_type.to_be_bytes();
    let label = [0, 1, 0x00, 64];
    let bottom = [0, 2, 0x01, 64];
    let nested = udp(
        4789,
        &[&vxlan[..], &eth(0x0800, &ipv4(47, &gre(0x20, 0, ether_type, &[&[0; 4], &ip[..]].concat())))]
            .concat(),
    );
    let pppoe = [0x11, 0, 0, 7, 0, 46, 0, ppp];
    let not_tcp = Health::NotTcp;
    vec![
        ("IP in IPv4", v4(protocol, &ip), not_tcp),
        ("IP in IPv6", eth(0x86dd, &ipv6(protocol, &ip)), not_tcp),
        (
            "IP in IPv6 with an encapsulation limit",
            eth(0x86dd, &ipv6(60, &[&[protocol, 0, 4, 1, 4, 1, 0, 0], &ip[..]].concat())),
            not_tcp,
        ),
        ("EtherIP", v4(97, &[&[0x30, 0], &inner[..]].concat()), not_tcp),
        ("GRE", v4(47, &gre(0, 0, ether_type, &ip)), not_tcp),
        ("GRE with all options", v4(47, &gre(0xb0, 0, ether_type, &[&[0; 12], &ip[..]].concat())), not_tcp),
        ("GRE with Ethernet", v4(47, &gre(0x20, 0, 0x6558, &[&[0; 4], &tagged[..]].concat())), not_tcp),
        ("GRE with ERSPAN I", v4(47, &gre(0, 0, 0x88be, &inner)), not_tcp),
        ("GRE with ERSPAN II", v4(47, &gre(0x10, 0, 0x88be, &[&[0; 12], &inner[..]].concat())), not_tcp),
        ("GRE with ERSPAN III", v4(47, &gre(0x10, 0, 0x22eb, &[&[0; 16], &inner[..]].concat())), not_tcp),
        (
            "PPTP",
            v4(47, &gre(0x30, 0x81, 0x880b, &[&[0; 12], &[0xff, 3, 0, ppp][..], &ip].concat())),
            not_tcp,
        ),
        ("VXLAN", over_udp(4789, &vxlan, &inner), not_tcp),
        ("VXLAN on Linux's first port", over_udp(8472, &vxlan, &tagged), not_tcp),
        ("Geneve with an option", over_udp(6081, &geneve, &inner), not_tcp),
        ("Geneve with IP", over_udp(6081, &[0, 0, hi, lo, 0, 0, 7, 0], &ip), not_tcp),
        ("GTP-U", over_udp(2152, &[0x30, 255, 0, 44, 0, 0, 0, 1], &ip), not_tcp),
        (
            "GTP-U with a sequence number",
            over_udp(2152, &[0x32, 255, 0, 48, 0, 0, 0, 1, 0, 5, 0, 0], &ip),
            not_tcp,
        ),
        (
            "GTP-U with an extension",
            over_udp(2152, &[0x34, 255, 0, 52, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0x10, 9, 0], &ip),
            not_tcp,
        ),
        ("MPLS", eth(0x8847, &[&label, &bottom, &ip[..]].concat()), Health::NotIp),
        ("MPLS pseudowire", eth(0x8847, &[&bottom, &inner[..]].concat()), Health::NotIp),
        (
            "MPLS pseudowire with a control word",
            eth(0x8848, &[&bottom, &[0; 4], &inner[..]].concat()),
            Health::NotIp,
        ),
        ("MPLS in IPv4", v4(137, &[&bottom, &ip[..]].concat()), not_tcp),
        ("PPPoE", eth(0x8864, &[&pppoe, &ip[..]].concat()), Health::NotIp),
        ("VN-Tag", eth(0x8926, &[&[0, 1, 0, 2, hi, lo], &ip[..]].concat()), Health::NotIp),
        ("GRE in VXLAN", eth(0x0800, &nested), not_tcp),
    ]
}

#[test]
fn every_tunnel_leads_to_the_same_segment_where_it_is_asked_for() {
    for v6 in [false, true] {
        for (name, frame, otherwise) in tunnels(v6) {
            assert_eq!(read(&frame, Link::Ethernet, true), Ok(expected(v6)), "{name}");
            assert_eq!(read(&frame, Link::Ethernet, false), Err(otherwise), "{name}");
            for len in 0..frame.len() - 4 {
                assert!(read(&frame[..len], Link::Ethernet, true).is_err(), "{name} cut at {len}");
            }
        }
    }
}

#[test]
fn tcp_in_the_outer_packet_is_the_segment() {
    // To a tunnel's port, with what looks like a tunnel as its payload.
    let mut frame = eth(0x0800, &ipv4(6, TCP));
    frame[36..38].copy_from_slice(&4789u16.to_be_bytes());
    assert_eq!(read(&frame, Link::Ethernet, true).map(|s| s.dport), Ok(4789));
}

#[test]
fn tunnels_end_somewhere() {
    let mut packet = ipv4(6, TCP);
    let mut read_at = Vec::new();
    for depth in 0..32 {
        let found = read(&eth(0x0800, &packet), Link::Ethernet, true);
        match found {
            Ok(_) => read_at.push(depth),
            Err(why) => assert_eq!(why, Health::NotTcp),
        }
        packet = ipv4(4, &packet);
    }
    assert_eq!(read_at, (0..=16).collect::<Vec<_>>());
}

#[test]
fn fragments_of_a_tunnel_are_left_alone() {
    let mut frame = eth(0x0800, &ipv4(4, &ipv4(6, TCP)));
    assert!(read(&frame, Link::Ethernet, true).is_ok());
    frame[20] = 0x20;
    assert_eq!(read(&frame, Link::Ethernet, true), Err(Health::NotTcp));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        link in prop::sample::select(Link::ALL),
        tunnels: bool,
    ) {
        let _ = read_any(&bytes, link, tunnels);
    }

    #[test]
    fn no_change_to_a_tunnel_makes_it_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let all = tunnels(false);
        let (_, mut frame, _) = all[which.index(all.len())].clone();
        for (at, byte) in changes {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        let _ = read_any(&frame, Link::Ethernet, true);
    }
}
