//! The report, as a whole: captures in which much goes wrong, and what an operator reads of it.

use harness::script::Script;

use crate::replay::{Captures, printed};

/// A request overtaken on its way and never answered; then the five-tuple comes back while its TIME-WAIT lasts, and is
/// refused.
const OUTSIDE: &str = "
    0      C S  mss=1460 sackok
    +1ms   S S. mss=1460 sackok
    +1ms   C .
    +1ms   C .  len=1000
    +10us  C .  len=1000
    +10us  C P. len=500
    +1ms   S .
    +3s    S F.
    +1ms   C F.
    +1ms   S .
    +100ms C S  seq=100000
    +1ms   S R. seq=0 ack=100001
";
/// The same behind the firewall, which swapped two segments.
const INSIDE: &str = "
    0      C S  mss=1460 sackok
    +1ms   S S. mss=1460 sackok
    +1ms   C .
    +1ms   C .  len=1000
    +10us  C P. len=500 seq=2001 id=1004
    +10us  C .  len=1000 seq=1001 id=1003
    +1ms   S .
    +3s    S F.
    +1ms   C F. id=1005
    +1ms   S .
";

const REPORT: &str = "\
Captures
 POINT    FROM                       FOR  PACKETS  TCP  FILE
 outside  2023-11-14T22:13:20.000Z  3.1s       12   12  outside.pcap
 inside   2023-11-14T22:13:20.000Z  3.0s       10   10  inside.pcap

Connections
 POINT                outside  inside
 met with their SYN         2       1
 handshake completed        1       1
 ended: fin_server          1       1
 ended: rst_server          1       0

Anomalies, by who sent the segment
 FROM          outside client  outside server  inside client  inside server
 gap                        0               0              1              0
 out_of_order               0               0              1              0
 reset                      0               1              0              0
 reuse                      1               0              0              0
 unanswered                 1               0              1              0
 0 of 1 segments below the highest number (0.0 %) could not be told apart.

Resets
 COUNT  POINT    FROM    CAUSE      ORIGIN    MEANING
     1  outside  server  time_wait  endpoint  a reused five-tuple met the old connection's TIME-WAIT: the RST answers its SYN or ends a challenge ACK

Five-tuples taken again within TIME-WAIT
 COUNT  POINT    TIME-WAIT     OUTCOME  MEANING
     1  outside  syn_receiver  refused  the side the SYN goes to closed first and waits; answered with an RST
 Gaps from close to SYN at outside: 1 up to 250ms.

Worst connections
 POINT    SVC    CLIENT           SERVER         BEGAN                     PHASE       SENT  ANSWERED  WHY
 outside  other  10.77.1.2:40000  10.77.2.2:443  2023-11-14T22:13:23.106Z  rst_server     0         0  reset: time_wait, reuse after 101ms: refused
 inside   other  10.77.1.2:40000  10.77.2.2:443  2023-11-14T22:13:20.000Z  fin_server  2500         0  request of 2500 B unanswered, 1 gap>, 1 out_of_order>
 outside  other  10.77.1.2:40000  10.77.2.2:443  2023-11-14T22:13:20.000Z  fin_server  2500         0  request of 2500 B unanswered
";

#[test]
fn a_report_says_what_went_wrong_where() {
    let captures = Captures::new();
    let outside = captures.write("outside.pcap", Script::default(), OUTSIDE);
    let inside = captures.write("inside.pcap", Script::default(), INSIDE);
    let report = printed(&[&outside, &inside], &[]);
    // The files' own directory is another one each time.
    let directory = format!("{}/", outside.parent().expect("files are in a directory").display());
    let report = report.replace(&directory, "");
    assert_eq!(report, REPORT, "\n{report}");
}

#[test]
fn a_capture_without_anything_wrong_says_so() {
    let captures = Captures::new();
    let clean = "0 C S\n +1ms S S.\n +1ms C .\n +1ms C P. len=10\n +1ms S P. len=10\n +1ms C F.\n +1ms S F.\n +1ms C .";
    let report = printed(&[&captures.write("clean.pcap", Script::default(), clean)], &[]);
    assert!(report.contains("Anomalies\n none\n"), "{report}");
    for word in ["Resets", "Worst", "Five-tuples", "Left out", "Not read", "\x1b"] {
        assert!(!report.contains(word), "{word:?} in {report}");
    }
}
