//! Which connections show what an alert is about: the worst few, at the point where it is worst.

use super::{
    family::{Cell, Family},
    rule::{Kind, Limit, Rule},
    selector::Selector,
};
use crate::{
    aggregate::{Names, rows::Sight, shown::Shown},
    config::Service,
    connection::{
        Connection,
        second_leg::{self, SecondLeg},
    },
    connection_log::line::Line,
    flows::seconds,
};
use agent_ebpf::{
    anomaly::{Anomaly, Cause},
    counter::Series as _,
    label::{Label as _, Side},
    time::Nanos,
    traffic::{Served, Traffic},
};
use serde::{Deserialize, Serialize};
use std::{
    cmp::Reverse,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Connections that an alert shows.
pub const MOST: usize = 5;

/// One of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// All of it in a line.
    pub text: String,
    /// The leg that a proxy should have opened for it, where both legs are seen.
    pub second_leg: Option<SecondLeg>,
    /// The connection, with the keys of the connection log.
    pub connection: serde_json::Value,
}

/// What an alert looks for.
#[derive(Debug)]
pub struct Search<'a> {
    rule: &'a Rule,
    services: &'a [Service],
    /// Number and name of the point, where it is about one.
    point: Option<(usize, String)>,
    /// The same of the service.
    svc: Option<(usize, String)>,
    /// How long ago the last packet of a connection may have passed.
    back: Duration,
    /// The same as a time, nanoseconds since 1970.
    since: u128,
}

impl<'a> Search<'a> {
    /// Of a rule at a place.
    pub fn new(rule: &'a Rule, cell: Cell, names: &Names, services: &'a [Service], now: SystemTime) -> Self {
        let name = |names: &[String], n: Option<usize>| n.and_then(|n| Some((n, names.get(n)?.clone())));
        // The agent's own counters lag behind an end by a few seconds.
        let back = 2 * rule.window + Duration::from_secs(10);
        let since =
            now.checked_sub(back).and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        Self {
            rule,
            services,
            // What happened between two points shows at the second one.
            point: name(&names.points, cell.to.or(cell.point)),
            svc: name(&names.services, cell.svc),
            back,
            since: since.as_nanos(),
        }
    }

    /// Whether it is about the place and the time of a connection: asked before all else is known of it, as there may be
    /// millions. `now` is by the kernel's clock.
    pub fn is_about(&self, sight: &Sight, now: Nanos) -> bool {
        let is = |wanted: &Option<(usize, String)>, n: usize| wanted.as_ref().is_none_or(|(w, _)| *w == n);
        is(&self.point, sight.key.point().into())
            && is(&self.svc, sight.flow.svc.into())
            && u128::from(now.since(sight.flow.last_seen())) <= self.back.as_nanos()
    }

    fn is_of(&self, c: &Connection) -> bool {
        self.point.as_ref().is_none_or(|(_, p)| c.point == *p)
            && self.svc.as_ref().is_none_or(|(_, s)| c.svc == *s)
            && u128::from(c.times.last_seen_ns) >= self.since
    }

    /// How much a connection has to do with it, and when it was last seen; `None` for nothing.
    pub fn weight(&self, c: &Connection) -> Option<(u64, u64)> {
        let weight = if self.is_of(c) { weight(self.rule, c, self.services) } else { 0 };
        (weight > 0).then_some((weight, c.times.last_seen_ns))
    }

    /// How likely a connection has to do with it once its second leg is known; `None` where it is not looked for.
    pub fn may_weigh(&self, c: &Connection) -> Option<(bool, u64)> {
        let reset = c.reset.filter(|_| self.is_of(c) && second_leg::is_asked_for(c))?;
        // Nearly every abort is one.
        Some((!matches!(reset.cause, Cause::Abort), c.times.last_seen_ns))
    }

    /// The worst of some connections.
    pub fn worst(&self, connections: &[Connection], shown: Shown) -> Vec<Evidence> {
        let mut found: Vec<_> =
            connections.iter().filter_map(|c| self.weight(c).map(|weight| (weight, c))).collect();
        found.sort_unstable_by_key(|(weight, _)| Reverse(*weight));
        found.into_iter().take(MOST).map(|(_, c)| Evidence::of(&c.clone().shown(shown))).collect()
    }
}

/// Whether any connection could have to do with a rule: not with those over the agent's own figures.
pub fn is_of_connections(rule: &Rule) -> bool {
    let families = rule.events.families.iter().chain(rule.of.iter().flat_map(|of| &of.families));
    let theirs = ["fivetuple_tcp_", "fivetuple_leg_", "fivetuple_inside_"];
    families.into_iter().any(|family| theirs.iter().any(|prefix| family.name.starts_with(prefix)))
}

/// How much a connection has to do with a rule; 0 for nothing.
fn weight(rule: &Rule, c: &Connection, services: &[Service]) -> u64 {
    let events = shown(&rule.events, c, services);
    match (rule.kind, rule.fire, &rule.of) {
        // Too few of these: the others are what is wrong.
        (Kind::Ratio, Limit::Below(_), Some(of)) if events == 0 => shown(of, c, services),
        (Kind::Ratio, Limit::Below(_), _) => 0,
        _ => events,
    }
}

