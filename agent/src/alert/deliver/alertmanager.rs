//! An Alertmanager: `POST /api/v2/alerts`.

use super::{Failure, RESEND, SinkSettings, Teller, http::Post};
use crate::alert::message::Alert;
use serde_json::{Value, json};
use std::time::SystemTime;

/// Alerts of one request: what comes at once goes at once.
const MOST: usize = 64;
/// An alert that fires ends for the Alertmanager when it has missed so many reminders: an agent that restarts in
/// between is not the end of an incident.
const MISSED: u32 = 10;

/// Tells an Alertmanager.
#[derive(Debug)]
pub struct Alertmanager {
    post: Post,
}

impl Alertmanager {
    /// At an address, the part before `/api`.
    pub fn new(to: &SinkSettings) -> Self {
        Self { post: Post::new(to, "/api/v2/alerts") }
    }
}

impl Teller for Alertmanager {
    fn most(&self) -> usize {
        MOST
    }

    fn tell(&mut self, alerts: &[Alert]) -> Result<(), Failure> {
        let now = SystemTime::now();
        let body: Vec<Value> = alerts.iter().map(|alert| entry(alert, now)).collect();
        self.post.send(Value::from(body).to_string().as_bytes())
    }
}

fn entry(alert: &Alert, now: SystemTime) -> Value {
    let time = |at: SystemTime| humantime::format_rfc3339_millis(at).to_string();
    let end = alert.ends_at.unwrap_or(now.max(alert.starts_at) + MISSED * RESEND);
    json!({
        "labels": alert.labels,
        "annotations": alert.annotations,
        "startsAt": time(alert.starts_at),
        "endsAt": time(end),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::message::tests::alert;
    use std::time::Duration;

    #[test]
    fn what_fires_ends_unless_it_is_told_again() {
        let a = alert("card");
        let later = |seconds| a.starts_at + Duration::from_secs(seconds);
        let told = entry(&a, later(60));
        assert_eq!(
            (&told["startsAt"], &told["endsAt"]),
            (&"2023-11-14T22:13:20.000Z".into(), &"2023-11-14T22:19:20.000Z".into())
        );
        assert_eq!(told["labels"]["severity"], "critical");
        let over = entry(&a.resolved(later(90)), later(100));
        assert_eq!(over["endsAt"], "2023-11-14T22:14:50.000Z");
    }
}
