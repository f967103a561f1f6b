//! The report as text: aligned, without colours, each part only where it has something to say.

use super::{
    Point, Summary,
    worst::{Bad, Worst},
};
use crate::{
    flows,
    table::{table, words},
};
use agent_ebpf::{
    anomaly::{Anomaly, Cause, Holder, Origin, Outcome, reset, reuse},
    counter::{Series, width},
    health::{Health, Kind},
    histogram::{BOUNDS, Histogram},
    label::Side,
    time::Nanos,
    traffic::{Close, Traffic},
};
use std::{
    fmt::Write as _,
    time::{Duration, UNIX_EPOCH},
};

/// The report.
pub(super) fn text(summary: &Summary<'_>) -> String {
    let parts = [
        captures(summary),
        problems(summary),
        left_out(summary),
        connections(summary),
        anomalies(summary),
        resets(summary),
        reuses(summary),
        services(summary),
        worst(summary),
    ];
    let said: Vec<String> = parts.into_iter().flatten().collect();
    said.join("\n")
}

/// A part of the report: nothing where it would be empty.
type Part = Option<String>;

/// What was read.
fn captures(summary: &Summary<'_>) -> Part {
    let row = |point: &Point| {
        let [seen, counted] = [Health::Seen, Health::Counted].map(|h| point.health[h as usize]);
        let (from, length) = match point.span {
            Some((first, last)) => (time(first), flows::seconds(last.since(first) as f64 / 1e9)),
            None => (String::new(), String::new()),
        };
        vec![
            summary.names.points[point.number].clone(),
            from,
            length,
            seen.to_string(),
            counted.to_string(),
            point.path.display().to_string(),
        ]
    };
    let header = words(&["POINT", "FROM", "FOR", "PACKETS", "TCP", "FILE"]);
    table("Captures", &header, summary.points.iter().map(row).collect(), |i| matches!(i, 2..=4))
}

/// Packets that were not judged, or not as well as others.
fn left_out(summary: &Summary<'_>) -> Part {
    let reasons = Health::ALL.iter().filter(|h| matches!(h.kind(), Kind::Skipped | Kind::Short));
    let rows = reasons.flat_map(|reason| {
        let points = summary.points.iter().map(|p| (p, p.health[*reason as usize])).filter(|(_, n)| *n > 0);
        points.map(|(point, n)| {
            vec![
                n.to_string(),
                summary.names.points[point.number].clone(),
                reason.name().to_owned(),
                reason.help().to_owned(),
            ]
        })
    });
    let header = words(&["COUNT", "POINT", "REASON", "MEANING"]);
    table("Left out", &header, rows.collect(), |i| i == 0)
}

fn time(at: Nanos) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_nanos(at.0)).to_string()
}

/// What could not be read.
fn problems(summary: &Summary<'_>) -> Part {
    let mut text = String::new();
    for problem in summary.points.iter().flat_map(|point| &point.problems) {
        let _ = writeln!(text, " {problem}");
    }
    (!text.is_empty()).then(|| format!("Not read\n{text}"))
}

/// How connections began and ended.
fn connections(summary: &Summary<'_>) -> Part {
    let both = |point: &Point, row: Traffic, sub: usize| -> u64 {
        [Side::Client, Side::Server].iter().map(|side| point.total(row.place(*side, sub))).sum()
    };
    let mut rows: Vec<(String, Vec<u64>)> = Vec::new();
    let mut add = |name: &str, count: &dyn Fn(&Point) -> u64| {
        rows.push((name.to_owned(), summary.points.iter().map(count).collect()));
    };
    add("met with their SYN", &|p| both(p, Traffic::Opened, 0));
    add("met mid-way", &|p| both(p, Traffic::Opened, 1));
    add("handshake completed", &|p| both(p, Traffic::Established, 0));
    for close in Close::ALL {
        add(&format!("ended: {}", close.name()), &|p| both(p, Traffic::Closed, *close as usize));
    }
    add("open when the capture ended", &|p| p.open);
    add("  of those waiting for an answer", &|p| p.stalled);
    let rows = rows.into_iter().filter(|(_, counts)| counts.iter().any(|n| *n > 0));
    let rows = rows.map(|(name, counts)| {
        let counts = counts.iter().map(ToString::to_string);
        std::iter::once(name).chain(counts).collect()
    });
    let header = std::iter::once("POINT".to_owned()).chain(summary.names.points.iter().cloned());
    table("Connections", &header.collect::<Vec<_>>(), rows.collect(), |i| i > 0)
}

