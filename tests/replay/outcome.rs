//! Several captures, parts of the output, captures that are broken, and the exit code of each.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use harness::agent::binary;
use harness::script::Script;

use crate::replay::{Captures, EXCHANGE, lines, printed, replay};

#[test]
fn each_capture_is_a_point_with_frames_of_its_own() {
    let captures = Captures::new();
    let outside = captures.write("outside.pcap", Script::default(), EXCHANGE);
    let dmz = captures.write("dmz.pcap", Script::default(), EXCHANGE);
    let output = printed(&[&outside, &dmz], &["--output", "jsonl"]);
    let told: Vec<_> =
        lines(&output, "packet").iter().map(|p| (p["point"].clone(), p["frame"].clone())).collect();
    let wanted: Vec<_> =
        ["outside", "dmz"].iter().flat_map(|point| (1..=5).map(|n| ((*point).into(), n.into()))).collect();
    assert_eq!(told, wanted);
    let flows = lines(&output, "flow");
    assert_eq!(flows.iter().map(|f| &f["flow"]).collect::<Vec<_>>(), [0, 1], "numbers go on");
    assert!(flows.iter().all(|f| f["reused"] == false), "the same connection at another point is no reuse");
}

/// One that its client closed, and one that is open to the end.
#[test]
fn connections_that_ended_have_the_lines_of_the_connection_log() {
    let captures = Captures::new();
    let ended = format!("{EXCHANGE} +1ms C F.\n +1ms S F.\n +1ms C .\n");
    let outside = captures.write("outside.pcap", Script::default(), &ended);
    let open = captures.write("open.pcap", Script::default(), EXCHANGE);
    let output = replay(&[&outside, &open], &["--output", "connections"]);
    let (text, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 connection has not ended, and no line"), "{said}");
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("each line is one JSON object")).collect();
    let [line] = &lines[..] else { panic!("{text}") };
    for (key, value) in [
        ("time", "2023-11-14T22:13:20.007000Z".into()),
        ("point", "outside".into()),
        ("client_port", 40_000.into()),
        ("result", "answered".into()),
        ("close", "fin_client".into()),
        ("request_bytes", serde_json::Value::from(100)),
        ("server_bytes", 500.into()),
        ("handshake_seconds", 0.002.into()),
        ("first_byte_seconds", 0.001.into()),
        ("duration_seconds", 0.007.into()),
    ] {
        assert_eq!(line[key], value, "{key} of {line}");
    }
}

