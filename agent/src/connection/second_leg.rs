//! What the second leg says about a reset of the first.
//!
//! A proxy that opens its second leg with the client's own address and port cannot, while that five-tuple is in TIME-WAIT at
//! itself: it accepts the client, and then resets it (`after_reuse`, likely but not proved at one point). Whoever sees both
//! legs sees that none was sent, and that the proxy had closed the last one actively within the TIME-WAIT window (RFC 9293,
//! 3.6): the cause is `time_wait`, also where the first leg itself was no reuse. A leg that was sent clears the suspicion.

use super::{
    Connection,
    join::numbers,
    legs::{self, Leg},
};
use crate::api::EndPoint;
use agent_ebpf::{
    anomaly::Cause,
    label::{Label, Side},
    traffic::Served,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

/// How the second leg stood when the first was reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LegState {
    /// None was sent, and its five-tuple was in TIME-WAIT at the proxy.
    TimeWait,
    /// It was refused by the host behind.
    Refused,
    /// It was sent and not refused.
    Answered,
    /// None was sent, and nothing was in its way.
    NeverSent,
}

impl Label for LegState {
    const VALUES: &'static [Self] = &[Self::TimeWait, Self::Refused, Self::Answered, Self::NeverSent];

    fn value(self) -> &'static str {
        match self {
            Self::TimeWait => "time_wait",
            Self::Refused => "refused",
            Self::NeverSent => "never_sent",
            Self::Answered => "answered",
        }
    }
}

/// The second leg of a connection that was reset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SecondLeg {
    /// How it stood.
    #[serde(with = "super::label::one")]
    pub state: LegState,
    /// The point where it was looked for.
    pub point: String,
    /// Where it goes to.
    pub server: EndPoint,
    /// In TIME-WAIT: seconds from the close of the leg before to the SYN of the connection that was reset.
    pub gap_seconds: Option<f64>,
}

/// A way through a proxy: the point and the server of a first leg, and of its second.
type Route = ((String, EndPoint), (String, EndPoint));

/// Whether the second leg of a connection is looked for.
pub fn is_asked_for(c: &Connection) -> bool {
    c.reset.is_some_and(|reset| matches!(reset.cause, Cause::AfterReuse | Cause::TimeWait | Cause::Abort))
}

/// Finds the second leg of each connection that was reset after a reuse, and proves or clears that cause. `all` are the
/// connections of all points, by one clock.
pub fn prove(all: &mut [Connection], time_wait: Duration) {
    if !all.iter().any(is_asked_for) {
        return;
    }
    let routes = routes(all);
    if routes.is_empty() {
        return;
    }
    let mut by_client: HashMap<EndPoint, Vec<usize>> = HashMap::new();
    for (place, c) in all.iter().enumerate() {
        by_client.entry(c.client).or_default().push(place);
    }
    let window = u64::try_from(time_wait.as_nanos()).unwrap_or(u64::MAX);
    let legs_of = |first: &Connection| {
        let others = by_client[&first.client].iter().map(|other| &all[*other]);
        let routes = routes.iter().filter(|(from, _)| from.0 == first.point && from.1 == first.server);
        let at = |to: &(String, EndPoint)| {
            leg(first, others.clone().filter(|c| c.point == to.0 && c.server == to.1), to, window)
        };
        routes.filter_map(|(_, to)| at(to)).min_by_key(|leg| leg.state)
    };
    // Further ahead on the way the client may have another address: the point that sees what the proxy sees knows best.
    let mut known: HashMap<(u32, u32), SecondLeg> = HashMap::new();
    for first in all.iter().filter(|c| is_asked_for(c)) {
        let (Some(numbers), Some(found)) = (numbers(first), legs_of(first)) else { continue };
        match known.get(&numbers) {
            Some(better) if better.state <= found.state => {}
            _ => _ = known.insert(numbers, found),
        }
    }
    for c in all.iter_mut().filter(|c| is_asked_for(c)) {
        let Some(found) = numbers(c).and_then(|numbers| known.get(&numbers)) else { continue };
        if let Some(reset) = c.reset.as_mut() {
            reset.cause = match (found.state, reset.cause) {
                (LegState::TimeWait, _) => Cause::TimeWait,
                (_, Cause::AfterReuse) => Cause::Abort,
                (_, cause) => cause,
            };
        }
        c.second_leg = Some(found.clone());
    }
}

/// Which ways lead through proxies, learnt from the connections that have both legs.
fn routes(all: &[Connection]) -> BTreeSet<Route> {
    let mut by_place: HashMap<(&str, EndPoint), Vec<&Connection>> = HashMap::new();
    for c in all {
        by_place.entry((&c.point, c.server)).or_default().push(c);
    }
    let mut routes = BTreeSet::new();
    for (from, first) in &by_place {
        for (to, second) in &by_place {
            let pairs = legs::pair(first, second, 0);
            let kept = pairs.iter().flatten().any(|(_, leg)| *leg == Leg::SameClient);
            if from != to && kept {
                let own = |(point, server): (&str, EndPoint)| (point.to_owned(), server);
                routes.insert((own(*from), own(*to)));
            }
        }
    }
    routes
}

