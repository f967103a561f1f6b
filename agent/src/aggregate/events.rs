//! The last events: what the ring brought, kept until newer ones need the room.

use super::{
    Names,
    filter::{Filter, ip},
    rows::{self, Sight, seconds, stored},
    snapshot::{Exemplar, SeriesKey},
};
use crate::api::{AnomalyEvent, EndPoint, Event, EventRow, SegmentRow};
use crate::connection::http::{Http, Life, Texts, life};
use agent_ebpf::{
    anomaly::{Anomaly, AnomalySet, Cause, Origin},
    counter::{Series, place, width},
    facts::{Evidence, RetransKind, Verdict},
    flow::{Flow, FlowKey, FlowKey4, FlowKey6},
    label::{Direction, Side},
    record::{AnomalyRecord, EndRecord, Head, Record},
    scoreboard::Counts,
    time::Nanos,
    wire::{Addr, Flags},
};
use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, SystemTime},
};

/// Anomalies that are kept.
const ANOMALIES: usize = 8_192;
/// Ended connections that are kept: 11 MiB.
const ENDS: usize = 32_768;

/// An event, its number and its time.
#[derive(Debug, Clone, Copy)]
struct Numbered<T> {
    id: u64,
    at: SystemTime,
    what: T,
}

/// An ended connection, without its counts.
#[derive(Debug, Clone, Copy)]
struct Ended {
    key: FlowKey,
    flow: Flow,
    /// By the kernel's clock.
    at: Nanos,
}

impl Ended {
    const fn of(sight: &Sight, at: Nanos) -> Self {
        Self { key: sight.key, flow: sight.flow, at }
    }
}

/// The last events, and the newest one of each series.
#[derive(Debug, Default)]
pub struct Events {
    next_id: u64,
    anomalies: VecDeque<Numbered<AnomalyRecord>>,
    ends: VecDeque<Numbered<Ended>>,
    /// The counts of those that have any, which are few.
    counts: HashMap<u64, [Counts; 2]>,
    /// Of those, the numbers of the ones whose flow is still in the kernel's table.
    lingering: HashMap<Life, u64>,
    /// Ends that had to go for newer ones.
    forgotten: u64,
    /// What was said, of services whose HTTP is looked at.
    texts: Texts,
    exemplars: HashMap<SeriesKey, Exemplar>,
}

impl Events {
    /// Keep a record, received `age` after it was made by the kernel's clock.
    pub fn push(&mut self, record: &Record, now: SystemTime, clock: Nanos) {
        self.next_id += 1;
        let id = self.next_id;
        let at = |head: &Head| now - Duration::from_nanos(clock.since(head.at));
        match record {
            Record::Anomaly(record) => {
                let event = Numbered { id, at: at(&record.head), what: *record };
                for key in series(record) {
                    self.exemplars.insert(key, Exemplar { event_id: id, at: event.at });
                }
                let _ = keep(&mut self.anomalies, ANOMALIES, event);
            }
            Record::End(record) => {
                let ended = sight(record);
                let event = Numbered { id, at: at(&record.head), what: Ended::of(&ended, record.head.at) };
                self.lingering.insert(life(&ended), id);
                self.texts.end(&ended);
                self.count(id, &ended);
                if let Some(gone) = keep(&mut self.ends, ENDS, event) {
                    self.lingering.remove(&life(&self.sight(&gone)));
                    self.counts.remove(&gone.id);
                    self.forgotten += 1;
                }
            }
            Record::Text(record) => self.texts.take(record),
        }
    }

    /// Forgets all of some points.
    pub fn forget_points(&mut self, is_one: impl Fn(u8) -> bool) {
        let before = self.ends.len();
        self.anomalies.retain(|event| !is_one(event.what.head.point));
        let counts = &mut self.counts;
        self.ends.retain(|event| {
            let stays = !is_one(event.what.key.point());
            if !stays {
                counts.remove(&event.id);
            }
            stays
        });
        self.forgotten += (before - self.ends.len()) as u64;
        self.lingering.retain(|(key, _), _| !is_one(key.point()));
        self.texts.forget_points(&is_one);
        self.exemplars.retain(|series, _| !u8::try_from(series.point).is_ok_and(&is_one));
    }

