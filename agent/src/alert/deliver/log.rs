//! The agent's log: a line when an alert begins, and one when it ends. Without the evidence, which names addresses: a log
//! goes to more places than the lists of connections do, and `/api/v1/alerts` has it.

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
            let (summary, description) = (note("summary"), note("description"));
            if alert.is_firing() {
                let severity = &alert.severity;
                warn!(rule, severity, svc, point, summary, description, "{}", word(alert.status));
            } else {
                info!(rule, svc, point, "{}", word(alert.status));
            }
        }
        Ok(())
    }
}
