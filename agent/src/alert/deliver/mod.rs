//! Telling alerts: one bounded queue and one thread for each receiver, so that none waits for another.
//!
//! `produced = sent + dropped + queued` holds at every moment: all four are kept under one lock. What is being sent is
//! still queued.

mod alertmanager;
mod backoff;
mod http;
mod log;
mod queue;
mod webhook;

use super::message::{Alert, Status};
use crate::client;
use backoff::Backoff;
pub use queue::{Accounts, Queue};
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tracing::{error, info, warn};

/// Alerts that wait for a receiver at most.
pub const ROOM: usize = 1024;
/// How often an Alertmanager is told again of what fires: it forgets an alert that is not.
pub const RESEND: Duration = Duration::from_secs(30);
/// How long the end of the agent waits for what is queued.
pub const GRACE: Duration = Duration::from_secs(2);

/// A receiver, as the configuration has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkSettings {
    /// Its name, the label `sink` of the metrics.
    pub name: String,
    /// What it is.
    pub kind: SinkKind,
    /// Where it is; empty for the log.
    pub url: String,
    /// How long it may take to answer.
    pub timeout: Duration,
    /// How it is spoken to.
    pub http: client::settings::Settings,
}

/// What a receiver is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkKind {
    /// The agent's log.
    Log,
    /// An Alertmanager, by its API of version 2.
    Alertmanager,
    /// Anything that takes a POST of JSON.
    Webhook,
}

impl SinkSettings {
    /// How long a receiver may take to answer, unless the configuration says otherwise.
    pub const TIMEOUT: Duration = Duration::from_secs(10);

    /// The agent's log.
    pub fn log() -> Self {
        Self {
            name: "log".to_owned(),
            kind: SinkKind::Log,
            url: String::new(),
            timeout: Self::TIMEOUT,
            http: client::settings::Settings::default(),
        }
    }
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It may go better later, at the earliest after this time where the receiver said so.
    Later(String, Option<Duration>),
    /// The receiver will never take it.
    Never(String),
}

/// What tells a receiver.
trait Teller: Send {
    /// Alerts of one telling at most.
    fn most(&self) -> usize;
    /// Tells it.
    fn tell(&mut self, alerts: &[Alert]) -> Result<(), Failure>;
}

/// All receivers.
#[derive(Debug, Default)]
pub struct Sinks {
    all: Vec<Sink>,
}

#[derive(Debug)]
struct Sink {
    settings: SinkSettings,
    queue: Arc<Queue>,
}

impl Sinks {
    /// Takes other receivers. What is queued for one goes on to the one of the same name, and is dropped where there is
    /// none.
    pub fn settle(&mut self, settings: &[SinkSettings]) {
        let mut old = std::mem::take(&mut self.all);
        for settings in settings {
            let before =
                old.iter().position(|sink| sink.settings.name == settings.name).map(|i| old.remove(i));
            self.all.push(match before {
                Some(sink) if sink.settings == *settings => sink,
                Some(sink) => Sink::start(settings.clone(), Queue::after(&sink.queue)),
                None => Sink::start(settings.clone(), Queue::new(ROOM)),
            });
        }
        for sink in &old {
            let left = sink.queue.close();
            if left > 0 {
                warn!(
                    sink = sink.settings.name,
                    alerts = left,
                    "this receiver is no more; what it was to be told is dropped"
                );
            }
        }
    }

    /// Tells all receivers of what changed.
    pub fn tell(&self, alert: &Alert) {
        for sink in &self.all {
            sink.queue.push(alert.clone());
        }
    }

    /// Tells those that forget what fires of it once more.
    pub fn remind(&self, firing: &[Alert]) {
        for sink in self.all.iter().filter(|sink| sink.settings.kind == SinkKind::Alertmanager) {
            for alert in firing {
                sink.queue.remind(alert.clone());
            }
        }
    }

    /// What became of what each was to be told.
    pub fn accounts(&self) -> Vec<(String, Accounts)> {
        self.all.iter().map(|sink| (sink.settings.name.clone(), sink.queue.accounts())).collect()
    }

    /// Waits a moment for what is queued, and ends.
    pub fn finish(&self) {
        let deadline = Instant::now() + GRACE;
        for sink in &self.all {
            let left = sink.queue.drain(deadline);
            if left > 0 {
                warn!(
                    sink = sink.settings.name,
                    alerts = left,
                    "ending before this receiver was told of all alerts"
                );
            }
        }
    }
}

impl Sink {
    fn start(settings: SinkSettings, queue: Queue) -> Self {
        let queue = Arc::new(queue);
        let (name, from) = (settings.name.clone(), queue.clone());
        let teller: Box<dyn Teller> = match settings.kind {
            SinkKind::Log => Box::new(log::Log),
            SinkKind::Alertmanager => Box::new(alertmanager::Alertmanager::new(&settings)),
            SinkKind::Webhook => Box::new(webhook::Webhook::new(&settings)),
        };
        // It ends with its queue, or with the process: an attempt under way is not waited for.
        let worker =
            thread::Builder::new().name("alert sink".to_owned()).spawn(move || work(&name, &from, teller));
        if let Err(e) = worker {
            error!(sink = settings.name, error = %e, "cannot start the thread that tells this receiver");
        }
        Self { settings, queue }
    }
}

/// Tells one receiver until its queue is closed.
fn work(name: &str, queue: &Queue, mut teller: Box<dyn Teller>) {
    let mut backoff = Backoff::default();
    while let Some(alerts) = queue.next(teller.most()) {
        match teller.tell(&alerts) {
            Ok(()) => {
                if backoff.failed() {
                    info!(sink = name, "alerts reach this receiver again");
                }
                backoff = Backoff::default();
                queue.sent(alerts.len());
            }
            Err(Failure::Never(why)) => {
                error!(
                    sink = name,
                    alerts = alerts.len(),
                    error = why,
                    "this receiver refuses alerts; they are dropped"
                );
                queue.refused(alerts.len());
            }
            Err(Failure::Later(why, after)) => {
                if !backoff.failed() {
                    warn!(
                        sink = name,
                        error = why,
                        "alerts do not reach this receiver; they wait and are sent again"
                    );
                }
                queue.failed();
                queue.wait(backoff.next(fastrand::f64(), after));
            }
        }
    }
}

/// What became of an alert, for the log.
fn word(status: Status) -> &'static str {
    match status {
        Status::Firing => "an alert fires",
        Status::Resolved => "an alert is over",
    }
}

#[cfg(test)]
mod tests;
