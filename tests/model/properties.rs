//! What must hold of every conversation.

use agent_ebpf::anomaly::Anomaly;
use agent_ebpf::facts::{Evidence, Verdict};
use agent_ebpf::label::Side;
use agent_ebpf::traffic::Traffic;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::cases;
use crate::end::Out;
use crate::point::{Point, Said};
use crate::truth::{Seen, Truth};
use crate::world::{Case, Ids, Passed, play};

/// The same cases each time, unless the environment asks for others.
fn config() -> ProptestConfig {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 1_000;
    }
    if std::env::var_os("PROPTEST_RNG_SEED").is_none() {
        config.rng_seed = RngSeed::Fixed(0x5eed);
    }
    config
}

/// A packet, what it is, and what the core said.
struct Judged {
    passed: Passed,
    truth: Truth,
    said: Said,
}

/// Plays the case and watches it.
fn watch(case: &Case) -> (Vec<Judged>, Point) {
    let passed = play(case).expect("every conversation comes to its end");
    let (mut seen, mut point) = (Seen::default(), Point::new());
    let judged = passed.into_iter().map(|passed| {
        let truth = seen.next(&passed);
        let said = point.see(case, &passed.packet, passed.at);
        Judged { passed, truth, said }
    });
    (judged.collect(), point)
}

