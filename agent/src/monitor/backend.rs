//! What the HTTP interface is answered with.

use super::{Monitor, sights::Best};
use crate::{
    aggregate::{
        filter::Filter,
        metrics,
        rows::Sight,
        snapshot::{Snapshot, Table},
    },
    alert::figures::Figures,
    api::{
        AlertList, Check, ConnectionFilter, ConnectionList, EventFilter, EventList, FlowFilter, FlowList,
        Refusal, ReuseFilter,
    },
    connection::{Clock, Connection, second_leg},
    http::Backend,
    process::Process,
    reuse::{self, Report},
    source::maps::add,
    sys,
};
use agent_ebpf::{anomaly::AnomalySet, flow::Flow};
use anyhow::{Context as _, Result};
use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

/// The ring is drained ten times a second; this much later something is wrong.
const DRAINED: Duration = Duration::from_secs(2);
/// Flows of a list, unless the reader says how many.
const FLOWS: usize = 1000;
/// Events of a list, unless the reader says how many.
const EVENTS: usize = 100;

impl Backend for Monitor {
    fn metrics(&self) -> Result<String> {
        metrics::render(self.with_alerts()?).context("cannot write the metrics")
    }

    fn metrics_protobuf(&self) -> Result<Vec<u8>> {
        metrics::render_protobuf(self.with_alerts()?).context("cannot write the metrics")
    }

    fn readiness(&self) -> Vec<Check> {
        let mut checks: Vec<Check> = {
            let hooks = self.hooks();
            let attached = hooks.attached().into_iter().map(|a| Check {
                name: format!("{} {}", a.point, a.hook),
                ok: a.mode.is_some(),
                detail: a
                    .mode
                    .map_or("not attached".to_owned(), |mode| format!("attached by {}", mode.name())),
            });
            let twice = &hooks.points.twice;
            let twice = twice.iter().map(|t| Check { name: t.name.clone(), ok: true, detail: t.text() });
            let waiting = hooks.points.why().into_iter();
            let waiting = waiting.map(|(name, detail)| Check { name: name.to_owned(), ok: false, detail });
            attached.chain(twice).chain(waiting).collect()
        };
        let behind = self.records().ring.empty_at.elapsed();
        checks.push(Check {
            name: "ring".to_owned(),
            ok: behind < DRAINED,
            detail: format!("last seen empty {:.1} s ago", behind.as_secs_f64()),
        });
        checks
    }

    fn flows(&self, asked: &FlowFilter) -> Result<FlowList, Refusal> {
        let (names, stall) = {
            let in_force = self.in_force();
            (in_force.names.clone(), in_force.watch.limits.stall)
        };
        let filter = Filter::of_flows(asked, &names).map_err(Refusal::Filter)?;
        let (mut newest, mut total) = (Best::new(asked.limit.unwrap_or(FLOWS)), 0);
        let mut visit = |f: Sight| {
            if filter.matches(&f.key.end_points(), f.flow.svc, f.anomalies()) {
                total += 1;
                newest.offer(f.flow.last_seen(), f);
            }
        };
        let read = self.maps.each_flow(&mut visit).context("cannot read the flow tables");
        read.map_err(Refusal::Failed)?;
        let now = sys::monotonic();
        Ok(FlowList { total, flows: newest.into_sorted().map(|f| f.row(&names, now, stall)).collect() })
    }

    fn events(&self, asked: &EventFilter) -> Result<EventList, Refusal> {
        let in_force = self.in_force();
        let (names, stall) = (&in_force.names, in_force.watch.limits.stall);
        let filter = Filter::of_events(asked, names).map_err(Refusal::Filter)?;
        let records = self.records();
        let events = match asked.id {
            Some(id) => records.events.find(id, names, stall).into_iter().collect(),
            None => records.events.list(&filter, asked.limit.unwrap_or(EVENTS), names, stall),
        };
        Ok(EventList { events })
    }

    fn connections(&self, asked: &ConnectionFilter) -> Result<ConnectionList, Refusal> {
        let ConnectionList { forgotten, connections } = self.whole_connections(asked)?;
        let shown = self.in_force().names.shown;
        let connections = connections.into_iter().map(|connection| connection.shown(shown)).collect();
        Ok(ConnectionList { forgotten, connections })
    }

    fn reuse(&self, asked: &ReuseFilter) -> Result<Report, Refusal> {
        let (svc, since_seconds) = (asked.svc.clone(), asked.since_seconds);
        let of = ConnectionFilter { svc, since_seconds, ..ConnectionFilter::default() };
        let list = self.connections(&of)?;
        let points: Vec<_> = {
            let in_force = self.in_force();
            in_force.names.points.iter().filter(|name| !name.is_empty()).cloned().collect()
        };
        reuse::report(&list.connections, &points, asked, list.forgotten).map_err(Refusal::Filter)
    }

    fn alerts(&self) -> AlertList {
        let standings = Monitor::alerts(self).figures().standings;
        AlertList::of(standings)
    }