/// Each anomaly by point and sender.
fn anomalies(summary: &Summary<'_>) -> Part {
    let sides = [Side::Client, Side::Server];
    let mut rows: Vec<Vec<String>> = Vec::new();
    for anomaly in Anomaly::ALL {
        let width = width(anomaly.labels());
        let counts = summary.points.iter().flat_map(|p| sides.map(|side| p.row(anomaly.base(), width, side)));
        let counts: Vec<u64> = counts.collect();
        if counts.iter().any(|n| *n > 0) {
            let mut row = vec![anomaly.name().to_owned()];
            row.extend(counts.iter().map(ToString::to_string));
            rows.push(row);
        }
    }
    if rows.is_empty() {
        return Some("Anomalies\n none\n".to_owned());
    }
    let mut header = vec!["FROM".to_owned()];
    for point in &summary.names.points {
        header.extend(sides.map(|side| format!("{point} {}", side.name())));
    }
    let text = table("Anomalies, by who sent the segment", &header, rows, |i| i > 0)?;
    Some(format!("{text}{}", unknown(summary)))
}

/// How much of what needed a judgement got none.
fn unknown(summary: &Summary<'_>) -> String {
    let judged = [
        Anomaly::OutOfOrder,
        Anomaly::LateFill,
        Anomaly::Retransmission,
        Anomaly::Spurious,
        Anomaly::Duplicate,
        Anomaly::Unknown,
    ];
    let sum = |anomaly: &Anomaly| -> u64 {
        let width = width(anomaly.labels());
        let sides = [Side::Client, Side::Server];
        let points = summary.points.iter();
        points.map(|p| sides.map(|side| p.row(anomaly.base(), width, side)).iter().sum::<u64>()).sum()
    };
    let all: u64 = judged.iter().map(sum).sum();
    if all == 0 {
        return String::new();
    }
    let unknown = sum(&Anomaly::Unknown);
    let share = 100.0 * unknown as f64 / all as f64;
    format!(" {unknown} of {all} segments below the highest number ({share:.1} %) could not be told apart.\n")
}

/// Who reset connections, and why.
fn resets(summary: &Summary<'_>) -> Part {
    let mut found = Vec::new();
    for point in &summary.points {
        for cause in Cause::ALL {
            for origin in Origin::ALL {
                for side in [Side::Client, Side::Server] {
                    let n = point.total(Anomaly::Reset.place(side, reset::sub(*cause as u8, *origin)));
                    found.push((n, point, side, *cause, *origin));
                }
            }
        }
    }
    found.retain(|(n, ..)| *n > 0);
    found.sort_by_key(|(n, ..)| std::cmp::Reverse(*n));
    let rows = found.into_iter().map(|(n, point, side, cause, origin)| {
        vec![
            n.to_string(),
            summary.names.points[point.number].clone(),
            side.name().to_owned(),
            cause.name().to_owned(),
            origin.name().to_owned(),
            Cause::TABLE.meanings[cause as usize].to_owned(),
        ]
    });
    let header = words(&["COUNT", "POINT", "FROM", "CAUSE", "ORIGIN", "MEANING"]);
    table("Resets", &header, rows.collect(), |i| i == 0)
}

/// Five-tuples taken again within their TIME-WAIT window.
fn reuses(summary: &Summary<'_>) -> Part {
    let mut rows = Vec::new();
    for point in &summary.points {
        for holder in Holder::ALL {
            for outcome in Outcome::ALL {
                let n = point.total(Anomaly::Reuse.place(Side::Client, reuse::sub(*holder, *outcome)));
                let row = [
                    n.to_string(),
                    summary.names.points[point.number].clone(),
                    holder.name().to_owned(),
                    outcome.name().to_owned(),
                    format!(
                        "{}; answered {}",
                        Holder::TABLE.meanings[*holder as usize],
                        Outcome::TABLE.meanings[*outcome as usize]
                    ),
                ];
                rows.extend((n > 0).then(|| row.to_vec()));
            }
        }
    }
    let header = words(&["COUNT", "POINT", "TIME-WAIT", "OUTCOME", "MEANING"]);
    let text = table("Five-tuples taken again within TIME-WAIT", &header, rows, |i| i == 0)?;
    Some(format!("{text}{}", gaps(summary)))
}