/// The conversation up to a packet, for a failing case.
fn story(judged: &[Judged], upto: usize) -> String {
    let lines = judged[..=upto].iter().map(|j| {
        let (p, o) = (&j.passed.packet, &j.passed.packet.out);
        let flag = |on: bool, c: &'static str| if on { c } else { "" };
        format!(
            "{:>9} us {} {}{}{} {}+{} ack {} win {} id {} ts {:?} sack {:?} x{}{}{} = {:?}: {:?} by {:?}",
            j.passed.at,
            if p.from == 0 { 'C' } else { 'S' },
            flag(o.syn, "S"),
            flag(o.fin, "F"),
            flag(o.ack, "."),
            o.start,
            o.len,
            o.acked,
            o.window,
            p.id,
            p.ts.map(|ts| ts.0),
            o.sack,
            o.segments,
            flag(o.resend, " again"),
            flag(j.passed.copy, " copy"),
            j.truth,
            j.said.verdict,
            j.said.evidence,
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether the verdict is one that an observer can be asked for.
fn holds(j: &Judged, allowed: fn(Truth) -> &'static [Verdict]) -> bool {
    let out = &j.passed.packet.out;
    // The last byte alone, acknowledged and sent again, is what a keepalive is (RFC 9293, 3.8.4).
    let again = matches!(
        j.truth,
        Truth::Needless
            | Truth::Copy
            | Truth::OldCopy
            | Truth::OvertakenByRepeat
            | Truth::OvertakenByHiddenRepeat
    );
    let like_a_keepalive = out.len == 1 && !out.fin && again;
    allowed(j.truth).contains(&j.said.verdict) || (like_a_keepalive && j.said.verdict == Verdict::InOrder)
}

/// The verdicts that name the truth.
fn right(truth: Truth) -> &'static [Verdict] {
    match truth {
        Truth::None | Truth::Onward { gap: false } => &[Verdict::InOrder],
        // Only told beside something else.
        Truth::Probe => &[Verdict::InOrder, Verdict::Keepalive, Verdict::ZeroWindowProbe],
        Truth::Onward { gap: true } => &[Verdict::Gap],
        Truth::Overtaken => &[Verdict::OutOfOrder],
        Truth::OvertakenByRepeat => &[Verdict::OutOfOrder],
        // Known for the first copy by the order of sending if it is the last segment; else one of the two was sent again,
        // and this is the one that shows it.
        Truth::OvertakenByHiddenRepeat => {
            &[Verdict::OutOfOrder, Verdict::Unknown, Verdict::Retransmission, Verdict::Spurious]
        }
        Truth::Tells => &[Verdict::Gap],
        Truth::Fills => &[Verdict::LateFill],
        Truth::Repeats => &[Verdict::Retransmission],
        Truth::Needless => &[Verdict::Spurious],
        Truth::NeedlessBySack => &[Verdict::Spurious, Verdict::Retransmission],
        Truth::Copy => &[Verdict::Duplicate],
        // Behind the window of identifications a copy is not known from an earlier repeat.
        Truth::OldCopy => &[Verdict::Duplicate, Verdict::Unknown],
        // Its byte was acknowledged, and it no longer stands just before the end, by which keepalives are known.
        Truth::LateProbe => &[Verdict::InOrder, Verdict::Spurious, Verdict::Duplicate, Verdict::Unknown],
        // An acknowledgement and a window probe are the same but for the number they carry.
        Truth::LateAck => &[Verdict::InOrder, Verdict::ZeroWindowProbe],
        // By the numbers alone a byte is sent twice.
        Truth::AfterProbe => &[Verdict::InOrder, Verdict::Retransmission, Verdict::Spurious],
    }
}

/// The verdicts that do not contradict what an observer without good evidence still knows for sure: whether bytes were
/// missing here, and whether the other side has said that it has them.
fn sound(truth: Truth) -> &'static [Verdict] {
    use Verdict::{Duplicate, LateFill, OutOfOrder, Retransmission, Spurious, Unknown};
    match truth {
        Truth::Overtaken | Truth::Fills => &[OutOfOrder, LateFill, Unknown],
        Truth::Repeats => &[Retransmission, Unknown],
        Truth::Needless => &[Spurious, Unknown],
        Truth::NeedlessBySack => &[Retransmission, Spurious, Unknown],
        Truth::OvertakenByRepeat => &[OutOfOrder, Retransmission, Spurious, Duplicate, Unknown],
        Truth::Copy | Truth::OldCopy => &[Retransmission, Spurious, Duplicate, Unknown],
        Truth::OvertakenByHiddenRepeat => &[OutOfOrder, Retransmission, Spurious, Duplicate, Unknown],
        certain => right(certain),
    }
}

/// A verdict without what depends on when acknowledgements pass: a point nearer to their sender has seen more of them.
fn anywhere(verdict: Verdict) -> Verdict {
    if verdict == Verdict::Spurious { Verdict::Retransmission } else { verdict }
}

proptest! {
    #![proptest_config(config())]

    /// Where the sender's identifications tell the order of sending, every verdict is right, and the totals are the
    /// sums over the packets.
    #[test]
    fn telling_senders_are_judged_exactly(case in cases::telling()) {
        let (judged, mut point) = watch(&case);
        for (place, j) in judged.iter().enumerate() {
            // After a timeout's silence, without timestamps, it may be its sender's (RFC 1122, 3.2.1.5).
            let nobodys = j.truth == Truth::Copy && j.passed.packet.ts.is_none() && j.said.verdict == Verdict::Unknown;
            prop_assert!(
                holds(j, right) || nobodys,
                "{:?} is called {:?}\n{}", j.truth, j.said, story(&judged, place)
            );
        }
        for side in Side::ALL {
            let mine = || judged.iter().filter(|j| j.passed.packet.from == *side as usize);
            let all = |of: fn(&Out) -> u64| mine().map(|j| of(&j.passed.packet.out)).sum::<u64>();
            prop_assert_eq!(point.total(Traffic::Segments, *side), all(|out| out.segments));
            prop_assert_eq!(point.total(Traffic::PayloadBytes, *side), all(|out| out.len));
            let told = |verdict: Verdict| {
                let found = mine().filter(|j| j.said.verdict == verdict);
                found.map(|j| j.said.segments).sum::<u64>()
            };
            for (row, verdict) in [
                (Anomaly::LateFill, Verdict::LateFill),
                (Anomaly::Retransmission, Verdict::Retransmission),
                (Anomaly::Spurious, Verdict::Spurious),
                (Anomaly::OutOfOrder, Verdict::OutOfOrder),
                (Anomaly::Duplicate, Verdict::Duplicate),
                (Anomaly::Unknown, Verdict::Unknown),
            ] {
                prop_assert_eq!(point.total(row, *side), told(verdict), "{:?}", row);
            }
        }
    }

    /// With any sender, a verdict never contradicts what is certain: what fills a hole is nothing that repeats, what
    /// was acknowledged is not lost, and what goes on is healthy.
    #[test]
    fn weak_evidence_is_never_stretched(case in cases::any_sender()) {
        let (judged, _) = watch(&case);
        for (place, j) in judged.iter().enumerate() {
            // Known exception: without identifications, the last segment sent again at once (after a partial
            // acknowledgement, RFC 6582, 3.2, whose cause passed before this point; or a first copy was held up for
            // longer than a timeout) is like the network's copy of it in everything.
            let profile = &case.profiles[j.passed.packet.from];
            let nameless = case.v6 || matches!(profile.ids, Ids::Zero);
            let alike = nameless && matches!(j.truth, Truth::Repeats | Truth::Needless) && j.said.evidence == Evidence::Time;
            prop_assert!(
                holds(j, sound) || (alike && j.said.verdict == Verdict::Duplicate),
                "{:?} is called {:?}\n{}", j.truth, j.said, story(&judged, place)
            );
        }
    }

    /// On a clean way nothing is wrong, whatever the sender's habits.
    #[test]
    fn a_clean_way_is_clean(case in cases::clean()) {
        let (judged, mut point) = watch(&case);
        for (place, j) in judged.iter().enumerate() {
            prop_assert!(!j.passed.packet.out.resend, "the model repeats by itself\n{}", story(&judged, place));
            let healthy = [Verdict::InOrder, Verdict::Keepalive, Verdict::ZeroWindowProbe];
            prop_assert!(
                healthy.contains(&j.said.verdict) || j.truth == Truth::AfterProbe,
                "{:?} is called {:?}\n{}", j.truth, j.said, story(&judged, place)
            );
        }
        // A keepalive's byte did come twice, and the answer says so (RFC 2883, 4); when data crosses the answer, its
        // sender has to take it for a duplicate ACK (RFC 5681, 2).
        let probes = judged.iter().filter(|j| j.passed.packet.out.probe).count() as u64;
        for side in Side::ALL {
            for seldom in [Anomaly::DuplicateAck, Anomaly::DuplicateSack] {
                let count = point.total(seldom, *side);
                prop_assert!(count <= probes, "{count} {seldom:?}\n{}", story(&judged, judged.len() - 1));
            }
            prop_assert_eq!(point.total(Anomaly::Reset, *side), 0);
        }
    }

    /// Two points with nothing between them say the same.
    #[test]
    fn a_second_point_says_the_same(case in cases::telling(), apart in 1u64..15) {
        let (judged, _) = watch(&case);
        let mut further = Point::new();
        let late = |j: &Judged| 100 + j.passed.at + apart - 2 * apart * j.passed.packet.from as u64;
        let mut order: Vec<usize> = (0..judged.len()).collect();
        order.sort_by_key(|place| late(&judged[*place]));
        for place in order {
            let j = &judged[place];
            let said = further.see(&case, &j.passed.packet, late(j));
            // One byte is a probe or not by what the other side has said so far.
            if j.passed.packet.out.len != 1 && j.truth != Truth::AfterProbe {
                prop_assert_eq!(
                    anywhere(said.verdict), anywhere(j.said.verdict),
                    "{:?}\n{}", j.truth, story(&judged, place)
                );
            }
        }
    }
}
