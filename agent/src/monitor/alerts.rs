//! Alerts of the running agent: judged once a second on a thread of their own, from the figures that the metrics show.

use super::Monitor;
use crate::{
    alert::{
        EVERY, Settings,
        deliver::{RESEND, Sinks},
        engine::Engine,
        evidence::{self, Search},
        figures::Figures,
        message::Alert,
        moment::Moment,
    },
    config::{Service, Watch},
    sys, why,
};
use anyhow::{Context as _, Result};
use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{
        MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};
use tracing::{error, info, warn};

/// The engine and its receivers.
#[derive(Debug)]
pub struct Alerts {
    settings: Settings,
    engine: Engine,
    sinks: Sinks,
    judged: u64,
    failed: u64,
    /// The last time.
    failing: bool,
    spent: Duration,
}

impl Alerts {
    /// Begins while every counter is 0, with what was firing when the agent ended.
    pub fn new(watch: &Watch) -> Self {
        let settings = watch.alerts.clone();
        let labels = labels(&settings);
        let mut engine = Engine::new(settings.rules.clone(), labels, names(&watch.services), now());
        if let Some(path) = &settings.state_file {
            match read(path) {
                Ok(alerts) => engine.restore(alerts),
                Err(e) => warn!(
                    error = why::text(&e),
                    "which alerts were firing is not known; they may be told again"
                ),
            }
        }
        let zero = Duration::ZERO;
        Self { settings, engine, sinks: Sinks::default(), judged: 0, failed: 0, failing: false, spent: zero }
    }

    /// How all stands.
    pub fn figures(&self) -> Figures {
        Figures {
            standings: self.engine.standings(),
            sinks: self.sinks.accounts(),
            judged: self.judged,
            failed: self.failed,
            seconds: self.spent.as_secs_f64(),
        }
    }

    fn told(&self, alerts: &[Alert]) {
        if alerts.is_empty() {
            return;
        }
        for alert in alerts {
            self.sinks.tell(alert);
        }
        if let Some(path) = &self.settings.state_file
            && let Err(e) = write(path, &self.engine.firing())
        {
            warn!(error = why::text(&e), "a restart will not know which alerts fire");
        }
    }
}

impl Monitor {
    /// Judges the rules once a second until `stop`.
    pub fn judge(&self, stop: &AtomicBool) {
        let settings = self.alerts().settings.clone();
        self.alerts().sinks.settle(&settings.sinks);
        let (mut next, mut remind_at) = (Instant::now(), Instant::now());
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            let done = self.judge_once();
            let mut alerts = self.alerts();
            alerts.spent += began.elapsed();
            match done {
                Ok(()) => {
                    alerts.judged += 1;
                    alerts.failing = false;
                }
                Err(e) => {
                    // Once a second until it works again: one line for each would bury the first.
                    if !alerts.failing {
                        error!(error = why::text(&e), "cannot judge the alerts: there are no figures");
                    }
                    alerts.failed += 1;
                    alerts.failing = true;
                }
            }
            if Instant::now() >= remind_at {
                alerts.sinks.remind(&alerts.engine.firing());
                remind_at = Instant::now() + RESEND;
            }
            drop(alerts);
            next = (next + EVERY).max(Instant::now());
            while Instant::now() < next && !stop.load(Ordering::Relaxed) {
                thread::park_timeout(next.saturating_duration_since(Instant::now()));
            }
        }
        self.alerts().sinks.finish();
        info!("no alerts are judged any more");
    }

    fn judge_once(&self) -> Result<()> {
        let snapshot = self.figures()?;
        let (names, services) = {
            let in_force = self.in_force();
            (in_force.names.clone(), in_force.watch.services.clone())
        };
        let moment = now();
        let mut alerts = self.alerts();
        let told = alerts.engine.step(moment, &snapshot, &mut |rule, cell| {
            if !evidence::is_of_connections(rule) {
                return Vec::new();
            }
            let search = Search::new(rule, cell, &names, &services, moment.wall);
            self.witnesses(&search, &names).unwrap_or_else(|e| {
                warn!(error = why::text(&e), "an alert has no evidence");
                Vec::new()
            })
        });
        alerts.told(&told);
        Ok(())
    }

    /// Takes over what a new configuration says of alerts.
    pub(super) fn settle_alerts(&self) {
        let (settings, services) = {
            let in_force = self.in_force();
            (in_force.watch.alerts.clone(), names(&in_force.watch.services))
        };
        let mut alerts = self.alerts();
        alerts.sinks.settle(&settings.sinks);
        let over = alerts.engine.reload(settings.rules.clone(), labels(&settings), services);
        alerts.settings = settings;
        alerts.told(&over);
    }

    pub(super) fn alerts(&self) -> MutexGuard<'_, Alerts> {
        self.alerts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> Moment {
    Moment { mono: Duration::from_nanos(sys::monotonic().0), wall: SystemTime::now() }
}

fn names(services: &[Service]) -> Vec<String> {
    services.iter().map(|service| service.name.clone()).collect()
}

/// Two gateways see the same services: an Alertmanager must be able to tell their alerts apart.
fn labels(settings: &Settings) -> BTreeMap<String, String> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let own = [("instance".to_owned(), host.trim().to_owned())];
    own.into_iter().chain(settings.labels.clone()).collect()
}

fn read(path: &Path) -> Result<Vec<Alert>> {
    match fs::read(path) {
        Ok(text) => {
            serde_json::from_slice(&text).with_context(|| format!("{} is no list of alerts", path.display()))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e).with_context(|| format!("alerts.state_file: cannot read {}", path.display())),
    }
}

fn write(path: &Path, alerts: &[Alert]) -> Result<()> {
    let new = path.with_added_extension("new");
    let text = serde_json::to_vec(alerts)?;
    // It names addresses.
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&new);
    let written = file.and_then(|mut file| file.write_all(&text)).and_then(|()| fs::rename(&new, path));
    written.with_context(|| format!("alerts.state_file: cannot write {}", path.display()))
}
