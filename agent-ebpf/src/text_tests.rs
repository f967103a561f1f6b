//! Where requests and answers begin, in whatever order their segments pass.

use crate::{
    facts::Verdict,
    flow::Flow,
    talk::{C, MS, S, Talk, fin, segment},
};

/// After a handshake, at a service whose texts are asked for.
fn asked() -> Talk {
    let mut talk = Talk::established();
    talk.flow.bits |= Flow::TEXT;
    talk
}

/// What each of these segments of a half is judged, and whether it is quoted.
fn quoted<const N: usize>(talk: &mut Talk, dir: usize, segments: [(u32, u32); N]) -> [(Verdict, bool); N] {
    let ack = talk.flow.half[1 - dir].next.0;
    segments.map(|(seq, payload)| {
        let f = talk.hear(10, dir, segment(seq, ack, payload));
        (f.verdict, f.text)
    })
}

#[test]
fn in_order_it_is_the_first_segment() {
    let mut talk = asked();
    let (yes, no) = ((Verdict::InOrder, true), (Verdict::InOrder, false));
    assert_eq!(quoted(&mut talk, C, [(1, 100), (101, 100)]), [yes, no]);
    assert_eq!(quoted(&mut talk, S, [(1, 500), (501, 500)]), [yes, no]);
    assert_eq!(quoted(&mut talk, C, [(201, 100), (301, 100)]), [yes, no]);
    assert_eq!(quoted(&mut Talk::established(), C, [(1, 100)]), [no], "nobody asked for it");
}

#[test]
fn overtaken_it_is_what_fills_the_hole_from_its_start() {
    let mut talk = asked();
    let (gap, more) = ((Verdict::Gap, false), (Verdict::InOrder, false));
    let (begins, fills) = ((Verdict::OutOfOrder, true), (Verdict::OutOfOrder, false));
    let passed = [(301, 100), (401, 100), (1, 100), (201, 100), (101, 100)];
    assert_eq!(quoted(&mut talk, C, passed), [gap, more, begins, fills, fills]);
    // So an answer, and the next request; each begins at once only, however it goes on.
    assert_eq!(quoted(&mut talk, S, [(201, 100), (1, 100), (101, 100)]), [gap, begins, fills]);
    assert_eq!(quoted(&mut talk, C, [(601, 100), (501, 100)]), [gap, begins]);
    assert_eq!(quoted(&mut talk, C, [(801, 100), (701, 100)]), [gap, fills], "in the middle of a request");
}

#[test]
fn lost_before_the_point_it_is_what_was_sent_again() {
    let mut talk = asked();
    assert_eq!(quoted(&mut talk, C, [(101, 100)]), [(Verdict::Gap, false)]);
    let again = talk.hear(300 * MS, C, segment(1, 1, 100));
    assert_eq!((again.verdict, again.text), (Verdict::LateFill, true));
    let copy = talk.hear(300 * MS, C, segment(1, 1, 100));
    assert_eq!((copy.verdict, copy.text), (Verdict::Retransmission, false));
}

#[test]
fn with_more_than_its_hole_it_is_the_beginning_all_the_same() {
    let mut talk = asked();
    quoted(&mut talk, C, [(201, 100), (401, 100)]);
    let again = talk.hear(300 * MS, C, segment(1, 1, 400));
    assert_eq!((again.verdict, again.text), (Verdict::LateFill, true), "two holes, and what lay between");
}

#[test]
fn overtaken_by_what_says_nothing_it_begins_too() {
    let mut talk = asked();
    assert_eq!(talk.hear(MS, C, fin(101, 1)).verdict, Verdict::Gap);
    assert_eq!(
        quoted(&mut talk, C, [(51, 50), (1, 50)]),
        [(Verdict::OutOfOrder, false), (Verdict::OutOfOrder, true)]
    );
}
