//! What `fivetuple locate` prints.

use super::{Located, between::Between, path::Relation, verdict::verdict};
use crate::{connection::Connection, flows};
use agent_ebpf::{
    anomaly::Anomaly,
    label::{Label as _, Side},
};
use comfy_table::{CellAlignment, Table, presets};
use std::fmt::Write as _;

/// Connections that are shown one by one.
const SHOWN: usize = 5;
/// A clock that is off by more is told in a sentence of its own: nanoseconds.
const FAR: u64 = 1_000_000_000;

/// The report.
pub fn text(located: &Located) -> String {
    let mut out = verdict(located).join("\n") + "\n\n";
    out += &points(located);
    for between in &located.between {
        out += "\n";
        out += &crossing(located, between);
    }
    out += &connections(located);
    for gap in &located.gaps {
        let _ = writeln!(out, "\nNot known: {gap}");
    }
    out
}

fn table(header: &[&str], rows: Vec<Vec<String>>, left: usize) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.iter().copied());
    for index in left..header.len() {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.add_rows(rows);
    let lines = table.to_string();
    lines.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn points(located: &Located) -> String {
    let row = |point: &usize| {
        let list = &located.points[*point];
        let asked = located.asked.iter().filter(|i| located.path.joined[**i].at[*point].is_some()).count();
        vec![
            located.names[*point].clone(),
            located.sources[*point].clone(),
            list.len().to_string(),
            asked.to_string(),
            clock(located, *point),
        ]
    };
    let rows = located.path.order.iter().map(row).collect();
    let mut out = format!(
        "The way, from the clients\n{}",
        table(&["POINT", "SOURCE", "CONNECTIONS", "ASKED FOR", "CLOCK"], rows, 2)
    );
    let first = located.path.order[0];
    for point in &located.path.order {
        let ahead = ahead(located, *point);
        if ahead.unsigned_abs() > FAR {
            let (name, first) = (&located.names[*point], &located.names[first]);
            let (by, way) = (nanos(ahead.saturating_abs()), if ahead > 0 { "ahead of" } else { "behind" });
            let _ = writeln!(
                out,
                " The clock of {name} is {by} {way} that of {first}; its times were set right for the comparison."
            );
        }
    }
    out
}

/// What a point's clock is ahead of that of the first on the way, nanoseconds.
fn ahead(located: &Located, point: usize) -> i64 {
    located.path.ahead_ns[point].wrapping_sub(located.path.ahead_ns[located.path.order[0]])
}

/// What a point's clock is ahead of the first one's.
fn clock(located: &Located, point: usize) -> String {
    let first = located.path.order[0];
    let ahead = ahead(located, point);
    if point == first {
        return "taken as right".to_owned();
    }
    if located.sources[point] == located.sources[first] {
        return "the same".to_owned();
    }
    let error = match located.path.relations[first][point] {
        Relation::Same(clocks) => format!(" +-{}", nanos(clocks.error_ns as i64)),
        Relation::None | Relation::Legs | Relation::LegsBack | Relation::Unclocked if ahead == 0 => {
            return "taken as right".to_owned();
        }
        _ => String::new(),
    };
    match ahead {
        // Less than what is shown of it.
        -999..=999 => format!("agrees{error}"),
        _ => {
            format!("{} {}{error}", nanos(ahead.saturating_abs()), if ahead > 0 { "ahead" } else { "behind" })
        }
    }
}

/// A duration of either sign.
fn nanos(n: i64) -> String {
    let text = flows::seconds(n.unsigned_abs() as f64 / 1e9);
    if n < 0 { format!("-{text}") } else { text }
}

fn crossing(located: &Located, b: &Between) -> String {
    let mut out = format!("Between {} and {}", located.names[b.from], located.names[b.to]);
    let _ = match b.proxy {
        true => writeln!(out, ", where a proxy opens connections of its own"),
        false => writeln!(out, ", by {} connections", b.compared.len()),
    };
    if b.proxy {
        let _ =
            writeln!(out, " {} have a second leg, {} requests have none", b.compared.len(), b.vanished.len());
        if b.unsure > 0 {
            let _ = writeln!(out, " of {} nothing tells which second leg is theirs", b.unsure);
        }
        if let Some(delay) = b.sides[0].delay() {
            let _ = writeln!(out, " opened after {} (p99 {})", nanos(delay.median_ns), nanos(delay.p99_ns));
        }
    } else {
        let rows = [Side::Client, Side::Server].iter().zip(&b.sides).map(|(side, c)| {
            let delay =
                c.delay().map_or([const { String::new() }; 2], |d| [nanos(d.median_ns), nanos(d.p99_ns)]);
            let [median, p99] = delay;
            vec![
                side.name().to_owned(),
                c.lost.0.to_string(),
                c.reordered.0.to_string(),
                c.duplicated.0.to_string(),
                b.injected[*side as usize].len().to_string(),
                median,
                p99,
            ]
        });
        let header = ["SENT BY", "LOST", "REORDERED", "COPIED", "RESETS MADE HERE", "DELAY", "P99"];
        out += &table(&header, rows.collect(), 1);
        if !b.vanished.is_empty() {
            let _ = writeln!(out, " swallowed: {} connections", b.vanished.len());
        }
        for (here, there) in [(b.from, b.to), (b.to, b.from)] {
            let n = alone(located, b, here, there);
            if n > 0 {
                let (here, there) = (&located.names[here], &located.names[there]);
                let s = if n == 1 { "" } else { "s" };
                let _ = writeln!(
                    out,
                    " seen at {here} and not at {there}: {n} connection{s}, of which nothing can be compared"
                );
            }
        }
    }
    let mut rewritten: Vec<_> = b.rewritten.iter().collect();
    rewritten.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
    for (what, n) in rewritten.iter().take(SHOWN) {
        let _ = writeln!(out, " rewritten on {n}: {what}");
    }
    if rewritten.len() > SHOWN {
        let _ = writeln!(out, " and {} other rewritings", rewritten.len() - SHOWN);
    }
    out
}

/// How many of those asked for were seen at one of two points and not at the other, whatever the reason, and are not among
/// the swallowed ones.
fn alone(located: &Located, b: &Between, here: usize, there: usize) -> usize {
    let alone = |i: &&usize| {
        let at = &located.path.joined[**i].at;
        at[here].is_some() && at[there].is_none() && !b.vanished.contains(i)
    };
    located.asked.iter().filter(alone).count()
}

/// The connections that something happened to, the first few; all that were asked for where these are few.
fn connections(located: &Located) -> String {
    let few = located.asked.len() <= SHOWN;
    let hit = |i: &&usize| {
        few || located
            .between
            .iter()
            .any(|b| b.vanished.contains(i) || b.injected.iter().any(|s| s.contains(i)))
    };
    let mut chosen: Vec<usize> = located.asked.iter().filter(hit).copied().take(SHOWN).collect();
    if chosen.is_empty() {
        let reordered = |i: &&usize| {
            located
                .between
                .iter()
                .any(|b| b.sides.iter().any(|s| s.reordered.1.contains(i) || s.lost.1.contains(i)))
        };
        chosen = located.asked.iter().filter(reordered).copied().take(SHOWN).collect();
    }
    let mut out = String::new();
    for one in chosen {
        let joined = &located.path.joined[one];
        let at = |point: usize| joined.at[point].map(|place| &located.points[point][place]);
        let Some(first) = located.path.order.iter().find_map(|p| at(*p)) else { continue };
        let _ = write!(out, "\n{} to {}", first.client, first.server);
        let _ = match joined.by {
            Some(by) => writeln!(
                out,
                ", joined by {}{}",
                by.why(),
                if by.is_certain() { "" } else { ": likely, not certain" }
            ),
            None => writeln!(out, ", seen at one point only"),
        };
        let rows =
            located.path.order.iter().filter_map(|p| at(*p).map(|c| row(&located.names[*p], c))).collect();
        let header =
            ["POINT", "RESULT", "REQUEST", "SEGMENTS", "REORDERED", "SENT AGAIN", "DUP ACKS", "ANSWER"];
        out += &table(&header, rows, 2);
        if let Some(http) = located.path.order.iter().find_map(|p| at(*p)?.http.as_ref()) {
            let (method, path) = (http.method.as_deref(), http.path.as_deref());
            let status = http.status.map_or("no status".to_owned(), |status| format!("status {status}"));
            let _ = writeln!(out, " {} {}: {status}", method.unwrap_or_default(), path.unwrap_or_default());
        }
    }
    out
}

fn row(name: &str, c: &Connection) -> Vec<String> {
    let result = match (c.result, c.reset) {
        (Some(result), Some(reset)) => {
            let leg = c.second_leg.as_ref();
            let leg = leg.map_or(String::new(), |leg| format!(", second leg {}", leg.state.value()));
            format!("{} ({}{leg})", result.name(), reset.cause.name())
        }
        (Some(result), None) => result.name().to_owned(),
        (None, _) => "open".to_owned(),
    };
    vec![
        name.to_owned(),
        result,
        c.request.map_or(String::new(), |r| format!("{} B", r.bytes)),
        c.request.map_or(String::new(), |r| r.segments.to_string()),
        c.from_client.count(Anomaly::OutOfOrder).to_string(),
        c.from_client.retransmissions().to_string(),
        c.from_server.count(Anomaly::DuplicateAck).to_string(),
        format!("{} B", c.from_server.payload()),
    ]
}
