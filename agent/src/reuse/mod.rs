//! `fivetuple reuse`: five-tuples that come back too soon, and what another TIME-WAIT or balancer would make of it.
//!
//! From connections alone: [`chain`] and [`collisions`] tell which failed by it, [`elsewhere`] whether by a five-tuple of
//! another point, [`whatif`] what a TIME-WAIT would leave, [`ports`] who takes ports again, [`predict`] what keeping source ports would do. [`command`] reads the connections, [`text`]
//! tells it all to people. How the figures are made is in docs/causes.md.

pub mod chain;
pub mod collisions;
pub mod command;
pub mod elsewhere;
pub mod interval;
pub mod ports;
pub mod predict;
mod round;
mod simulate;
pub mod text;
pub mod whatif;

use crate::{aggregate::filter::unknown, api::ReuseFilter, connection::Connection};
use collisions::{Fate, InForce, Overlap};
use elsewhere::Elsewhere;
use ports::{Clients, Who};
use predict::Prediction;
use serde::{Deserialize, Serialize};
use whatif::{Change, Remaining, RoundTrips};

/// What `fivetuple reuse` finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Ended connections that the agent knew and knows no more.
    pub forgotten: u64,
    /// The points, the most collisions first.
    pub points: Vec<AtPoint>,
    /// What changes at the balancer would do, where two points were named for it.
    pub prediction: Option<Prediction>,
    /// Why there is no prediction although two points were named.
    pub no_prediction: Option<String>,
}

/// What one point saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AtPoint {
    /// The point.
    pub point: String,
    /// Connections.
    pub connections: u64,
    /// Of those, the ones on a five-tuple taken again within the window.
    pub reuses: u64,
    /// Of those, the ones that failed by it.
    pub collisions: u64,
    /// Collisions whose gap is not known, as the close of the connection before was not seen: no TIME-WAIT is to blame
    /// for them.
    pub collisions_without_gap: u64,
    /// Reuses that were answered.
    pub answered: u64,
    /// The point where most of those that collided have another five-tuple, the one that collides; what follows is none
    /// then.
    pub elsewhere: Option<Elsewhere>,
    /// How gaps lie among each other that no TIME-WAIT tells apart; what follows is none then.
    pub mixed: Option<Overlap>,
    /// The TIME-WAIT that seems to be in force at the far end; none without a collision.
    pub in_force: Option<InForce>,
    /// What other TIME-WAITs would leave, the longest first; empty without a collision.
    pub what_if: Vec<Remaining>,
    /// The smallest change that takes collisions to zero.
    pub change: Option<Change>,
    /// Round trips, where some were measured.
    pub round_trips: Option<RoundTrips>,
    /// Whether it is many clients or a few hosts.
    pub who: Option<Who>,
    /// The clients by prefix, the most collisions first.
    pub clients: Vec<Clients>,
}

/// Answers a question about the connections of these points; an error says what can be asked instead.
pub fn report(
    connections: &[Connection],
    points: &[String],
    asked: &ReuseFilter,
    forgotten: u64,
) -> Result<Report, String> {
    let at = |point: &str| connections.iter().filter(|c| c.point == point).collect::<Vec<_>>();
    let known = |key: &str, name: &str| match points.iter().any(|point| point == name) {
        true => Ok(at(name)),
        false => Err(unknown(key, name, points.iter().map(String::as_str))),
    };
    let predicted = match (&asked.clients, &asked.proxies) {
        (None, None) if asked.time_wait_seconds.is_none() => None,
        (Some(clients), Some(proxies)) if clients == proxies => {
            return Err(format!(
                "clients and proxies are both {clients}; name a point on either side of the balancer"
            ));
        }
        (Some(clients), Some(proxies)) => {
            let (front, behind) = (known("clients", clients)?, known("proxies", proxies)?);
            Some(predict::predict(&front, &behind, asked.time_wait_seconds))
        }
        _ => return Err("clients and proxies go together, and a time_wait with them".to_owned()),
    };
    let by_point: Vec<_> = points.iter().map(|point| (point.as_str(), at(point))).collect();
    let mut found: Vec<AtPoint> =
        by_point.iter().map(|(point, here)| at_point(point, here, &by_point)).collect();
    found.sort_by_key(|at| std::cmp::Reverse((at.collisions, at.reuses)));
    let (prediction, no_prediction) = match predicted {
        None => (None, None),
        Some(Ok(prediction)) => (Some(prediction), None),
        Some(Err(why)) => (None, Some(why)),
    };
    Ok(Report { forgotten, points: found, prediction, no_prediction })
}

fn at_point(point: &str, connections: &[&Connection], by_point: &[(&str, Vec<&Connection>)]) -> AtPoint {
    let chains = chain::chains(connections);
    let reuses = chain::reuses(&chains);
    let round_trips = RoundTrips::of(connections);
    let elsewhere = elsewhere::find(connections, &reuses, by_point);
    let error = round_trips.map_or(0.0, |trips| trips.error_seconds);
    let (in_force, mixed) = match InForce::of(&reuses, error).filter(|_| elsewhere.is_none()) {
        Some(Ok(in_force)) => (Some(in_force), None),
        Some(Err(mixed)) => (None, Some(mixed)),
        None => (None, None),
    };
    let change = in_force.and_then(|_| Change::of(&chains, &reuses, round_trips.as_ref()));
    let of = |fate: Fate| reuses.iter().filter(move |again| again.fate == fate);
    AtPoint {
        point: point.to_owned(),
        connections: connections.len() as u64,
        reuses: reuses.len() as u64,
        collisions: of(Fate::Collided).count() as u64,
        collisions_without_gap: of(Fate::Collided).filter(|again| again.gap.is_none()).count() as u64,
        answered: of(Fate::Harmless).count() as u64,
        what_if: match in_force {
            Some(_) => whatif::remaining(&chains, in_force.as_ref(), change.as_ref()),
            None => Vec::new(),
        },
        elsewhere,
        mixed,
        in_force,
        change,
        round_trips,
        who: ports::who(connections),
        clients: ports::clients(connections),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
