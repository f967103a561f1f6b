//! What a box's log says of the things that the agent counts, by the words of the RFCs and not by the agent's code.

use std::time::Duration;

use harness::impair::{Action, Direction, Log, Packet, Rule, TcpFacts, flags};
use harness::tcp::{self, Conn, DEADLINE, Serve, Server};
use harness::topology::Version;
use harness::truth::Capture;
use harness::{Gateway, eventually};

use Direction::{ToClient, ToServer};

use crate::watch::server_ip;

/// How long the answers of a scripted transfer take. Within this round trip the box's work is over before the sender hears
/// of anything.
pub const ROUND_TRIP: Duration = Duration::from_millis(20);
/// Ten full segments.
pub const TEN: u64 = 10 * 1448;

/// Answers come late; what goes to the server is dealt with by the rule.
pub fn late_answers(mut rule: Rule) -> Rule {
    Rule::from(move |packet: &Packet| match packet.direction {
        ToClient => vec![Action::Delay(ROUND_TRIP)],
        ToServer => rule.decide(packet),
    })
}

/// A client of the world sends so many bytes, is answered with a few, and closes; returns when the server has closed as
/// well.
#[track_caller]
pub fn upload(world: &Gateway, length: u64) -> Conn {
    let serve = Serve::Answer { request: length, response: 100 };
    let server = Server::start(&world.server, (server_ip(Version::V4), 443), serve);
    let mut conn = tcp::connect(&world.client, server.address());
    conn.send(length);
    conn.receive(100);
    conn.half_close();
    conn.receive_to_end();
    assert_eq!(eventually(DEADLINE, "the server's end", || server.finished().pop()), Ok(length));
    conn
}

/// Where a box stands, as seen from the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Between the client and the points.
    ClientSide,
    /// Between the points and the server.
    ServerSide,
}

/// What passed the points, in order, as the box beside them knows.
pub fn passed(log: &Log, place: Place) -> Vec<(Direction, &TcpFacts)> {
    let towards_gateway = if place == Place::ClientSide { ToServer } else { ToClient };
    let mut all: Vec<_> = log
        .departures
        .iter()
        .filter(|left| left.direction == towards_gateway)
        .filter_map(|left| Some((left.at, left.direction, left.tcp.as_ref()?)))
        .collect();
    let arrived = log.arrived(towards_gateway.reversed());
    all.extend(arrived.map(|(arrival, tcp)| (arrival.at, arrival.direction, tcp)));
    all.sort_by_key(|(at, ..)| *at);
    all.into_iter().map(|(_, direction, tcp)| (direction, tcp)).collect()
}

/// Duplicate ACKs from one side (RFC 5681, section 2): data outstanding, no payload, neither SYN nor FIN, the highest
/// acknowledgment again, and the window as it was, or SACK says more (RFC 6675).
pub fn duplicate_acks(passed: &[(Direction, &TcpFacts)], from: Direction) -> u64 {
    let mut outstanding_to = None;
    let mut last: Option<(u32, u16)> = None;
    let mut count = 0;
    for (direction, tcp) in passed {
        if *direction != from {
            let end = tcp.end();
            if outstanding_to.is_none_or(|highest: u32| end.wrapping_sub(highest).cast_signed() > 0) {
                outstanding_to = Some(end);
            }
            continue;
        }
        let outstanding = outstanding_to.is_some_and(|end| end.wrapping_sub(tcp.ack).cast_signed() > 0);
        let pure = tcp.length() == 0 && tcp.has(flags::ACK) && !tcp.has(flags::RST);
        if let Some((ack, window)) = last
            && pure
            && outstanding
            && tcp.ack == ack
            && (tcp.window == window || !tcp.sack.is_empty())
        {
            count += 1;
        }
        let newer = last.is_none_or(|(ack, _)| tcp.ack.wrapping_sub(ack).cast_signed() >= 0);
        if tcp.has(flags::ACK) && newer {
            last = Some((tcp.ack, tcp.window));
        }
    }
    count
}

/// D-SACK reports from one side (RFC 2883): the first block is acknowledged already, or lies within the second.
pub fn duplicate_sacks(passed: &[(Direction, &TcpFacts)], from: Direction) -> u64 {
    let below = |a: u32, b: u32| b.wrapping_sub(a).cast_signed() >= 0;
    let reports = passed.iter().filter(|(direction, tcp)| {
        let Some(first) = tcp.sack.first().filter(|_| *direction == from) else { return false };
        let within =
            tcp.sack.get(1).is_some_and(|second| below(second.0, first.0) && below(first.1, second.1));
        below(first.1, tcp.ack) || within
    });
    reports.count() as u64
}

/// What the server is to be heard to report about the client's data.
pub fn reports(log: &Log, place: Place) -> [(&'static str, u64); 2] {
    reported(&passed(log, place))
}

/// The same of a capture at a point itself: what was outstanding when an acknowledgement passed there is not always what
/// was outstanding when it passed the box.
pub fn reports_at(capture: Capture) -> [(&'static str, u64); 2] {
    let facts: Vec<_> = capture.stop().iter().filter_map(|timed| TcpFacts::parse(&timed.frame)).collect();
    let direction = |tcp: &TcpFacts| if tcp.destination.port() == 443 { ToServer } else { ToClient };
    let passed: Vec<_> = facts.iter().map(|tcp| (direction(tcp), tcp)).collect();
    reported(&passed)
}

fn reported(passed: &[(Direction, &TcpFacts)]) -> [(&'static str, u64); 2] {
    [
        ("duplicate_acks", duplicate_acks(passed, ToClient)),
        ("duplicate_sacks", duplicate_sacks(passed, ToClient)),
    ]
}
