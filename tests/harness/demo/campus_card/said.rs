//! What the agent says of the campus card, taken out of its answers.

use std::fmt;

use serde_json::Value;

use crate::agent::Agent;
use crate::cases::campus_card::SERVICE;

/// Requests without an answer, by the counter of the point outside.
pub(super) fn unanswered(agent: &Agent<'_>) -> f64 {
    let labels = [("point", "outside"), ("svc", SERVICE), ("from", "client")];
    agent.metrics().sum("fivetuple_tcp_unanswered_requests_total", &labels)
}

fn connections(agent: &Agent<'_>) -> Vec<Value> {
    let list = agent.get_json(&format!("/api/v1/connections?svc={SERVICE}"));
    list["connections"].as_array().cloned().unwrap_or_default()
}

/// Connections that have ended, those of all points together.
pub(super) fn ended(agent: &Agent<'_>) -> usize {
    connections(agent).iter().filter(|connection| !connection["close"].is_null()).count()
}

/// What one point saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Its name.
    pub name: &'static str,
    /// All connections.
    pub all: usize,
    /// Those on which segments of the request came behind later ones.
    pub reordered: usize,
    /// Those with an answer.
    pub answered: usize,
}

/// What each point saw.
pub(super) fn seen(agent: &Agent<'_>, names: [&'static str; 4]) -> [Seen; 4] {
    let connections = connections(agent);
    names.map(|name| {
        let mut seen = Seen { name, ..Seen::default() };
        for connection in connections.iter().filter(|connection| connection["point"] == name) {
            seen.all += 1;
            seen.reordered += usize::from(!connection["from_client"]["anomalies"]["out_of_order"].is_null());
            seen.answered += usize::from(connection["result"] == "answered");
        }
        seen
    })
}

/// Where `locate` counts the connections whose segments were reordered between two neighbours.
pub(super) const REORDERED: &str = "/from_client/reordered_connections";
/// Where it counts the requests that went in and did not come out.
pub(super) const VANISHED: &str = "/vanished";

/// The answer of `locate`.
pub(super) struct Located<'a>(pub &'a Value);

impl Located<'_> {
    /// How many connections something happened to, at each pair of neighbours.
    fn all(&self, what: &str) -> Vec<(String, f64)> {
        let rows = self.0["between"].as_array().into_iter().flatten();
        let name = |end: &Value| end.as_str().unwrap_or_default().to_owned();
        let count = |row: &Value| row.pointer(what).and_then(Value::as_f64).unwrap_or_default();
        rows.map(|row| (format!("{} to {}", name(&row["from"]), name(&row["to"])), count(row))).collect()
    }

    /// How many connections it happened to here.
    pub fn at(&self, place: &str, what: &str) -> f64 {
        self.all(what).iter().filter(|(name, _)| name == place).map(|(_, count)| count).sum()
    }

    /// Where it happened.
    pub fn places(&self, what: &str) -> String {
        let places = self.all(what).into_iter().filter(|(_, count)| *count > 0.0);
        let places: Vec<String> = places.map(|(name, _)| name).collect();
        if places.is_empty() { "nowhere".to_owned() } else { places.join(", ") }
    }
}

/// What sets failed connections apart: failed and all with it, and without it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Explained {
    /// What it is, in a word where that is the one expected.
    pub what: String,
    /// Failed, and all, of those with it.
    pub with: [usize; 2],
    /// Of those without it.
    pub without: [usize; 2],
}

impl Explained {
    /// The first thing that `explain` names at the point where the difference is strongest.
    pub fn of(report: &Value) -> Self {
        let mut sections = report["sections"].as_array().into_iter().flatten();
        let Some(section) = sections.find(|section| section["answer"] == report["answer"]) else {
            return Self::default();
        };
        let first = &section["candidates"][0];
        let what = first["what"].as_str().unwrap_or("nothing");
        let rate = |of: &Value| {
            ["failed", "all"].map(|key| of[key].as_u64().and_then(|n| n.try_into().ok()).unwrap_or(0))
        };
        Self {
            // Only requests of several segments can be reordered: the same in more words.
            what: if what.contains("reordered") { "reordered" } else { what }.to_owned(),
            with: rate(&first["with"]),
            without: rate(&first["without"]),
        }
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, with: [failed, all], without: [others_failed, others] } = self;
        write!(f, "{what}: {failed} of {all}, others: {others_failed} of {others}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn places_are_those_where_something_happened() {
        let row = |from, to, vanished, reordered| {
            json!({
                "from": from, "to": to, "vanished": vanished,
                "from_client": { "reordered_connections": reordered }
            })
        };
        let answer = json!({ "between": [row("outside", "inside", 0, 4), row("front", "behind", 3, 0)] });
        let located = Located(&answer);
        assert_eq!(located.places(REORDERED), "outside to inside");
        assert_eq!(located.places("/nothing"), "nowhere");
        assert_eq!(located.at("front to behind", VANISHED), 3.0);
    }

    #[test]
    fn the_answer_is_that_of_its_section() {
        let rate = |failed, all| json!({ "failed": failed, "all": all });
        let section = |answer, what| {
            json!({
                "answer": answer,
                "candidates": [{ "what": what, "with": rate(3, 3), "without": rate(0, 9) }]
            })
        };
        let sections = [section("a", "hour 7"), section("b", "request in several segments, reordered")];
        let report = json!({ "answer": "b", "sections": sections });
        assert_eq!(Explained::of(&report).to_string(), "reordered: 3 of 3, others: 0 of 9");
        assert_eq!(Explained::of(&json!({})), Explained::default());
    }
}
