//! What keeping the clients' source ports, and spreading over the proxies in turn, would make of the collisions.
//!
//! Where a balancer rewrites source ports, a port comes back as the balancer likes. Were they kept, one would come back
//! as the client takes it again, which a point in front of the balancer shows. Such a use collides when it comes within
//! the TIME-WAIT in force, meets the same proxy as the one before it, and is one of those that fail then. The first is
//! counted, the second and third are shares seen behind the balancer; the coming count is what [`quantile`] says of
//! them, between the lower ends and the upper ends of all three. That is wider than 95 %, never narrower.

use super::{
    collisions::{Again, Fate, InForce},
    interval::{Share, quantile},
    whatif::{Change, RoundTrips},
};
use crate::{api::EndPoint, connection::Connection};
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

/// What is expected of each change, for as much traffic as was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Times that a client took a port of its own again, of which the gap is known.
    pub own_reuses: u64,
    /// Connections from one use of a port to the next, of the same client or (without `by_address`) of all, the
    /// median: so far apart are those compared for `same_server`.
    pub apart: u64,
    /// The proxies see the clients' addresses, so that each client is compared with itself.
    pub by_address: bool,
    /// How often a connection met the same server as the one so far before it.
    pub same_server: Share,
    /// Servers behind the balancer.
    pub servers: u64,
    /// How often a reuse within the TIME-WAIT in force collided.
    pub colliding: Share,
    /// Collisions that were seen there.
    pub observed: u64,
    /// The TIME-WAIT that seems to be in force, in seconds.
    pub in_force_seconds: f64,
    /// The changes, each on top of the one before.
    pub stages: Vec<Stage>,
}

/// A change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The balancer keeps the clients' source ports, and chooses proxies as before.
    KeepPorts,
    /// And it takes the proxies in turn.
    RoundRobin,
    /// And TIME-WAIT is shorter.
    ShorterTimeWait,
}

/// What is expected after a change.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// The change.
    pub step: Step,
    /// TIME-WAIT, in seconds.
    pub time_wait_seconds: f64,
    /// Ports taken again within it.
    pub own_reuses_within: u64,
    /// Collisions to expect.
    pub expected: f64,
    /// Lower end of the 95 % interval of their count.
    pub low: u64,
    /// Upper end.
    pub high: u64,
}

/// Of connections as a point in front of the balancer saw them (`clients`), and one behind it (`proxies`), while
/// source ports were rewritten; for the last stage with a TIME-WAIT of so many seconds, or else with the one that
/// [`Change`] suggests. An error says what is missing.
pub fn predict(
    clients: &[&Connection],
    proxies: &[&Connection],
    shorter_seconds: Option<f64>,
) -> Result<Prediction, String> {
    let reuses: Vec<Again<'_>> = proxies.iter().filter_map(|c| Again::of(c)).collect();
    let trips = RoundTrips::of(proxies);
    let Some(in_force) = InForce::of(&reuses, trips.map_or(0.0, |trips| trips.error_seconds)) else {
        return Err("nothing collided behind the balancer: there is no TIME-WAIT to predict with".to_owned());
    };
    let suggested = || Change::of(&reuses, trips.as_ref()).map(|change| change.time_wait_seconds);
    let Some(shorter) = shorter_seconds.or_else(suggested) else {
        return Err("gaps are too small to suggest a TIME-WAIT; name one with --time-wait".to_owned());
    };
    let known: HashSet<IpAddr> = clients.iter().map(|c| c.client.address).collect();
    let carried = proxies.iter().filter(|c| known.contains(&c.client.address)).count();
    let by_address = 2 * carried > proxies.len();
    let own = own_reuses(clients, by_address);
    let Some(apart) = usual_distance(&own, in_force.seems_seconds) else {
        return Err("no client took a source port of its own again in front of the balancer".to_owned());
    };
    let same_server = same_server(proxies, by_address, apart);
    let servers = proxies.iter().map(|c| c.server).collect::<HashSet<EndPoint>>().len() as u64;
    let colliding = colliding(&reuses, in_force.seems_seconds);
    let in_turn = Share::known(1.0 / servers as f64);
    let force = Bracket::of(&in_force);
    let shorter = Bracket { low: shorter, value: shorter, high: shorter };
    let stage = |step, time_wait, meets| stage(&own, step, time_wait, &[meets, colliding]);
    Ok(Prediction {
        own_reuses: own.len() as u64,
        apart: apart as u64,
        by_address,
        same_server,
        servers,
        colliding,
        observed: reuses.iter().filter(|again| again.fate == Fate::Collided).count() as u64,
        in_force_seconds: in_force.seems_seconds,
        stages: vec![
            stage(Step::KeepPorts, force, same_server),
            stage(Step::RoundRobin, force, in_turn),
            stage(Step::ShorterTimeWait, shorter, in_turn),
        ],
    })
}

