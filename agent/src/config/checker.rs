//! Turns the raw configuration into settings, and keeps every fault it meets on the way.

use super::{
    Limits, NO_POINT, OTHER_SERVICE, Service, Tables,
    choice::Pattern,
    file::{
        FileInterface, Problem, RawAddresses, RawConnectionLog, RawInterface, RawLimits, RawService,
        RawTables,
    },
    value,
};
use crate::{
    aggregate::shown::Shown,
    connection_log::{self, sample::Rate},
    probe::tables::ENTRIES,
};
use ipnet::IpNet;
use serde_saphyr::Spanned;
use std::{collections::HashSet, ops::RangeInclusive, path::Path};

/// Turns raw values into settings and keeps what is wrong with them.
pub(super) struct Checker<'a> {
    /// Paths are relative to this directory.
    pub(super) directory: &'a Path,
    /// What was found wrong so far.
    pub(super) problems: Vec<Problem>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(directory: &'a Path) -> Self {
        Self { directory, problems: Vec::new() }
    }

    pub(super) fn refuse<T>(&mut self, key: impl Into<String>, at: &Spanned<T>, text: impl Into<String>) {
        self.problems.push(Problem { line: at.referenced.line(), key: key.into(), text: text.into() });
    }

    pub(super) fn read<T>(
        &mut self,
        key: &str,
        at: &Spanned<String>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        read(&at.value).map_err(|text| self.refuse(key, at, text)).ok()
    }

    pub(super) fn interfaces(&mut self, raw: &[RawInterface]) -> (Vec<FileInterface>, Vec<Pattern>) {
        let (mut names, mut points) = (HashSet::new(), HashSet::new());
        let (mut out, mut patterns) = (Vec::new(), Vec::new());
        for (i, entry) in raw.iter().enumerate() {
            if let Some(pattern) = Pattern::of(&entry.name.value, entry.ingress) {
                if let Some(point) = &entry.point {
                    let text =
                        "an interface that a pattern takes is a point of its own name; leave the key out";
                    self.refuse(format!("interfaces[{i}].point"), point, text);
                }
                patterns.push(pattern);
                continue;
            }
            let point_at = entry.point.as_ref().unwrap_or(&entry.name);
            let key = if entry.point.is_some() { "point" } else { "name" };
            self.read(&format!("interfaces[{i}].{key}"), point_at, value::name);
            if point_at.value == NO_POINT {
                let text =
                    "none is the point of packets that come on no watched interface; take another name";
                self.refuse(format!("interfaces[{i}].{key}"), point_at, text);
            }
            if !names.insert(&entry.name.value) {
                let text = format!("{} is listed twice; keep one entry", entry.name.value);
                self.refuse(format!("interfaces[{i}].name"), &entry.name, text);
            } else if !points.insert(&point_at.value) {
                let text = format!("two points are called {}; give each its own name", point_at.value);
                self.refuse(format!("interfaces[{i}].{key}"), point_at, text);
            }
            let (name, point) = (entry.name.value.clone(), point_at.value.clone());
            out.push(FileInterface { name, point, ingress: entry.ingress });
        }
        (out, patterns)
    }

    pub(super) fn services(&mut self, raw: &[RawService]) -> Vec<Service> {
        let mut taken: Vec<(IpNet, RangeInclusive<u16>, &str)> = Vec::new();
        let mut names = HashSet::new();
        let mut out = Vec::new();
        for (i, entry) in raw.iter().enumerate() {
            let (name, key) = (&entry.name.value, |k: &str| format!("services[{i}].{k}"));
            self.read(&key("name"), &entry.name, value::name);
            if name == OTHER_SERVICE {
                self.refuse(
                    key("name"),
                    &entry.name,
                    "other is the name of all that no service has; take another",
                );
            } else if !names.insert(name) {
                self.refuse(
                    key("name"),
                    &entry.name,
                    format!(
                        "two services are called {name}; put their prefixes and ports together or rename one"
                    ),
                );
            }
            if entry.prefixes.value.is_empty() {
                self.refuse(key("prefixes"), &entry.prefixes, "no network is listed; list at least one");
            }
            let ports = self.ports(&key("ports"), entry.ports.as_ref());
            let prefixes: Vec<_> = entry
                .prefixes
                .value
                .iter()
                .filter_map(|p| Some((p, self.read(&key("prefixes"), p, value::prefix)?)))
                .collect();
            // Every port is what the servers do that no other service lists: it clashes with itself only.
            let claims = if ports.is_empty() { vec![EVERY_PORT] } else { ports.clone() };
            for (at, prefix) in &prefixes {
                for range in &claims {
                    let clash = taken.iter().find(|(net, other, _)| net == prefix && overlap(other, range));
                    if let Some((_, other, owner)) = clash {
                        let text = format!(
                            "{prefix} with {} is listed already, with {} in service {owner}; a server belongs to one service",
                            show(range),
                            show(other)
                        );
                        self.refuse(key("prefixes"), at, text);
                    }
                    taken.push((*prefix, range.clone(), name));
                }
            }
            out.push(Service {
                name: name.clone(),
                prefixes: prefixes.into_iter().map(|(_, p)| p).collect(),
                ports,
                allowed_clients: self.clients(&key("allowed_clients"), entry.allowed_clients.as_ref()),
                http: entry.http,
            });
        }
        out
    }

    /// Whose clients a service is for; empty for all.
    fn clients(&mut self, key: &str, raw: Option<&Spanned<Vec<Spanned<String>>>>) -> Vec<IpNet> {
        let Some(list) = raw else { return Vec::new() };
        if list.value.is_empty() {
            self.refuse(key, list, "no network is listed; leave the key out to allow all clients");
        }
        list.value.iter().filter_map(|network| self.read(key, network, value::prefix)).collect()
    }

    /// The ports of a service; empty for every port.
    fn ports(&mut self, key: &str, raw: Option<&Spanned<Vec<Spanned<String>>>>) -> Vec<RangeInclusive<u16>> {
        let Some(list) = raw else { return Vec::new() };
        if list.value.is_empty() {
            self.refuse(key, list, "no port is listed; leave the key out to mean every port");
        }
        let ranges: Vec<_> =
            list.value.iter().filter_map(|port| self.read(key, port, value::ports)).collect();
        if ranges.contains(&EVERY_PORT) { Vec::new() } else { ranges }
    }

    pub(super) fn limits(&mut self, raw: &RawLimits) -> Limits {
        let mut limits = Limits::default();
        for (key, at, to) in [
            ("time_wait", &raw.time_wait, &mut limits.time_wait),
            ("idle", &raw.idle, &mut limits.idle),
            ("stall", &raw.stall, &mut limits.stall),
            ("handshake_timeout", &raw.handshake_timeout, &mut limits.handshake_timeout),
            ("flow_idle_timeout", &raw.flow_idle_timeout, &mut limits.flow_idle_timeout),
        ] {
            if let Some(at) = at
                && let Some(value) = self.read(&format!("limits.{key}"), at, value::duration)
            {
                *to = value;
            }
        }
        if limits.flow_idle_timeout <= limits.idle
            && let Some(at) = raw.flow_idle_timeout.as_ref().or(raw.idle.as_ref())
        {
            self.refuse(
                "limits.flow_idle_timeout",
                at,
                "must be above limits.idle: a flow forgotten sooner can never be seen reset after it",
            );
        }
        limits
    }

    pub(super) fn tables(&mut self, raw: &RawTables) -> Tables {
        let mut entries = |key: &str, at: &Option<Spanned<String>>| {
            at.as_ref().and_then(|at| self.read(&format!("tables.{key}"), at, entries))
        };
        let (flows, half_open) = (entries("flows", &raw.flows), entries("half_open", &raw.half_open));
        let closed = entries("closed", &raw.closed);
        let ring_bytes =
            raw.ring_bytes.as_ref().and_then(|at| self.read("tables.ring_bytes", at, ring_bytes));
        let memory = raw.memory.as_ref().and_then(|at| self.read("tables.memory", at, value::bytes));
        Tables { memory, flows, half_open, closed, ring_bytes }
    }

    pub(super) fn addresses(&mut self, raw: &RawAddresses) -> Shown {
        let mut shown = Shown::default();
        for (key, at, to) in [
            ("ipv4_prefix", &raw.ipv4_prefix, &mut shown.ipv4_prefix),
            ("ipv6_prefix", &raw.ipv6_prefix, &mut shown.ipv6_prefix),
        ] {
            let whole = *to;
            let length = |text: &str| match text.trim().parse() {
                Ok(n) if n <= whole => Ok(n),
                _ => Err(format!(
                    "{text:?} is not a prefix length; write 0 (nothing is shown) to {whole} (all is)"
                )),
            };
            if let Some(value) = at.as_ref().and_then(|at| self.read(&format!("addresses.{key}"), at, length))
            {
                *to = value;
            }
        }
        shown
    }

    pub(super) fn connection_log(&mut self, raw: &RawConnectionLog) -> connection_log::Settings {
        if raw.path.value.is_empty() {
            let text = "is empty; write the path of a file, or - for standard output";
            self.refuse("connection_log.path", &raw.path, text);
        }
        let sample_good = raw.sample_good.as_ref();
        let sample_good = sample_good.and_then(|at| self.read("connection_log.sample_good", at, rate));
        connection_log::Settings {
            path: raw.path.value.clone().into(),
            sample_good: sample_good.unwrap_or(Rate::EVERY),
        }
    }
}