/// How soon they came back.
fn gaps(summary: &Summary<'_>) -> String {
    let mut text = String::new();
    for point in &summary.points {
        let count = |slot: usize| point.total(Histogram::ReuseGap.base() + slot);
        let bound = |i: usize| BOUNDS.get(i).map(|n| flows::seconds(*n as f64 / 1e9));
        let buckets = (0..=BOUNDS.len()).filter(|i| count(*i) > 0).map(|i| match bound(i) {
            Some(bound) => format!("{} up to {bound}", count(i)),
            None => format!("{} longer", count(i)),
        });
        let buckets: Vec<String> = buckets.collect();
        if !buckets.is_empty() {
            let name = &summary.names.points[point.number];
            let _ = writeln!(text, " Gaps from close to SYN at {name}: {}.", buckets.join(", "));
        }
    }
    text
}

/// What the services had of it, where the operator named some.
fn services(summary: &Summary<'_>) -> Part {
    if summary.watch.services.is_empty() {
        return None;
    }
    let mut rows = Vec::new();
    for point in &summary.points {
        for (name, totals) in summary.names.services.iter().zip(&point.totals) {
            let sum = |base: usize, width: usize| totals[base..base + width].iter().sum::<u64>();
            let anomaly = |a: Anomaly| sum(a.base(), width(a.labels()));
            let opened = sum(Traffic::Opened.base(), width(Traffic::Opened.labels()));
            let again = [Anomaly::LateFill, Anomaly::Retransmission, Anomaly::Spurious].map(anomaly);
            let counts = [
                opened,
                sum(Traffic::Segments.base(), width(Traffic::Segments.labels())),
                again.iter().sum(),
                anomaly(Anomaly::OutOfOrder),
                anomaly(Anomaly::Reset),
                anomaly(Anomaly::Reuse),
                anomaly(Anomaly::UnansweredRequest),
            ];
            if counts.iter().any(|n| *n > 0) {
                let names = [summary.names.points[point.number].clone(), name.clone()];
                rows.push(names.into_iter().chain(counts.map(|n| n.to_string())).collect());
            }
        }
    }
    let header = words(&[
        "POINT",
        "SVC",
        "CONNECTIONS",
        "SEGMENTS",
        "SENT AGAIN",
        "OUT OF ORDER",
        "RESETS",
        "REUSES",
        "UNANSWERED",
    ]);
    table("Services", &header, rows, |i| i > 1)
}

/// The connections to look at first.
fn worst(summary: &Summary<'_>) -> Part {
    let row = |bad: &&Bad| {
        let mut row = bad.sight.row(&summary.names, bad.at, summary.watch.limits.stall);
        // All of them are one capture's, whose core knows one point only.
        row.point.clone_from(&summary.names.points[bad.point]);
        let mut why = Vec::new();
        if row.close.is_some()
            && let Some(pending) = row.pending.take()
        {
            why.push(format!("request of {} B unanswered", pending.request_bytes));
        }
        why.extend(
            [flows::state(&row), flows::anomalies(&row)].into_iter().filter(|words| !words.is_empty()),
        );
        vec![
            row.point.clone(),
            row.svc.clone(),
            format!("{}{}", row.client, if row.inferred { "?" } else { "" }),
            row.server.to_string(),
            time(bad.sight.flow.opened),
            row.close.clone().unwrap_or_else(|| row.phase.clone()),
            row.from_client.bytes.to_string(),
            row.from_server.bytes.to_string(),
            why.join(", "),
        ]
    };
    let worst = Worst::merge(summary.points.iter().map(|point| &point.worst));
    let header = words(&["POINT", "SVC", "CLIENT", "SERVER", "BEGAN", "PHASE", "SENT", "ANSWERED", "WHY"]);
    let text = table("Worst connections", &header, worst.iter().map(row).collect(), |i| matches!(i, 6 | 7))?;
    Some(text)
}
