//! What sets failed connections apart from good ones: a small campus-card server, seen outside and inside of a firewall
//! that reorders; and what cannot be explained.

use std::path::PathBuf;
use std::process::Output;

use harness::script::{Script, Timed};
use harness::topology::{CLIENT, SERVER};
use serde_json::Value;

use crate::replay::{Captures, fivetuple};

/// Top-ups; each third has a request of several segments.
const TOP_UPS: u16 = 72;
const SEGMENT: usize = 1_455;

const HANDSHAKE: &str = "
    0      C S  mss=1460 sackok
    +1ms   S S. mss=1460 sackok
    +1ms   C .
";
const ANSWER: &str = "
    +1ms   S P. len=200
    +1ms   C F.
    +1ms   S F.
    +1ms   C .
";
/// Everything is acknowledged, and nothing comes.
const NO_ANSWER: &str = "
    +1ms   S .
    +3s    S F.
    +1ms   C F.
    +1ms   S .
";

/// What becomes of a request of several segments.
#[derive(Clone, Copy, PartialEq)]
enum Request {
    Small,
    Ordered,
    Reordered,
}

fn request(n: u16, reorders: impl Fn(u16) -> bool) -> Request {
    match n {
        n if !n.is_multiple_of(3) => Request::Small,
        n if reorders(n) => Request::Reordered,
        _ => Request::Ordered,
    }
}

/// One top-up; inside of the firewall, or outside, where all is in order.
fn top_up(n: u16, request: Request, inside: bool) -> Vec<Timed> {
    let line = |at: usize| {
        let (seq, id) = (1 + at * SEGMENT, 2_000 + at);
        format!("+10us C . len={SEGMENT} seq={seq} id={id}\n")
    };
    let asked: String = match request {
        Request::Small => "+10us C P. len=800\n".to_owned(),
        Request::Reordered if inside => [0, 2, 1, 3, 4, 6, 5].map(line).concat(),
        _ => (0..7).map(line).collect(),
    };
    let end = if request == Request::Reordered { NO_ANSWER } else { ANSWER };
    let ends = ((CLIENT.v4, 40_000 + n), (SERVER.v4, 443));
    let isn = 1_000_000 * u32::from(n);
    let script = Script::between(ends.0, ends.1).isn(isn, isn + 500_000).ip_id(1_996, 1);
    let began = u64::from(n) * 20_000_000_000;
    let frames = script.frames(&format!("{HANDSHAKE}{asked}{end}"));
    frames.into_iter().map(|frame| Timed { at: began + frame.at, ..frame }).collect()
}

/// Captures outside and inside.
fn captured(captures: &Captures, reorders: impl Fn(u16) -> bool + Copy) -> [PathBuf; 2] {
    [("outside.pcap", false), ("inside.pcap", true)].map(|(name, inside)| {
        let all = (0..TOP_UPS).flat_map(|n| top_up(n, request(n, reorders), inside));
        captures.write_frames(name, all.collect())
    })
}

fn explain(files: &[&PathBuf], arguments: &[&str]) -> Output {
    let files: Vec<_> = files.iter().map(|path| path.as_path()).collect();
    fivetuple("explain", &files, arguments)
}

#[track_caller]
fn told(files: &[&PathBuf], arguments: &[&str]) -> String {
    let output = explain(files, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{}: {errors}", output.status);
    String::from_utf8(output.stdout).expect("what is printed is text")
}

#[track_caller]
fn refused(files: &[&PathBuf], arguments: &[&str]) -> String {
    let output = explain(files, arguments);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).expect("what is printed is text")
}

const TEXT: &str = "\
At inside: what sets failed connections apart is: request in several segments, reordered. Of those 18 of 18 (100 %) failed, of the others 0 of 54 (0 %).

Set apart by
    WHAT                                    FAILED WITH IT   WITHOUT   DIFFERENCE (95 %)      P  COVERS  STANDING
 1  request in several segments, reordered     18/18 100 %  0/54 0 %  +100 (+81 to +100)  1e-16   100 %
 2  request in several segments               18/24 75.0 %  0/48 0 %    +75 (+54 to +88)  6e-12   100 %  explained by 1
    request of 10185 B or more                                                                           the same connections
 P: Fisher's exact test, corrected (Holm) for 2 tests at each of 2 points; 0.05 or less is told.
 The same for all: retransmissions, five-tuple reuse, reuse gap, client's network, server, service, point, hour of day, client's TTL, client's MSS, timestamps, TLS, VLAN, met mid-way.
 Not known: reuse answer, HTTP method, HTTP path.
 18 connections failed (18 unanswered), 54 good, from 2023-11-14T22:13:20Z to 2023-11-14T22:37:00Z.

