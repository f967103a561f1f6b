//! `fivetuple locate` on captures that cannot be compared, or hardly: each time a sentence that says what is wrong and what
//! to do, on the right stream and with the right exit code. `explain` and `reuse` read captures by the same rules.

use std::ops::Range;
use std::path::Path;

use etherparse::PacketBuilder;
use harness::impair::Direction;
use harness::script::{Script, Timed};
use harness::topology::{CLIENT, SERVER};

use crate::replay::{Captures, EXCHANGE, fivetuple};

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;
/// How long a packet takes from one point to the other.
const WAY: u64 = 100_000;

/// Connections from these ports, one a second, as a point sees them that is so far behind the first, by a clock that is
/// ahead.
fn seen(ports: Range<u16>, behind: u64, ahead: u64) -> Vec<Timed> {
    let one = |port: u16| {
        let isn = 10_000 * u32::from(port);
        let script = Script::between((CLIENT.v4, port), (SERVER.v4, 443)).isn(isn, isn + 5_000);
        let began = u64::from(port - 40_000) * SECOND + ahead;
        script.steps(EXCHANGE).into_iter().map(move |step| {
            let at = began + u64::try_from(step.at.as_nanos()).expect("a script is short");
            let at = if step.direction == Direction::ToServer { at + behind } else { at - behind };
            Timed { at, frame: step.frame.build() }
        })
    };
    ports.flat_map(one).collect()
}

/// A question over UDP.
fn datagram() -> Timed {
    let builder = PacketBuilder::ethernet2(CLIENT.mac, SERVER.mac);
    let builder = builder.ipv4(CLIENT.v4.octets(), SERVER.v4.octets(), 64).udp(40_000, 53);
    let mut frame = Vec::new();
    builder.write(&mut frame, b"a question").expect("memory can be written");
    Timed { at: 0, frame }
}

