//! The report on reuse as text.

use super::{
    AtPoint, Report,
    collisions::InForce,
    ports::Who,
    predict::{Prediction, Step},
    whatif::RoundTrips,
};
use crate::{
    flows::seconds,
    table::{table, words},
};
use std::fmt::Write as _;

/// Prefixes that are listed; the others' sum is told.
const PREFIXES: usize = 15;

/// The report.
pub fn text(report: &Report) -> String {
    let mut parts: Vec<String> = report.points.iter().map(at_point).collect();
    parts.push(match (&report.prediction, &report.no_prediction) {
        (Some(prediction), _) => predicted(prediction),
        (None, Some(why)) => format!("No prediction: {why}.\n"),
        (None, None) => {
            "What keeping source ports and spreading over the proxies would do is told where a point in front of the \
             balancer (--clients POINT) and one behind it (--proxies POINT) are named.\n"
                .to_owned()
        }
    });
    if report.forgotten > 0 {
        parts.push(format!(
            "{} are known no more: the agent keeps the last 32768 that ended. All counts are of those it knows.\n",
            counted(report.forgotten, "ended connection")
        ));
    }
    parts.join("\n")
}

/// `1 port`, `2 addresses`, `2 prefixes`.
fn counted(n: u64, what: &str) -> String {
    let plural = if what.ends_with(['s', 'x']) { "es" } else { "s" };
    format!("{n} {what}{}", if n == 1 { "" } else { plural })
}

/// `1 was`, `2 were`.
fn were(n: u64) -> String {
    format!("{n} {}", if n == 1 { "was" } else { "were" })
}

fn at_point(at: &AtPoint) -> String {
    let point = &at.point;
    if at.connections == 0 {
        return format!("No connections at {point}.\n");
    }
    let connections = counted(at.connections, "connection");
    if at.reuses == 0 {
        return format!("{connections} at {point}, none on a five-tuple taken again within the window.\n");
    }
    let mut text = format!(
        "{connections} at {point}, {} on a five-tuple taken again within the window: {} collided, {} answered",
        at.reuses,
        at.collisions,
        were(at.answered)
    );
    let undecided = at.reuses - at.collisions - at.answered;
    let rest = if undecided > 0 { format!(", of {undecided} neither is known.\n") } else { ".\n".to_owned() };
    text += &rest;
    if at.collisions == 0 {
        text += " No collision: nothing failed because its five-tuple came back.\n";
    }
    if at.collisions_without_gap > 0 {
        let _ = writeln!(
            text,
            " {} came while the connection before was not known to be closed: no TIME-WAIT is to blame, and none \
             helps.",
            counted(at.collisions_without_gap, "collision")
        );
    }
    if let Some(elsewhere) = &at.elsewhere {
        let _ = writeln!(
            text,
            " Not by these five-tuples: {} of them have another address or port at {}, and that is what collides. Its \
             TIME-WAIT and what would help are told there.",
            elsewhere.collisions, elsewhere.point
        );
    }
    if let Some(mixed) = &at.mixed {
        let _ = writeln!(
            text,
            " No TIME-WAIT explains them: gaps that collided and gaps that were answered lie among each other from {} to \
             {}. What collides may be another five-tuple, behind a box that changes addresses or ports: ask at a point \
             behind it.",
            seconds(mixed.smallest_answered_seconds),
            seconds(mixed.largest_colliding_seconds)
        );
    }
    if let Some(in_force) = &at.in_force {
        text += &told_in_force(in_force);
        text += &what_if(at);
    }
    text + &who(at)
}

fn told_in_force(in_force: &InForce) -> String {
    let [seems, above] = [in_force.seems_seconds, in_force.above_seconds].map(seconds);
    let mut text = match (in_force.up_to_seconds, &in_force.overlap) {
        (None, _) => format!(
            " TIME-WAIT in force at the far end: above {above}, the largest gap that collided; none above it was \
             answered.\n"
        ),
        (Some(up_to), None) => format!(
            " TIME-WAIT in force at the far end: about {seems} (the largest gap that collided is {above}, the smallest \
             above it that did not {}).\n",
            seconds(up_to)
        ),
        (Some(up_to), Some(_)) => format!(
            " TIME-WAIT in force at the far end: about {seems} fits best (from {above} to {}).\n",
            seconds(up_to)
        ),
    };
    if let Some(overlap) = &in_force.overlap {
        let _ = writeln!(
            text,
            " Gaps that collided and gaps that were answered overlap by {}: from {} to {}. At the best cut {} answered \
             below it, {} above it. More than one far end, or not every connection enters TIME-WAIT there.",
            seconds(overlap.seconds),
            seconds(overlap.smallest_answered_seconds),
            seconds(overlap.largest_colliding_seconds),
            were(overlap.answered_below),
            counted(overlap.collided_above, "collision"),
        );
    }
    text
}