/// How often a selection counted something of a connection, as far as it is known of one.
fn shown(selector: &Selector, c: &Connection, services: &[Service]) -> u64 {
    selector.families.iter().map(|family| of_family(selector, family, c, services)).sum()
}

fn of_family(selector: &Selector, family: &Family, c: &Connection, services: &[Service]) -> u64 {
    let is = |series: &str| family.name == format!("fivetuple_tcp_{series}_total");
    if let Some(anomaly) = Anomaly::ALL.iter().find(|row| is(row.series())) {
        return of_anomaly(selector, *anomaly, c);
    }
    let allowed = |label, value: Option<&str>| value.is_some_and(|value| selector.allows(label, value));
    let one = |yes: bool| u64::from(yes);
    if is(Traffic::Served.series()) {
        return one(allowed("result", c.result.map(|result| result.value())));
    }
    if is(Traffic::Closed.series()) {
        return one(allowed("close", c.close.map(|close| close.value())));
    }
    match family.name.as_str() {
        "fivetuple_tcp_open_connections" => one(c.close.is_none()),
        "fivetuple_tcp_stalled_requests" => {
            one(c.close.is_none()) * c.request.filter(|r| r.pending).map_or(0, |r| u64::from(r.bytes))
        }
        "fivetuple_tcp_foreign_connections_total" => one(is_foreign(c, services)),
        "fivetuple_leg_resets_total" => {
            one(allowed("leg", c.second_leg.as_ref().map(|leg| leg.state.value())))
        }
        "fivetuple_inside_lost_segments_total" => of_anomaly(selector, Anomaly::LateFill, c),
        "fivetuple_inside_reordered_segments_total" => of_anomaly(selector, Anomaly::OutOfOrder, c),
        "fivetuple_inside_added_segments_total" => of_anomaly(selector, Anomaly::Duplicate, c),
        "fivetuple_inside_added_resets_total" => one(c.reset.is_some()),
        // Nothing marks single ones: the latest serve.
        name => one(name.starts_with("fivetuple_tcp_")),
    }
}

fn of_anomaly(selector: &Selector, anomaly: Anomaly, c: &Connection) -> u64 {
    let reuse = c.reuse.as_ref();
    match anomaly {
        Anomaly::Reset => u64::from(c.reset.is_some_and(|reset| {
            selector.allows("cause", reset.cause.value())
                && selector.allows("origin", reset.origin.value())
                && reset.from.is_none_or(|from| selector.allows("from", from.value()))
        })),
        Anomaly::Reuse => u64::from(reuse.is_some_and(|reuse| {
            selector.allows("holder", &reuse.holder)
                && reuse.outcome.as_ref().is_none_or(|outcome| selector.allows("outcome", outcome))
        })),
        Anomaly::UnansweredRequest if c.result == Some(Served::Unanswered) => {
            c.request.map_or(1, |request| 1 + u64::from(request.bytes))
        }
        Anomaly::UnansweredRequest => 0,
        other => {
            let sides = Side::ALL.iter().filter(|side| selector.allows("from", side.value()));
            sides.map(|side| c.sent(*side).count(other)).sum()
        }
    }
}

/// Whether its client is none of those whom its service allows. Of one that was met mid-way the client is a guess.
pub fn is_foreign(c: &Connection, services: &[Service]) -> bool {
    let service = services.iter().find(|service| service.name == c.svc);
    !c.inferred && service.is_some_and(|service| !service.allows(c.client.address))
}

impl Evidence {
    /// Of a connection.
    pub fn of(c: &Connection) -> Self {
        let connection = serde_json::to_value(Line::of(c)).unwrap_or_default();
        Self { text: text(c), second_leg: c.second_leg.clone(), connection }
    }
}

