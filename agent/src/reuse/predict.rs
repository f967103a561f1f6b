//! What keeping the clients' source ports, and spreading over the proxies in turn, would make of the collisions.
//!
//! Where a balancer rewrites source ports, a port comes back as the balancer likes. Were they kept, one would come back
//! as the client takes it again, which a point in front of the balancer shows. These uses are played through proxies
//! ([`simulate`]): one collides when it meets a proxy that holds its five-tuple in TIME-WAIT, with the shares that were
//! seen behind the balancer. The coming count is what [`quantile`] says of that, between the lower ends and the upper
//! ends of all that goes in. That is wider than 95 %, never narrower.

use super::{
    chain,
    collisions::{Again, Fate, InForce},
    interval::{Share, quantile},
    simulate::{self, Proxies, Use},
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
    let chains = chain::chains(proxies);
    let reuses = chain::reuses(&chains);
    let trips = RoundTrips::of(proxies);
    let in_force = match InForce::of(&reuses, trips.map_or(0.0, |trips| trips.error_seconds)) {
        Some(Ok(in_force)) => in_force,
        Some(Err(_)) => {
            return Err("no TIME-WAIT explains what collided behind the balancer and what did not".to_owned());
        }
        None => {
            return Err(
                "nothing collided behind the balancer: there is no TIME-WAIT to predict with".to_owned()
            );
        }
    };
    let suggested = || Change::of(&chains, &reuses, trips.as_ref()).map(|change| change.time_wait_seconds);
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
    let uses = uses(clients);
    let stage =
        |step, time_wait, same| stage(&own, &uses, step, time_wait, servers as usize, same, colliding);
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

/// The uses of each client's port, in order.
fn uses<'a>(clients: &[&'a Connection]) -> HashMap<(EndPoint, &'a str), Vec<Use>> {
    let mut out: HashMap<_, Vec<Use>> = HashMap::new();
    for c in in_order(clients) {
        let closed = c.times.closed_ns.filter(|_| c.close.is_some());
        out.entry((c.client, c.svc.as_str())).or_default().push(Use { opened: c.times.opened_ns, closed });
    }
    out
}

fn stage<K>(
    own: &[OwnReuse],
    uses: &HashMap<K, Vec<Use>>,
    step: Step,
    time_wait: Bracket,
    count: usize,
    same: Share,
    colliding: Share,
) -> Stage {
    let within = |limit: f64| own.iter().filter(|o| o.gap < limit).count() as u64;
    let played = |time_wait: f64, same: f64, colliding: f64| {
        simulate::collisions(uses, Proxies { count, same, colliding, time_wait })
    };
    // No use collides but with one before it within TIME-WAIT.
    let end = |limit: f64, mean: f64, q: f64| match within(limit) {
        0 => quantile(0, same.high * colliding.high, q),
        n => quantile(n, (mean / n as f64).min(1.0), q),
    };
    let (low, high) = (time_wait.low, time_wait.high);
    Stage {
        step,
        time_wait_seconds: time_wait.value,
        own_reuses_within: within(time_wait.value),
        expected: played(time_wait.value, same.share, colliding.share),
        low: end(low, played(low, same.low, colliding.low), 0.025),
        high: end(high, played(high, same.high, colliding.high), 0.975),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    /// 200 merchants, each of whom takes its port again so long after its close, four of five to the same of two
    /// proxies; behind the balancer one connection of each collides, and the TIME-WAIT is 1 s.
    fn world(gap_ms: u64) -> [Vec<Connection>; 2] {
        let (mut clients, mut proxies) = (Vec::new(), Vec::new());
        for (merchant, n) in (0..200_u16).flat_map(|merchant| [(merchant, 0), (merchant, 1_u8)]) {
            let mut front =
                fresh(u64::from(merchant) * 1_000_000 + u64::from(n) * (100 + gap_ms) * 1_000_000);
            front.client.address = [192, 0, 2, merchant as u8].into();
            let mut back = if n == 0 { reused(0.95, true) } else { reused(1.05, false) };
            (back.times, back.client) = (front.times, front.client);
            back.client.port = 50_000 + 2 * merchant + u16::from(n);
            let other = n == 1 && merchant % 5 == 0;
            back.server.address = [198, 51, 100, u8::from(other)].into();
            clients.push(front);
            proxies.push(back);
        }
        [clients, proxies]
    }

    fn predicted(world: &[Vec<Connection>; 2], shorter: Option<f64>) -> Result<Prediction, String> {
        let [clients, proxies] = world.each_ref().map(|all| all.iter().collect::<Vec<_>>());
        predict(&clients, &proxies, shorter)
    }

    #[test]
    fn stages_follow_from_what_was_counted() {
        let found = predicted(&world(300), Some(0.2)).unwrap();
        assert_eq!((found.own_reuses, found.apart, found.by_address, found.servers), (200, 1, true, 2));
        assert_eq!((found.same_server.met, found.same_server.of), (160, 200));
        assert_eq!((found.colliding.met, found.colliding.of, found.observed), (200, 200, 200));
        let [keep, turn, short] = found.stages[..] else { panic!("three stages") };
        let near = |stage: &Stage, mean: f64| (stage.expected - mean).abs() < 2.0;
        assert!(near(&keep, 160.0) && keep.low < 140 && keep.high > 180 && keep.high < 230, "{keep:?}");
        assert!(near(&turn, 100.0) && turn.low < 85 && turn.high > 115 && turn.low > 50, "{turn:?}");
        assert_eq!((keep.time_wait_seconds, keep.own_reuses_within), (1.0, 200));
        assert_eq!((short.time_wait_seconds, short.own_reuses_within, short.expected), (0.2, 0, 0.0));
        assert!(
            short.low == 0 && (1..=3).contains(&short.high),
            "nothing seen is not nothing ever: {short:?}"
        );
        let suggested = predicted(&world(300), None).unwrap().stages[2];
        assert_eq!((suggested.time_wait_seconds, suggested.own_reuses_within), (0.5, 200));
    }

    #[test]
    fn behind_rewritten_addresses_all_connections_are_compared() {
        let mut world = world(300);
        for connection in &mut world[1] {
            connection.client.address = [203, 0, 113, 1].into();
        }
        let found = predicted(&world, None).unwrap();
        assert!(!found.by_address && found.apart == 200, "{found:?}");
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