/// A TIME-WAIT as far as it is known, in seconds.
#[derive(Clone, Copy)]
struct Bracket {
    low: f64,
    value: f64,
    high: f64,
}

impl Bracket {
    fn of(in_force: &InForce) -> Self {
        let value = in_force.seems_seconds;
        let (low, high) = (in_force.above_seconds, in_force.up_to_seconds.unwrap_or(value));
        Self { low: low.min(value), value, high: high.max(value) }
    }
}

/// A client took a port of its own again.
struct OwnReuse {
    /// Seconds since the close of the connection before.
    gap: f64,
    /// Connections since that one opened.
    apart: usize,
}

/// All of those whose gap is known. Connections between are counted of the same client, or of all.
fn own_reuses(clients: &[&Connection], by_address: bool) -> Vec<OwnReuse> {
    let mut last: HashMap<(EndPoint, &str), (&Connection, usize)> = HashMap::new();
    let mut places: HashMap<Option<IpAddr>, usize> = HashMap::new();
    let mut out = Vec::new();
    for connection in in_order(clients) {
        let place = places.entry(by_address.then_some(connection.client.address)).or_default();
        *place += 1;
        let key = (connection.client, connection.svc.as_str());
        if let Some((before, at)) = last.insert(key, (connection, *place))
            && let Some(closed) = before.times.closed_ns.filter(|_| before.close.is_some())
            && let Some(gap) = connection.times.opened_ns.checked_sub(closed)
        {
            out.push(OwnReuse { gap: gap as f64 / 1e9, apart: *place - at });
        }
    }
    out
}

fn in_order<'a>(connections: &[&'a Connection]) -> Vec<&'a Connection> {
    let mut sorted = connections.to_vec();
    sorted.sort_by_key(|c| (c.times.opened_ns, c.client));
    sorted
}

/// The median distance of those within the TIME-WAIT, or of all where none is.
fn usual_distance(own: &[OwnReuse], within: f64) -> Option<usize> {
    let distances = |limit: f64| {
        let mut all: Vec<usize> = own.iter().filter(|o| o.gap < limit).map(|o| o.apart).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied()
    };
    distances(within).or_else(|| distances(f64::INFINITY))
}

/// How often connections so far apart met the same server.
fn same_server(proxies: &[&Connection], by_address: bool, apart: usize) -> Share {
    let mut sequences: HashMap<Option<IpAddr>, Vec<EndPoint>> = HashMap::new();
    for connection in in_order(proxies) {
        sequences.entry(by_address.then_some(connection.client.address)).or_default().push(connection.server);
    }
    let pairs = || sequences.values().flat_map(|servers| servers.iter().zip(servers.iter().skip(apart)));
    Share::of(pairs().filter(|(a, b)| a == b).count() as u64, pairs().count() as u64)
}

