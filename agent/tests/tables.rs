//! The kernel's tables, read and swept as the daemon does it: real maps, filled by hand. Needs the rights to make them.

use agent::{
    aggregate::snapshot::Totals,
    config::{Limits, Service, Watch, file},
    probe,
    source::{
        closed::{Part, Turn},
        maps::{Maps, fd},
        slots,
        sweep::{self, How, Sweep, Told},
    },
    sys::{self, map},
};
use agent_ebpf::{
    anomaly::Anomaly,
    flow::{Closed, Flow, FlowKey, FlowKey4, FlowKey6},
    half::Half,
    label::Side,
    layout::maps as names,
    phase::Phase,
    record::EndRecord,
    scoreboard::Scoreboard,
    time::Nanos,
    traffic::{Close, Traffic},
    wire::Addr,
};
use aya::maps::Map;
use std::os::fd::{AsFd as _, OwnedFd};

const ROOM: u32 = 4;
const SECOND: u64 = 1_000_000_000;

/// Tables for two points; no program uses them.
fn tables() -> Maps {
    tables_for(1024)
}

/// The same, with room for so many closed five-tuples.
fn tables_for(closed: u32) -> Maps {
    tables_and_slots(closed).0
}

/// The same, and the slots of IPv4 flows.
fn tables_and_slots(closed: u32) -> (Maps, OwnedFd) {
    let text = format!(
        "interfaces: [{{name: a}}, {{name: b}}]\ntables: {{flows: 8192, half_open: 1024, closed: {closed}}}"
    );
    let file = file::parse(&text, std::path::Path::new("")).unwrap();
    let watch = Watch { interfaces: file.interfaces, tables: file.tables, ..Watch::default() };
    let mut ebpf = probe::open(&watch, ROOM, (6, 0), true)
        .unwrap_or_else(|e| panic!("{e:#}: run this as root (cargo xtask test does)"));
    let Some(Map::Array(slots)) = ebpf.map(names::SLOTS4) else { panic!("there are slots") };
    let slots = fd(slots).try_clone_to_owned().unwrap();
    (Maps::take(&mut ebpf, ROOM).unwrap().0, slots)
}

fn key4(port: u16) -> FlowKey4 {
    let [low, high] = [Addr::v4([192, 0, 2, 1]), Addr::v4([192, 0, 2, 9])].map(|a| a.0[3]);
    FlowKey4 { low, high, ports: 443 << 16 | u32::from(port), scope: 1 << 24 }
}

/// A flow of the service 2, last seen so many seconds ago.
fn flow(now: Nanos, seconds_ago: u64, phase: Phase, bits: u16) -> Flow {
    let last_seen = Nanos(now.0 - seconds_ago * SECOND);
    let half = Half { last_seen, bits: Half::SEEN, ..Half::default() };
    Flow {
        phase: phase as u8,
        bits: Flow::USED | bits,
        svc: 2,
        half: [half, Half::default()],
        ..Flow::default()
    }
}

fn put<K: bytemuck::Pod, V: bytemuck::Pod>(map: &aya::maps::MapData, key: K, value: V) {
    map::update(fd(map), &key, &value, 0).unwrap();
}

/// Established flows of these keys.
fn establish(maps: &mut Maps, flows: impl IntoIterator<Item = (FlowKey4, Flow)>) {
    let mut high = [0; 2];
    for (key, flow) in flows {
        let flow = Flow { tag: FlowKey::V4(key).tag(), ..flow };
        assert_eq!(maps.v4.flows.insert(&key, &flow, &mut high[0]).unwrap(), Some(true));
    }
    slots::raise(&maps.marks, high).unwrap();
}

/// Sweeps; what it found, and the ends.
fn run(maps: &Maps, own: &mut [Totals], now: Nanos) -> (Sweep, Vec<EndRecord>) {
    let (limits, mut ended) = (Limits::default(), Vec::new());
    let mut told = |told: Told<'_>| {
        if let Told::Ended(end) = told {
            ended.push(end);
        }
    };
    let swept = sweep::sweep(maps, own, ROOM as usize, &limits, now, How::usual(&limits), &mut told);
    (swept.unwrap(), ended)
}

#[test]
fn every_flow_is_read_once_whatever_the_size_of_the_table() {
    let mut maps = tables();
    let now = sys::monotonic();
    let bits = |port| if port == 7 { Flow::CONFIRMED | Flow::SCORED } else { Flow::CONFIRMED };
    establish(&mut maps, (1..=6000).map(|port| (key4(port), flow(now, 0, Phase::Established, bits(port)))));
    let again = flow(now, 0, Phase::Established, 0);
    assert_eq!(maps.v4.flows.insert(&key4(1), &again, &mut 0).unwrap(), Some(false), "it is there");
    let mut score = Scoreboard::default();
    score.half[0].counts.gaps = 3;
    put(&maps.v4.scores, key4(7), score);
    let six = FlowKey6 { ports: 5, ..FlowKey6::default() };
    put(&maps.v6.half_open, six, flow(now, 0, Phase::SynSent, 0));
    put(&maps.v4.half_open, key4(9000), flow(now, 0, Phase::SynSent, Flow::MOVED));
    let flows = maps.flows().unwrap();
    assert_eq!(flows.len(), 6001, "the frozen one stands in the other table");
    let mut ports: Vec<u16> = flows.iter().map(|f| f.key.end_points()[1].1).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 6000, "port 5 stands for IPv4 and IPv6");
    let wrong: Vec<_> = flows.iter().filter(|f| f.anomalies().has(Anomaly::Gap)).collect();
    assert_eq!(wrong.len(), 1);
    assert_eq!(wrong[0].counts[0].gaps, 3);
}

