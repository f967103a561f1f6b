//! The same conversation written every way: what is read must be what was written, whole or up to where a file breaks.

use super::{Capture, Fault, Problem};
use agent_ebpf::wire::{Link, Segment};
use etherparse::PacketBuilder;
use proptest::prelude::*;
use std::io::{self, Cursor, Write as _};

/// A packet as it is written, and as it must be read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Written {
    /// In nanoseconds since 1970; whole microseconds, so that every format can say it.
    at: u64,
    wire_len: u32,
    bytes: Vec<u8>,
}

/// Client and server in turn, as IP packets of growing length.
fn conversation() -> Vec<Written> {
    let packet = |n: u32| {
        let (ends, ports) = match n % 2 {
            0 => (([192, 0, 2, 1], [198, 51, 100, 2]), (40_000, 443)),
            _ => (([198, 51, 100, 2], [192, 0, 2, 1]), (443, 40_000)),
        };
        let builder =
            PacketBuilder::ipv4(ends.0, ends.1, 64).tcp(ports.0, ports.1, 1_000 + n, 512).ack(2_000 + n);
        let payload = vec![n as u8; n as usize];
        let mut bytes = Vec::new();
        builder.write(&mut bytes, &payload).unwrap();
        let at = 1_700_000_000_000_000_000 + u64::from(n) * 250_000_001_000;
        Written { at, wire_len: bytes.len() as u32, bytes }
    };
    (0..40).map(packet).collect()
}

/// What a number's bytes are in a file.
#[derive(Clone, Copy)]
struct Endian {
    big: bool,
}

impl Endian {
    fn u16(self, n: u16) -> [u8; 2] {
        if self.big { n.to_be_bytes() } else { n.to_le_bytes() }
    }
    fn u32(self, n: u32) -> [u8; 4] {
        if self.big { n.to_be_bytes() } else { n.to_le_bytes() }
    }
}

const LITTLE: Endian = Endian { big: false };
const BOTH: [Endian; 2] = [LITTLE, Endian { big: true }];
const RAW: u16 = 101;

fn pcap(e: Endian, magic: u32, link: u32, packets: &[Written]) -> Vec<u8> {
    let mut out = Vec::new();
    for n in [magic, if e.big { 2 << 16 | 4 } else { 4 << 16 | 2 }, 0, 0, 262_144, link] {
        out.extend(e.u32(n));
    }
    for p in packets {
        let fraction = (p.at % 1_000_000_000) as u32;
        let fraction = if magic == 0xa1b2_3c4d { fraction } else { fraction / 1_000 };
        for n in [(p.at / 1_000_000_000) as u32, fraction, p.bytes.len() as u32, p.wire_len] {
            out.extend(e.u32(n));
        }
        if magic == 0xa1b2_cd34 {
            out.extend([0xee; 8]);
        }
        out.extend(&p.bytes);
    }
    out
}

fn block(e: Endian, kind: u32, body: &[u8]) -> Vec<u8> {
    let padded = body.len().next_multiple_of(4);
    let len = e.u32(padded as u32 + 12);
    let mut out = [&e.u32(kind)[..], &len, body].concat();
    out.resize(8 + padded, 0);
    out.extend(len);
    out
}

fn section(e: Endian) -> Vec<u8> {
    block(e, 0x0a0d_0d0a, &[&e.u32(0x1a2b_3c4d)[..], &e.u16(1), &e.u16(0), &[0xff; 8]].concat())
}