    /// The newest event of each series.
    pub fn exemplars(&self) -> &HashMap<SeriesKey, Exemplar> {
        &self.exemplars
    }

    /// The event of a number.
    pub fn find(&self, id: u64, names: &Names, stall: Duration) -> Option<EventRow> {
        let anomaly = self.anomalies.binary_search_by_key(&id, |e| e.id).ok().map(|i| &self.anomalies[i]);
        let end = || self.ends.binary_search_by_key(&id, |e| e.id).ok().map(|i| &self.ends[i]);
        anomaly.map(|e| anomaly_row(e, names)).or_else(|| end().map(|e| self.end_row(e, names, stall)))
    }

    /// Takes the last state of a connection that has ended: what came after its end is in it, too.
    pub fn settle(&mut self, last: &Sight) {
        let Some(id) = self.lingering.remove(&life(last)) else { return };
        if let Ok(place) = self.ends.binary_search_by_key(&id, |event| event.id) {
            let end = &mut self.ends[place].what;
            *end = Ended::of(last, end.at);
            self.count(id, last);
        }
    }

    fn count(&mut self, id: u64, end: &Sight) {
        if end.counts != [Counts::default(); 2] {
            self.counts.insert(id, end.counts);
        } else {
            self.counts.remove(&id);
        }
    }

    fn sight(&self, end: &Numbered<Ended>) -> Sight {
        let counts = self.counts.get(&end.id).copied().unwrap_or_default();
        Sight { key: end.what.key, flow: end.what.flow, counts }
    }

    /// The ended connections that are kept, the oldest first.
    pub fn ended(&self) -> impl Iterator<Item = Sight> + '_ {
        self.ends.iter().map(|event| self.sight(event))
    }

    /// The same with their numbers and times, those with higher numbers than `id`.
    pub fn ends_after(&self, id: u64) -> impl Iterator<Item = (u64, SystemTime, Sight)> + '_ {
        let from = self.ends.partition_point(|event| event.id <= id);
        self.ends.range(from..).map(|event| (event.id, event.at, self.sight(event)))
    }

    /// What a connection said, of a service whose HTTP is looked at.
    pub fn http(&self, sight: &Sight) -> Option<&Http> {
        self.texts.of(sight)
    }

    /// Ended connections that were known and had to go for newer ones.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The newest `limit` events that a filter lets through, the newest first.
    pub fn list(&self, filter: &Filter, limit: usize, names: &Names, stall: Duration) -> Vec<EventRow> {
        let anomalies =
            self.anomalies.iter().rev().filter(|e| {
                filter.matches(&ends(&e.what.head), e.what.head.svc, AnomalySet(e.what.anomalies))
            });
        let endings = self.ends.iter().rev().filter(|e| {
            let sight = self.sight(e);
            filter.matches(&sight.key.end_points(), sight.flow.svc, sight.anomalies())
        });
        let mut rows: Vec<EventRow> = anomalies.take(limit).map(|e| anomaly_row(e, names)).collect();
        rows.extend(endings.take(limit).map(|e| self.end_row(e, names, stall)));
        rows.sort_by_key(|row| std::cmp::Reverse(row.id));
        rows.truncate(limit);
        rows
    }

    fn end_row(&self, event: &Numbered<Ended>, names: &Names, stall: Duration) -> EventRow {
        let row = self.sight(event).row(names, event.what.at, stall);
        EventRow { id: event.id, time: time(event.at), what: Event::End(Box::new(row)) }
    }
}

/// Keeps an event; the one that had to go for it.
fn keep<T>(queue: &mut VecDeque<Numbered<T>>, room: usize, event: Numbered<T>) -> Option<Numbered<T>> {
    let gone = if queue.len() == room { queue.pop_front() } else { None };
    queue.push_back(event);
    gone
}