#[test]
fn a_sweep_ends_the_silent_drops_the_ended_and_counts_the_open() {
    let mut maps = tables();
    let now = sys::monotonic().max(Nanos(7200 * SECOND));
    let mut own = vec![Totals::default(); 2 * ROOM as usize];
    let established = |age, bits| flow(now, age, Phase::Established, Flow::CONFIRMED | bits);
    let ended = flow(now, 10, Phase::Closed, Flow::ENDED);
    let flows = [established(10, 0), established(4000, Flow::SCORED), ended];
    establish(&mut maps, (1..).map(key4).zip(flows));
    put(&maps.v4.scores, key4(2), Scoreboard::default());
    put(&maps.v4.half_open, key4(4), flow(now, 100, Phase::SynSent, 0));
    put(&maps.v4.half_open, key4(5), flow(now, 1, Phase::SynSent, 0));
    // What moved on in the instant when a sweep had it in hand, and was put back: counted where it stands now.
    put(&maps.v4.half_open, key4(1), flow(now, 10, Phase::Established, Flow::MOVED));
    put(&maps.v4.closed, key4(8), Closed { at: Nanos(now.0 - 100 * SECOND), ..Closed::default() });
    put(&maps.v4.closed, key4(9), Closed { at: now, ..Closed::default() });
    let (swept, ended) = run(&maps, &mut own, now);
    assert_eq!(swept.entries, [1, 1, 1, 0, 0, 0, 0, 0]);
    assert_eq!(swept.open[ROOM as usize + 2].open, 2);
    let mut ended: Vec<_> = ended.iter().map(|e| (e.head.server_port, e.flow.close - 1)).collect();
    ended.sort_unstable();
    let (silence, handshake) = (Close::Silence as u8, Close::HandshakeSilence as u8);
    assert_eq!(ended, [(2, silence), (4, handshake)]);
    let totals = &own[ROOM as usize + 2].0;
    assert_eq!(totals[Traffic::Closed.place(Side::Client, Close::Silence as usize)], 1);
    assert_eq!(totals[Traffic::Closed.place(Side::Client, Close::HandshakeSilence as usize)], 1);
    assert_eq!(totals.iter().sum::<u64>(), 4, "and what they came to");
    assert_eq!(run(&maps, &mut own, now).1.len(), 0, "an end is counted once");
}

#[test]
fn services_are_replaced_entry_by_entry() {
    let maps = tables();
    let service = |prefix: &str, ports| Service {
        name: "x".to_owned(),
        prefixes: vec![prefix.parse().unwrap()],
        ports,
        allowed_clients: Vec::new(),
        http: false,
    };
    let wide = service("192.0.2.0/24", vec![8000..=8009]);
    maps.set_services([(1, &wide)]).unwrap();
    assert_eq!(maps.service_entries().unwrap(), 10);
    let narrow = service("192.0.2.0/24", vec![8009..=8010]);
    let six = service("2001:db8::/32", Vec::new());
    maps.set_services([(1, &narrow), (2, &six)]).unwrap();
    assert_eq!(maps.service_entries().unwrap(), 3);
    // The table has room for 4096: not for both of these at once, and for the third not at all.
    let [many, others, most] =
        [10_000, 20_000, 30_000].map(|port| service("192.0.2.0/24", vec![port..=port + 3_999]));
    maps.set_services([(1, &many)]).unwrap();
    maps.set_services([(2, &others)]).unwrap();
    assert_eq!(maps.service_entries().unwrap(), 4_000);
    let refused = maps.set_services([(1, &many), (2, &most)]).unwrap_err().to_string();
    assert!(refused.contains("table is full"), "{refused}");
    assert_eq!(maps.service_entries().unwrap(), 4_000, "what is refused changes nothing");
    maps.set_services([]).unwrap();
    assert_eq!(maps.service_entries().unwrap(), 0);
}