/// Entries of a table; the top keeps one table below about 4 GiB of kernel memory.
fn entries(text: &str) -> Result<u32, String> {
    match text.replace('_', "").parse::<u32>() {
        Ok(n) if ENTRIES.contains(&n) => Ok(n),
        _ => Err(format!(
            "{text:?} is not a table size; write a number of entries from {} to {}",
            ENTRIES.start(),
            ENTRIES.end()
        )),
    }
}

/// A share of connections.
fn rate(text: &str) -> Result<Rate, String> {
    text.trim()
        .parse()
        .ok()
        .and_then(Rate::new)
        .ok_or_else(|| format!("{text:?} is not a share; write a number from 0 (none) to 1 (all), like 0.01"))
}

/// Size of the ring; the kernel takes only powers of two of whole pages.
fn ring_bytes(text: &str) -> Result<u32, String> {
    let n = value::bytes(text)?;
    match u32::try_from(n) {
        Ok(n @ 4096..=0x4000_0000) if n.is_power_of_two() => Ok(n),
        _ => Err(format!("{text} cannot be a ring; write a power of two from 4KiB to 1GiB, like 4MiB")),
    }
}

/// What a service without a list of ports claims.
const EVERY_PORT: RangeInclusive<u16> = 1..=u16::MAX;

fn overlap(a: &RangeInclusive<u16>, b: &RangeInclusive<u16>) -> bool {
    (*a == EVERY_PORT) == (*b == EVERY_PORT) && a.start() <= b.end() && b.start() <= a.end()
}

fn show(range: &RangeInclusive<u16>) -> String {
    let (first, last) = (range.start(), range.end());
    if *range == EVERY_PORT {
        "every port".to_owned()
    } else if first == last {
        format!("port {first}")
    } else {
        format!("ports {first}-{last}")
    }
}