/// The counters that a record was counted in.
fn series(record: &AnomalyRecord) -> impl Iterator<Item = SeriesKey> {
    let (point, svc) = (usize::from(record.head.point), usize::from(record.head.svc));
    AnomalySet(record.anomalies).iter().filter_map(move |anomaly| {
        let sub = anomaly.labels().iter().try_fold(0, |sub, table| {
            let code = match table.key {
                "kind" => Some(record.kind),
                "cause" => record.cause.checked_sub(1),
                "origin" => record.origin.checked_sub(1),
                "holder" => record.holder.checked_sub(1),
                "outcome" => record.outcome.checked_sub(1),
                _ => None,
            };
            Some(sub * table.values.len() + usize::from(code?))
        })?;
        // These two are the client's doing, whoever's segment showed them.
        let side = match anomaly {
            Anomaly::Reuse | Anomaly::UnansweredRequest => Side::Client,
            _ => Side::from_code(record.from)?,
        };
        Some(SeriesKey { point, svc, counter: place(anomaly.base(), width(anomaly.labels()), side, sub) })
    })
}

fn ends(head: &Head) -> [(Addr, u16); 2] {
    [(head.client, head.client_port), (head.server, head.server_port)]
}

fn end_points(head: &Head, names: &Names) -> [EndPoint; 2] {
    ends(head).map(|(addr, port)| names.shown.end(EndPoint { address: ip(addr), port }))
}

fn anomaly_row(event: &Numbered<AnomalyRecord>, names: &Names) -> EventRow {
    let r = &event.what;
    let [client, server] = end_points(&r.head, names);
    let set = AnomalySet(r.anomalies);
    let again = [Anomaly::LateFill, Anomaly::Retransmission, Anomaly::Spurious].iter().any(|a| set.has(*a));
    let what = AnomalyEvent {
        point: names.point(r.head.point),
        svc: names.service(r.head.svc),
        direction: Direction::from_code(r.head.direction).map_or("", Direction::name),
        client,
        server,
        vlans: rows::vlans(r.head.vlans),
        from: Side::from_code(r.from).map_or("", Side::name),
        anomalies: set.iter().map(Anomaly::name).collect(),
        verdict: Verdict::from_code(r.verdict).map_or("", Verdict::name),
        evidence: Evidence::from_code(r.evidence).map_or("", Evidence::name),
        kind: RetransKind::from_code(r.kind).filter(|_| again).map(RetransKind::name),
        cause: stored(r.cause, Cause::from_code).map(Cause::name),
        origin: stored(r.origin, Origin::from_code).map(Origin::name),
        reuse: rows::reuse(r.holder, r.outcome, r.gap),
        unanswered_bytes: (r.unanswered > 0).then_some(r.unanswered),
        silence_seconds: seconds(r.silence),
        hole_age_seconds: (r.hole_age_us > 0).then(|| f64::from(r.hole_age_us) / 1e6),
        dup_acks: r.dup_acks,
        repeats: r.repeats,
        expected: r.expected.0,
        acked: r.acked.0,
        segment: SegmentRow {
            flags: flags(Flags(r.flags)),
            seq: r.seq.0,
            ack: r.ack.0,
            payload: r.payload,
            segments: r.segments,
            window: r.window,
            ts_val: r.ts_val,
            ip_id: r.ip_id,
            ttl: r.ttl,
        },
    };
    EventRow { id: event.id, time: time(event.at), what: Event::Anomaly(Box::new(what)) }
}

/// The connection of an end, with a key made from its ends again.
pub fn sight(record: &EndRecord) -> Sight {
    let head = &record.head;
    let [client, server] = ends(head);
    let [low, high] = if record.flow.client & 1 == 0 { [client, server] } else { [server, client] };
    let ports = u32::from(low.1) << 16 | u32::from(high.1);
    let scope = u32::from(head.point) << 24 | head.vlans & 0x00ff_ffff;
    let v4 = ip(low.0).is_ipv4() && ip(high.0).is_ipv4();
    let key = if v4 {
        FlowKey::V4(FlowKey4 { low: low.0.0[3], high: high.0.0[3], ports, scope })
    } else {
        FlowKey::V6(FlowKey6 { low: low.0, high: high.0, ports, scope })
    };
    Sight { key, flow: record.flow, counts: record.counts }
}

fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_micros(at).to_string()
}

/// Flags as letters in the order that tcpdump made common.
fn flags(flags: Flags) -> String {
    let letters =
        [(Flags::FIN, 'F'), (Flags::SYN, 'S'), (Flags::RST, 'R'), (Flags::PSH, 'P'), (Flags::ACK, 'A')];
    letters.iter().filter(|(bit, _)| flags.0 & bit != 0).map(|(_, letter)| letter).collect()
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
