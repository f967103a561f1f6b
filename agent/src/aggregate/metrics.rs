//! The metrics: every family and every series known in advance, made from a snapshot.
//!
//! The families of TCP derive from the core's tables; those of the agent itself stand here.

use super::{
    inside,
    rows::seconds,
    series::{Labels, NoExemplar, counters, decode, gauges, gauges_f64, with_exemplar},
    snapshot::{Mode, OpenFlows, SeriesKey, Snapshot, Table, Totals},
};
use crate::{alert::figures, config::NO_POINT, connection::second_leg::LegState};
use agent_ebpf::{
    anomaly::Anomaly,
    counter::{Series, place, width},
    health::{Health, Kind},
    histogram::{BOUNDS, Histogram},
    label::{Direction, Label as _, Side},
    traffic::Traffic,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, prometheus_protobuf, text},
    metrics::MetricType,
    registry::Registry,
};
use std::{
    fmt::{Error, Result},
    time::{SystemTime, UNIX_EPOCH},
};

/// The metrics of a moment as OpenMetrics text.
pub fn render(snapshot: Snapshot) -> std::result::Result<String, Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposition(snapshot)));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

/// The same as Prometheus's protobuf messages, each with its length before it.
///
/// Histograms are classic ones. The kernel counts into buckets whose bounds an operator knows ([`BOUNDS`]); native
/// buckets grow by powers of two, and counts put into those would be guesses. Native histograms that keep the bounds
/// (schema -53) have no place in this message, which has no field for bounds: Prometheus 3 makes them from these,
/// without loss, where `convert_classic_histograms_to_nhcb` is set.
pub fn render_protobuf(snapshot: Snapshot) -> std::result::Result<Vec<u8>, prometheus_protobuf::EncodeError> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposition(snapshot)));
    prometheus_protobuf::encode_to_vec(&registry)
}

#[derive(Debug)]
struct Exposition(Snapshot);

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result {
        self.tcp(&mut encoder)?;
        let Snapshot { inside: figures, inside_left_out, points, services, .. } = &self.0;
        self.legs(&mut encoder)?;
        inside::encode(&mut encoder, figures, *inside_left_out, points, services)?;
        self.packets(&mut encoder)?;
        self.own(&mut encoder)?;
        figures::encode(&mut encoder, &self.0.alerts)?;
        self.process(&mut encoder)
    }
}

impl Exposition {
    fn tcp(&self, encoder: &mut DescriptorEncoder<'_>) -> Result {
        self.counters(encoder, Anomaly::ALL)?;
        self.counters(encoder, Traffic::ALL)?;
        for histogram in Histogram::ALL {
            self.histogram(encoder, *histogram)?;
        }
        let open = |f: fn(&OpenFlows) -> u64| {
            self.pairs().map(move |(labels, point, svc)| {
                let at = self.0.index(point, svc);
                (labels, self.0.open.get(at).map_or(0, f))
            })
        };
        gauges(
            encoder,
            "fivetuple_tcp_open_connections",
            "Connections that are followed and have not ended.",
            open(|o| o.open),
        )?;
        gauges(
            encoder,
            "fivetuple_tcp_stalled_requests",
            "Open connections whose request has been waiting longer than the stall limit for its answer.",
            open(|o| o.stalled),
        )?;
        let foreign = self.pairs().map(|(labels, point, svc)| {
            let count = self.0.foreign.get(self.0.index(point, svc)).copied();
            (labels, count.unwrap_or_default())
        });
        counters(
            encoder,
            "fivetuple_tcp_foreign_connections",
            "Connections of clients outside of what their service allows (allowed_clients); 0 where it allows all.",
            foreign,
        )
    }

    /// Every point and service with their labels and numbers.
    fn pairs(&self) -> impl Iterator<Item = (Labels<'_>, usize, usize)> {
        self.0.named().flat_map(move |(point, point_name)| {
            self.0.services.iter().enumerate().map(move |(svc, svc_name)| {
                (vec![("point", point_name), ("svc", svc_name.as_str())], point, svc)
            })
        })
    }

