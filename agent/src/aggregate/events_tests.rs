//! Tests of the event store.

use super::*;
use agent_ebpf::{
    anomaly::{detect, reuse::Holder},
    facts::Facts,
    flow::Flow,
    phase::Phase,
    scoreboard::Counts,
    traffic::Close,
    wire::Segment,
};
use std::time::UNIX_EPOCH;

fn segment() -> Segment {
    let mut s = Segment::blank();
    (s.src, s.sport) = (Addr::v4([192, 0, 2, 1]), 40_000);
    (s.dst, s.dport) = (Addr::v4([192, 0, 2, 9]), 443);
    s.flags = Flags(Flags::ACK | Flags::PSH);
    s
}

fn names() -> Names {
    Names {
        points: vec!["outside".into()],
        services: vec!["other".into(), "card".into()],
        ..Names::default()
    }
}

fn record(facts: &Facts) -> AnomalyRecord {
    let mut set = 0;
    detect(facts, |anomaly, _, _| set |= 1 << anomaly as u32);
    let s = segment();
    let head = Head {
        at: Nanos(1_000_000_000),
        client: s.src,
        client_port: s.sport,
        server: s.dst,
        server_port: s.dport,
        ..Head::default()
    };
    let mut record = AnomalyRecord::default();
    record.fill(&s, facts, AnomalySet(set), head);
    record
}

fn end(client_port: u16) -> EndRecord {
    let flow =
        Flow { close: Close::FinClient as u8 + 1, phase: Phase::Closed as u8, svc: 1, ..Flow::default() };
    let head = Head {
        client_port,
        server_port: 443,
        svc: 1,
        client: segment().src,
        server: segment().dst,
        ..Head::default()
    };
    EndRecord { head, counts: [Counts::default(); 2], flow }
}

/// An exemplar must stand at the very counter that the kernel raised.
#[test]
fn an_event_stands_for_the_counters_it_was_counted_in() {
    let blank = |side| Facts::blank(side, 1, 2);
    let mut all = Vec::new();
    for side in Side::ALL {
        for verdict in Verdict::ALL {
            for kind in RetransKind::ALL {
                all.push(Facts { verdict: *verdict, kind: *kind, syn: true, ..blank(*side) });
            }
        }
        for cause in Cause::ALL {
            for foreign in [false, true] {
                all.push(Facts {
                    rst: true,
                    cause: *cause as u8 + 1,
                    foreign,
                    unanswered: 9,
                    ..blank(*side)
                });
            }
        }
        for holder in Holder::ALL {
            for outcome in agent_ebpf::anomaly::Outcome::ALL {
                all.push(Facts {
                    decided: true,
                    holder: Some(*holder),
                    outcome: Some(*outcome),
                    ..blank(*side)
                });
            }
        }
        all.push(Facts { dup_ack: true, dsack: true, zero_window: true, ..blank(*side) });
    }
    for facts in &all {
        let mut counted = Vec::new();
        detect(facts, |_, place, _| counted.push(place));
        let named: Vec<usize> = series(&record(facts)).map(|key| key.counter).collect();
        assert_eq!(named, counted, "{facts:?}");
    }
}

#[test]
fn events_are_listed_newest_first_and_found_by_number() {
    let mut events = Events::default();
    let gap = Facts { verdict: Verdict::Gap, svc: 1, ..Facts::blank(Side::Client, 1, 1) };
    let now = UNIX_EPOCH + Duration::from_secs(100);
    events.push(&Record::Anomaly(record(&gap)), now, Nanos(3_000_000_000));
    events.push(&Record::End(end(40_000)), now, Nanos(0));
    let stall = Duration::from_secs(5);
    let list = |filter: &Filter, limit| -> Vec<u64> {
        events.list(filter, limit, &names(), stall).iter().map(|row| row.id).collect()
    };
    assert_eq!(list(&Filter::default(), 9), [2, 1]);
    assert_eq!(list(&Filter::default(), 1), [2]);
    let asked = crate::api::EventFilter { anomaly: Some("gap".into()), ..Default::default() };
    assert_eq!(list(&Filter::of_events(&asked, &names()).unwrap(), 9), [1]);
    let found = serde_json::to_value(events.find(1, &names(), stall).unwrap()).unwrap();
    assert_eq!(found["type"], "anomaly");
    assert_eq!(found["time"], "1970-01-01T00:01:38.000000Z", "two seconds before it was read");
    assert_eq!(found["anomalies"], serde_json::json!(["gap"]));
    assert_eq!(found["client"]["address"], "192.0.2.1");
    assert_eq!(found["segment"]["flags"], "PA");
    assert_eq!(found["kind"], serde_json::Value::Null);
    let end = serde_json::to_value(events.find(2, &names(), stall).unwrap()).unwrap();
    assert_eq!(
        (&end["type"], &end["close"], &end["client"]["port"]),
        (&"end".into(), &"fin_client".into(), &40_000.into())
    );
    assert!(events.find(3, &names(), stall).is_none());
}

#[test]
fn the_store_is_bounded_and_one_kind_does_not_push_out_the_other() {
    let mut events = Events::default();
    events.push(
        &Record::Anomaly(record(&Facts { dsack: true, ..Facts::blank(Side::Client, 0, 1) })),
        UNIX_EPOCH,
        Nanos(0),
    );
    for _ in 0..ENDS + 10 {
        events.push(&Record::End(end(1)), UNIX_EPOCH, Nanos(0));
    }
    assert_eq!((events.anomalies.len(), events.ends.len()), (1, ENDS));
    assert!(events.find(1, &names(), Duration::ZERO).is_some());
    assert!(events.find(2, &names(), Duration::ZERO).is_none());
}
