//! The network reorders or copies: nobody sent anything again, and only the points behind it know of it.

use harness::Gateway;
use harness::impair::{Action, Direction, rules};
use harness::truth::Counters;

use Direction::ToServer;

use crate::watch::{POINTS, Watch};
use crate::witness::{Place, TEN, late_answers, reports, upload};

#[track_caller]
fn nobody_sent_again(world: &Gateway) {
    let kernels = [&world.client, &world.server].map(|end| Counters::of(end).get("TcpRetransSegs"));
    assert_eq!(kernels, [0, 0]);
}

#[test]
fn swapped_before_the_points_is_out_of_order() {
    let world = Gateway::plan().client_side(late_answers(rules::swap(ToServer, 4))).patient().build();
    let watch = Watch::start(&world);
    drop(upload(&world, TEN));
    let counted = watch.at_the_end();
    nobody_sent_again(&world);
    assert_eq!(Counters::of(&world.server).get("TcpExtTCPOFOQueue"), 1);
    let server = reports(&world.client_box().log(), Place::ClientSide);
    for point in POINTS {
        counted.only(point, "client", &[("gaps", 1), ("out_of_order_segments", 1)]);
        counted.only(point, "server", &server);
    }
    counted.complete();
}

#[test]
fn swapped_beyond_the_points_is_not_seen() {
    let world = Gateway::plan().server_side(late_answers(rules::swap(ToServer, 4))).patient().build();
    let watch = Watch::start(&world);
    drop(upload(&world, TEN));
    let counted = watch.at_the_end();
    nobody_sent_again(&world);
    assert_eq!(Counters::of(&world.server).get("TcpExtTCPOFOQueue"), 1);
    let server = reports(&world.server_box().log(), Place::ServerSide);
    for point in POINTS {
        counted.only(point, "client", &[]);
        counted.only(point, "server", &server);
    }
    counted.complete();
}

/// Overtaken by two: a third would make the sender believe in a loss (RFC 5681, 3.2).
#[test]
fn overtaken_by_two_is_still_out_of_order() {
    let rule = rules::data(ToServer, 4, rules::hold(2));
    let world = Gateway::plan().client_side(late_answers(rule)).patient().build();
    let watch = Watch::start(&world);
    drop(upload(&world, TEN));
    let counted = watch.at_the_end();
    let log = world.client_box().log();
    assert_eq!((log.sent_again(ToServer), log.below_highest(ToServer)), (0, 1));
    nobody_sent_again(&world);
    let server = reports(&log, Place::ClientSide);
    for point in POINTS {
        counted.only(point, "client", &[("gaps", 1), ("out_of_order_segments", 1)]);
        counted.only(point, "server", &server);
    }
    counted.complete();
}

/// The last one: nothing is outstanding then, so the report of it is no duplicate ACK as well.
#[test]
fn copied_before_the_points_is_a_duplicate() {
    let rule = late_answers(rules::data(ToServer, 10, Action::Duplicate));
    let world = Gateway::plan().client_side(rule).patient().build();
    let watch = Watch::start(&world);
    drop(upload(&world, TEN));
    let counted = watch.at_the_end();
    nobody_sent_again(&world);
    assert_eq!(Counters::of(&world.server).get("TcpExtTCPDSACKOldSent"), 1);
    let server = reports(&world.client_box().log(), Place::ClientSide);
    for point in POINTS {
        counted.only(point, "client", &[("duplicate_segments", 1)]);
        counted.only(point, "server", &server);
    }
    counted.complete();
}

#[test]
fn copied_beyond_the_points_is_only_heard_of() {
    let rule = late_answers(rules::data(ToServer, 10, Action::Duplicate));
    let world = Gateway::plan().server_side(rule).patient().build();
    let watch = Watch::start(&world);
    drop(upload(&world, TEN));
    let counted = watch.at_the_end();
    nobody_sent_again(&world);
    let server = reports(&world.server_box().log(), Place::ServerSide);
    assert_eq!(server[1], ("duplicate_sacks", 1));
    for point in POINTS {
        counted.only(point, "client", &[]);
        counted.only(point, "server", &server);
    }
    counted.complete();
}
