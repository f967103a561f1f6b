//! What is in force, and how a new configuration takes its place.

use super::Monitor;
use crate::{
    aggregate::{Names, foreign::Allowed, snapshot::Reload},
    config::{Ingress, Service, Watch, choice::Wanted},
    connection_log::Opened,
    notify,
    pins::Pins,
    rights,
    source::maps::Maps,
    why,
};
use anyhow::{Result, bail};
use ipnet::IpNet;
use std::{sync::atomic::Ordering, time::SystemTime};
use tracing::{error, info, warn};

/// Services that the totals have room for at least, so that a reload may add some.
const LEAST_ROOM: u32 = 16;

/// Room for the services of a configuration, for `other`, and for as many that a reload adds.
pub fn room(services: usize) -> u32 {
    LEAST_ROOM.max(2 * (services as u32 + 1))
}

/// The settings in force.
#[derive(Debug)]
pub struct InForce {
    /// The configuration, as far as it is in force: what needs a restart is as it was at the start.
    pub watch: Watch,
    /// Names of points and services, by their numbers.
    pub names: Names,
    /// Whose clients each service is for.
    pub allowed: Allowed,
    /// Services that the totals have room for.
    pub room: u32,
    /// How the last reading of the configuration went.
    pub reload: Reload,
}

impl InForce {
    /// Of a configuration what cannot be changed later; the rest is put in force by [`InForce::apply`]. `names` are the
    /// points, and the services that have their numbers already.
    pub fn new(watch: &Watch, room: u32, names: Names) -> Self {
        let tables = watch.tables.clone();
        Self {
            watch: Watch { tables, ..Watch::default() },
            names,
            allowed: Allowed::default(),
            room,
            reload: Reload::default(),
        }
    }

    /// Put a configuration in force, as far as that can be done while the programs run.
    pub fn apply(&mut self, watch: &Watch, maps: &Maps, pins: Option<&Pins>) -> Result<()> {
        let names = self.number(&watch.services)?;
        if let Some(pins) = pins {
            pins.describe(&names)?;
        }
        let number =
            |service: &Service| names.services.iter().position(|n| *n == service.name).unwrap_or(0) as u16;
        // A flood that there is notices the sweep again.
        maps.set_limits(&watch.limits, false)?;
        maps.set_services(watch.services.iter().map(|service| (number(service), service)))?;
        let allowed = names.services.iter().map(|name| clients_of(name, &watch.services));
        self.allowed = Allowed(allowed.collect());
        self.names = Names { shown: watch.addresses, ..names };
        self.watch.wanted = watch.wanted.clone();
        self.watch.services = watch.services.clone();
        self.watch.limits = watch.limits.clone();
        self.watch.addresses = watch.addresses;
        self.watch.connection_log = watch.connection_log.clone();
        self.watch.alerts = watch.alerts.clone();
        self.reload = Reload { successful: true, success_at: SystemTime::now() };
        Ok(())
    }

    /// Names with the new services behind the old. A service that is no more keeps its number and its series:
    /// its open connections still count there.
    fn number(&self, services: &[Service]) -> Result<Names> {
        let mut names = self.names.clone();
        for service in services {
            if !names.services.contains(&service.name) {
                names.services.push(service.name.clone());
            }
        }
        if names.services.len() > self.room as usize {
            bail!(
                "{} services, with those that were there before, are more than the running agent has room for ({}); restart it",
                names.services.len(),
                self.room
            );
        }
        Ok(names)
    }
}

impl Monitor {
    /// Read the configuration again. What is wrong with it is in the log and in the answer, and the old one stays.
    pub fn reload(&self) -> Result<(), String> {
        notify::reloading();
        let done = self.source.load().map_err(anyhow::Error::from).and_then(|watch| {
            // First: what cannot be opened leaves all as it was.
            let log = Opened::of(watch.connection_log.as_ref())?;
            let no_xdp = self.hooks().probe.no_xdp().map(str::to_owned);
            let mut in_force = self.in_force_mut();
            if in_force.watch.wanted != watch.wanted {
                can_be_watched(&watch, &in_force.watch.wanted, self.places, no_xdp.as_deref())?;
            }
            let resized = in_force.watch.tables != watch.tables;
            rights::raised(|| in_force.apply(&watch, &self.maps, self.pins.as_ref()))?;
            let records = &mut *self.records();
            records.log.turn(log)?;
            records.flood.full = false;
            Ok(resized)
        });
        match done {
            Ok(resized) => {
                self.changed.store(true, Ordering::Relaxed);
                self.settle_alerts();
                info!("the configuration is read again");
                notify::ready(&self.status());
                if resized {
                    warn!(
                        "tables changed in the configuration: that takes effect when the agent is restarted"
                    );
                }
                Ok(())
            }
            Err(e) => {
                self.in_force_mut().reload.successful = false;
                self.reopen_log();
                let text = why::text(&e);
                error!(error = text, "the configuration is wrong; the old one stays in force");
                notify::ready(&format!(
                    "{}; the configuration is wrong, the old one is in force",
                    self.status()
                ));
                Err(text)
            }
        }
    }

