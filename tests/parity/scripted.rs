//! Conversations written down, one for each thing that can be told of a connection: both sides agree, and tell it.

use std::collections::BTreeSet;

use agent_ebpf::anomaly::{Anomaly, Cause, Holder, Origin, Outcome};
use agent_ebpf::counter::{Series, width};
use agent_ebpf::facts::RetransKind;
use agent_ebpf::histogram::Histogram;
use agent_ebpf::label::Side;
use agent_ebpf::record::Record;
use agent_ebpf::traffic::Traffic;
use harness::impair::Direction;
use harness::script::Script;
use harness::tcp::pattern_bytes;
use harness::topology::{CLIENT, SERVER};

use harness::parity::packet::{Hook, Packet};
use harness::parity::rig::{Knowledge, Rig, agree};

const HANDSHAKE: &str = "
    0      C S  mss=1460 sackok ws=7
    +1ms   S S. mss=1460 sackok ws=7
    +1ms   C .
";
const EXCHANGE: &str = "
    +1ms   C P. len=100
    +1ms   S P. len=500
    +1ms   C .
";
const CLOSE: &str = "
    +1ms   C F.
    +1ms   S F.
    +1ms   C .
";

/// What happens after the parts named, and what must be told of it: rows with their labels' values.
type Case = (&'static [&'static str], &'static str, &'static [&'static str]);

const CASES: &[Case] = &[
    (&[HANDSHAKE, EXCHANGE, CLOSE], "", &["connections_opened/syn", "connections_closed/fin_client", "connections_established"]),
    (&[HANDSHAKE, EXCHANGE], "+1ms S F.\n +1ms C F.\n +1ms S .", &["connections_closed/fin_server"]),
    (&[], "0 C P. len=10\n +1ms S P. len=10", &["connections_opened/joined_late"]),
    (&[HANDSHAKE, EXCHANGE], "+1ms C . len=100 seq=201\n +1ms S . ack=101", &["gaps", "duplicate_acks"]),
    (&[HANDSHAKE, EXCHANGE], "+1ms C . len=100 seq=201 id=1011\n +10us C . len=100 seq=101 id=1010", &["gaps", "out_of_order_segments"]),
    (&[HANDSHAKE, EXCHANGE], "+1ms C . len=100 seq=201 id=1010\n +5ms S . ack=101 sack=201-301\n +1ms C . len=100 seq=101 id=1011", &["gaps", "late_fill_segments/fast"]),
    (&[HANDSHAKE, EXCHANGE], "+1ms C P. len=100\n +10us C P. len=100\n +10us C P. len=100\n +10us C P. len=100\n
        +1ms S . ack=101\n +1us S . ack=101 sack=201-301\n +1us S . ack=101 sack=201-401\n +1us S . ack=101 sack=201-501\n
        +1ms C P. len=100 seq=101", &["retransmitted_segments/fast", "duplicate_acks"]),
    (&[HANDSHAKE, EXCHANGE], "+1ms C P. len=100\n +300ms C P. len=100 seq=101\n +1300ms C P. len=100 seq=101\n +2600ms C P. len=100 seq=101\n
        +5s C R. seq=201", &["retransmitted_segments/probe", "retransmitted_segments/timeout", "resets/timeout/endpoint", "unanswered_requests", "connections_closed/rst_client"]),
    (&[HANDSHAKE, EXCHANGE], "+1ms C P. len=100\n +10us C P. len=100\n +500us C P. len=100 seq=101", &["retransmitted_segments/unknown"]),
    (&[HANDSHAKE, EXCHANGE], "+1ms C P. len=100\n +1ms S . \n +20ms C P. len=100 seq=101\n +1ms S . sack=101-201", &["spurious_segments/probe", "duplicate_sacks"]),
    (&[HANDSHAKE, EXCHANGE], "+1ms C P. len=100 id=1004\n +10us C P. len=100 seq=101 id=1004", &["duplicate_segments"]),
    (&[], "0 C . len=100 seq=1000\n +1ms S .\n +1s C . len=100 seq=500", &["unknown_segments"]),
    (&[HANDSHAKE, EXCHANGE], "+10s C . seq=100\n +1ms S .", &["keepalives"]),
    (&[HANDSHAKE, EXCHANGE], "+1ms S . win=0\n +1s C . len=1\n +1s C . seq=100", &["zero_windows", "zero_window_probes"]),
    (&[], "0 C S\n +1s C S seq=0\n +1ms S S.\n +1s S S. seq=0\n +1ms C .", &["syn_retransmissions", "syn_ack_retransmissions", "retransmitted_segments/syn"]),
    (&[], "0 C S\n +1ms S R. ack=1", &["resets/refused/endpoint", "connections_closed/rst_server"]),
    (&[HANDSHAKE], "+1ms C R.", &["resets/half_open/endpoint"]),
    (&[HANDSHAKE, EXCHANGE], "+1ms C F.\n +1ms S R.", &["resets/after_fin/endpoint"]),
    (&[HANDSHAKE, EXCHANGE], "+31s S R.", &["resets/idle/endpoint"]),
    (&[HANDSHAKE, EXCHANGE], "+1ms S R. ttl=200", &["resets/abort/middlebox"]),
    (&[HANDSHAKE, EXCHANGE, EXCHANGE], "+1ms S R. id=30000", &["resets/abort/middlebox"]),
    (&[], "0 S R", &["resets/unknown_flow/endpoint"]),
    (&[HANDSHAKE, EXCHANGE, CLOSE], "+1s C S seq=100000\n +1ms S S. seq=200000 ack=100001\n +1ms C . seq=100001 ack=200001", &["five_tuple_reuses/syn_sender/accepted"]),
    (&[HANDSHAKE, EXCHANGE], "+1ms S F.\n +1ms C F.\n +1ms S .\n +1s C S seq=100000\n +1ms S . ack=102\n +1ms C R seq=102", &["five_tuple_reuses/syn_receiver/challenged", "resets/time_wait/endpoint"]),
    (&[HANDSHAKE, EXCHANGE], "+1ms S F.\n +1us C F. ack=501\n +1ms S .\n +1us C .\n +1s C S seq=100000\n +1ms S R. seq=0 ack=100001", &["five_tuple_reuses/both/refused", "resets/time_wait/endpoint"]),
    (&[HANDSHAKE, EXCHANGE], "+1ms C R.\n +1s C S seq=100000\n +1s C S seq=100000", &["five_tuple_reuses/nobody/ignored"]),
    (&[HANDSHAKE, EXCHANGE], "+1s C S seq=100000\n +1ms S . ack=101\n +1ms C R seq=101", &["five_tuple_reuses/open/challenged", "resets/time_wait/endpoint"]),
    (&[HANDSHAKE, EXCHANGE], "+1s C S seq=100000\n +1ms S S. seq=200000 ack=100001\n +1ms C . seq=100001 ack=200001\n +1ms S R seq=200001", &["five_tuple_reuses/open/accepted", "resets/after_reuse/endpoint", "connections_closed/replaced"]),
    (&[HANDSHAKE, EXCHANGE], "+1s C S seq=100000\n +1ms S R. seq=0 ack=100001", &["five_tuple_reuses/open/refused", "resets/time_wait/endpoint"]),
    (&[], "0 C S\n +1s C S seq=100000", &["connections_closed/handshake_silence"]),
    (&[], "0 C S\n +1ms S S\n +1ms C S. seq=0\n +1us S S. seq=0\n +1ms C P. len=10\n +1ms S P. len=10", &["connections_opened/syn"]),
    (&[HANDSHAKE, EXCHANGE], "+1ms C P. len=50\n +1ms S F.\n +1ms C F.\n +1ms S .", &["unanswered_requests", "connections_closed/fin_server"]),
];

fn packets(script: Script, text: &str, ingress: Hook) -> Vec<Packet> {
    let steps = script.steps(text).into_iter().map(|step| Packet {
        at: 1_000_000_000 + u64::try_from(step.at.as_nanos()).expect("a script is short"),
        hook: if step.direction == Direction::ToServer { ingress } else { Hook::TcOut },
        gso: (0, 0),
        bytes: step.frame.build(),
    });
    steps.collect()
}

/// The rows that were counted, with their labels' values.
fn told(known: &Knowledge) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    let mut ask =
        |row: &dyn Fn(Side, usize) -> usize, series: &str, labels: &[agent_ebpf::label::LabelTable]| {
            for sub in 0..width(labels) / 2 {
                let counted = |side: &Side| known.totals.iter().any(|t| t[row(*side, sub)] > 0);
                if !Side::ALL.iter().any(counted) {
                    continue;
                }
                let (mut name, mut rest) = (String::new(), sub);
                for label in labels.iter().rev() {
                    name = format!("/{}{name}", label.values[rest % label.values.len()]);
                    rest /= label.values.len();
                }
                out.insert(format!("{series}{name}"));
            }
        };
    for a in Anomaly::ALL {
        ask(&|side, sub| a.place(side, sub), a.series(), a.labels());
    }
    for t in Traffic::ALL {
        ask(&|side, sub| t.place(side, sub), t.series(), t.labels());
    }
    out
}

#[test]
fn every_case_is_told_and_kernel_and_host_agree() {
    let mut rig = Rig::get();
    let mut all = BTreeSet::new();
    for (parts, rest, expected) in CASES {
        let text = format!("{}\n{rest}", parts.concat());
        let v6 = Script::between((CLIENT.v6, 40_000), (SERVER.v6, 443));
        for script in [Script::default(), Script::default().isn(u32::MAX - 200, u32::MAX - 300), v6] {
            for ingress in [Hook::Xdp, Hook::TcIn] {
                let known = agree(&mut rig, &packets(script, &text, ingress), || text.clone());
                let told = told(&known);
                // Only IPv4 has identifications.
                if known.flows.keys().chain(known.half_open.keys()).all(|key| key.starts_with("V4")) {
                    for row in *expected {
                        assert!(told.contains(*row), "{row} is not told, but {told:#?} of\n{text}");
                    }
                }
                all.extend(told);
            }
        }
    }
    let has = |series: &str, value: &str| {
        all.iter().any(|row| {
            let mut parts = row.split('/');
            parts.next() == Some(series) && (value.is_empty() || parts.any(|v| v == value))
        })
    };
    let rows = Anomaly::ALL.iter().map(|a| (a.series(), ""));
    let causes = Cause::ALL.iter().map(|c| (Anomaly::Reset.series(), c.name()));
    let origins = Origin::ALL.iter().map(|o| (Anomaly::Reset.series(), o.name()));
    let holders = Holder::ALL.iter().map(|h| (Anomaly::Reuse.series(), h.name()));
    let outcomes = Outcome::ALL.iter().map(|o| (Anomaly::Reuse.series(), o.name()));
    let kinds = RetransKind::ALL.iter().map(|k| (Anomaly::Retransmission.series(), k.name()));
    let wanted = rows.chain(causes).chain(origins).chain(holders).chain(outcomes).chain(kinds);
    let missing: Vec<_> = wanted.filter(|(series, value)| !has(series, value)).collect();
    assert!(missing.is_empty(), "no case tells {missing:?}");
}

/// What passes after a handshake, and of it what is quoted: who said it, from which byte on, and how many.
type Quotes = (&'static str, &'static [(Side, u64, usize)]);

const QUOTED: &[Quotes] = &[
    (EXCHANGE, &[(Side::Client, 0, 100), (Side::Server, 0, 256)]),
    (
        "+1ms C . len=100\n +1ms C P. len=100\n +1ms S P. len=50\n +1ms C P. len=20",
        &[(Side::Client, 0, 100), (Side::Server, 0, 50), (Side::Client, 200, 20)],
    ),
    (
        "+1ms C . len=300 seq=301\n +10us C . len=300 seq=1\n +10us C P. len=300 seq=601\n +1ms S . len=40 seq=41\n +10us S P. len=40 seq=1",
        &[(Side::Client, 0, 256), (Side::Server, 0, 40)],
    ),
    ("+1ms C . len=100 seq=201\n +1ms S . ack=1\n +300ms C P. len=300 seq=1", &[(Side::Client, 0, 256)]),
    (
        "+1ms C . len=100\n +1ms C . len=100 seq=301\n +10us C . len=100 seq=201\n +10us C . len=100 seq=101",
        &[(Side::Client, 0, 100)],
    ),
    (
        "+1ms C . len=100 seq=301\n +10us C . len=100 seq=101\n +10us C . len=50 seq=1\n +10us C . len=50 seq=51",
        &[(Side::Client, 0, 50)],
    ),
];

#[test]
fn what_requests_and_answers_begin_with_is_quoted_in_whatever_order_it_passes() {
    let mut rig = Rig::get();
    for (rest, expected) in QUOTED {
        let text = format!("{HANDSHAKE}{rest}");
        for (script, ingress) in
            [(Script::default(), Hook::Xdp), (Script::default().isn(u32::MAX - 99, 7), Hook::TcIn)]
        {
            let known = agree(&mut rig, &packets(script, &text, ingress), || text.clone());
            let quotes = known.records.iter().filter_map(|bytes| match Record::decode(bytes) {
                Ok(Record::Text(quote)) => Some((quote.from, quote.text().to_vec())),
                _ => None,
            });
            let wanted = expected.iter().map(|(from, at, len)| (*from as u32, pattern_bytes(*at, *len)));
            assert_eq!(quotes.collect::<Vec<_>>(), wanted.collect::<Vec<_>>(), "of\n{text}");
        }
    }
}

/// From a close to the SYN that takes the five-tuple again, by the time handed in: counted to the nanosecond up to the
/// window of 60 s, and no reuse beyond.
#[test]
fn gaps_from_a_millisecond_to_seventy_seconds() {
    const MS: u64 = 1_000_000;
    let mut rig = Rig::get();
    for gap in [1, 2, 100, 999, 1_000, 5_000, 30_000, 59_999, 60_000, 60_001, 70_000] {
        // The server's FIN is the close; the client's last ACK comes a millisecond later.
        let syn = format!("+{}ms C S seq=100000\n +1ms S S. seq=200000 ack=100001", gap - 1);
        let text = format!("{HANDSHAKE}{EXCHANGE}{CLOSE}\n{syn}");
        for ingress in [Hook::Xdp, Hook::TcIn] {
            let known = agree(&mut rig, &packets(Script::default(), &text, ingress), || text.clone());
            let slot = |at: usize| known.totals.iter().map(|t| t[at]).sum::<u64>();
            let counted = told(&known).contains("five_tuple_reuses/syn_sender/accepted");
            let within = gap <= 60_000;
            assert_eq!(counted, within, "a gap of {gap} ms");
            assert_eq!(
                slot(Histogram::ReuseGap.sum()),
                if within { gap * MS } else { 0 },
                "a gap of {gap} ms"
            );
            assert_eq!(slot(Histogram::ReuseGap.bucket(gap * MS)), u64::from(within), "a gap of {gap} ms");
        }
    }
}
