//! What `explain` answers: for programs as it is, for people through [`super::text`].

use super::statistics::{Interval, Rate};
use serde::{Deserialize, Serialize};

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// In a sentence or two: the answer of the section where the difference is strongest.
    pub answer: String,
    /// The service that was asked for; all where none was.
    pub svc: Option<String>,
    /// Only connections whose last packet came in the last so many seconds.
    pub since_seconds: Option<u64>,
    /// How often something is claimed, at most, where nothing is the matter.
    pub level: f64,
    /// One for each point; one for all where different connections of the same servers pass them.
    pub sections: Vec<Section>,
    /// What could not be read, or is known no more: a sentence each.
    pub gaps: Vec<String>,
}

/// What one point tells, or several together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// The points.
    pub points: Vec<String>,
    /// What came of the comparison.
    pub verdict: Verdict,
    /// The same in a sentence or two.
    pub answer: String,
    /// The connections.
    pub population: Population,
    /// Tests that the values are corrected for.
    pub tests: usize,
    /// What sets failed connections apart, the strongest first.
    pub candidates: Vec<Candidate>,
    /// Weaker candidates that were left out.
    pub left_out: usize,
    /// What was looked at, and what came of it.
    pub features: Vec<Looked>,
}

/// What came of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No connection has ended of which it can be said whether it failed.
    NoConnections,
    /// None failed.
    NoneFailed,
    /// All failed.
    AllFailed,
    /// Not even something that holds for all failed connections and no other could be told from chance.
    NotEnoughData,
    /// Nothing sets them apart.
    Nothing,
    /// Several things set them apart that cannot be told from each other.
    Together,
    /// Something sets them apart.
    SetApart,
}

/// The connections that were compared, and those that were not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Population {
    /// Failed connections.
    pub failed: u64,
    /// Of those: a request had no answer.
    pub unanswered: u64,
    /// Of those: cut off by an RST.
    pub reset: u64,
    /// Of those: the SYN was answered by an RST.
    pub refused: u64,
    /// Of those: nothing came any more.
    pub timed_out: u64,
    /// Good connections: all that the client asked was answered.
    pub good: u64,
    /// Left out: the client asked nothing.
    pub unused: u64,
    /// Left out: not ended.
    pub open: u64,
    /// When the first of those compared began, nanoseconds since 1970; none when there are none.
    pub from_ns: Option<u64>,
    /// The last packet of those compared.
    pub to_ns: Option<u64>,
}

/// Something that sets failed connections apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// What it is.
    pub what: String,
    /// What holds for the very same connections.
    pub also: Vec<String>,
    /// Failures among those with it.
    pub with: Rate,
    /// Failures among those without it.
    pub without: Rate,
    /// How much larger the share of failures is with it, with the interval of 95 % confidence.
    pub difference: Interval,
    /// By what factor it is larger; none where nothing failed without it.
    pub ratio: Option<f64>,
    /// The probability of such a table by chance: Fisher's exact test, two-sided.
    pub p: f64,
    /// The same, corrected for all tests by Holm's method.
    pub p_corrected: f64,
    /// The share of all failed connections that have it.
    pub covers: f64,
    /// How strongly it goes with failing, from 0 to 1: the phi coefficient over all connections compared.
    pub strength: f64,
    /// How it stands to the others.
    pub standing: Standing,
}

/// How a candidate stands to the others; they are named by their place from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Standing {
    /// The strongest that nothing else explains.
    First,
    /// It cannot be told from another one.
    Together {
        /// The other one.
        with: usize,
        /// Connections that have one of the two: only they could tell.
        apart: u64,
    },
    /// It tells something beyond the ones above.
    Further,
    /// Another one tells all that it tells, and more.
    Explained {
        /// The other one.
        by: usize,
        /// Connections that have one of the two.
        apart: u64,
    },
}

/// What was looked at, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// Its name.
    pub feature: String,
    /// What came of it.
    pub finding: Finding,
}

/// What came of a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Failed and good connections differ in it.
    Differs,
    /// No difference beyond chance.
    NoDifference,
    /// It differs among too few connections to tell.
    TooRare,
    /// The same for all.
    Same,
    /// Not known of any.
    Unknown,
}
