//! The host's tables do what the kernel's do.

use super::*;
use crate::config::Limits;
use agent_ebpf::{
    health::Health,
    label::Side,
    layout::SERVICE_PORT_BITS,
    record::Record,
    traffic::{Close, Traffic},
    wire::Flags,
};

const SERVER: ([u8; 4], u16) = ([192, 0, 2, 1], 443);
const CONFIG: Config =
    Config { points: 1, services: 3, test_clock: 1, xdp_frags: 0, coarse_clock: 0, own_lock: 0 };

fn host(room: Room) -> Host {
    let mut host = Host::new(CONFIG, Settings::default(), room);
    host.watch(7, 0);
    host
}

/// An IPv4 frame without options or payload.
fn frame(from: ([u8; 4], u16), to: ([u8; 4], u16), flags: u8, seq: u32, ack: u32) -> Vec<u8> {
    let mut f = vec![0; 12];
    f.extend([8, 0, 0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0]);
    f.extend(from.0);
    f.extend(to.0);
    f.extend(from.1.to_be_bytes());
    f.extend(to.1.to_be_bytes());
    f.extend(seq.to_be_bytes());
    f.extend(ack.to_be_bytes());
    f.extend([0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    f
}

fn syn(host: &mut Host, client: ([u8; 4], u16)) {
    let syn = frame(client, SERVER, Flags::SYN, 9, 0);
    host.feed(&syn.as_slice(), 7, Direction::Ingress, Nanos(1));
}

fn shake_hands(host: &mut Host, client: ([u8; 4], u16)) {
    syn(host, client);
    let answer = frame(SERVER, client, Flags::SYN | Flags::ACK, 99, 10);
    host.feed(&answer.as_slice(), 7, Direction::Egress, Nanos(2_000));
    host.feed(&frame(client, SERVER, Flags::ACK, 10, 100).as_slice(), 7, Direction::Ingress, Nanos(3_000));
}

#[test]
fn a_connection_moves_from_table_to_table_and_ends_with_a_record() {
    let mut host = host(Room::default());
    let client = ([192, 0, 2, 9], 50_000);
    syn(&mut host, client);
    assert_eq!((host.half_open().count(), host.flows().count()), (1, 0));
    shake_hands(&mut host, client);
    assert_eq!((host.half_open().count(), host.flows().count()), (0, 1));
    let reset = frame(client, SERVER, Flags::RST | Flags::ACK, 10, 100);
    host.feed(&reset.as_slice(), 7, Direction::Ingress, Nanos(9_000));
    assert_eq!(host.closed().map(|(_, closed)| closed.at).collect::<Vec<_>>(), [Nanos(9_000)]);
    let records: Vec<_> = host.take_records().iter().map(|bytes| Record::decode(bytes).unwrap()).collect();
    let close = Close::ResetClient;
    let ends = records.iter().filter(|r| matches!(r, Record::End(e) if e.flow.close == close as u8 + 1));
    assert_eq!(ends.count(), 1);
    assert!(host.take_records().is_empty());
    let totals = host.totals(0, 0, Direction::Ingress).unwrap();
    assert_eq!(totals[Traffic::Segments.place(Side::Client, 0)], 4);
    assert_eq!(totals[Traffic::Closed.place(Side::Client, close as usize)], 1);
}

#[test]
fn tls_is_known_by_what_the_client_says_first_whichever_way_it_goes() {
    let client = ([192, 0, 2, 9], 50_000);
    let data = |from, to, seq, ack, payload: [u8; 3]| {
        let mut f = frame(from, to, Flags::ACK | Flags::PSH, seq, ack);
        f[17] += 3;
        f.extend(payload);
        f
    };
    let (hello, plain) = ([22, 3, 1], *b"GET");
    let said = |met: bool, short: bool, client_says: [[u8; 3]; 2]| {
        let mut host = host(Room::default());
        if met {
            shake_hands(&mut host, client);
        }
        // A server that speaks first says nothing of it.
        let greeting = data(SERVER, client, 100, 10, hello);
        let [first, second] = client_says;
        let [first, second] =
            [(10, first), (13, second)].map(|(seq, says)| data(client, SERVER, seq, 103, says));
        for (f, direction) in
            [(greeting, Direction::Egress), (first, Direction::Ingress), (second, Direction::Ingress)]
        {
            if short {
                host.pass(&f.as_slice(), 7, direction, Nanos(9_000));
            } else {
                host.feed(&f.as_slice(), 7, direction, Nanos(9_000));
            }
        }
        let flow = host.flows().next().unwrap().1;
        assert_eq!(flow.half[usize::from(flow.client)].bytes, 6);
        flow.has(Flow::TLS)
    };
    for (met, short) in [(true, true), (true, false), (false, true), (false, false)] {
        assert!(said(met, short, [hello, plain]), "met {met}, short {short}");
        assert!(!said(met, short, [plain, hello]), "met {met}, short {short}");
    }
}

#[test]
fn a_segment_without_a_scoreboard_is_counted_on_its_flow_and_not_judged() {
    let mut host = host(Room { scores: [0, 0], ..Room::default() });
    let client = ([192, 0, 2, 9], 50_000);
    shake_hands(&mut host, client);
    for seq in [500, 500, 510] {
        host.feed(
            &frame(client, SERVER, Flags::ACK | Flags::FIN, seq, 100).as_slice(),
            7,
            Direction::Ingress,
            Nanos(9_000),
        );
    }
    let (_, flow) = host.flows().next().unwrap();
    let half = flow.half[usize::from(flow.client)];
    assert_eq!((half.segments, half.next.0), (5, 511));
    assert!(host.take_records().is_empty());
    let health = *host.health(0, Direction::Ingress).unwrap();
    assert_eq!((health[Health::ScoreboardFull as usize], health[Health::LostRace as usize]), (3, 0));
    let totals = host.totals(0, 0, Direction::Ingress).unwrap();
    assert_eq!(totals[Traffic::Segments.place(Side::Client, 0)], 5);
}

#[test]
fn a_closed_connection_that_finds_no_room_is_counted() {
    let mut host = host(Room { closed: 1, ..Room::default() });
    for last in 1..=3 {
        let client = ([198, 51, 100, last], 50_000);
        shake_hands(&mut host, client);
        let reset = frame(client, SERVER, Flags::RST | Flags::ACK, 10, 100);
        for _ in 0..2 {
            host.feed(&reset.as_slice(), 7, Direction::Ingress, Nanos(9_000));
        }
        let flow =
            host.flows().find(|(key, _)| key.end_points().iter().any(|end| end.1 == 50_000)).unwrap().1;
        assert_eq!(flow.half[usize::from(flow.client)].segments, 4, "an RST is a segment of its side");
    }
    assert_eq!(host.closed().count(), 1);
    assert_eq!(host.health(0, Direction::Ingress).unwrap()[Health::ClosedFull as usize], 4);
}

#[test]
fn a_full_flow_table_loses_no_connection_and_a_full_half_open_table_follows_nothing_new() {
    let mut host = host(Room { flows: [1, 1], half_open: [2, 1], ..Room::default() });
    for last in 1..=4 {
        shake_hands(&mut host, ([198, 51, 100, last], 50_000));
    }
    assert_eq!((host.flows().count(), host.half_open().count()), (1, 2));
    let again = frame(([198, 51, 100, 2], 50_000), SERVER, Flags::ACK, 10, 100);
    host.feed(&again.as_slice(), 7, Direction::Ingress, Nanos(9_000));
    let segments: Vec<u64> = host.half_open().map(|(_, f)| f.half[0].segments + f.half[1].segments).collect();
    assert_eq!(segments.iter().sum::<u64>(), 7, "both are followed on");
    let health: Vec<_> =
        Direction::ALL.iter().map(|direction| *host.health(0, *direction).unwrap()).collect();
    let sum = |what: Health| health.iter().map(|h| h[what as usize]).sum::<u64>();
    assert_eq!((sum(Health::Seen), sum(Health::Counted)), (13, 13));
    assert_eq!(
        (sum(Health::HalfOpenFull), sum(Health::FlowTableFull)),
        (3, 2),
        "a connection is refused once"
    );
    // Room again, and the next packet takes it.
    let first = frame(([198, 51, 100, 1], 50_000), SERVER, Flags::RST | Flags::ACK, 10, 100);
    host.feed(&first.as_slice(), 7, Direction::Ingress, Nanos(9_000));
    let limits = Limits::default();
    host.sweep(Nanos(9_000 + u64::try_from((limits.time_wait * 2).as_nanos()).unwrap()), &limits, drop);
    host.feed(&again.as_slice(), 7, Direction::Ingress, Nanos(u64::from(u32::MAX)));
    assert_eq!((host.flows().count(), host.half_open().count()), (1, 1));
}

#[test]
fn a_refusal_from_elsewhere_is_known_by_its_distance() {
    let mut host = host(Room::default());
    for port in 50_000..50_003 {
        shake_hands(&mut host, ([192, 0, 2, 9], port));
    }
    let mut origin = |port, ttl| {
        let client = ([192, 0, 2, 9], port);
        syn(&mut host, client);
        let mut refusal = frame(SERVER, client, Flags::RST | Flags::ACK, 0, 10);
        refusal[22] = ttl;
        let judged = host.feed(&refusal.as_slice(), 7, Direction::Egress, Nanos(2_000)).expect("it is TCP");
        judged.facts.foreign
    };
    assert!(!origin(50_003, 64), "as far away as the server");
    assert!(origin(50_004, 63), "one hop nearer: a firewall that answers for it");
}

#[test]
fn a_service_is_found_by_its_longest_prefix_and_the_exact_port_first() {
    let mut host = host(Room::default());
    let entry = |port: u16, last: u8, bits: u32, svc| services::Entry {
        key: ServiceKey {
            port: port.to_be_bytes(),
            reserved: [0; 2],
            addr: Addr::v4([192, 0, 2, last]).octets(),
        },
        prefix_len: SERVICE_PORT_BITS + 96 + bits,
        svc,
    };
    host.serve([entry(443, 0, 24, 1), entry(443, 128, 25, 2), entry(0, 1, 32, 9)]);
    let ask = |last: u8, port| host.tables.service(&Addr::v4([192, 0, 2, last]), port);
    assert_eq!([ask(1, 443), ask(129, 443), ask(1, 80), ask(2, 80)], [1, 2, 9, 0]);
    assert_eq!(host.tables.service(&Addr::v4([192, 0, 3, 1]), 443), 0);
}

#[test]
fn an_unknown_interface_is_counted_behind_the_last_point() {
    let mut host = host(Room::default());
    host.feed(&[0u8; 60].as_slice(), 8, Direction::Egress, Nanos(0));
    assert_eq!(host.health(1, Direction::Egress).unwrap()[Health::UnknownInterface as usize], 1);
    assert_eq!(host.health(2, Direction::Egress), None);
}