#[test]
fn a_flow_that_went_on_since_it_was_read_is_not_let_go() {
    let mut maps = tables();
    let now = sys::monotonic();
    let there = flow(now, 0, Phase::Established, Flow::CONFIRMED);
    let there = Flow { tag: FlowKey::V4(key4(1)).tag(), ..there };
    establish(&mut maps, [(key4(1), there)]);
    let mut before = there;
    before.half[1].segments = 1;
    let v4 = |port| FlowKey::V4(key4(port));
    assert!(!maps.let_go(v4(1), &before, false).unwrap());
    assert!(!maps.let_go(v4(2), &there, false).unwrap());
    assert!(!maps.let_go(v4(1), &there, true).unwrap(), "it is in the other table");
    assert_eq!(maps.v4.flows.get(&key4(1)).unwrap().map(|flow| flow.tag), Some(there.tag));
    assert!(maps.let_go(v4(1), &there, false).unwrap());
    assert!(maps.v4.flows.get(&key4(1)).unwrap().is_none());
    let six = FlowKey6 { low: Addr([1, 2, 3, 4]), high: Addr([5, 6, 7, 8]), ports: 9, scope: 10 };
    let there_too = Flow { tag: FlowKey::V6(six).tag(), ..there };
    assert_eq!(maps.v6.flows.insert(&six, &there_too, &mut 0).unwrap(), Some(true));
    assert!(maps.let_go(FlowKey::V6(six), &there_too, false).unwrap());
    assert!(maps.v6.flows.get(&six).unwrap().is_none());
    put(&maps.v6.half_open, six, there_too);
    let earlier = Flow { half: before.half, ..there_too };
    assert!(!maps.let_go(FlowKey::V6(six), &earlier, true).unwrap());
    assert!(maps.let_go(FlowKey::V6(six), &there_too, true).unwrap());
    assert!(map::read::<_, Flow>(fd(&maps.v6.half_open), &six).unwrap().is_none());
    // Its slot is the next to be taken.
    establish(&mut maps, [(key4(2), there)]);
    assert_eq!(maps.high().unwrap(), [1, 0]);
}

#[test]
fn a_flow_that_a_packet_holds_is_left_out_until_it_is_let_go() {
    let (mut maps, slots) = tables_and_slots(1024);
    let now = sys::monotonic();
    let is_held = |port: u16| port % 100 == 13 || port % 100 == 14;
    let busy = |port| if is_held(port) { Flow::SHORT } else { 0 };
    let there = flow(now, 0, Phase::Established, Flow::CONFIRMED);
    establish(&mut maps, (1..=500).map(|port| (key4(port), Flow { busy: busy(port), ..there })));
    let read = |maps: &Maps| {
        let flows = maps.flows().unwrap();
        let mut ports: Vec<u16> = flows.iter().map(|sight| sight.key.end_points()[1].1).collect();
        ports.sort_unstable();
        ports
    };
    assert!(read(&maps).into_iter().eq((1..=500).filter(|port| !is_held(*port))));
    let key = FlowKey::V4(key4(13));
    let held = Flow { tag: key.tag(), ..there };
    assert!(!maps.let_go(key, &held, false).unwrap());
    for port in (1..=500).filter(|port| is_held(*port)) {
        let slot = u32::from(port) - 1;
        let flow = map::read::<u32, Flow>(slots.as_fd(), &slot).unwrap().unwrap();
        assert_eq!(flow.busy, Flow::SHORT, "who waited has gone");
        map::update(slots.as_fd(), &slot, &Flow { busy: 0, ..flow }, 0).unwrap();
    }
    assert!(read(&maps).into_iter().eq(1..=500));
    assert!(maps.let_go(key, &held, false).unwrap());
}

#[test]
fn marks_of_larger_tables_are_not_read_beyond_the_end() {
    let maps = tables();
    slots::raise(&maps.marks, [u32::MAX; 2]).unwrap();
    assert_eq!(maps.high().unwrap(), [8192, 2048]);
    assert_eq!(maps.flows().unwrap().len(), 0);
}

#[test]
fn closed_five_tuples_are_forgotten_a_part_at_a_time_each_looked_at_once() {
    let (maps, now) = (tables_for(40_000), sys::monotonic());
    for port in 1..=30_000 {
        let seconds_ago = if port % 3 == 0 { 100 } else { 1 };
        put(
            &maps.v4.closed,
            key4(port),
            Closed { at: Nanos(now.0 - seconds_ago * SECOND), ..Closed::default() },
        );
    }
    put(
        &maps.v6.closed,
        FlowKey6 { ports: 5, ..FlowKey6::default() },
        Closed { at: now, ..Closed::default() },
    );
    let (limits, mut own) = (Limits::default(), vec![Totals::default(); 2 * ROOM as usize]);
    let (mut closed, mut found) = (<[Turn; 2]>::default(), vec![]);
    while !closed.iter().all(|turn| turn.done) {
        let how = How { forget: Some(Part { from: closed, most: [6_000; 2] }), ..How::usual(&limits) };
        let swept = sweep::sweep(&maps, &mut own, ROOM as usize, &limits, now, how, &mut |_| {}).unwrap();
        closed = swept.closed;
        found.push(swept.entries[2]);
        assert!(closed[1].done && closed[1].found == 1 && found.len() < 10);
    }
    assert_eq!(found.last(), Some(&20_000), "{found:?}");
    assert!((4..=5).contains(&found.len()) && found.is_sorted(), "{found:?}");
    let mut left = 0;
    map::for_each(fd(&maps.v4.closed), 0, |key: &FlowKey4, _: &Closed| {
        left += 1;
        assert_ne!((key.ports & 0xffff) % 3, 0);
    })
    .unwrap();
    assert_eq!(left, 20_000);
}
