//! The agent's log: a line when an alert begins, and one when it ends.

use super::{Failure, Teller, word};
use crate::alert::message::Alert;
use tracing::{info, warn};

/// Tells the log.
#[derive(Debug)]
pub struct Log;

impl Teller for Log {
    fn most(&self) -> usize {
        1
    }

    fn tell(&mut self, alerts: &[Alert]) -> Result<(), Failure> {
        for alert in alerts {
            let note = |name: &str| alert.annotations.get(name).map_or("", String::as_str);
            let (rule, svc, point) = (&alert.rule, alert.label("svc"), alert.label("point"));
            let (summary, description, evidence) = (note("summary"), note("description"), note("evidence"));
            if alert.is_firing() {
                let severity = &alert.severity;
                warn!(rule, severity, svc, point, summary, description, evidence, "{}", word(alert.status));
            } else {
                info!(rule, svc, point, "{}", word(alert.status));
            }
        }
        Ok(())
    }
}