#[test]
fn one_kind_of_lines_can_be_had_alone() {
    let captures = Captures::new();
    let file = captures.write("a.pcap", Script::default(), EXCHANGE);
    for (which, packets, flows) in [("packets", 5, 0), ("flows", 0, 1)] {
        let output = printed(&[&file], &["--output", "jsonl", "--lines", which]);
        assert_eq!((lines(&output, "packet").len(), lines(&output, "flow").len()), (packets, flows));
    }
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let captures = Captures::new();
    let file = captures.write("a.pcap", Script::default(), EXCHANGE);
    for arguments in [&["--lines", "flows"][..], &["--output", "xml"]] {
        assert_eq!(replay(&[&file], arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert_eq!(replay(&[], &[]).status.code(), Some(2), "no capture");
}

#[test]
fn a_cut_capture_is_judged_as_far_as_it_goes() {
    let captures = Captures::new();
    let whole = fs::read(captures.write("whole.pcap", Script::default(), EXCHANGE)).expect("it was written");
    let cut = captures.write_bytes("cut.pcap", &whole[..whole.len() - 10]);
    let last_record = whole.len() - 16 - (14 + 20 + 20 + 500);
    for output in ["jsonl", "summary"] {
        let done = replay(&[&cut], &["--output", output]);
        assert_eq!(done.status.code(), Some(1));
        let errors = String::from_utf8_lossy(&done.stderr);
        assert!(errors.contains(&format!("byte {last_record}")) && errors.contains("cut.pcap"), "{errors}");
        let text = String::from_utf8_lossy(&done.stdout);
        if output == "jsonl" {
            assert_eq!(lines(&text, "packet").len(), 4, "{text}");
        } else {
            assert!(text.contains(&format!("byte {last_record}")), "{text}");
        }
    }
}

#[test]
fn of_a_thousand_broken_blocks_some_are_told_and_the_rest_are_counted() {
    let captures = Captures::new();
    // A section header, then packet blocks with no room for a packet, then three bytes of a block.
    let words = |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|word| word.to_le_bytes()).collect() };
    let section = words(&[0x0a0d_0d0a, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28]);
    let broken = words(&[6, 12, 12]).repeat(1_000);
    let cut = section.len() + broken.len();
    let file = captures.write_bytes("broken.pcapng", &[&section[..], &broken, &[6, 0, 0]].concat());
    for output in ["jsonl", "summary"] {
        let done = replay(&[&file], &["--output", output]);
        assert_eq!(done.status.code(), Some(1));
        let errors = String::from_utf8_lossy(&done.stderr);
        let report = String::from_utf8_lossy(&done.stdout);
        for text in if output == "jsonl" { vec![errors] } else { vec![errors, report] } {
            for told in ["byte 28:", &format!("byte {cut}: the file ends inside"), " 980 more places"] {
                assert!(text.contains(told), "no {told:?} in {text}");
            }
            assert_eq!(text.matches("broken.pcapng: byte").count(), 21, "{text}");
        }
    }
}

#[test]
fn what_cannot_be_read_at_all_is_said_and_the_rest_is_read() {
    let captures = Captures::new();
    let file = captures.write("a.pcap", Script::default(), EXCHANGE);
    let text = captures.write_bytes("notes.txt", b"these are notes and no packets");
    let missing = captures.path("missing.pcap");
    for bad in [&text, &missing] {
        let done = replay(&[bad, &file], &["--output", "jsonl"]);
        assert_eq!(done.status.code(), Some(1));
        let errors = String::from_utf8_lossy(&done.stderr);
        assert!(errors.contains(&bad.display().to_string()), "{errors}");
        assert_eq!(lines(&String::from_utf8_lossy(&done.stdout), "packet").len(), 5);
    }
}

#[test]
fn standard_input_is_a_capture_too() {
    let captures = Captures::new();
    let file = captures.write("a.pcap", Script::default(), EXCHANGE);
    let mut command = Command::new(binary());
    let input = fs::File::open(&file).expect("it was written");
    let done =
        command.args(["replay", "-", "--output", "jsonl"]).stdin(input).output().expect("it can be started");
    assert!(done.status.success());
    let packets = lines(&String::from_utf8_lossy(&done.stdout), "packet").len();
    assert_eq!(packets, 5);
}

/// As `replay … | head` does.
#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let captures = Captures::new();
    // More than a pipe and a buffer hold.
    let text = format!("{EXCHANGE}{}", "+1ms C P. len=10\n".repeat(5_000));
    let file = captures.write("a.pcap", Script::default(), &text);
    let mut command = Command::new(binary());
    command
        .arg("replay")
        .arg(&file)
        .args(["--output", "jsonl"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("it can be started");
    drop(child.stdout.take());
    let done = child.wait_with_output().expect("it ends");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn services_and_limits_come_from_the_configuration() {
    let captures = Captures::new();
    let config =
        "services: [{name: card, prefixes: [10.77.0.0/16], ports: [443]}]\nlimits: {time_wait: 500ms}";
    let config = captures.write_bytes("f.yaml", config.as_bytes());
    let text = format!("{EXCHANGE}+1ms C F.\n+1ms S F.\n+1ms C .\n+1s C S seq=100000\n");
    let file = captures.write("a.pcap", Script::default(), &text);
    let path = config.display().to_string();
    let output = printed(&[&file], &["--output", "jsonl", "--config.file", &path]);
    let flows = lines(&output, "flow");
    assert_eq!(flows.iter().map(|f| &f["svc"]).collect::<Vec<_>>(), ["card", "card"]);
    assert!(flows[1]["reuse"].is_null(), "its TIME-WAIT is over: {}", flows[1]);
    let report = printed(&[&file], &["--config.file", &path]);
    assert!(report.contains("card"), "{report}");
    let wrong = replay(&[&file], &["--config.file", "/nonexistent.yaml"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("/nonexistent.yaml"));
}

#[test]
fn packets_that_are_no_tcp_are_numbered_and_counted() {
    let captures = Captures::new();
    let mut bytes = fs::read(captures.write("a.pcap", Script::default(), EXCHANGE)).expect("it was written");
    // The second frame becomes ARP.
    let second = 24 + 16 + (14 + 20 + 20) + 16;
    bytes[second + 12..second + 14].copy_from_slice(&[0x08, 0x06]);
    let file = captures.write_bytes("a.pcap", &bytes);
    let output = printed(&[&file], &["--output", "jsonl"]);
    let frames: Vec<_> = lines(&output, "packet").iter().map(|p| p["frame"].clone()).collect();
    assert_eq!(frames, [1, 3, 4, 5]);
    let report = printed(&[Path::new(&file)], &[]);
    assert!(report.contains("not_ip"), "{report}");
}
