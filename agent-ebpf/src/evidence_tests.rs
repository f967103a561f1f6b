//! Each kind of evidence decides when it is all there is, and each kind of repeat is told.

use crate::{
    facts::{Evidence, RetransKind, Verdict},
    talk::{C, MS, S, Talk, id, sack, segment, syn, ts},
    wire::Segment,
};

/// What comes after bytes 1 to 200 of the client, the first 100 missing where the case says so: pauses in
/// microseconds, who, what. The last one is judged.
type Case = (bool, Vec<(u32, usize, Segment)>, Verdict, Evidence);

#[track_caller]
fn judge((hole, rest, verdict, evidence): Case) {
    let mut talk = Talk::established();
    if !hole {
        talk.hear(MS, C, segment(1, 1, 100));
    }
    talk.hear(0, C, segment(101, 1, 100));
    let facts = rest.into_iter().map(|(after, dir, s)| talk.hear(after, dir, s)).last();
    let facts = facts.expect("there is something to judge");
    assert_eq!((facts.verdict, facts.evidence), (verdict, evidence));
}

#[test]
fn time_alone() {
    // A full round trip from this point to both ends takes 2 ms.
    judge((true, vec![(1_749, C, segment(1, 1, 100))], Verdict::OutOfOrder, Evidence::Time));
    judge((true, vec![(1_750, C, segment(1, 1, 100))], Verdict::LateFill, Evidence::Time));
    judge((false, vec![(1_999, C, segment(101, 1, 100))], Verdict::Duplicate, Evidence::Time));
}

#[test]
fn sequence_alone() {
    judge((false, vec![(2_000, C, segment(101, 1, 100))], Verdict::Retransmission, Evidence::Sequence));
    judge((false, vec![(10, C, segment(1, 1, 100))], Verdict::Retransmission, Evidence::Sequence));
    // Half of it is missing, half is not: a first sending never overlaps.
    judge((true, vec![(10, C, segment(1, 1, 150))], Verdict::LateFill, Evidence::Sequence));
}

#[test]
fn an_original_behind_its_repeat_is_overtaken_and_a_repeat_is_not() {
    let mut talk = Talk::established();
    talk.hear(MS, C, id(10, segment(1, 1, 100)));
    // The second segment was made with 11 and overtaken by its repeat, which came in order.
    talk.hear(300 * MS, C, id(12, segment(101, 1, 100)));
    talk.hear(MS, C, id(13, segment(201, 1, 0)));
    let late = talk.hear(MS, C, id(11, segment(101, 1, 100)));
    assert_eq!((late.verdict, late.evidence), (Verdict::OutOfOrder, Evidence::IpId));
    let again = talk.hear(300 * MS, C, id(14, segment(101, 1, 100)));
    assert_eq!(again.verdict, Verdict::Retransmission);
}

#[test]
fn acknowledgements_alone() {
    let acked = (MS, S, segment(1, 201, 0));
    judge((false, vec![acked, (MS, C, segment(101, 1, 100))], Verdict::Spurious, Evidence::Ack));
    let half = (MS, S, segment(1, 101, 0));
    judge((false, vec![half, (MS, C, segment(1, 1, 200))], Verdict::Retransmission, Evidence::Sequence));
    let duplicates = || (0..3).map(|_| (MS, S, segment(1, 1, 0)));
    let filled = || (MS, C, segment(1, 1, 100));
    let all = duplicates().chain([filled()]).collect();
    judge((true, all, Verdict::LateFill, Evidence::DuplicateAck));
    let two = duplicates().take(2).chain([filled()]).collect();
    judge((true, two, Verdict::LateFill, Evidence::Time));
}

#[test]
fn sack_alone() {
    let told = (MS, S, sack(101, 201, segment(1, 1, 0)));
    judge((true, vec![told, (MS, C, segment(1, 1, 100))], Verdict::LateFill, Evidence::Sack));
    judge((false, vec![told, (MS, C, segment(101, 1, 100))], Verdict::Spurious, Evidence::Sack));
    judge((false, vec![told, (MS, C, segment(1, 1, 100))], Verdict::Retransmission, Evidence::Sequence));
}

