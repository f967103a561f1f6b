//! What `fivetuple locate --output json` prints.

use super::{
    Located,
    between::{Between, Crossing, Delay},
    verdict::verdict,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// The whole answer.
#[derive(Debug, Serialize)]
pub struct Answer<'a> {
    /// In sentences.
    pub verdict: String,
    /// From the clients on.
    pub points: Vec<PointRow<'a>>,
    /// Between neighbours.
    pub between: Vec<BetweenRow<'a>>,
    /// What could not be read, or is known no more.
    pub not_known: &'a [String],
}

/// A point.
#[derive(Debug, Serialize)]
pub struct PointRow<'a> {
    name: &'a str,
    source: &'a str,
    connections: usize,
    clock_ahead_ns: i64,
}

/// Two neighbours.
#[derive(Debug, Serialize)]
pub struct BetweenRow<'a> {
    from: &'a str,
    to: &'a str,
    proxy: bool,
    connections: usize,
    vanished: usize,
    vanished_acknowledged: u64,
    unsure: u64,
    from_client: CrossingRow,
    from_server: CrossingRow,
    rewritten: &'a BTreeMap<String, u64>,
}

/// One side's segments.
#[derive(Debug, Serialize)]
pub struct CrossingRow {
    lost: u64,
    reordered: u64,
    reordered_connections: usize,
    duplicated: u64,
    resets_made_here: usize,
    delay: Option<Delay>,
}

/// The answer.
pub fn answer(located: &Located) -> Answer<'_> {
    let point = |p: &usize| PointRow {
        name: &located.names[*p],
        source: &located.sources[*p],
        connections: located.points[*p].len(),
        clock_ahead_ns: located.path.ahead_ns[*p],
    };
    Answer {
        verdict: verdict(located).join(" "),
        points: located.path.order.iter().map(point).collect(),
        between: located.between.iter().map(|b| row(located, b)).collect(),
        not_known: &located.gaps,
    }
}

fn row<'a>(located: &'a Located, b: &'a Between) -> BetweenRow<'a> {
    let side = |c: &Crossing, side: usize| CrossingRow {
        lost: c.lost.0,
        reordered: c.reordered.0,
        reordered_connections: c.reordered.1.len(),
        duplicated: c.duplicated.0,
        resets_made_here: b.injected[side].len(),
        delay: c.delay(),
    };
    BetweenRow {
        from: &located.names[b.from],
        to: &located.names[b.to],
        proxy: b.proxy,
        connections: b.compared.len(),
        vanished: b.vanished.len(),
        vanished_acknowledged: b.acknowledged,
        unsure: b.unsure,
        from_client: side(&b.sides[0], 0),
        from_server: side(&b.sides[1], 1),
        rewritten: &b.rewritten,
    }
}