At outside: failed and good connections differ, but \"request in several segments\" goes together in these data with \"request of 10185 B or more\" (no connection tells them apart): which of them matters cannot be told. Of those 18 of 24 (75.0 %) failed, of the others 0 of 48 (0 %).
Set apart by
    WHAT                         FAILED WITH IT   WITHOUT  DIFFERENCE (95 %)      P  COVERS  STANDING
 1  request in several segments    18/24 75.0 %  0/48 0 %   +75 (+54 to +88)  6e-12   100 %
    request of 10185 B or more                                                               the same connections
 P: Fisher's exact test, corrected (Holm) for 1 test at each of 2 points; 0.05 or less is told.
 The same for all: several segments, reordered, reordering, retransmissions, five-tuple reuse, reuse gap, client's network, server, service, point, hour of day, client's TTL, client's MSS, timestamps, TLS, VLAN, met mid-way.
 Not known: reuse answer, HTTP method, HTTP path.
 18 connections failed (18 unanswered), 54 good, from 2023-11-14T22:13:20Z to 2023-11-14T22:37:00Z.
";

#[test]
fn what_the_firewall_reorders_and_the_waf_swallows() {
    let captures = Captures::new();
    let [outside, inside] = captured(&captures, |n| n % 4 != 0);
    let text = told(&[&outside, &inside], &[]);
    assert_eq!(text, TEXT, "\n{text}");
}

#[test]
fn programs_get_the_same_numbers() {
    let captures = Captures::new();
    let [_, inside] = captured(&captures, |n| n % 4 != 0);
    let report: Value = serde_json::from_str(&told(&[&inside], &["--output", "json"])).expect("it is JSON");
    let section = &report["sections"][0];
    assert_eq!((&section["verdict"], &section["points"][0]), (&"set_apart".into(), &"inside".into()));
    assert_eq!(
        (&section["population"]["unanswered"], &section["population"]["good"]),
        (&18.into(), &54.into())
    );
    let first = &section["candidates"][0];
    assert_eq!(first["what"], "request in several segments, reordered");
    assert_eq!((&first["with"]["failed"], &first["with"]["all"]), (&18.into(), &18.into()));
    assert_eq!((&first["without"]["failed"], &first["without"]["all"]), (&0.into(), &54.into()));
}

#[test]
fn where_all_is_well_it_says_so() {
    let captures = Captures::new();
    let [_, inside] = captured(&captures, |_| false);
    let text = told(&[&inside], &[]);
    assert!(text.starts_with("At inside: none of 72 connections failed.\n"), "{text}");
}

#[test]
fn what_always_goes_together_is_not_told_apart() {
    let captures = Captures::new();
    let [_, inside] = captured(&captures, |_| true);
    let text = told(&[&inside], &[]);
    let answer = "\"request in several segments\" goes together in these data with \"client's segments reordered\" \
                  (no connection tells them apart)";
    assert!(text.contains(answer), "{text}");
}

#[test]
fn the_last_part_of_a_capture_can_be_had_alone() {
    let captures = Captures::new();
    let [_, inside] = captured(&captures, |n| n % 4 != 0);
    let text = told(&[&inside], &["--since", "100s"]);
    assert!(text.contains("not enough data: 2 of 6 connections failed"), "{text}");
}

#[test]
fn a_service_is_one_of_the_configuration() {
    let captures = Captures::new();
    let [_, inside] = captured(&captures, |n| n % 4 != 0);
    let config = b"services: [{name: card, prefixes: [10.77.2.0/24]}, {name: bank, prefixes: [10.9.0.0/16]}]";
    let config = captures.write_bytes("f.yaml", config).display().to_string();
    let text = told(&[&inside], &["--svc", "card", "--config.file", &config]);
    assert!(
        text.contains("what sets failed connections apart is: request in several segments, reordered"),
        "{text}"
    );
    let text = refused(&[&inside], &["--svc", "crad", "--config.file", &config]);
    assert!(text.contains("did you mean card? (there are: other, card, bank)"), "{text}");
    let text = refused(&[&inside], &["--svc", "bank", "--config.file", &config]);
    assert_eq!(text, "fivetuple: there is no connection of service bank to compare\n");
}

#[test]
fn what_cannot_be_explained_is_a_sentence() {
    let captures = Captures::new();
    let empty = captures.write_frames("empty.pcap", Vec::new());
    let text = refused(&[&empty], &[]);
    assert_eq!(text, format!("fivetuple: no TCP connection is in {}\n", empty.display()));
    let missing = captures.path("missing.pcap");
    assert!(refused(&[&missing], &[]).contains("missing.pcap"));
    let text = refused(&[], &["--url", "http://127.0.0.1:1"]);
    assert!(text.contains("no agent answers at http://127.0.0.1:1/api/v1/explain"), "{text}");
    assert_eq!(explain(&[&empty], &["--url", "http://127.0.0.1:1"]).status.code(), Some(2), "either or");
    assert_eq!(explain(&[&empty], &["--since", "5"]).status.code(), Some(2), "without a unit");
}
