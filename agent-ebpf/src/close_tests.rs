//! How connections end and who closed them; what asks for nothing; and connections that both sides open.

use crate::{
    anomaly::Cause,
    close::{closer, how_ended},
    facts::{RetransKind, Verdict},
    flow::{Closed, Flow},
    label::Side,
    phase::Phase,
    talk::{C, MS, S, Talk, fin, rst, segment, syn, syn_ack},
    traffic::{Close, Served},
    wire::Segment,
};

/// After one request and its answer, bytes 1 to 100 of each side.
fn exchanged() -> Talk {
    let mut talk = Talk::established();
    talk.hear(MS, C, segment(1, 1, 100));
    talk.hear(MS, S, segment(1, 101, 100));
    talk.hear(MS, C, segment(101, 101, 0));
    talk
}

fn after(said: &[(usize, Segment)]) -> Talk {
    let mut talk = exchanged();
    for (dir, s) in said {
        talk.hear(MS, *dir, *s);
    }
    talk
}

#[test]
fn the_first_fin_names_the_active_closer() {
    let both =
        |first: usize| [(first, fin(101, 101)), (1 - first, fin(101, 102)), (first, segment(102, 102, 0))];
    for (first, close, side) in [(C, Close::FinClient, Side::Client), (S, Close::FinServer, Side::Server)] {
        let said = both(first);
        let open = after(&said[..2]);
        assert!(open.ended.is_empty() && open.flow.phase() == Phase::Closing, "the last ACK is missing");
        let talk = after(&said);
        assert_eq!((talk.ended.as_slice(), closer(close)), ([close].as_slice(), side));
        assert_eq!((talk.flow.phase(), Closed::of(&talk.flow).holder), (Phase::Closed, first as u32 + 1));
    }
}

#[test]
fn crossing_fins_leave_both_waiting() {
    let talk = after(&[
        (S, fin(101, 101)),
        (C, fin(101, 101)),
        (C, segment(102, 102, 0)),
        (S, segment(102, 102, 0)),
    ]);
    assert_eq!(talk.ended, [Close::FinServer]);
    assert_eq!(Closed::of(&talk.flow).holder, Closed::BOTH);
}

#[test]
fn a_reset_ends_at_once_and_nobody_waits() {
    for (dir, close) in [(C, Close::ResetClient), (S, Close::ResetServer)] {
        let talk = after(&[(dir, rst(101, 101))]);
        assert_eq!((talk.ended.as_slice(), talk.flow.phase()), ([close].as_slice(), Phase::Reset));
        assert_eq!(Closed::of(&talk.flow).holder, 0);
        let fin_first = after(&[(1 - dir, fin(101, 101)), (dir, rst(101, 102))]);
        assert_eq!((fin_first.ended, Closed::of(&fin_first.flow).holder), (vec![close], 0));
    }
}

#[test]
fn what_falls_silent_ended_as_far_as_it_had_come() {
    let mut handshake = Talk::new();
    handshake.hear(0, C, syn(0));
    handshake.hear(MS, S, syn_ack(0, 1));
    for (talk, close) in [
        (handshake, Close::HandshakeSilence),
        (exchanged(), Close::Silence),
        (after(&[(C, fin(101, 101))]), Close::HalfFinClient),
        (after(&[(S, fin(101, 101))]), Close::HalfFinServer),
    ] {
        assert!(talk.ended.is_empty());
        assert_eq!(how_ended(&talk.flow), close);
    }
}

#[test]
fn an_unanswered_request_is_told_with_the_end_and_an_alert_is_none() {
    let alert = Segment { tls_alert: true, ..segment(101, 101, 24) };
    for (request, unanswered) in [(segment(101, 101, 24), 24), (alert, 0)] {
        let mut talk = exchanged();
        talk.hear(MS, C, request);
        assert_eq!(
            (talk.flow.has(Flow::PENDING), talk.flow.exchanges),
            (unanswered > 0, 1 + (unanswered > 0) as u8)
        );
        let end = talk.hear(MS, S, rst(101, 125));
        assert_eq!((end.closed, end.unanswered), (Some(Close::ResetServer), unanswered));
    }
}

#[test]
fn a_request_sent_again_is_as_large_as_it_was() {
    let mut talk = exchanged();
    talk.hear(MS, C, segment(101, 101, 300));
    talk.hear(300 * MS, C, segment(101, 101, 300));
    assert_eq!(talk.hear(MS, S, rst(101, 101)).unanswered, 300);
}