fn what_if(at: &AtPoint) -> String {
    let row = |r: &super::whatif::Remaining| {
        vec![seconds(r.time_wait_seconds), r.collisions.to_string(), r.answered_within.to_string()]
    };
    let title = format!("\nOf {}, with another TIME-WAIT", counted(at.collisions, "collision"));
    let header = words(&["TIME-WAIT", "LEFT", "ANSWERED WITHIN"]);
    let mut text = table(&title, &header, at.what_if.iter().map(row).collect(), |_| true).unwrap_or_default();
    text += " ANSWERED WITHIN: reuses that went well with a gap below it; a longer TIME-WAIT endangers them, and where one of \
          them collides the next use, which collided, may live.\n";
    match &at.change {
        Some(change) => {
            let error = at.round_trips.map_or_else(
                || "no round trip was measured, so its error is not known".to_owned(),
                |trips| format!("a gap may be off by {}", seconds(trips.error_seconds)),
            );
            let _ = writeln!(
                text,
                " {} takes them to zero: the smallest gap that collided is {}, {} above it; {error}.",
                seconds(change.time_wait_seconds),
                seconds(change.smallest_gap_seconds),
                seconds(change.margin_seconds),
            );
        }
        None => text += " No TIME-WAIT is safely below the smallest gap that collided.\n",
    }
    if let Some(trips) = &at.round_trips {
        text += &caution(trips, at.change.is_some_and(|change| change.too_short));
    }
    text
}

fn caution(trips: &RoundTrips, too_short: bool) -> String {
    let floor = seconds(trips.floor_seconds());
    let largest = seconds(trips.largest_seconds);
    let but = if too_short {
        format!(
            " That value is below it: keep source ports or spread the load instead, or stay at {floor} or above."
        )
    } else {
        String::new()
    };
    format!(
        " TIME-WAIT keeps late segments out of the next connection (RFC 9293, 3.6.1; RFC 6191): not below {floor}, \
         twice the largest round trip seen ({largest}).{but}\n"
    )
}

fn who(at: &AtPoint) -> String {
    let gap = |s: Option<f64>| s.map(seconds).unwrap_or_default();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for clients in at.clients.iter().filter(|clients| clients.reuses > 0).take(PREFIXES) {
        rows.push(vec![
            clients.prefix.to_string(),
            clients.addresses.to_string(),
            clients.connections.to_string(),
            clients.ports.to_string(),
            clients.reuses.to_string(),
            clients.collisions.to_string(),
            gap(clients.smallest_gap_seconds),
            gap(clients.median_gap_seconds),
        ]);
    }
    let header = words(&[
        "CLIENTS",
        "ADDRESSES",
        "CONNECTIONS",
        "PORTS",
        "REUSES",
        "COLLISIONS",
        "SMALLEST GAP",
        "MEDIAN GAP",
    ]);
    let title = format!("\nWho takes ports again at {}", at.point);
    let mut text = table(&title, &header, rows, |i| i > 0).unwrap_or_default();
    let more = at.clients.iter().filter(|clients| clients.reuses > 0).count().saturating_sub(PREFIXES);
    if more > 0 {
        let _ = writeln!(text, " and {} with fewer.", counted(more as u64, "prefix"));
    }
    if let Some(who) = &at.who {
        text += &told_who(who);
    }
    text
}

fn told_who(who: &Who) -> String {
    let what = if who.by_collisions { "collisions" } else { "reuses" };
    if who.few {
        let make = if who.addresses == 1 { "makes" } else { "make" };
        return format!(
            " {} of {} with {what} {make} nine of ten of them: {} for {}. Few hosts: a balancer's pool of ports, or \
             clients that take their own again at once.\n",
            counted(who.addresses, "address"),
            who.of_addresses,
            counted(who.ports, "port"),
            counted(who.connections, "connection"),
        );
    }
    format!(
        " {} of {} with {what} make nine of ten of them: many clients, not one host.\n",
        counted(who.addresses, "address"),
        who.of_addresses
    )
}

fn predicted(p: &Prediction) -> String {
    let row = |stage: &super::predict::Stage| {
        let step = match stage.step {
            Step::KeepPorts => "keep source ports, choose as now".to_owned(),
            Step::RoundRobin => format!("and in turn over {}", counted(p.servers, "server")),
            Step::ShorterTimeWait => format!("and TIME-WAIT {}", seconds(stage.time_wait_seconds)),
        };
        let within = stage.own_reuses_within.to_string();
        vec![step, within, format!("{:.1}", stage.expected), format!("{} to {}", stage.low, stage.high)]
    };
    let header = words(&["CHANGE", "PORTS AGAIN WITHIN", "COLLISIONS", "95 %"]);
    let title = format!("If the balancer changed (now: {})", counted(p.observed, "collision"));
    let rows = p.stages.iter().map(row).collect();
    let mut text = table(&title, &header, rows, |i| i > 0).unwrap_or_default();
    let percent = |share: f64| 100.0 * share;
    let same = &p.same_server;
    let _ = writeln!(
        text,
        " Clients took {} again. {} later, {} met the same server in {} of {} cases ({:.0} %, 95 %: {:.0} to {:.0}).",
        counted(p.own_reuses, "port"),
        counted(p.apart, "connection"),
        if p.by_address { "the same client" } else { "whoever it was" },
        same.met,
        same.of,
        percent(same.share),
        percent(same.low),
        percent(same.high),
    );
    let colliding = &p.colliding;
    if colliding.of > 0 {
        let _ = writeln!(
            text,
            " Of {} within a TIME-WAIT of {}, {} collided ({:.0} %, 95 %: {:.0} to {:.0}).",
            counted(colliding.of, "reuse"),
            seconds(p.in_force_seconds),
            colliding.met,
            percent(colliding.share),
            percent(colliding.low),
            percent(colliding.high),
        );
    }
    text + " For as much traffic as was seen, and clients that behave as they did.\n"
}
