//! What is in force, and how a new configuration takes its place.

use super::Monitor;
use crate::{
    aggregate::{Names, foreign::Allowed, snapshot::Reload},
    config::{Service, Watch},
    connection_log::Opened,
    notify,
    pins::Pins,
    rights,
    source::maps::Maps,
    why,
};
use anyhow::{Result, bail};
use ipnet::IpNet;
use std::time::SystemTime;
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
        let Watch { wanted, tables, .. } = watch.clone();
        Self {
            watch: Watch { wanted, tables, ..Watch::default() },
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
            let mut in_force = self.in_force_mut();
            let fixed = fixed_parts(&in_force.watch, &watch);
            rights::raised(|| in_force.apply(&watch, &self.maps, self.pins.as_ref()))?;
            let records = &mut *self.records();
            records.log.turn(log)?;
            records.flood.full = false;
            Ok(fixed)
        });
        match done {
            Ok(fixed) => {
                self.settle_alerts();
                info!("the configuration is read again");
                notify::ready(&self.status());
                for part in fixed {
                    warn!(
                        "{part} changed in the configuration: that takes effect when the agent is restarted"
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

/// What differs and cannot be changed while the programs run.
fn fixed_parts(old: &Watch, new: &Watch) -> Vec<&'static str> {
    let parts = [("interfaces", old.wanted != new.wanted), ("tables", old.tables != new.tables)];
    parts.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Tables;

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
    fn what_needs_a_restart_is_named() {
        let old = Watch::default();
        let new = Watch { tables: Tables { flows: Some(1024), ..Tables::default() }, ..Watch::default() };
        assert_eq!(fixed_parts(&old, &new), ["tables"]);
        assert!(fixed_parts(&old, &old).is_empty());
    }
}