    fn counters<S: Series>(&self, encoder: &mut DescriptorEncoder<'_>, rows: &[S]) -> Result {
        for row in rows {
            let name = format!("fivetuple_tcp_{}", row.series());
            let mut family = encoder.encode_descriptor(&name, row.help(), None, MetricType::Counter)?;
            let width = width(row.labels());
            // Thousands of series share these: made once, not for each.
            let combinations: Vec<_> =
                (0..width / Side::ALL.len()).map(|sub| decode(row.labels(), sub)).collect();
            for (mut labels, point, svc) in self.pairs() {
                let totals = self.totals(point, svc);
                let shared = labels.len();
                for side in Side::ALL {
                    for (sub, combination) in combinations.iter().enumerate() {
                        labels.truncate(shared);
                        labels.push((Side::TABLE.key, side.name()));
                        labels.extend(combination);
                        let counter = place(row.base(), width, *side, sub);
                        let value = totals.map_or(0, |t| t.0[counter]);
                        let exemplar = self.0.exemplars.get(&SeriesKey { point, svc, counter });
                        let mut series = family.encode_family(&labels)?;
                        match exemplar.and_then(|e| with_exemplar(value, *e)) {
                            None => series.encode_counter(&value, None::<&NoExemplar>)?,
                            Some(counter) => {
                                let (value, exemplar) = counter.get();
                                series.encode_counter(&value, exemplar.as_ref())?;
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// All are shown that can be: a proxy's legs are no rarity where resets after a reuse are.
    fn legs(&self, encoder: &mut DescriptorEncoder<'_>) -> Result {
        let series = self.pairs().flat_map(|(labels, point, svc)| {
            LegState::VALUES.iter().map(move |state| {
                let mut labels = labels.clone();
                labels.push(("leg", state.value()));
                let key = (u8::try_from(point).unwrap_or(u8::MAX), svc as u16, *state);
                (labels, self.0.legs.get(&key).copied().unwrap_or(0))
            })
        });
        counters(
            encoder,
            "fivetuple_leg_resets",
            "Connections reset after a reuse (cause after_reuse), by how the leg stood that a proxy should have opened.",
            series,
        )
    }

    fn totals(&self, point: usize, svc: usize) -> Option<&Totals> {
        self.0.totals.get(self.0.index(point, svc))
    }

    fn histogram(&self, encoder: &mut DescriptorEncoder<'_>, histogram: Histogram) -> Result {
        let name = format!("fivetuple_tcp_{}", histogram.series());
        let mut family = encoder.encode_descriptor(&name, histogram.help(), None, MetricType::Histogram)?;
        for (labels, point, svc) in self.pairs() {
            let slot = |n: usize| self.totals(point, svc).map_or(0, |t| t.0[n]);
            let bounds = BOUNDS.iter().map(|nanos| seconds(*nanos)).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> =
                bounds.enumerate().map(|(i, bound)| (bound, slot(histogram.base() + i))).collect();
            let count = buckets.iter().map(|(_, n)| n).sum();
            let sum = seconds(slot(histogram.sum()));
            let mut series = family.encode_family(&labels)?;
            series.encode_histogram::<Labels<'_>>(sum, count, &buckets, None)?;
        }
        Ok(())
    }

    /// What became of each packet: `seen = counted + skipped`, at each point and hook.
    fn packets(&self, encoder: &mut DescriptorEncoder<'_>) -> Result {
        for (kind, name, help) in [
            (Kind::Seen, "fivetuple_packets_seen", "Packets the programs were run for."),
            (Kind::Counted, "fivetuple_packets_counted", "Packets counted as TCP segments."),
            (
                Kind::Skipped,
                "fivetuple_packets_skipped",
                "Packets not counted, by why; seen = counted + skipped.",
            ),
            (
                Kind::Short,
                "fivetuple_tracking_losses",
                "Segments that were counted but followed less well than they should be, by why.",
            ),
        ] {
            let rows = || Health::ALL.iter().filter(move |row| row.kind() == kind);
            let with_reason = rows().count() > 1;
            let points = self.0.named().chain([(self.0.points.len(), NO_POINT)]);
            let series = points.filter_map(|(i, point)| Some((point, self.0.health.get(i)?)));
            let series = series.flat_map(|(point, hooks)| {
                Direction::ALL.iter().zip(hooks).flat_map(move |(hook, counts)| {
                    rows().map(move |row| {
                        let mut labels = vec![("point", point), ("hook", hook.name())];
                        if with_reason {
                            labels.push(("reason", row.name()));
                        }
                        (labels, counts[*row as usize])
                    })
                })
            });
            counters(encoder, name, help, series)?;
        }
        Ok(())
    }

    fn own(&self, encoder: &mut DescriptorEncoder<'_>) -> Result {
        let snapshot = &self.0;
        let ring = snapshot.ring;
        for (name, help, value) in [
            (
                "fivetuple_ring_submitted",
                "Records the programs made for the ring buffer; submitted = received + lost.",
                ring.submitted,
            ),
            ("fivetuple_ring_received", "Records the agent took from the ring buffer.", ring.received),
            (
                "fivetuple_ring_lost",
                "Records lost because the ring buffer was full: evidence is missing, no count is.",
                ring.lost,
            ),
            ("fivetuple_ring_malformed", "Received records that made no sense.", ring.malformed),
        ] {
            counters(encoder, name, help, [(Vec::new(), value)])?;
        }
        let tables = |f: fn(&Table) -> u64| {
            snapshot.tables.iter().map(move |table| (vec![("table", table.name)], f(table)))
        };
        gauges(
            encoder,
            "fivetuple_flood",
            "Whether more connections are asked for than can be followed: of those beyond only the totals are counted.",
            [(Vec::new(), u64::from(snapshot.flood))],
        )?;
        gauges(encoder, "fivetuple_table_entries", "Entries of a kernel table.", tables(|t| t.entries))?;
        gauges(
            encoder,
            "fivetuple_table_capacity",
            "Entries a kernel table can hold.",
            tables(|t| t.capacity),
        )?;
        let attached = snapshot.attached.iter().flat_map(|a| {
            let modes =
                Mode::ALL.into_iter().filter(|m| *m != Mode::Xdp || a.hook == Direction::Ingress.name());
            modes.map(move |mode| {
                let labels = vec![("point", a.point.as_str()), ("hook", a.hook), ("mode", mode.name())];
                (labels, u64::from(a.mode == Some(mode)))
            })
        });
        let help = "Whether a direction of a point is watched, by how: 1 at one mode at most, 0 at all where it is not.";
        gauges(encoder, "fivetuple_attached", help, attached)?;
        let twice = snapshot.twice.iter().map(|twice| {
            let labels = vec![("interface", twice.name.as_str()), ("at", twice.at.as_str())];
            (labels, u64::from(!twice.left_out))
        });
        let help = "Interfaces all of whose packets pass another one that is watched, at: 1 where both are watched, so that sums over both count them twice, 0 where it is left out for that.";
        gauges(encoder, "fivetuple_watched_twice", help, twice)?;
        let help =
            "Interfaces that patterns take and that are not watched, as there is no room for more points.";
        let waiting = [(Vec::new(), snapshot.interfaces.waiting)];
        gauges(encoder, "fivetuple_interfaces_without_point", help, waiting)?;
        let help =
            "Points whose interfaces were gone and whose series ended at once, as others needed their place.";
        counters(encoder, "fivetuple_points_ended_early", help, [(Vec::new(), snapshot.interfaces.early)])?;
        if !snapshot.programs.is_empty() {
            let runs = snapshot.programs.iter().map(|p| (vec![("program", p.program)], p.runs));
            counters(encoder, "fivetuple_program_runs", "Runs of a kernel program.", runs)?;
            let times = snapshot.programs.iter().map(|p| (vec![("program", p.program)], seconds(p.nanos)));
            counters(encoder, "fivetuple_program_run_seconds", "Processor time of a kernel program.", times)?;
        }
        let log = snapshot.connection_log;
        let lines = [("written", log.written), ("sampled_out", log.sampled_out), ("failed", log.failed)];
        let help = "Lines of the connection log, by what became of them; all 0 while it is off.";
        let lines = lines.map(|(result, n)| (vec![("result", result)], n));
        counters(encoder, "fivetuple_connection_log_lines", help, lines)?;
        let reload = snapshot.reload;
        gauges(
            encoder,
            "fivetuple_config_last_reload_successful",
            "Whether the configuration was valid when it was last read.",
            [(Vec::new(), u64::from(reload.successful))],
        )?;
        gauges_f64(
            encoder,
            "fivetuple_config_last_reload_success_timestamp_seconds",
            "When the configuration was last read and valid.",
            unix_seconds(reload.success_at),
        )?;
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        gauges(encoder, "fivetuple_build_info", "The agent's version; always 1.", [(version, 1)])
    }

    fn process(&self, encoder: &mut DescriptorEncoder<'_>) -> Result {
        let process = &self.0.process;
        counters(
            encoder,
            "process_cpu_seconds",
            "Processor time of the agent, user and system together.",
            [(Vec::new(), process.cpu_seconds)],
        )?;
        for (name, help, value) in [
            (
                "process_resident_memory_bytes",
                "Memory of the agent that is in use.",
                process.resident_bytes as f64,
            ),
            ("process_virtual_memory_bytes", "Address space of the agent.", process.virtual_bytes as f64),
            ("process_threads", "Threads of the agent.", process.threads as f64),
            ("process_open_fds", "Open file descriptors of the agent.", process.open_fds as f64),
            ("process_start_time_seconds", "When the agent started.", process.start_time_seconds),
        ] {
            gauges_f64(encoder, name, help, value)?;
        }
        Ok(())
    }
}

fn unix_seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
pub mod tests;
