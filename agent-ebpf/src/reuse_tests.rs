//! A five-tuple taken again: who held its TIME-WAIT, and how its SYN was answered.

use crate::{
    anomaly::{Cause, Holder, Outcome},
    facts::Facts,
    flow::Closed,
    seq::SeqNum,
    talk::{C, MS, S, Talk, rst, segment, syn, syn_ack},
    time::Nanos,
    traffic::Close,
    wire::{Flags, Segment},
};

/// The reusing SYN's number.
const NEW: u32 = 1_000_000;

/// Just before a SYN of the client, on a five-tuple with this past.
fn before(holder: Holder) -> Talk {
    if holder == Holder::Open {
        return Talk::established();
    }
    let code = match holder {
        Holder::Sender => C as u32 + 1,
        Holder::Receiver => S as u32 + 1,
        Holder::Both => Closed::BOTH,
        _ => 0,
    };
    let next = [SeqNum(500), SeqNum(900)];
    let prior = Closed { at: Nanos(400_000_000), next, holder: code, ..Closed::default() };
    Talk { prior: Some(prior), ..Talk::new() }
}

fn answer(outcome: Outcome) -> (usize, Segment) {
    match outcome {
        Outcome::Accepted => (S, syn_ack(7_000, NEW + 1)),
        Outcome::Challenged => (S, segment(900, 500, 0)),
        Outcome::Refused => (S, rst(0, NEW + 1)),
        Outcome::Ignored => (C, syn(NEW)),
    }
}

fn reused(holder: Holder, outcome: Outcome) -> (Talk, Facts, Facts) {
    let mut talk = before(holder);
    let first = talk.hear(600 * MS, C, syn(NEW));
    let (dir, s) = answer(outcome);
    let second = talk.hear(MS, dir, s);
    (talk, first, second)
}

#[test]
fn each_holder_meets_each_outcome() {
    for holder in Holder::ALL {
        for outcome in Outcome::ALL {
            let (_, first, second) = reused(*holder, *outcome);
            assert_eq!((first.holder, first.outcome, first.decided), (Some(*holder), None, false));
            let decided = (second.holder, second.outcome, second.decided);
            assert_eq!(decided, (Some(*holder), Some(*outcome), true));
            // From the close at 0.4 s to the SYN at 1.6 s; an open connection never closed.
            let gap = if *holder == Holder::Open { 0 } else { 1_200_000_000 };
            assert_eq!((first.gap, first.gap_measured), (gap, gap > 0), "{holder:?}");
        }
    }
}

#[test]
fn it_is_decided_once() {
    for outcome in Outcome::ALL {
        let (mut talk, ..) = reused(Holder::Receiver, *outcome);
        let later = talk.hear(MS, S, syn_ack(7_000, NEW + 1));
        assert!(!later.decided && later.outcome == Some(*outcome), "{outcome:?}");
    }
}

#[test]
fn a_reset_of_a_reuse_says_why() {
    let cause = |f: Facts| Cause::from_code(f.cause - 1);
    let (_, _, refused) = reused(Holder::Receiver, Outcome::Refused);
    assert_eq!(cause(refused), Some(Cause::TimeWait));
    let (mut talk, ..) = reused(Holder::Receiver, Outcome::Challenged);
    let ends = Segment { flags: Flags(Flags::RST), ..segment(500, 0, 0) };
    assert_eq!(cause(talk.hear(MS, C, ends)), Some(Cause::TimeWait));
    let (mut talk, ..) = reused(Holder::Receiver, Outcome::Accepted);
    talk.hear(MS, C, segment(NEW + 1, 7_001, 0));
    assert_eq!(cause(talk.hear(MS, S, rst(7_001, NEW + 1))), Some(Cause::AfterReuse));
}

#[test]
fn an_accepted_reuse_of_an_open_connection_replaces_it() {
    for outcome in Outcome::ALL {
        let (talk, ..) = reused(Holder::Open, *outcome);
        let replaced: &[Close] = if *outcome == Outcome::Accepted { &[Close::Replaced] } else { &[] };
        assert_eq!(talk.ended, replaced, "{outcome:?}");
    }
}

#[test]
fn neither_an_old_syn_nor_a_late_one_is_a_reuse() {
    let mut old = before(Holder::Sender);
    old.prior.as_mut().expect("closed before").isn[C] = SeqNum(NEW);
    assert_eq!(old.hear(600 * MS, C, syn(NEW)).holder, None);
    // The window of 60 s begins with the close at 0.4 s; the talk begins at 1 s.
    for (after_ms, holder) in [(59_400, Some(Holder::Sender)), (59_401, None)] {
        let mut talk = before(Holder::Sender);
        assert_eq!(talk.hear(after_ms * MS, C, syn(NEW)).holder, holder, "{after_ms} ms");
    }
}