    fn reload(&self) -> Result<(), String> {
        Monitor::reload(self)
    }
}

impl Monitor {
    /// Connections with their whole addresses, which are not to be shown to anybody.
    fn whole_connections(&self, asked: &ConnectionFilter) -> Result<ConnectionList, Refusal> {
        let (names, time_wait) = {
            let in_force = self.in_force();
            (in_force.names.clone(), in_force.watch.limits.time_wait)
        };
        let filter = Filter::of_connections(asked, &names).map_err(Refusal::Filter)?;
        let flows = self.maps.flows().context("cannot read the flow tables").map_err(Refusal::Failed)?;
        let life = |s: &Sight| (s.key, s.flow.opened.0);
        let mut flows: HashMap<_, _> = flows.into_iter().map(|sight| (life(&sight), sight)).collect();
        // After the tables: one that ended meanwhile is in both, and one that ended before may have heard more since.
        let (mut sights, forgotten): (Vec<_>, u64) = {
            self.drain(u64::MAX);
            let records = self.records();
            let newest = |end: Sight| match flows.remove(&life(&end)) {
                Some(flow) if flow.flow.has(Flow::ENDED) => flow,
                _ => end,
            };
            (records.events.ended().map(newest).collect(), records.events.forgotten())
        };
        sights.extend(flows.into_values().filter(|sight| !sight.flow.has(Flow::ENDED)));
        let (wall, now) = (SystemTime::now(), sys::monotonic());
        let clock = Clock::new(wall, now);
        let limit = asked.since_seconds.map(|s| s.saturating_mul(1_000_000_000));
        let asked: Vec<bool> = sights
            .iter()
            .map(|s| {
                filter.matches(&s.key.end_points(), s.flow.svc, AnomalySet(0))
                    && limit.is_none_or(|limit| now.since(s.flow.last_seen()) <= limit)
            })
            .collect();
        // A second leg is another service's, perhaps: it is looked for among all.
        let mut connections: Vec<_> =
            sights.iter().map(|sight| Connection::of(sight, &names, clock)).collect();
        {
            let records = self.records();
            for (connection, sight) in connections.iter_mut().zip(&sights) {
                connection.http = records.events.http(sight).cloned();
            }
        }
        second_leg::prove(&mut connections, time_wait);
        let connections =
            connections.into_iter().zip(asked).filter(|(_, asked)| *asked).map(|(c, _)| c).collect();
        Ok(ConnectionList { forgotten, connections })
    }

    /// All figures of this moment.
    fn with_alerts(&self) -> Result<Snapshot> {
        let alerts = Monitor::alerts(self).figures();
        Ok(Snapshot { alerts, ..self.figures()? })
    }

    /// The same, without the alerts that they are judged by. Read again where numbers of points became others' meanwhile.
    pub(super) fn figures(&self) -> Result<Snapshot> {
        loop {
            let figures = self.figures_of_names()?;
            if self.in_force().names.points == figures.points {
                return Ok(figures);
            }
        }
    }

    fn figures_of_names(&self) -> Result<Snapshot> {
        let (names, room, reload) = {
            let in_force = self.in_force();
            (in_force.names.clone(), in_force.room as usize, in_force.reload)
        };
        let (health, ring) = self.health()?;
        let services = names.services.len();
        let mut totals = self.maps.totals(&names.points, services)?;
        let hooks = self.hooks();
        let (attached, programs) = (hooks.attached(), hooks.probe.runs());
        let (gone, twice, interfaces) =
            (hooks.points.gone(), hooks.points.twice.clone(), hooks.points.figures());
        drop(hooks);
        let records = self.records();
        // The agent's own figures have room for services that are not there yet.
        let place = |i: usize| i / services * room + i % services;
        for (i, to) in totals.iter_mut().enumerate() {
            add(&mut to.0, &records.own.totals[place(i)].0);
        }
        let open = (0..totals.len()).map(|i| records.swept.open.get(place(i)).copied().unwrap_or_default());
        let services_used = self.maps.service_entries()?;
        let tables = self.capacities.iter().zip(records.swept.entries.into_iter().chain([services_used]));
        let foreign = (0..totals.len()).map(|i| records.foreign.counted(i / services, i % services));
        Ok(Snapshot {
            foreign: foreign.collect(),
            totals,
            open: open.collect(),
            attached,
            gone,
            twice,
            interfaces,
            programs,
            reload,
            tables: tables
                .map(|((name, capacity), entries)| Table { name, entries, capacity: *capacity })
                .collect(),
            ring,
            exemplars: records.events.exemplars().clone(),
            flood: records.flood.on,
            legs: records.legs.counts().clone(),
            inside: records.inside.figures().clone(),
            inside_left_out: records.inside.left_out(),
            connection_log: records.log.lines(),
            alerts: Figures::default(),
            process: Process::read(),
            points: names.points,
            services: names.services,
            health,
        })
    }
}
