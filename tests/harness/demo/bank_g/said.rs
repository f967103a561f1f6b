//! What the agent says of bank G, taken out of its answers.

use serde_json::Value;

use crate::agent::Agent;
use crate::cases::bank_g::{SERVICES, StageTruth};

/// What it counts on leg 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Said {
    /// Connections that were opened.
    pub payments: f64,
    /// Connections that an RST cut off, by the counter that the kernel keeps: on a busy machine a proxy resets one twice, when
    /// something of its client was still on its way.
    pub resets: f64,
    /// Connections that were reset with the cause `time_wait`, which was `leg2`'s.
    pub time_wait: f64,
    /// The same by the counter of resets whose second leg was looked for.
    pub proved: f64,
}

impl Said {
    /// What it has to say of a stage.
    pub fn of(truth: &StageTruth) -> Self {
        let resets = truth.resets() as f64;
        Self { payments: truth.payments.len() as f64, resets, time_wait: resets, proved: resets }
    }

    /// What came since then.
    pub fn since(self, before: Self) -> Self {
        Self {
            payments: self.payments - before.payments,
            resets: self.resets - before.resets,
            time_wait: self.time_wait - before.time_wait,
            proved: self.proved - before.proved,
        }
    }
}

/// What it says now.
pub(super) fn so_far(agent: &Agent<'_>) -> Said {
    let leg1 = [("point", "leg1"), ("svc", SERVICES[1])];
    let metrics = agent.metrics();
    let sum = |name, label| metrics.sum(name, &[&leg1[..], &[label]].concat());
    let list = agent.get_json(&format!("/api/v1/connections?svc={}", SERVICES[1]));
    let connections = list["connections"].as_array().into_iter().flatten();
    let time_wait = connections.filter(|connection| {
        let leg = &connection["second_leg"];
        connection["point"] == "leg1"
            && connection["reset"]["cause"] == "time_wait"
            && leg["state"] == "time_wait"
            && leg["point"] == "leg2"
    });
    Said {
        payments: metrics.sum("fivetuple_tcp_connections_opened_total", &leg1),
        resets: sum("fivetuple_tcp_connection_results_total", ("result", "reset")),
        time_wait: time_wait.count() as f64,
        proved: sum("fivetuple_leg_resets_total", ("leg", "time_wait")),
    }
}

/// What `reuse` expects of a stage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Predicted {
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// Resets to expect.
    pub expected: f64,
    /// Upper end.
    pub high: f64,
}

impl Predicted {
    /// Of each change, in the order of the stages; none where it predicts nothing.
    pub fn of(report: &Value) -> Vec<Self> {
        let stages = report["prediction"]["stages"].as_array().into_iter().flatten();
        let number = |stage: &Value, key: &str| stage[key].as_f64().unwrap_or(f64::NAN);
        stages
            .map(|stage| Self {
                low: number(stage, "low"),
                expected: number(stage, "expected"),
                high: number(stage, "high"),
            })
            .collect()
    }

    /// Whether so many are within the interval.
    pub fn holds(self, resets: usize) -> bool {
        (self.low..=self.high).contains(&(resets as f64))
    }
}