/// Bytes 1 to 300, of which the middle third is missing or not; then `s`.
fn after_three(mark: impl Fn(u16, Segment) -> Segment, hole: bool, s: Segment) -> (Verdict, Evidence) {
    let mut talk = Talk::established();
    talk.hear(MS, C, mark(10, segment(1, 1, 0)));
    talk.hear(MS, C, mark(11, segment(1, 1, 100)));
    if !hole {
        talk.hear(MS, C, mark(12, segment(101, 1, 100)));
    }
    talk.hear(MS, C, mark(13, segment(201, 1, 100)));
    // Neither soon nor late enough to decide the other way by time.
    let facts = talk.hear(2_500, C, s);
    (facts.verdict, facts.evidence)
}

#[test]
fn identifications_alone() {
    let judged = |hole, n, seq| after_three(id, hole, id(n, segment(seq, 1, 100)));
    assert_eq!(judged(true, 12, 101), (Verdict::OutOfOrder, Evidence::IpId));
    assert_eq!(judged(true, 14, 101), (Verdict::LateFill, Evidence::IpId));
    assert_eq!(judged(false, 13, 201), (Verdict::Duplicate, Evidence::IpId));
    assert_eq!(judged(false, 14, 201), (Verdict::Retransmission, Evidence::IpId));
}

#[test]
fn identifications_that_do_not_grow_decide_nothing() {
    let zero = |_, s| id(0, s);
    assert_eq!(after_three(zero, true, id(0, segment(101, 1, 100))), (Verdict::LateFill, Evidence::Time));
    let back = |n, s| id(60_000 - 1_000 * n, s);
    let again = id(47_000, segment(201, 1, 100));
    assert_eq!(after_three(back, false, again), (Verdict::Retransmission, Evidence::Sequence));
}

#[test]
fn timestamps_alone() {
    let mark = |n: u16, s| ts(n.into(), s);
    let judged = |hole, n, seq| after_three(mark, hole, ts(n, segment(seq, 1, 100)));
    assert_eq!(judged(true, 12, 101), (Verdict::OutOfOrder, Evidence::Timestamp));
    assert_eq!(judged(true, 14, 101), (Verdict::LateFill, Evidence::Timestamp));
    // The same tick tells nothing.
    assert_eq!(judged(true, 13, 101), (Verdict::LateFill, Evidence::Time));
    assert_eq!(judged(false, 12, 101), (Verdict::Duplicate, Evidence::Timestamp));
    assert_eq!(judged(false, 14, 201), (Verdict::Retransmission, Evidence::Sequence));
}

/// As hosts do that send no identifications, IPv6 among them.
#[test]
fn a_copy_echoes_nothing_new() {
    let echo = |ts_ecr, mut s: Segment| {
        s.options.ts_ecr = ts_ecr;
        ts(500, s)
    };
    let copied = |told: Option<u32>, ts_ecr, beyond: u32| {
        let mut talk = Talk::established();
        talk.hear(0, S, ts(69, segment(1, 1, beyond)));
        talk.hear(MS, C, echo(70, segment(1, 1, 100)));
        talk.hear(0, C, echo(70, segment(101, 1, 100)));
        talk.hear(0, S, ts(70, segment(1 + beyond, 101, 0)));
        if let Some(ts_val) = told {
            for _ in 0..3 {
                talk.hear(0, S, ts(ts_val, segment(1 + beyond, 101, 0)));
            }
        }
        let facts = talk.hear(100, C, echo(ts_ecr, segment(1, 1, 100)));
        (facts.verdict, facts.evidence)
    };
    assert_eq!(copied(None, 70, 0), (Verdict::Duplicate, Evidence::Timestamp));
    assert_eq!(
        copied(Some(80), 70, 0),
        (Verdict::Duplicate, Evidence::Timestamp),
        "sent before it heard of a loss"
    );
    assert_eq!(copied(Some(80), 80, 0), (Verdict::Spurious, Evidence::Ack), "sent because of it");
    let answer = copied(Some(80), 70, 50);
    assert_eq!(answer, (Verdict::Spurious, Evidence::Ack), "what it has not acknowledged it does not echo");
}