fn text(c: &Connection) -> String {
    let result = c.result.map_or("open", |result| result.value());
    let mut words = vec![format!("{} -> {} at {}: {result}", c.client, c.server, c.point)];
    if let Some(reset) = c.reset {
        let from = reset.from.map_or(String::new(), |from| format!(" by the {}", from.value()));
        words.push(format!("reset{from}: {}, {}", reset.cause.value(), reset.origin.value()));
    }
    if let Some(leg) = &c.second_leg {
        let gap = leg.gap_seconds.map_or(String::new(), |gap| format!(", closed {} before", seconds(gap)));
        words.push(format!("second leg to {}: {}{gap}", leg.server, leg.state.value()));
    }
    if let Some(reuse) = &c.reuse {
        let gap = reuse.gap_seconds.map_or(String::new(), |gap| format!(" after {}", seconds(gap)));
        words.push(format!("reuse{gap}: {}", reuse.outcome.as_deref().unwrap_or("open")));
    }
    if let Some(request) = c.request.filter(|request| request.pending) {
        words.push(format!("request of {} B unanswered", request.bytes));
    }
    for (side, sent) in [("client", &c.from_client), ("server", &c.from_server)] {
        words.extend(sent.anomalies.iter().map(|(name, n)| format!("{n} {name} of the {side}")));
    }
    words.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        alert::defaults::tests::rule,
        connection::{Reset, second_leg::LegState, tests::answered},
    };
    use agent_ebpf::anomaly::Origin;

    fn names() -> Names {
        Names {
            points: vec!["outside".into(), "dmz".into()],
            services: vec!["other".into(), "card".into()],
            ..Names::default()
        }
    }

    const SECOND: u64 = 1_000_000_000;

    fn found(rule: &Rule, cell: Cell, connections: &[Connection]) -> Vec<Evidence> {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        Search::new(rule, cell, &names(), &[], now).worst(connections, Shown::default())
    }

    fn at(point: &str, age: u64) -> Connection {
        answered(point, (1_000_000 - age) * SECOND)
    }

    const CELL: Cell = Cell { point: Some(0), to: None, svc: Some(1) };

    #[test]
    fn for_too_few_successes_the_failures_are_shown_newest_first_and_of_the_worst_point() {
        let failed = |point, age| Connection { result: Some(Served::Unanswered), ..at(point, age) };
        let mut all = vec![at("outside", 5), failed("dmz", 6)];
        all.extend((10..20).map(|age| failed("outside", age)));
        all.push(failed("outside", 100_000));
        let found = found(&rule("FivetupleSuccessRate"), CELL, &all);
        assert_eq!(found.len(), MOST);
        assert!(
            found
                .iter()
                .all(|e| e.connection["result"] == "unanswered" && e.connection["point"] == "outside")
        );
        let times: Vec<_> = found.iter().map(|e| e.connection["time"].as_str().unwrap().to_owned()).collect();
        assert!(times.is_sorted_by(|a, b| a > b), "{times:?}");
    }

    #[test]
    fn a_line_says_who_reset_it_why_and_how_long_after_the_close() {
        let mut c = at("outside", 3);
        c.reset = Some(Reset { cause: Cause::TimeWait, origin: Origin::Endpoint, from: Some(Side::Server) });
        c.result = Some(Served::Refused);
        c.reuse = Some(crate::api::Reuse {
            gap_seconds: Some(0.3),
            holder: "syn_receiver".to_owned(),
            outcome: Some("refused".to_owned()),
        });
        c.second_leg = Some(SecondLeg {
            state: LegState::TimeWait,
            point: "dmz".to_owned(),
            server: c.server,
            gap_seconds: Some(0.25),
        });
        let mut middlebox = c.clone();
        middlebox.reset = Some(Reset { origin: Origin::Middlebox, cause: Cause::Abort, from: None });
        let all = [middlebox, at("outside", 1), c];
        let shown = found(&rule("FivetupleResetsTimeWait"), CELL, &all);
        assert_eq!(shown.len(), 1);
        assert_eq!(
            shown[0].text,
            "192.0.2.1:40000 -> 198.51.100.7:443 at outside: refused; reset by the server: time_wait, endpoint; \
             second leg to 198.51.100.7:443: time_wait, closed 250ms before; reuse after 300ms: refused"
        );
        assert_eq!(shown[0].connection["reuse_gap_seconds"], 0.3);
        assert_eq!(found(&rule("FivetupleMiddleboxReset"), CELL, &all).len(), 1);
    }

    #[test]
    fn what_was_reordered_more_comes_first() {
        let mut all = Vec::new();
        for n in [1, 7, 3] {
            let mut c = at("dmz", 4);
            c.client.port = n;
            c.from_client.anomalies.insert("out_of_order".to_owned(), n.into());
            all.push(c);
        }
        let cell = Cell { point: Some(0), to: Some(1), svc: Some(1) };
        let found = found(&rule("FivetupleReorderedInside"), cell, &all);
        let ports: Vec<_> = found.iter().map(|e| e.connection["client_port"].as_u64().unwrap()).collect();
        assert_eq!(ports, [7, 3, 1]);
    }

    #[test]
    fn connections_are_asked_for_where_they_can_show_something() {
        for (name, of_connections) in [
            ("FivetupleMiddleboxReset", true),
            ("FivetupleReorderedInside", true),
            ("FivetupleSuccessRate", true),
            ("FivetupleTrackingLosses", false),
        ] {
            assert_eq!(is_of_connections(&rule(name)), of_connections, "{name}");
        }
    }

    #[test]
    fn a_client_is_foreign_where_its_service_allows_others_only() {
        let c = at("outside", 1);
        let service = |allowed: &[&str]| Service {
            name: "card".to_owned(),
            prefixes: Vec::new(),
            ports: Vec::new(),
            http: false,
            allowed_clients: allowed.iter().map(|net| net.parse().unwrap()).collect(),
        };
        assert!(!is_foreign(&c, &[service(&[])]), "nobody is, where none are listed");
        assert!(!is_foreign(&c, &[service(&["10.0.0.0/8", "192.0.2.0/24"])]));
        assert!(is_foreign(&c, &[service(&["10.0.0.0/8", "2001:db8::/32"])]));
        let late = Connection { inferred: true, ..c };
        assert!(!is_foreign(&late, &[service(&["10.0.0.0/8"])]));
    }
}
