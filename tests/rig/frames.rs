//! Frames made by hand: byte for byte on the wire, and right in the eyes of tshark and of a real kernel.

use std::process::Command;

use harness::impair::{TcpFacts, flags, rules};
use harness::raw::{Extension, Frame, RawPort, TcpOption};
use harness::script::{Script, pcap};
use harness::tcp::{DEADLINE, Serve, Server, pattern_bytes};
use harness::topology::{CLIENT, LEFT, OUTSIDE, RIGHT, SERVER};
use harness::truth::Nft;
use harness::{Gateway, Pair, command};

fn strange_frames() -> Vec<Vec<u8>> {
    let v4 = Frame::new((LEFT.v4, 1000), (RIGHT.v4, 2000))
        .flags(flags::ACK)
        .payload(pattern_bytes(0, 100))
        .ip_id(7);
    let v6 = Frame::new((LEFT.v6, 1000), (RIGHT.v6, 2000)).flags(flags::SYN).option(TcpOption::Mss(1440));
    let mut with_ip_options = v4.clone();
    with_ip_options.ip_options = vec![1; 40];
    let mut frames: Vec<_> = (0..=5_u16)
        .map(|tags| {
            let tagged = (0..tags).fold(v4.clone(), |frame, tag| {
                frame.vlan(if tag == 0 && tags > 1 { 0x88a8 } else { 0x8100 }, 100 + tag)
            });
            tagged.build()
        })
        .collect();
    frames.push(with_ip_options.build());
    frames.extend(v4.payload(pattern_bytes(0, 300)).fragments(64));
    frames.push(v6.build());
    let headers =
        [Extension::HopByHop(0), Extension::Routing, Extension::Destination(40), Extension::Authentication];
    frames.push(headers.iter().cloned().fold(v6.clone(), Frame::extension).build());
    frames.extend(v6.payload(pattern_bytes(0, 300)).fragments(64));
    frames
}

#[test]
fn frames_arrive_byte_for_byte_also_through_the_box() {
    for pair in [Pair::new(), Pair::impaired(rules::clean())] {
        let sender = RawPort::open(&pair.left, LEFT.interface);
        let mut receiver = RawPort::open(&pair.right, RIGHT.interface);
        for frame in strange_frames() {
            sender.send(&frame);
            let arrived = receiver.receive(DEADLINE, |bytes| bytes[..6] == frame[..6]);
            assert_eq!(arrived.as_ref(), Some(&frame));
        }
    }
}

#[test]
fn a_client_played_by_hand_talks_to_a_real_server() {
    let world = Gateway::new();
    let _quiet = Nft::silence(&world.client, 50_000);
    let _server = Server::start(&world.server, (SERVER.v4, 443), Serve::Echo);
    let mut port = RawPort::open(&world.client, CLIENT.interface);
    let frame = || Frame::new((CLIENT.v4, 50_000), (SERVER.v4, 443)).macs(CLIENT.mac, OUTSIDE.mac);
    port.send(&frame().flags(flags::SYN).seq(99).option(TcpOption::Mss(1460)).build());
    let answer = port.receive_tcp(DEADLINE, "SYN-ACK", |tcp| tcp.has(flags::SYN | flags::ACK));
    assert_eq!((answer.ack, answer.ttl), (100, 63));
    let hello = frame().flags(flags::PSH | flags::ACK).seq(100).ack(answer.end()).payload(*b"hello");
    port.send(&hello.build());
    let echo = port.receive_tcp(DEADLINE, "echo", |tcp| tcp.payload > 0);
    assert_eq!((echo.payload, echo.ack), (5, 105));
}

const CASE: &str = "
    # when  who flags what
    0       C   S   mss=1460 sackok ws=7 ts=10:0
    10ms    S   S.  mss=1460 sackok ws=7 ts=90:10
    +5ms    C   .
    +1ms    C   P.  len=800
    +200ms  C   P.  len=800 seq=1 id=7 ttl=3 vlan=5
    +10ms   S   .   ack=801 sack=1-801 win=0
    +0      C   F.
";

#[test]
fn a_script_says_what_it_says() {
    let steps = Script::default().isn(u32::MAX, 100).steps(CASE);
    let facts: Vec<TcpFacts> =
        steps.iter().map(|step| TcpFacts::parse(&step.frame.build()).unwrap()).collect();
    let numbers: Vec<_> = facts.iter().map(|tcp| (tcp.seq, tcp.ack, tcp.payload)).collect();
    let (isn, first) = (u32::MAX, 0);
    let expected = [
        (isn, 0, 0),
        (100, first, 0),
        (first, 101, 0),
        (first, 101, 800),
        (first, 101, 800),
        (101, 800, 0),
        (800, 101, 0),
    ];
    assert_eq!(numbers, expected);
    assert_eq!((facts[4].ip_id, facts[4].ttl, facts[5].window), (Some(7), 3, 0));
    assert_eq!(facts[5].sack, [(first, 800)]);
    assert_eq!(facts[1].timestamps, Some((90, 10)));
    let times: Vec<_> = steps.iter().map(|step| step.at.as_millis()).collect();
    assert_eq!(times, [0, 10, 15, 16, 216, 226, 226]);
}

#[test]
fn tshark_finds_every_checksum_right_and_every_frame_whole() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("case.pcap");
    let mut frames = Script::default().frames(CASE);
    let v6 = Script::between((CLIENT.v6, 40_001), (SERVER.v6, 443)).frames(CASE);
    frames.extend(v6);
    let strange =
        strange_frames().into_iter().map(|frame| harness::script::Timed { at: 5_000_000_001, frame });
    frames.extend(strange);
    pcap::write(&file, &frames).unwrap();
    assert_eq!(pcap::read(&file).unwrap(), frames, "what is written can be read");

    let mut tshark = Command::new("tshark");
    tshark.args([
        "-o",
        "tcp.check_checksum:TRUE",
        "-o",
        "ip.check_checksum:TRUE",
        "-T",
        "fields",
        "-E",
        "occurrence=l",
    ]);
    tshark.args(["-e", "frame.number", "-e", "ip.checksum.status", "-e", "tcp.checksum.status"]);
    tshark.args(["-e", "_ws.malformed", "-r"]).arg(&file);
    let said = command::run(tshark, "");
    assert_eq!(said.lines().count(), frames.len());
    let mut good = 0;
    for line in said.lines() {
        let fields: Vec<_> = line.split('\t').collect();
        assert!(
            fields[1..3].iter().all(|status| *status == "1" || status.is_empty()),
            "a wrong checksum: {line}"
        );
        assert!(fields[3].is_empty(), "malformed: {line}");
        good += usize::from(fields[2] == "1");
    }
    // All but the fragments before the last of each packet, which have no TCP of their own: 320 bytes in 5, 324 in 6.
    assert!(good >= 14 + 9, "only {good} checksums were checked:\n{said}");
}