/// Runs it on the captures `one` and `two`: exit code, standard output, standard error.
#[track_caller]
fn locate(one: &Path, two: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let points = format!("one={},two={}", one.display(), two.display());
    let output = fivetuple("locate", &[], &[arguments, &["--points", &points]].concat());
    let text = |bytes| String::from_utf8(bytes).expect("what is printed is text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// It ends with 1, this one sentence, and nothing on standard output, whatever form is asked for.
#[track_caller]
fn refused(one: &Path, two: &Path, arguments: &[&str], sentence: &str) {
    for form in ["--output=text", "--output=json"] {
        let (code, answer, said) = locate(one, two, &[arguments, &[form]].concat());
        assert_eq!((code, &answer[..]), (Some(1), ""), "{said}");
        assert_eq!(said, format!("fivetuple: {sentence}\n"));
    }
}

#[test]
fn captures_without_overlap_in_time() {
    let captures = Captures::new();
    let one = captures.write_frames("one.pcap", seen(40_000..40_005, 0, 0));
    let two = captures.write_frames("two.pcap", seen(40_005..40_009, WAY, 3_600 * SECOND));
    refused(
        &one,
        &two,
        &[],
        "no connection was seen at two points, and by their clocks these do not overlap in time: \
         one from 2023-11-14T22:13:20.000Z for 4.0s, two from 2023-11-14T23:13:25.000Z for 3.0s; \
         capture at all of them at the same time (their clocks may be apart)",
    );
}

#[test]
fn captures_of_one_time_and_two_ways() {
    let captures = Captures::new();
    // None while another is open: one that is opened then may be a proxy's.
    let one = captures.write_frames("one.pcap", seen(40_000..40_005, 0, 9 * SECOND / 2));
    let two = captures.write_frames("two.pcap", seen(40_005..40_009, WAY, 0));
    refused(
        &one,
        &two,
        &[],
        "no connection was seen at two points, although these overlap in time: \
         one from 2023-11-14T22:13:24.500Z for 4.0s, two from 2023-11-14T22:13:25.000Z for 3.0s; \
         name points that the same connections pass",
    );
}

#[test]
fn a_connection_that_a_proxy_opened() {
    let captures = Captures::new();
    let one = captures.write_frames("one.pcap", seen(40_000..40_001, 0, 0));
    let leg = Script::between((SERVER.v4, 50_000), ([10, 77, 3, 3], 8_080)).isn(1, 2);
    let mut leg = leg.frames(EXCHANGE);
    leg.iter_mut().for_each(|frame| frame.at += 3_500_000);
    let two = captures.write_frames("two.pcap", leg);
    refused(
        &one,
        &two,
        &["10.77.3.3:8080"],
        "10.77.2.2:50000 to 10.77.3.3:8080 was seen at two only, so nothing can be compared: \
         one from 2023-11-14T22:13:20.000Z for 4ms, two from 2023-11-14T22:13:20.003Z for 4ms; \
         of a connection that a proxy opened, ask for the one that it was opened for",
    );
    let (code, answer, said) = locate(&one, &two, &["10.77.2.2:443"]);
    assert!(
        code == Some(0) && answer.contains(" 1 have a second leg, 0 requests have none\n"),
        "{answer}{said}"
    );
}

#[test]
fn a_connection_seen_at_one_point_only() {
    let captures = Captures::new();
    let one = captures.write_frames("one.pcap", seen(40_000..40_003, 0, 0));
    // It begins later and ends later: had it others before, that one would be taken for swallowed.
    let two = captures.write_frames("two.pcap", seen(40_001..40_009, WAY, DAY));
    for (port, at) in [(40_000, "one"), (40_007, "two")] {
        let sentence = format!(
            "10.77.1.2:{port} to 10.77.2.2:443 was seen at {at} only, so nothing can be compared, though other \
             connections were seen at two: one from 2023-11-14T22:13:20.000Z for 2.0s, \
             two from 2023-11-14T22:13:21.000Z for 7.0s; ask for one of those, or name points that it passes"
        );
        refused(&one, &two, &[&format!("{}:{port}", CLIENT.v4)], &sentence);
    }
    let nobody = "no point saw a connection with these ends; write them as one of the points sees them";
    refused(&one, &two, &["192.0.2.1:40000"], nobody);

    let more = (50_000..50_002).flat_map(|port| {
        let ends = ((CLIENT.v4, port), (SERVER.v4, 8_443));
        Script::between(ends.0, ends.1).isn(u32::from(port), 7).frames(EXCHANGE)
    });
    let three =
        captures.write_frames("three.pcap", seen(40_000..40_003, 0, 0).into_iter().chain(more).collect());
    let (code, _, said) = locate(&three, &two, &["10.77.2.2:8443"]);
    let sentence =
        "fivetuple: none of the 2 connections asked for was seen at two neighbouring points, so nothing ";
    assert!(code == Some(1) && said.starts_with(sentence), "{said}");

    // Beside others they are counted.
    let (code, answer, said) = locate(&one, &two, &[]);
    assert_eq!((code, &said[..]), (Some(0), ""));
    for line in [
        "Between one and two, by 2 connections\n",
        " seen at one and not at two: 1 connection, of which nothing can be compared\n",
        " seen at two and not at one: 6 connections, of which nothing can be compared\n",
    ] {
        assert!(answer.contains(line), "{line:?} is not in\n{answer}");
    }
}

#[test]
fn a_capture_without_tcp() {
    let captures = Captures::new();
    let one = captures.write_frames("one.pcap", seen(40_000..40_005, 0, 0));
    for (name, frames) in [("udp.pcap", vec![datagram()]), ("empty.pcap", Vec::new())] {
        let two = captures.write_frames(name, frames);
        let sentence = format!("two saw no TCP connection; is {} the right capture?", two.display());
        refused(&one, &two, &[], &sentence);
        for verb in ["explain", "reuse"] {
            let output = fivetuple(verb, &[&two], &[]);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{verb}: {said}");
            assert_eq!(said, format!("fivetuple: no TCP connection is in {}\n", two.display()), "{verb}");
        }
    }
}

#[test]
fn clocks_a_day_apart() {
    let captures = Captures::new();
    let one = captures.write_frames("one.pcap", seen(40_000..40_005, 0, 0));
    let two = captures.write_frames("two.pcap", seen(40_000..40_005, WAY, DAY));
    let (code, answer, said) = locate(&one, &two, &[]);
    assert_eq!((code, &said[..]), (Some(0), ""));
    for part in [
        "Nothing sets the points apart: ",
        "24h ahead +-100us\n",
        " The clock of two is 24h ahead of that of one; its times were set right for the comparison.\n",
        "Between one and two, by 5 connections\n",
        " client      0          0       0                 0  100us  100us\n",
        "10.77.1.2:40000 to 10.77.2.2:443, joined by both initial sequence numbers\n",
    ] {
        assert!(answer.contains(part), "{part:?} is not in\n{answer}");
    }
    let (_, answer, _) = locate(&one, &two, &["--output=json"]);
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("it is JSON");
    assert_eq!(answer["points"][1]["clock_ahead_ns"], DAY, "{answer:#}");

    // The other one a day ahead, and the same clock: nothing to tell.
    let early = captures.write_frames("early.pcap", seen(40_000..40_005, WAY, 0));
    let late = captures.write_frames("late.pcap", seen(40_000..40_005, 0, DAY));
    let (_, answer, _) = locate(&late, &early, &[]);
    assert!(answer.contains(" The clock of two is 24h behind that of one; "), "{answer}");
    let (_, answer, _) = locate(&one, &early, &[]);
    assert!(answer.contains("agrees +-100us\n") && !answer.contains("The clock of"), "{answer}");
}
