//! `fivetuple reuse` on captures: which reuses collided, and what is said where there is nothing to say.

use std::process::Output;

use harness::script::Script;

use crate::replay::{Captures, fivetuple};

/// A connection that its server closed first; 131 ms later its five-tuple is refused, and two seconds after that served.
const COLLISION: &str = "
    0      C S
    +1ms   S S.
    +1ms   C .
    +1ms   C P. len=500
    +1ms   S P. len=100
    +1ms   S F.
    +1ms   C F.
    +1ms   S .
    +130ms C S  seq=100000
    +1ms   S R. seq=0 ack=100001
    +2s    C S  seq=200000
    +1ms   S S. seq=300000
    +1ms   C .
    +1ms   C P. len=500
    +1ms   S P. len=100
    +1ms   S F.
    +1ms   C F.
    +1ms   S .
";

fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_collision_and_what_would_have_prevented_it() {
    let captures = Captures::new();
    let dmz = captures.write("dmz.pcap", Script::default(), COLLISION);
    let output = fivetuple("reuse", &[&dmz], &[]);
    let (report, errors) = said(&output);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    for part in [
        "3 connections at dmz, 2 on a five-tuple taken again within the window: 1 collided, 1 was answered.",
        "about 1.0s (the largest gap that collided is 131ms, the smallest above it that did not 2.1s).",
        "100ms takes them to zero: the smallest gap that collided is 131ms",
        "--clients POINT",
    ] {
        assert!(report.contains(part), "{part} is not in\n{report}");
    }
    let (json, _) = said(&fivetuple("reuse", &[&dmz], &["--output=json", "--since=1h"]));
    let json: serde_json::Value = serde_json::from_str(&json).expect("the report is JSON");
    assert_eq!((&json["points"][0]["collisions"], &json["points"][0]["point"]), (&1.into(), &"dmz".into()));
    let (recent, _) = said(&fivetuple("reuse", &[&dmz], &["--since=1s"]));
    assert!(recent.contains("1 connection at dmz, 1 on"), "{recent}");
}

#[test]
fn what_cannot_be_asked_is_a_sentence() {
    let captures = Captures::new();
    let dmz = captures.write("dmz.pcap", Script::default(), COLLISION);
    for (arguments, status, part) in [
        (&["--clients=outside", "--proxies=dmz"][..], 1, "there is no \"outside\""),
        (&["--clients=dmz", "--proxies=dmz"], 1, "both dmz"),
        (
            &["--svc=card"],
            1,
            "there is no \"card\" (there are: other); services of captures come from --config.file",
        ),
        (&["--clients=dmz"], 2, "--proxies"),
        (&["--since=5"], 2, "no unit"),
        (&["--url=http://127.0.0.1:1"], 2, "cannot be used with"),
    ] {
        let output = fivetuple("reuse", &[&dmz], arguments);
        let (_, errors) = said(&output);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {errors}");
        assert!(errors.contains(part), "{arguments:?}: {part} is not in {errors}");
    }
    let output = fivetuple("reuse", &[], &["--url=http://127.0.0.1:1"]);
    assert!(output.status.code() == Some(1) && said(&output).1.contains("no agent answers"), "{output:?}");
}