    /// Opens the connection log of the configuration in force anew: who rotates files sends SIGHUP for that, and a
    /// configuration that is wrong must not keep the old file open.
    fn reopen_log(&self) {
        let settings = self.in_force().watch.connection_log.clone();
        let opened = Opened::of(settings.as_ref());
        if let Err(e) = opened.and_then(|opened| self.records().log.turn(opened)) {
            error!(error = why::text(&e), "the connection log goes on in the file that is open");
        }
    }
}

fn clients_of(name: &str, services: &[Service]) -> Vec<IpNet> {
    let service = services.iter().find(|service| service.name == *name);
    service.map_or_else(Vec::new, |service| service.allowed_clients.clone())
}

/// Whether others than before can be watched while the programs run: the tables have room for so many points, and XDP is
/// loaded at the start alone. A reload that cannot have them all has none of it.
fn can_be_watched(watch: &Watch, before: &Wanted, places: usize, no_xdp: Option<&str>) -> Result<()> {
    let there = watch.interfaces.len();
    if there > places {
        bail!(
            "interfaces: {there} are asked for, and the running agent has room for {places} points; restart it"
        );
    }
    match (no_xdp, asks_for_xdp(&watch.wanted, before)) {
        (Some(why), Some(name)) => {
            bail!("interfaces: {name} asks for XDP, and {why}; restart the agent, or set `ingress: auto`")
        }
        _ => Ok(()),
    }
}

/// What asks for XDP, and did not before.
fn asks_for_xdp<'a>(wanted: &'a Wanted, before: &Wanted) -> Option<&'a str> {
    let named = wanted.named.iter().filter(|entry| !before.named.contains(entry));
    let named = named.map(|entry| (entry.ingress, entry.name.as_str()));
    let patterns = wanted.patterns.iter().filter(|p| !p.out && !before.patterns.contains(p));
    let patterns = patterns.map(|p| (p.ingress, p.text.as_str()));
    named.chain(patterns).find(|(ingress, _)| *ingress == Ingress::Xdp).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Interface;

    fn service(name: &str) -> Service {
        Service {
            name: name.to_owned(),
            prefixes: Vec::new(),
            ports: Vec::new(),
            allowed_clients: Vec::new(),
            http: false,
        }
    }

    #[test]
    fn a_service_keeps_its_number() {
        let names = Names { services: vec!["other".to_owned()], ..Names::default() };
        let mut in_force = InForce::new(&Watch::default(), 4, names);
        in_force.names = in_force.number(&[service("a"), service("b")]).unwrap();
        assert_eq!(in_force.names.services, ["other", "a", "b"]);
        in_force.names = in_force.number(&[service("b"), service("c")]).unwrap();
        assert_eq!(in_force.names.services, ["other", "a", "b", "c"]);
        let text = in_force.number(&[service("d")]).unwrap_err().to_string();
        assert!(text.contains("room for (4); restart"), "{text}");
    }

    #[test]
    fn there_is_room_to_add_services() {
        assert_eq!(room(0), 16);
        assert_eq!(room(20), 42);
    }

    #[test]
    fn interfaces_that_want_a_restart_are_refused_with_what_to_do() {
        let named =
            |name: &str, ingress| Interface { ingress, point: name.to_owned(), name: name.to_owned() };
        let watch = |named: Vec<Interface>| Watch {
            interfaces: named.clone(),
            wanted: Wanted { named, patterns: Vec::new() },
            ..Watch::default()
        };
        let two = watch(vec![named("eth0", Ingress::Auto), named("eth1", Ingress::Xdp)]);
        let refused = |places, no_xdp| {
            can_be_watched(&two, &Wanted::default(), places, no_xdp).map_err(|e| e.to_string())
        };
        assert_eq!(refused(2, None), Ok(()));
        let why = "interfaces: 2 are asked for, and the running agent has room for 1 points; restart it";
        assert_eq!(refused(1, None), Err(why.to_owned()));
        let why = "interfaces: eth1 asks for XDP, and no interface asked; restart the agent, or set `ingress: auto`";
        assert_eq!(refused(2, Some("no interface asked")), Err(why.to_owned()));
        let same = can_be_watched(&two, &two.wanted, 2, Some("the kernel refuses it"));
        assert!(same.is_ok(), "that was told at the start");
    }
}
