//! An alert as it is told: to logs, Alertmanagers, webhooks, `/api/v1/alerts` and the state file.

use super::{
    evidence::Evidence,
    rule::{Kind, Rule},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::SystemTime};

/// Whether an alert began or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It fires.
    Firing,
    /// It is over.
    Resolved,
}

impl Status {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// What is told of an alert. docs/alerts.md explains each key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The same for every telling of this alert, and for no other: made of its labels.
    pub fingerprint: String,
    /// Whether it fires.
    pub status: Status,
    /// `page` or `watch`.
    pub severity: String,
    /// The name of the rule.
    pub rule: String,
    /// What it is, for routing: the labels of an Alertmanager.
    pub labels: BTreeMap<String, String>,
    /// What to say of it.
    pub annotations: BTreeMap<String, String>,
    /// The value when it fired.
    pub value: Option<f64>,
    /// When it fired.
    #[serde(with = "time")]
    pub starts_at: SystemTime,
    /// When it was over.
    #[serde(with = "optional_time")]
    pub ends_at: Option<SystemTime>,
    /// The worst of the connections that it is about.
    pub evidence: Vec<Evidence>,
}

impl Alert {
    /// One that fires now; `place` are the labels of its group.
    pub fn fire(
        rule: &Rule,
        place: &[(&'static str, String)],
        common: &BTreeMap<String, String>,
        value: Option<f64>,
        starts_at: SystemTime,
        evidence: Vec<Evidence>,
    ) -> Self {
        let mut labels = common.clone();
        labels.extend(rule.labels.clone());
        labels.extend(place.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let own = [
            ("alertname", rule.name.as_str()),
            ("severity", rule.severity.on_the_wire()),
            ("urgency", rule.severity.name()),
        ];
        labels.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let place: Vec<&str> = place.iter().map(|(_, value)| value.as_str()).collect();
        let place = if place.is_empty() { String::new() } else { format!("{}: ", place.join(", ")) };
        let mut annotations = BTreeMap::from([
            ("summary".to_owned(), format!("{place}{}", rule.summary)),
            ("description".to_owned(), describe(rule, value)),
            ("runbook_url".to_owned(), rule.runbook.clone()),
        ]);
        if !evidence.is_empty() {
            let lines: Vec<&str> = evidence.iter().map(|one| one.text.as_str()).collect();
            annotations.insert("evidence".to_owned(), lines.join("\n"));
        }
        Self {
            fingerprint: fingerprint(&labels),
            status: Status::Firing,
            severity: rule.severity.name().to_owned(),
            rule: rule.name.clone(),
            labels,
            annotations,
            value,
            starts_at,
            ends_at: None,
            evidence,
        }
    }

    /// The same, over since then.
    pub fn resolved(&self, ends_at: SystemTime) -> Self {
        Self { status: Status::Resolved, ends_at: Some(ends_at.max(self.starts_at)), ..self.clone() }
    }

    /// A label, empty where there is none.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

fn describe(rule: &Rule, value: Option<f64>) -> String {
    let value = match (rule.kind, value) {
        (_, None) => "Nothing known".to_owned(),
        (_, Some(n)) if n.is_infinite() => "Infinitely many".to_owned(),
        (Kind::Ratio, Some(share)) => format!("{:.1} %", share * 100.0),
        (_, Some(n)) if n.fract() == 0.0 => format!("{n:.0}"),
        (_, Some(n)) => format!("{n:.3}"),
    };
    format!("{value} {}; it fires {} and clears at {}.", rule.text(), rule.fire, rule.clear)
}

/// FNV-1a over names and values.
fn fingerprint(labels: &BTreeMap<String, String>) -> String {
    let bytes = labels.iter().flat_map(|(name, value)| [name.as_bytes(), b"\xff", value.as_bytes(), b"\xff"]);
    let hash = bytes.flatten().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

mod time {
    //! A time as RFC 3339.

    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::time::SystemTime;

    pub fn serialize<S: Serializer>(at: &SystemTime, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&humantime::format_rfc3339_millis(*at))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<SystemTime, D::Error> {
        humantime::parse_rfc3339(&String::deserialize(d)?).map_err(D::Error::custom)
    }
}

mod optional_time {
    //! The same, or null.

    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::time::SystemTime;

    pub fn serialize<S: Serializer>(at: &Option<SystemTime>, s: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => super::time::serialize(at, s),
            None => s.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<SystemTime>, D::Error> {
        let text = Option::<String>::deserialize(d)?;
        text.map(|text| humantime::parse_rfc3339(&text).map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
pub mod tests {
    //! An alert for tests, and how it is told.

    use super::*;
    use crate::alert::defaults::tests::rule;
    use std::{sync::LazyLock, time::Duration};

    /// Read once: some tests make a thousand alerts.
    static RULE: LazyLock<Rule> = LazyLock::new(|| rule("FivetupleSuccessRate"));

    /// An alert of a service.
    pub fn alert(svc: &str) -> Alert {
        let common = BTreeMap::from([("instance".to_owned(), "gw1".to_owned())]);
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        Alert::fire(&RULE, &[("svc", svc.to_owned())], &common, Some(0.5), at, Vec::new())
    }

    #[test]
    fn its_labels_are_its_identity_and_say_who_is_told() {
        let (a, b) = (alert("card"), alert("bank"));
        assert_ne!(a.fingerprint, b.fingerprint);
        assert_eq!(a.fingerprint, alert("card").fingerprint);
        let labels: Vec<_> = a.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let want = [
            "alertname=FivetupleSuccessRate",
            "instance=gw1",
            "severity=critical",
            "svc=card",
            "urgency=page",
        ];
        assert_eq!(labels, want);
        assert!(a.annotations["summary"].starts_with("card: "), "{a:?}");
        assert!(
            a.annotations["description"].starts_with("50.0 % of fivetuple_tcp_connection_results_total"),
            "{a:?}"
        );
    }

    #[test]
    fn it_survives_its_way_through_json() {
        let mut a = alert("card");
        a.evidence.push(Evidence { text: "1.2.3.4".to_owned(), ..Evidence::default() });
        let over = a.resolved(a.starts_at + Duration::from_millis(1_500));
        for alert in [a, over] {
            let text = serde_json::to_string(&alert).unwrap();
            assert_eq!(serde_json::from_str::<Alert>(&text).unwrap(), alert, "{text}");
        }
    }

    #[test]
    fn it_never_ends_before_it_began() {
        let a = alert("card");
        let over = a.resolved(a.starts_at - Duration::from_secs(60));
        assert_eq!(over.ends_at, Some(a.starts_at));
    }
}