#[test]
fn identifications_go_before_timestamps_and_these_before_time() {
    let mark = |n: u16, s| id(n, ts(n.into(), s));
    let s = id(14, ts(12, segment(101, 1, 100)));
    assert_eq!(after_three(mark, true, s), (Verdict::LateFill, Evidence::IpId));
    let mut talk = Talk::established();
    talk.hear(MS, C, ts(5, segment(101, 1, 100)));
    let soon = talk.hear(1, C, ts(6, segment(1, 1, 100)));
    assert_eq!((soon.verdict, soon.evidence), (Verdict::LateFill, Evidence::Timestamp));
}

#[test]
fn a_second_connection_met_mid_way_knows_nothing_of_before() {
    let mut talk = Talk::new();
    talk.hear(0, C, segment(1_000, 1, 100));
    talk.hear(MS, S, segment(1, 900, 0));
    let facts = talk.hear(10 * MS, C, segment(900, 1, 100));
    assert_eq!((facts.verdict, facts.evidence), (Verdict::Unknown, Evidence::None));
}

/// The client's bytes 1 to 200 in two segments, then what the server says, then one of them again.
fn kind(said: &[Segment], after_us: u32, seq: u32) -> RetransKind {
    let mut talk = Talk::established();
    talk.hear(MS, C, segment(1, 1, 100));
    talk.hear(0, C, segment(101, 1, 100));
    for s in said {
        talk.hear(MS, S, *s);
    }
    talk.hear(after_us, C, segment(seq, 1, 100)).kind
}

#[test]
fn kinds() {
    let duplicate = segment(1, 1, 0);
    let told = sack(101, 201, duplicate);
    // Three duplicates after the one that ended the handshake (RFC 5681, 3.2), or a report of what arrived.
    let first = segment(1, 1, 0);
    assert_eq!(kind(&[first, duplicate, duplicate], MS, 1), RetransKind::Fast);
    assert_eq!(kind(&[told], MS, 1), RetransKind::Fast);
    assert_eq!(kind(&[first, duplicate], MS, 1), RetransKind::Unknown);
    // Linux's smallest timeout is 200 ms beyond the round trip.
    assert_eq!(kind(&[], 202 * MS, 1), RetransKind::Timeout);
    assert_eq!(kind(&[], 201 * MS, 1), RetransKind::Unknown);
    // The tail: a probe while no timeout is certain (RFC 8985, 7; RFC 6298, 2.4).
    assert_eq!(kind(&[], 10 * MS, 101), RetransKind::Probe);
    assert_eq!(kind(&[], 300 * MS, 101), RetransKind::Probe);
    assert_eq!(kind(&[], 1_000 * MS, 101), RetransKind::Timeout);
}

#[test]
fn what_follows_a_timeout_belongs_to_it() {
    let mut talk = Talk::established();
    for n in 0..4 {
        talk.hear(0, C, segment(1 + 100 * n, 1, 100));
    }
    assert_eq!(talk.hear(250 * MS, C, segment(1, 1, 100)).kind, RetransKind::Timeout);
    talk.hear(MS, S, segment(1, 101, 0));
    for seq in [101, 201] {
        let again = talk.hear(MS, C, segment(seq, 1, 100));
        assert_eq!((again.verdict, again.kind), (Verdict::Retransmission, RetransKind::Timeout));
    }
}

#[test]
fn a_syn_again() {
    let mut talk = Talk::new();
    talk.hear(0, C, syn(0));
    let again = talk.hear(1_000 * MS, C, syn(0));
    assert_eq!((again.verdict, again.kind), (Verdict::Retransmission, RetransKind::Syn));
}
