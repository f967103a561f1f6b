//! Campus card: the requests that the firewall reorders vanish in the WAF, all of them and no others.

use std::collections::HashMap;

use harness::cases::CampusCard;
use harness::cases::campus_card::{CARD_SERVER, Options, Payment, REQUEST_BYTES};
use harness::impair::{TcpFacts, flags};
use harness::script::pcap;
use harness::tcp::DEADLINE;
use harness::truth::Capture;
use harness::{eventually, netns};

/// What one point saw of a connection.
#[derive(Default)]
struct Seen {
    /// The starts of the data segments to the server, in order.
    starts: Vec<u32>,
    /// ACKs of the server's side that spoke of a hole.
    duplicate_acks: usize,
    finished: bool,
}

impl Seen {
    fn in_order(&self) -> bool {
        self.starts.is_sorted_by(|a, b| b.wrapping_sub(*a).cast_signed() > 0)
    }
}

/// By the client's port, once the capture holds the client's FIN of so many connections.
fn seen(capture: Capture, connections: usize) -> HashMap<u16, Seen> {
    let seen = eventually(DEADLINE, "the ends of all connections in the capture", || {
        let frames = pcap::read(capture.file()).ok()?;
        let mut seen = HashMap::<u16, Seen>::new();
        for tcp in frames.iter().filter_map(|timed| TcpFacts::parse(&timed.frame)) {
            if tcp.destination == CARD_SERVER.into() {
                let of = seen.entry(tcp.source.port()).or_default();
                of.starts.extend((tcp.payload > 0).then_some(tcp.seq));
                of.finished |= tcp.has(flags::FIN);
            } else {
                let of = seen.entry(tcp.destination.port()).or_default();
                of.duplicate_acks += usize::from(!tcp.sack.is_empty());
            }
        }
        (seen.values().filter(|seen| seen.finished).count() == connections).then_some(seen)
    });
    capture.stop();
    seen
}

#[test]
fn reordered_requests_vanish_in_the_waf_and_no_others() {
    let world = CampusCard::new(Options::default());
    let captures = world.points().map(|point| Capture::start(point.namespace, point.interface, "tcp"));
    let payments = world.run(200);
    assert_eq!(payments.len(), 200);
    let answered = payments.iter().filter(|payment| payment.answered).count();
    let unanswered = payments.len() - answered;
    println!("{unanswered} of {} payments were not answered", payments.len());
    assert!((20..80).contains(&unanswered), "{unanswered} unanswered");

    let [outside, inside, front, behind] = captures;
    let [outside, inside, front] = [outside, inside, front].map(|capture| seen(capture, payments.len()));
    let behind = seen(behind, answered);
    for payment in &payments {
        let Payment { port, request_bytes, reordered, swallowed, arrived, answered } = *payment;
        assert!((REQUEST_BYTES[0]..=REQUEST_BYTES[1]).contains(&request_bytes));
        assert_eq!((swallowed, arrived, answered), (reordered, !reordered, !reordered), "{payment:?}");
        let segments = request_bytes.div_ceil(1_448);
        assert!(!reordered || segments > 1, "one segment has nobody to be overtaken by: {payment:?}");

        let [outside, inside, front] = [&outside, &inside, &front].map(|point| &point[&port]);
        assert!(outside.in_order() && outside.starts.len() == segments, "{payment:?}");
        assert_eq!((inside.in_order(), inside.duplicate_acks > 0), (!reordered, reordered), "{payment:?}");
        assert_eq!(inside.starts, front.starts, "nothing happens between the firewall and the WAF");
        assert_eq!(behind.contains_key(&port), !reordered, "{payment:?}");
    }
    let longest = payments.iter().filter(|payment| payment.request_bytes == REQUEST_BYTES[1]);
    let (lost, paid): (Vec<_>, Vec<_>) = longest.partition(|payment| payment.reordered);
    assert!(!lost.is_empty() && !paid.is_empty(), "size alone does not decide");

    assert_eq!(world.run(10)[0].port, payments[199].port + 1, "no five-tuple comes back");
    let names: Vec<_> = world.namespaces().iter().map(|namespace| namespace.name().to_owned()).collect();
    assert_eq!(names.len(), 6);
    drop(world);
    assert!(names.iter().all(|name| !netns::existing().contains(name)), "something was left behind");
}

#[test]
fn without_reordering_every_request_is_answered() {
    let world = CampusCard::new(Options { reordering: 0.0, ..Options::default() });
    let payments = world.run(50);
    let good = |payment: &&Payment| payment.answered && payment.arrived && !payment.reordered;
    assert_eq!(payments.iter().filter(good).count(), 50);
}
