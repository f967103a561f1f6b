//! The list of cases.

use agent_ebpf::anomaly::Anomaly;
use agent_ebpf::drive::{ROW, ROWS};
use agent_ebpf::traffic::Traffic;
use harness::impair::flags::{ACK, FIN, PSH, SYN};

use super::case::{Case, Claim, Flows, Pair, Place, Step};
use super::segment::{
    Field::{self, Clock, Id, Seq},
    From, Line, Segment,
};
use super::world::Hook;

/// A full segment's payload, with and without timestamps.
const PLAIN: u32 = 1_460;
const STAMPED: u32 = 1_448;
/// Packets of a run on one flow.
const LONG: u32 = 1 << 17;
/// Packets of a run whose every packet may put a record on the ring.
const NOTABLE: u32 = 8_192;
/// Connections at the same time, and of a run.
pub const TOGETHER: u32 = 4_096;
/// Flows of the three sizes.
pub const SIZES: [u32; 3] = [1_000, 64_000, 1_000_000];
/// Where the Zipf-like list begins; before it is the uniform one.
pub const ZIPF: u32 = ROW * ROWS / 2;

fn case(name: &'static str, steps: Vec<Step>) -> Case {
    Case {
        name,
        place: Place::Small,
        line: Line::default(),
        client_at: Hook::Xdp,
        open: 1,
        before: Vec::new(),
        steps,
        flows: Flows::One,
        acknowledged: false,
        repeat: LONG,
        claim: Claim::default(),
    }
}

fn step(segment: Segment, adds: &[(Field, [i32; 2])]) -> Vec<Step> {
    vec![Step { label: "", segment, adds: adds.to_vec() }]
}

fn data(payload: u32, clock: Option<u32>) -> Segment {
    Segment { flags: ACK | PSH, payload, clock, id: 10, ..Segment::new(From::Client) }
}

/// Data in order, from what the handshake left.
fn in_order(name: &'static str, segment: Segment) -> Case {
    let n = segment.payload as i32;
    // The driver adds before the first packet, too.
    let first = Segment { seq: segment.seq.wrapping_sub(n as u32), ..segment };
    let mut adds = vec![(Seq, [n, n]), (Id, [1, 1])];
    if segment.clock.is_some() {
        adds.push((Clock, [1, 1]));
    }
    Case { acknowledged: true, ..case(name, step(first, &adds)) }
}

/// Holes opened and filled, one after the other: `id` and `clock` grow by these before the opener and before the filler.
fn holes(name: &'static str, anomalies: &'static [(Anomaly, f64)], by: [i32; 2]) -> Case {
    let n = STAMPED as i32;
    let start = Segment { seq: 1u32.wrapping_sub(2 * STAMPED), id: 100, ..data(STAMPED, Some(100)) };
    let adds = [(Seq, [3 * n, -n]), (Id, by), (Clock, by)];
    Case { repeat: NOTABLE, claim: Claim { anomalies, ..Claim::default() }, ..case(name, step(start, &adds)) }
}

