//! One conversation for each phenomenon. Behind a segment stands what is to be said of it: labels, then what the packet's
//! line says besides; nothing stands behind a segment that is as it should be.

use std::collections::BTreeSet;

use agent_ebpf::anomaly::{Cause, Holder, Origin, Outcome};
use agent_ebpf::facts::{RetransKind, Verdict};
use harness::script::Script;
use harness::topology::{CLIENT, SERVER};
use serde_json::Value;

use crate::replay::{Captures, lines, printed};

pub const HANDSHAKE: &str = "
    0      C S  mss=1460 sackok ws=7
    +1ms   S S. mss=1460 sackok ws=7
    +1ms   C .
";
pub const EXCHANGE: &str = "
    +1ms   C P. len=100
    +1ms   S P. len=500
    +1ms   C .
";
pub const CLOSE: &str = "
    +1ms   C F.
    +1ms   S F.
    +1ms   C .
";

/// A conversation, and what is to be said of it.
pub struct Case {
    pub name: &'static str,
    /// Goes before.
    pub parts: &'static [&'static str],
    pub script: &'static str,
    /// What is said of each connection, in the order in which they began.
    pub flows: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        name: "nothing is wrong",
        parts: &[HANDSHAKE, EXCHANGE, CLOSE],
        script: "",
        flows: &["client_by=syn packets=[6,3] bytes=[100,500] data_packets=[1,1] close=fin_client fin=[1,1] syn=1 synack=1 \
                  retransmissions=[0,0] reused=false unanswered=false handshake_rtt=0.002 syn_rtt=0.001 ack_rtt=0.001"],
    },
    Case {
        name: "overtaken",
        parts: &[HANDSHAKE, EXCHANGE],
        script: "+1ms  C . len=100 seq=201 id=1005  # lost_segment verdict=gap
                 +10us C . len=100 seq=101 id=1004  # out_of_order verdict=out_of_order evidence=ip_id",
        flows: &["out_of_order=[1,0] lost_segments=[1,0] retransmissions=[0,0]"],
    },
    Case {
        name: "lost before this point, and sent again",
        parts: &[HANDSHAKE, EXCHANGE],
        script: "+1ms C . len=100 seq=201 id=1010        # lost_segment verdict=gap
                 +5ms S . ack=101 sack=201-301           # duplicate_ack
                 +1ms C . len=100 seq=101 id=1011        # retransmission fast_retransmission verdict=late_fill evidence=ip_id kind=fast",
        flows: &["late_fills=[1,0] retransmissions=[1,0] fast_retransmissions=[1,0] dup_acks=[0,1]"],
    },
    Case {
        name: "lost after this point, told by duplicate ACKs, and sent again",
        parts: &[HANDSHAKE, EXCHANGE],
        script: "+1ms  C P. len=100
                 +10us C P. len=100
                 +10us C P. len=100
                 +10us C P. len=100
                 +1ms  S . ack=101                       # duplicate_ack
                 +1us  S . ack=101 sack=201-301          # duplicate_ack
                 +1us  S . ack=101 sack=201-401          # duplicate_ack
                 +1us  S . ack=101 sack=201-501          # duplicate_ack
                 +1ms  C P. len=100 seq=101              # retransmission fast_retransmission verdict=retransmission kind=fast",
        flows: &["retransmissions=[1,0] fast_retransmissions=[1,0] spurious_retransmissions=[0,0] dup_acks=[0,4]"],
    },
    Case {
        name: "never answered, given up",
        parts: &[HANDSHAKE, EXCHANGE],
        script: "+1ms    C P. len=100
                 +300ms  C P. len=100 seq=101            # retransmission kind=probe
                 +1300ms C P. len=100 seq=101            # retransmission kind=timeout
                 +2600ms C P. len=100 seq=101            # retransmission kind=timeout
                 +5s     C R. seq=201                    # rst cause=timeout origin=endpoint unanswered_bytes=100",
        flows: &["retransmissions=[3,0] rst=[1,0] close=rst_client unanswered=false unanswered_bytes=100"],
    },
    Case {
        name: "sent again at once, for no reason that can be seen",
        parts: &[HANDSHAKE, EXCHANGE],
        script: "+1ms   C P. len=100
                 +10us  C P. len=100
                 +500us C P. len=100 seq=101             # retransmission kind=unknown",
        flows: &["retransmissions=[1,0]"],
    },
    Case {
        name: "sent again although it was acknowledged",
        parts: &[HANDSHAKE, EXCHANGE],
        script: "+1ms  C P. len=100
                 +1ms  S .
                 +20ms C P. len=100 seq=101              # retransmission spurious_retransmission verdict=spurious evidence=ack
                 +1ms  S . sack=101-201",
        flows: &["retransmissions=[1,0] spurious_retransmissions=[1,0]"],
    },
    Case {
        name: "sent again needlessly, as a D-SACK tells later",
        parts: &[HANDSHAKE, EXCHANGE],
        script: "+1ms   C P. len=100
                 +300ms C P. len=100 seq=101             # retransmission verdict=retransmission
                 +1ms   S .
                 +1ms   S . sack=101-201",
        flows: &["retransmissions=[1,0] spurious_retransmissions=[1,0]"],
    },
    Case {
        name: "sent again needlessly, as the echoed time tells later",
        parts: &[],
        script: "0      C S  ts=10:0
                 +1ms   S S. ts=90:10
                 +1ms   C .  ts=12:90
                 +1ms   C P. len=100 ts=13:90
                 +300ms C P. len=100 seq=1 ts=313:90     # retransmission verdict=retransmission
                 +1ms   S .  ts=393:13",
        flows: &["retransmissions=[1,0] spurious_retransmissions=[1,0]"],
    },
    Case {
        name: "copied by the network",
        parts: &[HANDSHAKE, EXCHANGE],
        script: "+1ms  C P. len=100 id=1004
                 +10us C P. len=100 seq=101 id=1004      # net_duplicate verdict=duplicate evidence=ip_id",
        flows: &["net_duplicates=[1,0] retransmissions=[0,0]"],
    },
    Case {
        name: "met mid-way",
        parts: &[],
        script: "0    C . len=100 seq=1000
                 +1ms S .
                 +1s  C . len=100 seq=500                # verdict=unknown",
        flows: &["client_by=first unknown=[1,0] retransmissions=[0,0] handshake_rtt=null close=none"],
    },
    Case {
        name: "kept alive",
        parts: &[HANDSHAKE, EXCHANGE],
        script: "+10s C . seq=100                        # keep_alive verdict=keepalive
                 +1ms S .",
        flows: &["keep_alives=[1,0] retransmissions=[0,0]"],
    },
    Case {
        name: "a closed window, probed",
        parts: &[HANDSHAKE, EXCHANGE],
        script: "+1ms C P. len=100
                 +1ms S .  win=0                         # zero_window
                 +1s  C .  len=1                         # zero_window_probe verdict=zero_window_probe
                 +1ms S .  win=0 ack=201                 # zero_window",
        flows: &["zero_windows=[0,2] zero_window_probes=[1,0] keep_alives=[0,0] retransmissions=[0,0]"],
    },
    Case {
        name: "handshake packets sent again",
        parts: &[],
        script: "0    C S
                 +1s  C S  seq=0                         # retransmission syn_retransmission kind=syn
                 +1ms S S.
                 +1s  S S. seq=0                         # retransmission syn_retransmission kind=syn
                 +1ms C .",
        flows: &["syn=2 synack=2 syn_retransmissions=[1,1] retransmissions=[1,1]"],
    },
    Case {
        name: "refused",
        parts: &[],
        script: "0 C S
                 +1ms S R. ack=1                         # rst cause=refused origin=endpoint",
        flows: &[r#"rst=[0,1] rst_why=[[2,"server","refused"]] close=rst_server resets=[[2,"refused","endpoint"]]"#],
    },
    Case {
        name: "a health check",
        parts: &[HANDSHAKE],
        script: "+1ms C R.                               # rst cause=half_open origin=endpoint",
        flows: &[r#"rst_why=[[4,"client","established"]] close=rst_client"#],
    },
    Case {
        name: "reset during the handshake",
        parts: &[],
        script: "0    C S
                 +1ms S S.
                 +1ms C R seq=1                          # rst cause=half_open origin=endpoint",
        flows: &[r#"rst_why=[[3,"client","handshake"]] close=rst_client"#],
    },
    Case {
        name: "reset after a FIN",
        parts: &[HANDSHAKE, EXCHANGE],
        script: "+1ms C F.
                 +1ms S R.                               # rst cause=after_fin origin=endpoint",
        flows: &[r#"rst_why=[[8,"server","after_fin"]] close=half_fin_client fin=[1,0] rst=[0,1]"#],
    },
    Case {
        name: "reset after both FINs",
        parts: &[HANDSHAKE, EXCHANGE, CLOSE],
        script: "+1ms C R seq=102                        # rst cause=after_fin origin=endpoint",
        flows: &[r#"rst_why=[[10,"client","after_close"]] close=fin_client"#],
    },
    Case {
        name: "an idle firewall",
        parts: &[HANDSHAKE, EXCHANGE],
        script: "+31s S R.                               # rst cause=idle origin=endpoint",
        flows: &["close=rst_server"],
    },
    Case {
        name: "somebody in between, by the TTL",
        parts: &[HANDSHAKE, EXCHANGE],
        script: "+1ms S R. ttl=200                       # rst cause=abort origin=middlebox",
        flows: &[r#"resets=[[7,"abort","middlebox"]]"#],
    },
    Case {
        name: "a reset of nothing",
        parts: &[],
        script: "0 S R                                   # rst cause=unknown_flow origin=endpoint",
        flows: &[r#"rst_why=[[1,"client","midstream"]] client_by=first close=rst_client"#],
    },
    Case {
        name: "taken again by the side that waits",
        parts: &[HANDSHAKE, EXCHANGE, CLOSE],
        script: "+1s  C S  seq=100000                    # reused_ports holder=syn_sender gap=1.001
                 +1ms S S. seq=200000 ack=100001         # holder=syn_sender outcome=accepted
                 +1ms C .  seq=100001 ack=200001",
        flows: &[
            "close=fin_client reused=false",
            r#"reused=true reused_gap=1.001 reused_idle=1.0 prev_close=fin_client
               reuse={"holder":"syn_sender","outcome":"accepted","gap":1.001}"#,
        ],
    },
    Case {
        name: "taken again from the side that waits, which challenges",
        parts: &[HANDSHAKE, EXCHANGE],
        script: "+1ms S F.
                 +1ms C F.
                 +1ms S .
                 +1s  C S seq=100000                     # reused_ports holder=syn_receiver gap=1.001
                 +1ms S . ack=102                        # holder=syn_receiver outcome=challenged
                 +1ms C R seq=102                        # rst cause=time_wait",
        flows: &["close=fin_server", "reused=true prev_close=fin_server close=rst_client"],
    },
    Case {
        name: "taken again where both wait, refused",
        parts: &[HANDSHAKE, EXCHANGE],
        script: "+1ms S F.
                 +1us C F. ack=501
                 +1ms S .
                 +1us C .
                 +1s  C S  seq=100000                    # reused_ports holder=both gap=1.001001
                 +1ms S R. seq=0 ack=100001              # rst cause=time_wait outcome=refused",
        flows: &["close=fin_server", r#"reused=true rst_why=[[12,"server","refused"]]"#],
    },
    Case {
        name: "taken again after a reset, and refused",
        parts: &[HANDSHAKE, EXCHANGE],
        script: "+1ms S R.                               # rst cause=abort
                 +1s  C S  seq=100000                    # reused_ports holder=nobody gap=1.0
                 +1ms S R. seq=0 ack=100001              # rst cause=refused outcome=refused",
        flows: &["close=rst_server", r#"reused=true rst_why=[[9,"server","refused"]]"#],
    },
    Case {
        name: "taken again after a reset, and ignored",
        parts: &[HANDSHAKE, EXCHANGE],
        script: "+1ms C R.                               # rst cause=abort
                 +1s  C S seq=100000                     # reused_ports holder=nobody gap=1.0
                 +1s  C S seq=100000                     # retransmission syn_retransmission kind=syn outcome=ignored",
        flows: &["close=rst_client", "reused=true syn=2 syn_retransmissions=[1,0]"],
    },
    Case {
        name: "taken again while it is open, challenged, reset, and the SYN sent again",
        parts: &[HANDSHAKE, EXCHANGE],
        script: "+1s   C S  seq=100000                   # reused_ports holder=open
                 +1ms  S .  ack=101                      # outcome=challenged
                 +1ms  C R  seq=101                      # rst cause=time_wait
                 +10ms C S  seq=100000                   # retransmission spurious_retransmission syn_retransmission
                 +1ms  S S. seq=200000 ack=100001
                 +1ms  C .  seq=100001 ack=200001",
        flows: &["close=none", "reused=true reused_gap=null reused_idle=1.0 prev_close=none syn=2 syn_retransmissions=[1,0]"],
    },
    Case {
        name: "taken again while it is open, accepted, and reset at once",
        parts: &[HANDSHAKE, EXCHANGE],
        script: "+1s  C S  seq=100000                    # reused_ports holder=open
                 +1ms S S. seq=200000 ack=100001         # outcome=accepted
                 +1ms C .  seq=100001 ack=200001
                 +1ms S R  seq=200001                    # rst cause=after_reuse",
        flows: &["close=none", "reused=true close=rst_server"],
    },
    Case {
        name: "taken again long after its TIME-WAIT",
        parts: &[HANDSHAKE, EXCHANGE, CLOSE],
        script: "+200s C S seq=100000                    # reused_ports
                 +1ms  S S. seq=200000 ack=100001",
        flows: &["close=fin_client", "reused=true reused_gap=200.001 reuse=null"],
    },
    Case {
        name: "silent for longer than the tables wait",
        parts: &[HANDSHAKE, EXCHANGE],
        script: "+4000s C P. len=100
                 +1ms   S .",
        flows: &["packets=[5,3] reused=false close=none"],
    },
    Case {
        name: "a SYN that crosses its answer",
        parts: &[],
        script: "0     C S
                 +10ms S S.
                 +1ms  C S  seq=0                        # retransmission spurious_retransmission syn_retransmission kind=syn
                 +2ms  C .",
        flows: &["handshake_rtt=0.002 syn_rtt=0.01 ack_rtt=0.003"],
    },
    Case {
        name: "a request that gets no answer",
        parts: &[HANDSHAKE],
        script: "+1ms C P. len=800
                 +1ms S .
                 +1s  S F.
                 +1ms C F.
                 +1ms S .                                # unanswered_bytes=800",
        flows: &["unanswered=true unanswered_bytes=800 close=fin_server bytes=[800,0]"],
    },
];

/// What is expected of one line: labels, and fields with their values.
fn expected(text: &str) -> (BTreeSet<String>, Vec<(String, Value)>) {
    let (mut labels, mut fields) = (BTreeSet::new(), Vec::new());
    for word in text.split_whitespace() {
        match word.split_once('=') {
            None => drop(labels.insert(word.to_owned())),
            Some((key, value)) => {
                let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
                fields.push((key.to_owned(), value));
            }
        }
    }
    (labels, fields)
}

/// Numbers to the microsecond, which is what the core keeps; the rest as it is.
fn same(is: &Value, expected: &Value) -> bool {
    match (is.as_f64(), expected.as_f64()) {
        (Some(is), Some(expected)) => (is - expected).abs() < 1.5e-6,
        _ => is == expected,
    }
}

/// What of the fields is not as expected.
fn differences(line: &Value, fields: &[(String, Value)], what: &str) -> Vec<String> {
    let wrong = fields.iter().filter(|(key, value)| !same(&line[key], value));
    wrong.map(|(key, value)| format!("{what}: {key} is {}, expected is {value}", line[key])).collect()
}

fn labels(line: &Value) -> BTreeSet<String> {
    let labels = line["analysis"].as_array().expect("a packet's line has labels");
    labels.iter().map(|label| label.as_str().expect("a label is text").to_owned()).collect()
}

/// What is not said as expected of the case.
pub fn play(captures: &Captures, case: &Case, script: Script) -> Vec<String> {
    let text = format!("{}\n{}", case.parts.concat(), case.script);
    let file = captures.write("case.pcap", script, &text);
    let output = printed(&[&file], &["--output", "jsonl"]);
    let packets = lines(&output, "packet");
    let sent: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    assert_eq!(packets.len(), sent.len(), "{}: one line for each packet", case.name);
    let mut wrong = Vec::new();
    for (i, (packet, sent)) in packets.iter().zip(sent).enumerate() {
        let what = format!("{}, packet {}, {}", case.name, i + 1, sent.trim());
        let (wanted, fields) = expected(sent.split_once('#').map_or("", |(_, told)| told));
        let labels = labels(packet);
        if labels != wanted || packet["frame"] != i + 1 {
            wrong.push(format!("{what}: labels are {labels:?}: {packet}"));
        }
        wrong.extend(differences(packet, &fields, &what));
    }
    let mut flows = lines(&output, "flow");
    flows.sort_by_key(|flow| flow["first_frame"].as_u64());
    assert_eq!(flows.len(), case.flows.len(), "{}: one line for each connection", case.name);
    for (flow, wanted) in flows.iter().zip(case.flows) {
        wrong.extend(differences(flow, &expected(wanted).1, case.name));
    }
    wrong
}

#[test]
fn each_phenomenon_is_told() {
    let captures = Captures::new();
    let wrong: Vec<_> = CASES.iter().flat_map(|case| play(&captures, case, Script::default())).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The same where sequence numbers wrap in the middle of it. (IPv6 has no identifications; other evidence, other words.)
#[test]
fn each_phenomenon_is_told_across_the_wrap() {
    let captures = Captures::new();
    let script = || Script::default().isn(u32::MAX - 150, u32::MAX - 300);
    let wrong: Vec<_> = CASES.iter().flat_map(|case| play(&captures, case, script())).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn addresses_of_both_families_stand_in_the_lines() {
    let captures = Captures::new();
    for (script, client, server) in [
        (Script::default(), CLIENT.v4.to_string(), SERVER.v4.to_string()),
        (
            Script::between((CLIENT.v6, 40_000), (SERVER.v6, 443)),
            CLIENT.v6.to_string(),
            SERVER.v6.to_string(),
        ),
    ] {
        let file = captures.write("a.pcap", script, HANDSHAKE);
        let output = printed(&[&file], &["--output", "jsonl"]);
        let packet = &lines(&output, "packet")[1];
        assert_eq!((&packet["src"], &packet["sport"]), (&Value::from(server.clone()), &Value::from(443)));
        assert_eq!((&packet["dst"], &packet["flags"]), (&Value::from(client.clone()), &Value::from(0x12)));
        assert_eq!(packet["time_epoch"], "1700000000.001000000");
        let flow = &lines(&output, "flow")[0];
        assert_eq!((&flow["src"], &flow["dst"]), (&Value::from(client), &Value::from(server)));
    }
}

/// Every word of the core's tables is expected somewhere above, and so can go wrong there.
#[test]
fn no_word_is_left_out() {
    let text: String =
        CASES.iter().map(|case| format!("{} {}\n", case.parts.concat(), case.script)).collect();
    let told: BTreeSet<&str> = text.split_whitespace().collect();
    let words = |key: &str, names: Vec<&str>| -> Vec<String> {
        names.iter().map(|name| format!("{key}={name}")).collect()
    };
    let usual = |v: &&Verdict| !matches!(v, Verdict::None | Verdict::InOrder);
    let wanted = [
        words("verdict", Verdict::ALL.iter().filter(usual).map(|v| v.name()).collect()),
        words("kind", RetransKind::ALL.iter().map(|k| k.name()).collect()),
        words("cause", Cause::ALL.iter().map(|c| c.name()).collect()),
        words("origin", Origin::ALL.iter().map(|o| o.name()).collect()),
        words("holder", Holder::ALL.iter().map(|h| h.name()).collect()),
        words("outcome", Outcome::ALL.iter().map(|o| o.name()).collect()),
    ];
    let missing: Vec<String> = wanted.concat().into_iter().filter(|w| !told.contains(w.as_str())).collect();
    assert!(missing.is_empty(), "no case expects {missing:?}");
}