/// RFC 9293, 3.5, figure 7.
#[test]
fn a_simultaneous_open_is_one_connection() {
    let mut talk = Talk::new();
    assert!(talk.hear(0, C, syn(0)).opened.is_some());
    let crossing = talk.hear(MS, S, syn(0));
    assert_eq!((crossing.opened, crossing.verdict, crossing.side), (None, Verdict::InOrder, Side::Server));
    talk.hear(MS, C, syn_ack(0, 1));
    talk.hear(0, S, syn_ack(0, 1));
    let said = talk.hear(MS, C, segment(1, 1, 10));
    assert_eq!((said.verdict, talk.flow.phase()), (Verdict::InOrder, Phase::Established));
    assert_eq!((talk.flow.client, talk.ended.len()), (0, 0));
    let again = talk.hear(300 * MS, C, segment(1, 1, 10));
    assert_eq!((again.verdict, again.kind), (Verdict::Retransmission, RetransKind::Probe));
}

#[test]
fn keepalives_that_nobody_answers_are_a_timeout() {
    let cause = |answered: bool| {
        let mut talk = Talk::established();
        talk.hear(MS, C, segment(1, 1, 100));
        talk.hear(MS, S, segment(1, 101, 50));
        talk.hear(MS, C, segment(101, 51, 0));
        for _ in 0..4 {
            talk.hear(1_000 * MS, S, segment(50, 101, 0));
            if answered {
                talk.hear(MS, C, segment(101, 51, 0));
            }
        }
        talk.hear(1_000 * MS, S, rst(51, 101)).cause
    };
    assert_eq!(cause(false), Cause::Timeout as u8 + 1);
    assert_eq!(cause(true), Cause::Abort as u8 + 1);
}

#[test]
fn what_a_connection_came_to_is_told_from_its_clients_side() {
    let ask = segment(101, 101, 300);
    let answer = segment(101, 401, 50);
    let came = |said: &[(usize, Segment)]| {
        let mut talk = Talk::new();
        let heard = said.iter().map(|(dir, s)| talk.hear(MS, *dir, *s));
        heard.filter(|f| f.closed.is_some()).map(|f| f.served).last()
    };
    let open = [(C, syn(100)), (S, syn_ack(100, 101)), (C, segment(101, 101, 0))];
    let then = |more: &[(usize, Segment)]| came(&[&open, more].concat());
    assert_eq!(came(&[(C, syn(100)), (S, rst(0, 101))]), Some(Served::Refused));
    assert_eq!(then(&[(C, rst(101, 101))]), Some(Served::Unused), "a health check");
    assert_eq!(then(&[(C, ask), (S, rst(101, 401))]), Some(Served::Reset));
    assert_eq!(then(&[(C, ask), (C, rst(401, 101))]), Some(Served::Reset), "it gave up");
    assert_eq!(then(&[(C, ask), (S, answer), (C, rst(401, 151))]), Some(Served::Answered));
    assert_eq!(then(&[(C, ask), (S, answer), (S, rst(151, 401))]), Some(Served::Reset), "cut off, perhaps");
    let close = [(C, fin(401, 151)), (S, fin(151, 402)), (C, segment(402, 152, 0))];
    assert_eq!(then(&[&[(C, ask), (S, answer)], &close[..]].concat()), Some(Served::Answered));
    let swallowed = [
        (C, ask),
        (S, segment(101, 401, 0)),
        (S, fin(101, 401)),
        (C, fin(401, 102)),
        (S, segment(102, 402, 0)),
    ];
    assert_eq!(then(&swallowed), Some(Served::Unanswered));
    let mut talk = exchanged();
    for _ in 0..4 {
        talk.hear(300 * MS, C, ask);
    }
    let end = talk.hear(300 * MS, C, rst(401, 101));
    assert_eq!((end.closed, end.served), (Some(Close::ResetClient), Served::TimedOut));
}

#[test]
fn an_answered_request_keeps_its_size() {
    let mut talk = exchanged();
    for seq in [101, 401] {
        talk.hear(MS, C, segment(seq, 101, 300));
    }
    assert_eq!((talk.flow.request_bytes, talk.flow.request_segments), (600, 2));
    talk.hear(MS, S, segment(101, 701, 50));
    assert_eq!((talk.flow.asked_bytes, talk.flow.asked_segments, talk.flow.request_bytes), (600, 2, 0));
}