/// What one flow does, with each hook as the client's.
fn one_flow() -> Vec<Case> {
    let stamped = || data(STAMPED, Some(10));
    let ack = || Segment::new(From::Client);
    let (v6, tagged) = (Line { v6: true, ..Line::default() }, Line { tagged: true, ..Line::default() });
    // The server has sent three segments; the client lacks the first.
    let sent = |seq: u32| Segment { from: From::Server, seq, ..data(STAMPED, Some(10)) };
    let lacks = Segment { clock: Some(10), sack: Some((1 + STAMPED, 1 + 2 * STAMPED)), ..ack() };
    let sack_claim = Claim { anomalies: &[(Anomaly::DuplicateAck, 1.0)], ..Claim::default() };
    let after_loss = in_order("data+ts, after a loss", Segment { seq: 1 + 3 * STAMPED, id: 20, ..stamped() });
    let no_ids = |mut case: Case| {
        case.steps.iter_mut().for_each(|step| step.adds.retain(|(field, _)| *field != Id));
        case
    };
    vec![
        case("ack", step(ack(), &[])),
        in_order("data", data(PLAIN, None)),
        in_order("data+ts", stamped()),
        Case {
            before: vec![sent(1), sent(1 + STAMPED), sent(1 + 2 * STAMPED)],
            claim: sack_claim,
            ..case("ack+ts+sack", step(lacks, &[(Clock, [1, 1])]))
        },
        Case {
            before: vec![sent(1), sent(1 + STAMPED), sent(1 + 2 * STAMPED)],
            acknowledged: false,
            ..in_order("data+ts+sack", Segment { sack: lacks.sack, ..stamped() })
        },
        Case {
            // In order, a hole, its filler.
            before: [0, 2, 1]
                .map(|at| Segment { seq: 1 + at * STAMPED, id: 10 + at as u16, ..stamped() })
                .to_vec(),
            ..after_loss
        },
        Case { line: v6, ..case("ipv6 ack", step(ack(), &[])) },
        Case { line: v6, ..no_ids(in_order("ipv6 data+ts", stamped())) },
        Case { line: tagged, ..case("vlan ack", step(ack(), &[])) },
        Case { line: tagged, ..in_order("vlan data+ts", stamped()) },
        Case {
            before: vec![stamped()],
            repeat: NOTABLE,
            claim: Claim { anomalies: &[(Anomaly::Retransmission, 1.0)], ..Claim::default() },
            ..case("retransmission", step(stamped(), &[(Id, [1, 1]), (Clock, [1, 1])]))
        },
        holes("hole, overtaken", &[(Anomaly::Gap, 0.5), (Anomaly::OutOfOrder, 0.5)], [3, -1]),
        holes("hole, sent again", &[(Anomaly::Gap, 0.5), (Anomaly::LateFill, 0.5)], [1, 1]),
    ]
}

/// Pure ACKs of many flows: clients' at XDP, servers' at tc.
fn many_flows() -> Vec<Case> {
    let [few, many, million] = SIZES;
    let rows = [
        ("ack, 1 k flows", Place::Small, few, 0, 240),
        ("ack, 64 k flows", Place::Many, many, 0, 241),
        ("ack, 1 M flows", Place::Million, million, 0, 242),
        ("ack, 1 M flows, Zipf", Place::Million, 0, ZIPF, 242),
    ];
    let both = |(name, place, open, list, number)| {
        [(From::Client, open), (From::Server, 0)].map(|(from, open)| Case {
            place,
            line: Line { number, ..Line::default() },
            open,
            flows: Flows::Listed(list),
            repeat: LONG,
            ..case(name, step(Segment::new(from), &[]))
        })
    };
    rows.into_iter().flat_map(both).collect()
}

/// A connection of eight packets: request and answer, closed by the client.
pub fn short() -> Vec<Step> {
    const REQUEST: u32 = 200;
    const ANSWER: u32 = 1_000;
    let rows = [
        ("syn", From::Client, SYN, 0, 0, 0),
        ("syn-ack", From::Server, SYN | ACK, 0, 1, 0),
        ("ack", From::Client, ACK, 1, 1, 0),
        ("request", From::Client, ACK | PSH, 1, 1, REQUEST),
        ("response", From::Server, ACK | PSH, 1, 1 + REQUEST, ANSWER),
        ("fin", From::Client, ACK | FIN, 1 + REQUEST, 1 + ANSWER, 0),
        ("fin-ack", From::Server, ACK | FIN, 1 + ANSWER, 2 + REQUEST, 0),
        ("last ack", From::Client, ACK, 2 + REQUEST, 2 + ANSWER, 0),
    ];
    let step = |(at, (label, from, flags, seq, ack, payload)): (usize, _)| {
        let segment = Segment {
            from,
            flags,
            seq,
            ack,
            payload,
            clock: Some(1 + at as u32),
            sack: None,
            id: if flags & SYN != 0 { 0 } else { 1 + at as u16 },
        };
        Step { label, segment, adds: Vec::new() }
    };
    rows.into_iter().enumerate().map(step).collect()
}