/// How often a reuse within the TIME-WAIT collided.
fn colliding(reuses: &[Again<'_>], within: f64) -> Share {
    let inside = |fate: Fate| {
        let of = reuses.iter().filter(|again| again.fate == fate);
        of.filter(|again| again.gap.is_some_and(|gap| gap < within)).count() as u64
    };
    let collided = inside(Fate::Collided);
    match collided + inside(Fate::Harmless) {
        // What collided did so exactly at the edge.
        0 => Share::known(1.0),
        of => Share::of(collided, of),
    }
}

fn stage(own: &[OwnReuse], step: Step, time_wait: Bracket, shares: &[Share]) -> Stage {
    let within = |limit: f64| own.iter().filter(|o| o.gap < limit).count() as u64;
    let product = |end: fn(&Share) -> f64| shares.iter().map(end).product::<f64>();
    Stage {
        step,
        time_wait_seconds: time_wait.value,
        own_reuses_within: within(time_wait.value),
        expected: within(time_wait.value) as f64 * product(|s| s.share),
        low: quantile(within(time_wait.low), product(|s| s.low), 0.025),
        high: quantile(within(time_wait.high), product(|s| s.high), 0.975),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    /// 40 merchants, one after the other's port: each takes its port again 300 ms after its close, four times of five
    /// through to the same of two proxies; behind the balancer half of the connections come on a used five-tuple.
    fn world(gap_ms: u64) -> [Vec<Connection>; 2] {
        let (mut clients, mut proxies) = (Vec::new(), Vec::new());
        for merchant in 0..40_u64 {
            for n in 0..11_u64 {
                let at = merchant * 1_000_000 + n * (100 + gap_ms) * 1_000_000;
                let mut front = fresh(at);
                front.client.address = [192, 0, 2, merchant as u8].into();
                let mut back = if n % 2 == 0 { reused(0.3, true) } else { reused(1.2, false) };
                back.times = front.times;
                back.client = front.client;
                back.client.port = 50_000 + n as u16;
                back.server.address = [198, 51, 100, (n / 5) as u8 % 2].into();
                clients.push(front);
                proxies.push(back);
            }
        }
        [clients, proxies]
    }

    fn predicted(world: &[Vec<Connection>; 2], shorter: Option<f64>) -> Result<Prediction, String> {
        let [clients, proxies] = world.each_ref().map(|all| all.iter().collect::<Vec<_>>());
        predict(&clients, &proxies, shorter)
    }

    #[test]
    fn stages_follow_from_what_was_counted() {
        let found = predicted(&world(300), None).unwrap();
        assert_eq!((found.own_reuses, found.apart, found.by_address, found.servers), (400, 1, true, 2));
        assert_eq!((found.same_server.met, found.same_server.of), (320, 400));
        assert_eq!((found.colliding.met, found.colliding.of, found.observed), (240, 240, 240));
        let [keep, turn, short] = found.stages[..] else { panic!("three stages") };
        assert!((keep.expected - 320.0).abs() < 1e-9 && keep.low < 290 && keep.high > 350, "{keep:?}");
        assert!((turn.expected - 200.0).abs() < 1e-9 && turn.low < 180 && turn.high > 220, "{turn:?}");
        assert_eq!((short.time_wait_seconds, short.own_reuses_within, short.expected), (0.2, 0, 0.0));
        assert!(short.low == 0 && short.high <= 3, "{short:?}");
        let longer = predicted(&world(300), Some(0.5)).unwrap();
        assert_eq!(longer.stages[2].own_reuses_within, 400);
    }

    #[test]
    fn behind_rewritten_addresses_all_connections_are_compared() {
        let mut world = world(300);
        for connection in &mut world[1] {
            connection.client.address = [203, 0, 113, 1].into();
        }
        let found = predicted(&world, None).unwrap();
        assert!(!found.by_address && found.apart == 40, "{found:?}");
    }

    #[test]
    fn what_is_missing_is_said() {
        let slow = predicted(&world(5_000), None).unwrap();
        assert!(slow.stages.iter().all(|stage| stage.expected == 0.0), "{slow:?}");
        let [clients, mut proxies] = world(300);
        for connection in &mut proxies {
            connection.reuse = None;
        }
        let nothing = predicted(&[clients, proxies], None).unwrap_err();
        assert!(nothing.contains("nothing collided"), "{nothing}");
        let [_, proxies] = world(300);
        let nobody = predicted(&[Vec::new(), proxies], None).unwrap_err();
        assert!(nobody.contains("no client took"), "{nobody}");
    }
}