/// The second leg among those of its client at its place.
fn leg<'a>(
    first: &Connection,
    candidates: impl Iterator<Item = &'a Connection>,
    to: &(String, EndPoint),
    window: u64,
) -> Option<SecondLeg> {
    let told = |state, gap_seconds| Some(SecondLeg { state, point: to.0.clone(), server: to.1, gap_seconds });
    let mut before: Option<&Connection> = None;
    for c in candidates {
        if c.from_client.isn.is_some() && c.from_client.isn == first.from_client.isn {
            // The same connection further on: no proxy is in between.
            return None;
        }
        if c.times.opened_ns >= first.times.opened_ns && c.times.opened_ns <= first.times.last_seen_ns {
            let refused = c.result == Some(Served::Refused);
            return told(if refused { LegState::Refused } else { LegState::Answered }, None);
        }
        let closed = c.times.opened_ns < first.times.opened_ns && c.times.closed_ns.is_some();
        if closed && before.is_none_or(|b| b.times.closed_ns < c.times.closed_ns) {
            before = Some(c);
        }
    }
    // The SYN of the first leg is what reuses the five-tuple.
    let gap =
        before.and_then(|b| b.times.closed_ns).map(|closed| first.times.opened_ns.saturating_sub(closed));
    let waits = before.is_some_and(|b| b.active_closer() == Some(Side::Client));
    match gap {
        Some(gap) if waits && gap <= window => told(LegState::TimeWait, Some(gap as f64 / 1e9)),
        _ => told(LegState::NeverSent, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{
        Reset,
        tests::{answered, later},
    };
    use agent_ebpf::{anomaly::Origin, traffic::Close};

    const MS: u64 = 1_000_000;

    /// A payment through the proxy: leg 1 from its client to the proxy, leg 2 to the back end, closed by the proxy.
    fn payment(at_ms: u64, isn: u32) -> [Connection; 2] {
        let mut first = later(&answered("front", 0), at_ms * MS);
        first.from_client.isn = Some(isn);
        let mut second = later(&first, 3 * MS);
        second.point = "behind".to_owned();
        second.server = EndPoint { address: [10, 0, 0, 9].into(), port: 9_000 };
        second.from_client.isn = Some(isn + 500);
        second.close = Some(Close::FinClient);
        [first, second]
    }

    /// The next one from the same port, reset after its reuse.
    fn collision(at_ms: u64) -> Connection {
        let [mut first, _] = payment(at_ms, 77);
        first.result = Some(Served::Reset);
        first.close = Some(Close::ResetServer);
        first.reset =
            Some(Reset { cause: Cause::AfterReuse, origin: Origin::Endpoint, from: Some(Side::Server) });
        first
    }

    fn proved(all: &[Connection]) -> (Cause, Option<LegState>, Option<f64>) {
        let mut all = all.to_vec();
        prove(&mut all, Duration::from_secs(60));
        let c = all.into_iter().find(|c| c.reset.is_some()).unwrap();
        let leg = c.second_leg;
        (c.reset.unwrap().cause, leg.as_ref().map(|l| l.state), leg.and_then(|l| l.gap_seconds))
    }

    #[test]
    fn a_leg_that_waits_is_the_cause() {
        let [first, second] = payment(1_000, 5);
        // It closed at 1,103 ms.
        let told = proved(&[first.clone(), second.clone(), collision(1_400)]);
        assert_eq!(told, (Cause::TimeWait, Some(LegState::TimeWait), Some(0.297)));
        let mut passive = second;
        passive.close = Some(Close::FinServer);
        let told = proved(&[first, passive, collision(1_400)]);
        assert_eq!(
            told,
            (Cause::Abort, Some(LegState::NeverSent), None),
            "the back end waits, not the proxy"
        );
    }

    #[test]
    fn a_leg_that_was_sent_clears_it() {
        let [first, second] = payment(1_000, 5);
        let reset = collision(1_400);
        let [_, mut leg] = payment(1_400, 77);
        let sent = proved(&[first.clone(), second.clone(), reset.clone(), leg.clone()]);
        assert_eq!(sent, (Cause::Abort, Some(LegState::Answered), None));
        leg.result = Some(Served::Refused);
        assert_eq!(proved(&[first, second, reset, leg]).1, Some(LegState::Refused));
    }

    #[test]
    fn a_point_that_sees_another_client_learns_it_from_one_that_sees_the_proxy_s() {
        let [first, second] = payment(1_000, 5);
        let reset = collision(1_400);
        let mut outside = reset.clone();
        outside.point = "outside".to_owned();
        outside.client.port = 9;
        let mut all = [first, second, reset, outside];
        prove(&mut all, Duration::from_secs(60));
        assert_eq!(all[3].second_leg, all[2].second_leg);
        assert_eq!(all[3].reset.unwrap().cause, Cause::TimeWait);
    }

    #[test]
    fn without_a_proxy_s_second_leg_anywhere_nothing_is_proved() {
        let [first, _] = payment(1_000, 5);
        assert_eq!(proved(&[first.clone(), collision(1_400)]), (Cause::AfterReuse, None, None));
        let mut same = first.clone();
        same.point = "behind".to_owned();
        assert_eq!(proved(&[first, same, collision(1_400)]).1, None, "the same connection further on");
    }
}
