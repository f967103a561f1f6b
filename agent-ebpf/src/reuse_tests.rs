//! A five-tuple taken again: who held its TIME-WAIT, and how its SYN was answered.

use crate::{
    anomaly::{Cause, Holder, Outcome},
    facts::{Evidence, Facts, Verdict},
    flow::Closed,
    phase::Phase,
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
fn a_syn_that_was_challenged_had_come_and_is_repeated_without_need() {
    for known in [true, false] {
        let mut talk = if known { before(Holder::Receiver) } else { Talk::new() };
        talk.hear(600 * MS, C, syn(NEW));
        let (dir, challenge) = answer(Outcome::Challenged);
        talk.hear(MS, dir, challenge);
        talk.hear(MS, C, Segment { flags: Flags(Flags::RST), ..segment(500, 0, 0) });
        assert!(talk.ended.is_empty(), "the challenge is reset, the SYN waits on");
        let again = talk.hear(10 * MS, C, syn(NEW));
        assert_eq!((again.verdict, again.evidence), (Verdict::Spurious, Evidence::Ack), "{known}");
        talk.hear(MS, S, syn_ack(7_000, NEW + 1));
        talk.hear(MS, C, segment(NEW + 1, 7_001, 0));
        assert_eq!(talk.flow.phase(), Phase::Established);
    }
}

#[test]
fn a_syn_that_contended_and_comes_again_is_no_second_reuse() {
    let mut talk = Talk::established();
    talk.hear(MS, C, segment(1, 1, 499));
    talk.hear(MS, S, segment(1, 500, 899));
    assert_eq!(talk.hear(600 * MS, C, syn(NEW)).holder, Some(Holder::Open));
    let (dir, challenge) = answer(Outcome::Challenged);
    assert!(talk.hear(MS, dir, challenge).decided);
    // The client's RST to the challenge ends the old connection.
    talk.hear(MS, C, Segment { flags: Flags(Flags::RST), ..segment(500, 0, 0) });
    assert_eq!(talk.ended, [Close::ResetClient]);
    let forgotten = Closed::of(&talk.flow);
    let again = talk.hear(10 * MS, C, syn(NEW));
    assert_eq!((again.verdict, again.evidence), (Verdict::Spurious, Evidence::Ack));
    let accepted = talk.hear(MS, S, syn_ack(7_000, NEW + 1));
    assert!(!accepted.decided && !again.gap_measured, "it was counted with the challenge");
    // The same where the flow has been let go in between.
    let mut talk = Talk { prior: Some(forgotten), ..Talk::new() };
    assert_eq!(talk.hear(MS, C, syn(NEW)).holder, None);
    let mut talk = Talk { prior: Some(forgotten), ..Talk::new() };
    talk.now = Nanos(forgotten.at.0 + 1_000_000);
    assert_eq!(talk.hear(MS, C, syn(NEW + 7)).holder, Some(Holder::Nobody), "another one is a reuse");
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
