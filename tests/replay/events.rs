//! The events that tools judge differently, as `docs/verdicts.md` lists them, and what decides where the sequence numbers
//! alone do not. The client's bytes are sent in segments of 100: A from number 1, B from 101, C from 201, and so on.
//!
//! Identifications are written out where they matter: a sender that counts them takes the next for every sending, and a
//! copy has its original's (RFC 791, 3.1).

use harness::script::Script;

use crate::phenomena::{CLOSE, Case, EXCHANGE, HANDSHAKE, play};
use crate::replay::Captures;

/// The point is in the middle of a round trip of 40 ms.
const FAR: &str = "
    0      C S
    +20ms  S S.
    +20ms  C .
";
/// The same of a sender whose identifications say nothing, as with DF set they may (RFC 6864, 4.1).
const FAR_WITHOUT_IDS: &str = "
    0      C S  id=0
    +20ms  S S.
    +20ms  C .  id=0
    +1ms   C .  id=0 len=100
";

const CASES: &[Case] = &[
    Case {
        name: "1: B is overtaken by C",
        parts: &[FAR],
        script: "+1ms  C . len=100 id=1002
                 +10us C . len=100 seq=201 id=1004       # lost_segment verdict=gap
                 +2ms  C . len=100 seq=101 id=1003       # out_of_order verdict=out_of_order evidence=ip_id
                 +10us C . len=100 seq=301 id=1005",
        flows: &["out_of_order=[1,0] lost_segments=[1,0] retransmissions=[0,0]"],
    },
    Case {
        name: "2: B is lost before the point, and sent again on a timeout",
        parts: &[FAR],
        script: "+1ms   C . len=100 id=1002
                 +10us  C . len=100 seq=201 id=1004      # lost_segment verdict=gap
                 +20ms  S . ack=101
                 +10us  S . ack=101                      # duplicate_ack
                 +250ms C . len=100 seq=101 id=1005      # retransmission verdict=late_fill evidence=ip_id kind=timeout",
        flows: &["late_fills=[1,0] retransmissions=[1,0] out_of_order=[0,0]"],
    },
    Case {
        name: "3: B is lost after the point, and sent again on the third duplicate ACK",
        parts: &[FAR],
        script: "+1ms  C . len=100
                 +10us C . len=100
                 +10us C . len=100
                 +10us C . len=100
                 +10us C . len=100
                 +20ms S . ack=101
                 +10us S . ack=101                       # duplicate_ack
                 +10us S . ack=101                       # duplicate_ack
                 +10us S . ack=101                       # duplicate_ack
                 +20ms C . len=100 seq=101               # retransmission fast_retransmission verdict=retransmission evidence=ip_id kind=fast",
        flows: &["retransmissions=[1,0] fast_retransmissions=[1,0] late_fills=[0,0]"],
    },
    Case {
        name: "4: the last segment is sent again, not acknowledged",
        parts: &[FAR],
        script: "+1ms   C . len=100 id=1002
                 +300ms C . len=100 seq=1 id=1003        # retransmission verdict=retransmission evidence=ip_id kind=probe",
        flows: &["retransmissions=[1,0] net_duplicates=[0,0]"],
    },
    Case {
        name: "4: the last segment is copied by the network",
        parts: &[FAR],
        script: "+1ms  C . len=100 id=1002
                 +10us C . len=100 seq=1 id=1002         # net_duplicate verdict=duplicate evidence=ip_id",
        flows: &["retransmissions=[0,0] net_duplicates=[1,0]"],
    },
    Case {
        name: "5: A is sent again after its acknowledgement",
        parts: &[FAR],
        script: "+1ms   C . len=100
                 +20ms  S .
                 +250ms C . len=100 seq=1                # retransmission spurious_retransmission verdict=spurious evidence=ack",
        flows: &["retransmissions=[1,0] spurious_retransmissions=[1,0]"],
    },
    Case {
        name: "6: a keepalive with a byte",
        parts: &[HANDSHAKE, EXCHANGE],
        script: "+10s C . len=1 seq=100                  # keep_alive verdict=keepalive
                 +1ms S .",
        flows: &["keep_alives=[1,0] retransmissions=[0,0] dup_acks=[0,0]"],
    },
    Case {
        name: "7: a SYN with the same number",
        parts: &[],
        script: "0  C S
                 1s C S seq=0                            # retransmission syn_retransmission verdict=retransmission kind=syn",
        flows: &["syn=2 syn_retransmissions=[1,0] reused=false"],
    },
    Case {
        name: "8: a SYN with a new number, 200 ms after the close",
        parts: &[HANDSHAKE, EXCHANGE, CLOSE],
        script: "+199ms C S  seq=100000                  # reused_ports holder=syn_sender gap=0.2
                 +1ms   S S. seq=200000 ack=100001       # outcome=accepted",
        flows: &["close=fin_client", r#"reused=true reuse={"holder":"syn_sender","outcome":"accepted","gap":0.2}"#],
    },
    Case {
        name: "9: A and B as one, then B and C as one",
        parts: &[FAR],
        script: "+1ms  C . len=200 seq=1
                 +50ms C . len=200 seq=101               # retransmission verdict=retransmission
                 +1ms  C . len=100 seq=301",
        flows: &["retransmissions=[1,0] lost_segments=[0,0]"],
    },
    Case {
        name: "10: a SYN against an open connection, challenged and reset",
        parts: &[HANDSHAKE, EXCHANGE],
        script: "+1s  C S seq=100000                     # reused_ports holder=open
                 +1ms S . ack=101                        # outcome=challenged
                 +1ms C R seq=101                        # rst cause=time_wait",
        flows: &["close=none", "reused=true close=rst_client"],
    },
    Case {
        name: "the first copy comes after its own repeat",
        parts: &[FAR],
        script: "+1ms   C . len=100 id=1002
                 +10us  C . len=100 seq=201 id=1004      # lost_segment verdict=gap
                 +250ms C . len=100 seq=101 id=1005      # retransmission verdict=late_fill evidence=ip_id
                 +1ms   C . len=100 seq=101 id=1003      # out_of_order verdict=out_of_order evidence=ip_id",
        flows: &["late_fills=[1,0] out_of_order=[1,0] retransmissions=[1,0] net_duplicates=[0,0]"],
    },
    Case {
        name: "a bare ACK beyond all that was seen",
        parts: &[FAR],
        script: "+1ms   C . len=100 id=1002
                 +1ms   C . seq=201 id=1004              # lost_segment verdict=gap
                 +250ms C . len=100 seq=101 id=1005      # retransmission verdict=late_fill evidence=ip_id",
        flows: &["lost_segments=[1,0] late_fills=[1,0]"],
    },
    Case {
        name: "no identifications: the timestamp tells what was sent before",
        parts: &[],
        script: "0     C S  id=0 ts=10:0
                 +20ms S S. ts=90:10
                 +20ms C .  id=0 ts=50:90
                 +1ms  C .  id=0 ts=51:90 len=100
                 +10us C .  id=0 ts=53:90 len=100 seq=201   # lost_segment verdict=gap
                 +60ms C .  id=0 ts=52:90 len=100 seq=101   # out_of_order verdict=out_of_order evidence=timestamp",
        flows: &["out_of_order=[1,0] retransmissions=[0,0]"],
    },
    Case {
        name: "no identifications: sooner than a round trip was sent before",
        parts: &[FAR_WITHOUT_IDS],
        script: "+10us C . id=0 len=100 seq=201          # lost_segment verdict=gap
                 +30ms C . id=0 len=100 seq=101          # out_of_order verdict=out_of_order evidence=time",
        flows: &["out_of_order=[1,0] retransmissions=[0,0]"],
    },
    Case {
        name: "no identifications: later than a round trip was sent again",
        parts: &[FAR_WITHOUT_IDS],
        script: "+10us C . id=0 len=100 seq=201          # lost_segment verdict=gap
                 +41ms C . id=0 len=100 seq=101          # retransmission verdict=late_fill evidence=time",
        flows: &["out_of_order=[0,0] late_fills=[1,0]"],
    },
    Case {
        name: "no identifications: the last segment again, too soon to have been asked for",
        parts: &[FAR_WITHOUT_IDS],
        script: "+10us C . id=0 len=100 seq=1            # net_duplicate verdict=duplicate evidence=time",
        flows: &["retransmissions=[0,0] net_duplicates=[1,0]"],
    },
];

#[test]
fn each_event_is_judged_as_the_page_says() {
    let captures = Captures::new();
    let wrong: Vec<_> = CASES.iter().flat_map(|case| play(&captures, case, Script::default())).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