/// Connections that come and go.
fn connections() -> Vec<Case> {
    const WHOLE: &[(Traffic, f64)] =
        &[(Traffic::Opened, 1.0), (Traffic::Established, 1.0), (Traffic::Closed, 1.0)];
    let together = |name, place, steps, new, claim| Case {
        place,
        open: 0,
        flows: Flows::Lockstep { new },
        repeat: TOGETHER,
        claim,
        ..case(name, steps)
    };
    let syn = || short().into_iter().take(1).collect::<Vec<_>>();
    let opened = Claim { traffic: &[(Traffic::Opened, 1.0)], entries: (0.0, 1.0), ..Claim::default() };
    let whole = Claim { traffic: WHOLE, entries: (1.0, 0.0), ..Claim::default() };
    let reused = Claim { traffic: WHOLE, anomalies: &[(Anomaly::Reuse, 1.0)], ..Claim::default() };
    vec![
        together("new connection", Place::Fresh, syn(), true, opened),
        together("short connection", Place::Fresh, short(), true, whole),
        together("short connection, five-tuple reused", Place::Small, short(), false, reused),
        together("new connection, tables full", Place::Full, syn(), true, Claim::default()),
        together("short connection, tables full", Place::Full, short(), true, Claim::default()),
    ]
}

/// All of them, numbered.
pub fn all() -> Vec<Case> {
    let mut all = Vec::new();
    let tc = one_flow().into_iter().map(|case| Case { client_at: Hook::Tc, ..case });
    for (xdp, tc) in one_flow().into_iter().zip(tc) {
        all.extend([xdp, tc]);
    }
    all.extend(many_flows());
    all.extend(connections());
    (1..).zip(&mut all).filter(|(_, case)| case.line.number == 0).for_each(|(n, case)| case.line.number = n);
    all
}

/// Two processors at once, numbered behind the others.
pub fn pairs() -> Vec<Pair> {
    let at = |number, open, case: Case| Case {
        line: Line { number, ..Line::default() },
        open,
        repeat: LONG,
        acknowledged: false,
        ..case
    };
    let ack = |from| case("", step(Segment::new(from), &[]));
    let stamped = |from| in_order("", Segment { from, ..data(STAMPED, Some(10)) });
    vec![
        Pair {
            name: "2 cores, one flow, same side, ack",
            cases: [at(220, 1, ack(From::Client)), at(220, 0, ack(From::Client))],
        },
        Pair {
            name: "2 cores, one flow, both sides, ack",
            cases: [at(221, 1, ack(From::Client)), at(221, 0, ack(From::Server))],
        },
        Pair {
            name: "2 cores, one flow, both sides, data+ts",
            cases: [at(222, 1, stamped(From::Client)), at(222, 0, stamped(From::Server))],
        },
        Pair {
            name: "2 cores, a flow each, ack",
            cases: [at(223, 1, ack(From::Client)), at(224, 1, ack(From::Server))],
        },
        Pair {
            name: "2 cores, a flow each, data+ts",
            cases: [at(225, 1, stamped(From::Client)), at(226, 1, stamped(From::Server))],
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_at_each_hook() {
        let all = all();
        let label = |case: &Case| (case.name, case.hook(&case.steps[0].segment).name());
        for (at, case) in all.iter().enumerate() {
            assert!(all[..at].iter().all(|other| label(other) != label(case)), "{:?}", label(case));
        }
    }

    /// A flow that two cases write would be neither's.
    #[test]
    fn cases_do_not_share_flows_unless_they_mean_to() {
        let all = all();
        let numbers: Vec<_> = all.iter().filter(|case| case.open > 0).map(|case| case.line.number).collect();
        let paired = pairs();
        let paired = paired.iter().flat_map(|pair| &pair.cases).filter(|case| case.open > 0);
        let numbers: Vec<_> = numbers.into_iter().chain(paired.map(|case| case.line.number)).collect();
        for (at, number) in numbers.iter().enumerate() {
            assert!(!numbers[..at].contains(number), "{number} twice");
        }
    }
}