/// An interface, with any options.
fn interface(e: Endian, link: u16, snap: u32, options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = [&e.u16(link)[..], &[0, 0], &e.u32(snap)].concat();
    for (code, value) in options {
        body.extend(e.u16(*code));
        body.extend(e.u16(value.len() as u16));
        body.extend(*value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    block(e, 1, &body)
}

fn enhanced(e: Endian, interface: u32, time: u64, p: &Written) -> Vec<u8> {
    let head = [interface, (time >> 32) as u32, time as u32, p.bytes.len() as u32, p.wire_len];
    let head: Vec<u8> = head.into_iter().flat_map(|n| e.u32(n)).collect();
    block(e, 6, &[&head[..], &p.bytes].concat())
}

/// A section with one interface, its times in microseconds.
fn pcapng(e: Endian, link: u16, packets: &[Written]) -> Vec<u8> {
    let mut out = [section(e), interface(e, link, 0, &[])].concat();
    for p in packets {
        out.extend(enhanced(e, 0, p.at / 1_000, p));
    }
    out
}

fn open(bytes: impl Into<Vec<u8>>) -> anyhow::Result<Capture> {
    Capture::of(Cursor::new(bytes.into()))
}

/// All that a capture holds: packets with their numbers, and problems.
fn read(bytes: impl Into<Vec<u8>>) -> (Vec<(u64, Written)>, Vec<Problem>) {
    let mut capture = open(bytes).unwrap();
    let (mut packets, mut problems) = (Vec::new(), Vec::new());
    while let Some(step) = capture.next() {
        match step {
            Ok(p) => {
                let written = Written { at: p.at.0, wire_len: p.wire_len, bytes: p.bytes.to_vec() };
                packets.push((p.number, written));
            }
            Err(problem) => problems.push(problem),
        }
    }
    assert!(capture.next().is_none(), "the end is the end");
    (packets, problems)
}

fn numbered(packets: &[Written]) -> Vec<(u64, Written)> {
    (1..).zip(packets.iter().cloned()).collect()
}

fn fault(offset: usize, fault: Fault) -> Problem {
    Problem { offset: offset as u64, fault }
}

#[test]
fn pcap_of_every_kind_is_read_as_written() {
    let packets = conversation();
    for e in BOTH {
        for magic in [0xa1b2_c3d4, 0xa1b2_3c4d, 0xa1b2_cd34] {
            let found = read(pcap(e, magic, RAW.into(), &packets));
            assert_eq!(found, (numbered(&packets), vec![]), "{magic:x} big endian: {}", e.big);
        }
    }
    // The bits above the link type say how long a frame check sequence is.
    let found = read(pcap(LITTLE, 0xa1b2_c3d4, 0x5400_0000 | u32::from(RAW), &packets));
    assert_eq!(found, (numbered(&packets), vec![]));
}

#[test]
fn pcapng_with_every_resolution_is_read_as_written() {
    let packets = conversation();
    for e in BOTH {
        // Its own way to say when, as an option's value, and what a microsecond's multiple is in it.
        type Units = fn(u64) -> u64;
        let to: [(u8, Units); 4] =
            [(6, |ns| ns / 1_000), (9, |ns| ns), (12, |ns| (ns % (1 << 50)) * 1_000), (7, |ns| ns / 100)];
        for (resolution, units) in to {
            let expected: Vec<Written> = packets
                .iter()
                .map(|p| Written { at: if resolution == 12 { p.at % (1 << 50) } else { p.at }, ..p.clone() })
                .collect();
            let mut file = [section(e), interface(e, RAW, 0, &[(2, b"eth0"), (9, &[resolution])])].concat();
            for p in &packets {
                file.extend(enhanced(e, 0, units(p.at), p));
            }
            assert_eq!(read(file), (numbered(&expected), vec![]), "10^-{resolution}");
        }
        // In halves: 2^-20 s are 953.67 ns, so that a moment is met to a microsecond. An offset of 1.6e9 s beside it.
        let offset: i64 = 1_600_000_000;
        let offset_bytes = if e.big { offset.to_be_bytes() } else { offset.to_le_bytes() };
        let mut file = [section(e), interface(e, RAW, 0, &[(9, &[0x80 | 20]), (14, &offset_bytes)])].concat();
        for p in &packets {
            let since = u128::from(p.at) - offset as u128 * 1_000_000_000;
            file.extend(enhanced(e, 0, (since * (1 << 20) / 1_000_000_000) as u64, p));
        }
        let (found, problems) = read(file);
        assert_eq!((found.len(), problems), (packets.len(), vec![]));
        assert!(found.iter().zip(&packets).all(|((_, f), p)| p.at - f.at < 1_000), "2^-20");
    }
}

#[test]
fn sections_differ_and_so_do_the_packet_blocks() {
    let packets = conversation();
    let [little, big] = BOTH;
    let p = &packets[..5];
    let old = |e: Endian, p: &Written| {
        let t = p.at / 1_000;
        let rest = [(t >> 32) as u32, t as u32, p.bytes.len() as u32, p.wire_len].map(|n| e.u32(n)).concat();
        block(e, 2, &[&e.u16(1)[..], &e.u16(0), &rest, &p.bytes].concat())
    };
    let simple = |e: Endian, p: &Written| block(e, 3, &[&e.u32(p.wire_len)[..], &p.bytes].concat());
    let mut file = pcapng(little, RAW, &p[..1]);
    file.extend(interface(little, RAW, 0, &[(9, &[9])]));
    file.extend(enhanced(little, 1, p[1].at, &p[1]));
    // Statistics, names and what is not known are no packets.
    for kind in [4, 5, 10, 0xbad, 0x8000_0001] {
        file.extend(block(little, kind, &[7; 21]));
    }
    file.extend(pcapng(big, RAW, &p[2..3]));
    file.extend(interface(big, RAW, 0, &[]));
    file.extend(old(big, &p[3]));
    file.extend(simple(big, &p[4]));
    let mut expected = p.to_vec();
    // A simple packet has no time of its own.
    expected[4].at = expected[3].at;
    assert_eq!(read(file.clone()), (numbered(&expected), vec![]));
    let mut capture = open(file).unwrap();
    let mut interfaces = Vec::new();
    while let Some(packet) = capture.next() {
        interfaces.push(packet.unwrap().interface);
    }
    assert_eq!(interfaces, [0, 1, 2, 3, 2]);
}

#[test]
fn a_simple_packet_is_as_long_as_the_snap_length_lets_it() {
    let cut = |e, p: &Written| block(e, 3, &[&LITTLE.u32(p.wire_len)[..], &p.bytes[..50]].concat());
    let p = &conversation()[39];
    let file = [section(LITTLE), interface(LITTLE, RAW, 50, &[]), cut(LITTLE, p)].concat();
    let (found, problems) = read(file);
    assert_eq!((found[0].1.bytes.len(), found[0].1.wire_len, problems), (50, p.wire_len, vec![]));
}

#[test]
fn a_cut_file_is_read_up_to_the_cut() {
    let packets = &conversation()[..4];
    let mut wholes = vec![(24, 0)];
    for n in 1..=4 {
        wholes.push((pcap(LITTLE, 0xa1b2_c3d4, RAW.into(), &packets[..n]).len(), n));
    }
    check_cuts(&pcap(LITTLE, 0xa1b2_c3d4, RAW.into(), packets), packets, &wholes, "a packet record");
    let mut wholes = vec![(28, 0), (48, 0)];
    for n in 1..=4 {
        wholes.push((pcapng(LITTLE, RAW, &packets[..n]).len(), n));
    }
    check_cuts(&pcapng(LITTLE, RAW, packets), packets, &wholes, "a block");
}

/// Cuts a file everywhere. `wholes` are the places where nothing is missing, with the number of packets before.
fn check_cuts(file: &[u8], packets: &[Written], wholes: &[(usize, usize)], inside: &'static str) {
    for len in wholes[0].0..=file.len() {
        let &(whole, n) = wholes.iter().rfind(|(whole, _)| *whole <= len).unwrap();
        let problems = if whole == len { vec![] } else { vec![fault(whole, Fault::Cut(inside))] };
        assert_eq!(read(&file[..len]), (numbered(&packets[..n]), problems), "cut at {len}");
    }
    for len in 1..12 {
        let error = format!("{:#}", open(&file[..len]).err().unwrap());
        assert!(error.contains(if len < 4 { "begins with" } else { "ends inside of its header" }), "{error}");
    }
}

#[test]
fn compressed_files_are_read_as_what_they_hold() {
    let packets = conversation();
    let file = pcap(LITTLE, 0xa1b2_c3d4, RAW.into(), &packets);
    let gzip = |bytes: &[u8]| {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        to.write_all(bytes).unwrap();
        to.finish().unwrap()
    };
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let (a, b) = file.split_at(1_000);
    let expected = (numbered(&packets), vec![]);
    for whole in
        [gzip(&file), [gzip(a), gzip(b)].concat(), zstd(&file), [&zstd(a)[..], &skippable, &zstd(b)].concat()]
    {
        assert_eq!(read(whole.clone()), expected);
        // Cut, it gives the packets before the cut and says so once.
        for len in (0..whole.len() - 1).step_by(7) {
            let Ok(mut capture) = open(&whole[..len]) else { continue };
            let (mut packets, mut problems) = (0, Vec::new());
            while let Some(step) = capture.next() {
                match step {
                    Ok(_) => packets += 1,
                    Err(problem) => problems.push(problem),
                }
            }
            // In the trailer behind the data, all packets are there and it is cut all the same.
            assert!(packets <= expected.0.len() && problems.len() == 1, "cut at {len}: {problems:?}");
            assert!(problems.iter().all(|p| p.ends() && p.offset <= file.len() as u64), "{problems:?}");
        }
    }
}

#[test]
fn an_unknown_link_type_is_told_once_and_its_packets_keep_their_numbers() {
    let packets = conversation();
    let (found, problems) = read(pcap(LITTLE, 0xa1b2_c3d4, 147, &packets));
    let told = |offset, interface| fault(offset, Fault::LinkType { number: 147, interface });
    assert_eq!((found, problems), (vec![], vec![told(24, 0)]));
    let mut file = pcapng(LITTLE, RAW, &[]);
    file.extend(interface(LITTLE, 147, 0, &[]));
    let second = file.len() + enhanced(LITTLE, 0, 0, &packets[0]).len();
    for (n, p) in packets.iter().enumerate() {
        file.extend(enhanced(LITTLE, n as u32 % 2, p.at / 1_000, p));
    }
    let expected = numbered(&packets).into_iter().step_by(2).collect();
    assert_eq!(read(file), (expected, vec![told(second, 1)]));
    let text = told(second, 1).to_string();
    assert!(text.starts_with(&format!("byte {second}: link type 147 of interface 1 ")), "{text}");
}

#[test]
fn broken_blocks_are_left_out_and_the_rest_is_read() {
    let packets = conversation();
    let good = pcapng(LITTLE, RAW, &packets[..1]);
    let after = enhanced(LITTLE, 0, packets[1].at / 1_000, &packets[1]);
    let whole = enhanced(LITTLE, 0, 0, &packets[2]);
    let len = whole.len();
    let changed = |at: usize, to: u32| {
        let mut block = whole.clone();
        block[at..at + 4].copy_from_slice(&to.to_le_bytes());
        block
    };
    let first = len as u32;
    for (broken, what, counts) in [
        (changed(20, 60_000), Fault::Contents("a packet block"), true),
        // One byte more than there is room for.
        (changed(20, first - 31), Fault::Contents("a packet block"), true),
        (changed(8, 5), Fault::Interface(5), true),
        (changed(len - 4, 8), Fault::BlockEnd { first, last: 8 }, true),
        (block(LITTLE, 6, &[0; 16]), Fault::Contents("a packet block"), true),
        (block(LITTLE, 1, &[0; 4]), Fault::Contents("an interface block"), false),
    ] {
        let number = if counts { 3 } else { 2 };
        let expected = vec![(1, packets[0].clone()), (number, packets[1].clone())];
        let file = [&good[..], &broken, &after].concat();
        assert_eq!(read(file), (expected, vec![fault(good.len(), what)]));
    }
    for (broken, what) in [
        (changed(4, 8), Fault::BlockLength(8)),
        (changed(4, 0xffff_fff0), Fault::Cut("a block")),
        (block(LITTLE, 0x0a0d_0d0a, &[0; 16]), Fault::ByteOrder([0; 4])),
    ] {
        let (found, problems) = read([&good[..], &broken, &after].concat());
        assert_eq!((found.len(), problems), (1, vec![fault(good.len(), what)]));
    }
    let mut file = pcap(LITTLE, 0xa1b2_c3d4, RAW.into(), &packets[..1]);
    let end = file.len();
    file.extend([0xff; 40]);
    let expected = (numbered(&packets[..1]), vec![fault(end, Fault::RecordLength(u32::MAX))]);
    assert_eq!(read(file), expected);
}

#[test]
fn long_packets_and_blocks_are_passed_over_without_room_for_them() {
    let packets = conversation();
    let long = Written { at: 5_000, wire_len: 500_000, bytes: vec![0x45; 262_144] };
    let all = [packets[0].clone(), long.clone(), packets[1].clone()];
    let mut ng = pcapng(LITTLE, RAW, &all[..2]);
    ng.extend(block(LITTLE, 10, &vec![1; 3_000_000]));
    ng.extend(enhanced(LITTLE, 0, all[2].at / 1_000, &all[2]));
    for file in [pcap(LITTLE, 0xa1b2_c3d4, RAW.into(), &all), ng] {
        let (found, problems) = read(file.clone());
        assert_eq!((found.len(), problems), (3, vec![]));
        assert_eq!((found[1].1.at, found[1].1.wire_len), (long.at, long.wire_len));
        assert!(found[1].1.bytes.len() > 60_000 && long.bytes.starts_with(&found[1].1.bytes));
        assert_eq!(found[2].1, all[2]);
        // Cut inside of the long one's later part: it is read, and the cut is told.
        let (found, problems) = read(&file[..200_000]);
        assert_eq!((found.len(), problems.len()), (2, 1));
        assert!(problems[0].ends() && problems[0].offset <= 200_000);
    }
}

#[test]
fn a_packet_that_was_cut_is_judged_by_its_ip_length() {
    let whole = &conversation()[39];
    let cut = Written { bytes: whole.bytes[..44].to_vec(), ..whole.clone() };
    // A tool that cut it and knew no better than to write what was left.
    let wrong = Written { wire_len: 44, ..cut.clone() };
    let short = Written { bytes: whole.bytes[..30].to_vec(), ..whole.clone() };
    let mut capture = open(pcap(LITTLE, 0xa1b2_c3d4, RAW.into(), &[cut, wrong, short])).unwrap();
    for expected in [Ok(39), Ok(39), Err(agent_ebpf::health::Health::Truncated)] {
        let packet = capture.next().unwrap().unwrap();
        assert_eq!(packet.link, Link::Raw);
        let mut s = Segment::blank();
        assert_eq!(s.read(&packet).map(|()| s.payload), expected);
    }
}

#[test]
fn what_is_no_capture_is_refused_with_a_reason() {
    for (bytes, reason) in
        [(&b""[..], "it is empty"), (b"GET / HTTP/1.1\r\n\r\n and more of it", "[47, 45, 54, 20]")]
    {
        let error = format!("{:#}", open(bytes).err().unwrap());
        assert!(error.contains(reason) && error.contains("pcapng"), "{error}");
    }
    let error = format!("{:#}", Capture::open("no such file".as_ref()).err().unwrap());
    assert!(error.contains("cannot open no such file"), "{error}");
}

#[test]
fn a_failing_disk_is_told_where_it_failed() {
    struct Disk(Cursor<Vec<u8>>);
    impl io::Read for Disk {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            match self.0.read(to)? {
                0 => Err(io::Error::other("bad sector")),
                n => Ok(n),
            }
        }
    }
    let packets = conversation();
    let file = pcap(LITTLE, 0xa1b2_c3d4, RAW.into(), &packets);
    let mut capture = Capture::of(Disk(Cursor::new(file.clone()))).unwrap();
    for _ in &packets {
        capture.next().unwrap().unwrap();
    }
    let problem = capture.next().unwrap().unwrap_err();
    assert_eq!(problem, fault(file.len(), Fault::Read("bad sector".to_owned())));
    assert_eq!(capture.position(), file.len() as u64);
}

proptest! {
    #[test]
    fn no_damage_makes_it_panic_or_point_outside(
        form in 0..4usize,
        cut in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u32), 0..8),
    ) {
        let packets = conversation();
        let mut file = match form {
            0 => pcap(LITTLE, 0xa1b2_c3d4, 1, &packets),
            1 => pcapng(LITTLE, RAW, &packets),
            2 => pcapng(BOTH[1], 113, &packets),
            _ => zstd::encode_all(&pcapng(LITTLE, RAW, &packets)[..], 1).unwrap(),
        };
        file.truncate(cut.index(file.len()) + 1);
        for (at, bit) in flips {
            let at = at.index(file.len());
            file[at] ^= 1 << bit;
        }
        let compressed = form == 3;
        let size = file.len() as u64;
        if let Ok(mut capture) = open(file) {
            while let Some(step) = capture.next() {
                match step {
                    Ok(packet) => {
                        let _ = Segment::blank().read(&packet);
                    }
                    Err(problem) => prop_assert!(compressed || problem.offset <= size, "{problem}"),
                }
            }
            prop_assert!(capture.position() <= size);
        }
    }
}
