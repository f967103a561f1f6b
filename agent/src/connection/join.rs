//! Which connections at different points are one and the same.
//!
//! A box that forwards may rewrite addresses and ports, but hardly ever sequence numbers: the initial ones of both sides
//! are 64 bits that two connections have in common once in 10^19 (RFC 9293, 3.4.1 and RFC 6528 make them differ even on
//! one five-tuple). Where one is unknown, or a box does rewrite them, the five-tuple, the timestamps option (RFC 7323,
//! which such boxes leave alone) and the time have to do, and the join is only likely.

use super::{Connection, Sent};
use crate::api::EndPoint;
use std::collections::HashMap;

/// How far apart, by clocks set right, the first packets of one connection may pass two points, nanoseconds: longer than
/// any queue holds a packet, shorter than five-tuples usually come back.
const APART: u64 = 2_000_000_000;

/// How sure a join is, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Join {
    /// Both initial sequence numbers are the same.
    BothNumbers,
    /// The five-tuple and the client's initial sequence number are the same; the server's was not seen at both.
    TupleAndNumber,
    /// The five-tuple is the same, and both sides' sequence numbers end alike; the handshake was not seen at both.
    TupleAndSequence,
    /// Only likely: the client's initial sequence number is the same, the five-tuple is not, and there is no other.
    NumberAlone,
    /// Only likely: both sides' last timestamps are the same; the sequence numbers are rewritten.
    Timestamps,
    /// Only likely: the five-tuple is the same at the same time.
    TupleAlone,
}

impl Join {
    /// Nothing else could be meant.
    pub fn is_certain(self) -> bool {
        self <= Self::TupleAndSequence
    }

    /// Why it is as sure as it is, after "joined by".
    pub fn why(self) -> &'static str {
        match self {
            Self::BothNumbers => "both initial sequence numbers",
            Self::TupleAndNumber => "the five-tuple and the client's initial sequence number",
            Self::TupleAndSequence => "the five-tuple and both sides' sequence numbers",
            Self::NumberAlone => "the client's initial sequence number alone; the server's was not seen",
            Self::Timestamps => "both sides' timestamps; the sequence numbers are rewritten on the way",
            Self::TupleAlone => "the five-tuple and the time alone; the handshake was not seen",
        }
    }
}

/// One connection on its way: its place in the list of each point, where it was seen there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// By point.
    pub at: Vec<Option<usize>>,
    /// The least sure of its joins; none when it was seen at one point only.
    pub by: Option<Join>,
}

/// Joins those whose initial sequence numbers are the same; the others stand alone.
pub fn by_numbers(points: &[Vec<Connection>]) -> Vec<Joined> {
    let mut joined: Vec<Joined> = Vec::new();
    let mut known: HashMap<(u32, u32), usize> = HashMap::new();
    for (point, list) in points.iter().enumerate() {
        for (place, connection) in list.iter().enumerate() {
            let numbers = numbers(connection);
            let found =
                numbers.and_then(|n| known.get(&n)).copied().filter(|i| joined[*i].at[point].is_none());
            match found {
                Some(i) => {
                    joined[i].at[point] = Some(place);
                    joined[i].by = Some(Join::BothNumbers);
                }
                None => {
                    let mut at = vec![None; points.len()];
                    at[point] = Some(place);
                    known.extend(numbers.map(|n| (n, joined.len())));
                    joined.push(Joined { at, by: None });
                }
            }
        }
    }
    joined
}

/// Joins what the numbers left apart. `offsets` are what the points' clocks are ahead by, in nanoseconds.
pub fn by_the_rest(points: &[Vec<Connection>], joined: &mut Vec<Joined>, offsets: &[i64]) {
    for rule in [by_tuple, by_client_number, by_timestamps] {
        let groups = group(points, joined, rule);
        for group in groups {
            merge(points, joined, &group, offsets);
        }
        joined.retain(|j| j.at.iter().any(Option::is_some));
    }
}

/// What connections must have in common to be compared by a rule.
type Rule = fn(&Connection) -> Option<Shared>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Shared {
    Tuple(EndPoint, EndPoint),
    Number(u32),
    Timestamps(u32, u32),
}

fn by_tuple(c: &Connection) -> Option<Shared> {
    let (a, b) = (c.client.min(c.server), c.client.max(c.server));
    Some(Shared::Tuple(a, b))
}

fn by_client_number(c: &Connection) -> Option<Shared> {
    c.from_client.isn.map(Shared::Number)
}

fn by_timestamps(c: &Connection) -> Option<Shared> {
    Some(Shared::Timestamps(c.from_client.ts_val?, c.from_server.ts_val?))
}

/// The joined ones that have something in common, those with a partner at least.
fn group(points: &[Vec<Connection>], joined: &[Joined], rule: Rule) -> Vec<Vec<usize>> {
    let mut groups: HashMap<Shared, Vec<usize>> = HashMap::new();
    for (i, one) in joined.iter().enumerate() {
        if one.at.iter().all(Option::is_some) {
            continue;
        }
        let mut shared: Vec<Shared> = seen(points, one).filter_map(|(_, c)| rule(c)).collect();
        shared.sort_unstable();
        shared.dedup();
        for key in shared {
            groups.entry(key).or_default().push(i);
        }
    }
    let mut groups: Vec<Vec<usize>> = groups.into_values().filter(|group| group.len() > 1).collect();
    groups.sort_unstable();
    groups
}

/// Joins within a group: each with the one that fits best, the surest and then the nearest in time.
fn merge(points: &[Vec<Connection>], joined: &mut [Joined], group: &[usize], offsets: &[i64]) {
    let mut fits: Vec<(Join, u64, usize, usize)> = Vec::new();
    for (n, a) in group.iter().enumerate() {
        for b in &group[n + 1..] {
            if let Some((by, apart)) = fit(points, &joined[*a], &joined[*b], offsets) {
                fits.push((by, apart, *a, *b));
            }
        }
    }
    fits.sort_unstable();
    for (by, _, a, b) in fits {
        let alone = group.iter().filter(|i| joined[**i].at.iter().any(Option::is_some)).count() == 2;
        let free = (0..points.len()).all(|p| joined[a].at[p].is_none() || joined[b].at[p].is_none());
        let there = joined[a].at.iter().any(Option::is_some) && joined[b].at.iter().any(Option::is_some);
        if !free || !there || (by == Join::NumberAlone && !alone) {
            continue;
        }
        let from = std::mem::take(&mut joined[b].at);
        for (to, from) in joined[a].at.iter_mut().zip(&from) {
            *to = to.or(*from);
        }
        joined[b].at = vec![None; from.len()];
        joined[a].by = [joined[a].by, joined[b].by, Some(by)].into_iter().flatten().max();
    }
}

/// By what two may be one, and how far apart in time; none when they cannot be.
fn fit(points: &[Vec<Connection>], a: &Joined, b: &Joined, offsets: &[i64]) -> Option<(Join, u64)> {
    let mut best: Option<(Join, u64)> = None;
    for (p, c) in seen(points, a) {
        for (q, d) in seen(points, b) {
            if p == q {
                return None;
            }
            let shift = |at: u64, point: usize| at.wrapping_sub(offsets[point] as u64);
            let apart = shift(c.times.opened_ns, p).abs_diff(shift(d.times.opened_ns, q));
            let meet = shift(c.times.opened_ns, p) <= shift(d.times.last_seen_ns, q).saturating_add(APART)
                && shift(d.times.opened_ns, q) <= shift(c.times.last_seen_ns, p).saturating_add(APART);
            let by = alike(c, d, apart, meet)?;
            best = best.max(Some((by, apart)));
        }
    }
    best
}

fn alike(c: &Connection, d: &Connection, apart: u64, meet: bool) -> Option<Join> {
    let contrary = |a: Option<u32>, b: Option<u32>| a.is_some() && b.is_some() && a != b;
    let same = |a: Option<u32>, b: Option<u32>| a.is_some() && a == b;
    // Mid-way the sides are guessed, and may be guessed otherwise elsewhere.
    let turned = c.client == d.server && c.server == d.client;
    let tuple = turned || (c.client == d.client && c.server == d.server);
    let (to_client, to_server) =
        if turned { (&d.from_server, &d.from_client) } else { (&d.from_client, &d.from_server) };
    let halves = [(&c.from_client, to_client), (&c.from_server, to_server)];
    if halves.iter().any(|(a, b)| contrary(a.isn, b.isn)) {
        let stamped = halves.iter().all(|(a, b)| same(a.ts_val, b.ts_val));
        return (stamped && apart <= APART && !turned).then_some(Join::Timestamps);
    }
    let number = same(c.from_client.isn, to_client.isn);
    if tuple && number {
        return Some(Join::TupleAndNumber);
    }
    if tuple && meet {
        let ends = |(a, b): &(&Sent, &Sent)| a.segments > 0 && b.segments > 0 && a.next == b.next;
        return Some(if halves.iter().all(ends) { Join::TupleAndSequence } else { Join::TupleAlone });
    }
    (number && apart <= APART).then_some(Join::NumberAlone)
}

/// What was seen of one, with the points.
pub fn seen<'a>(
    points: &'a [Vec<Connection>],
    joined: &'a Joined,
) -> impl Iterator<Item = (usize, &'a Connection)> {
    joined
        .at
        .iter()
        .enumerate()
        .filter_map(|(point, place)| place.map(|place| (point, &points[point][place])))
}

/// Both initial sequence numbers, which two connections hardly ever have in common.
pub fn numbers(c: &Connection) -> Option<(u32, u32)> {
    Some((c.from_client.isn?, c.from_server.isn?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::tests::answered;

    const SECOND: u64 = 1_000_000_000;

    fn join(points: &[Vec<Connection>]) -> Vec<Joined> {
        let mut joined = by_numbers(points);
        by_the_rest(points, &mut joined, &vec![0; points.len()]);
        joined
    }

    fn natted(c: &Connection, port: u16) -> Connection {
        let client = EndPoint { address: [10, 0, 0, 1].into(), port };
        Connection { client, point: "inside".to_owned(), ..c.clone() }
    }

    /// The `n`th of many, each with numbers of its own.
    fn many(n: u32) -> Connection {
        let mut c = answered("outside", u64::from(n) * SECOND / 100);
        c.client.port = 1_024 + (n % 60_000) as u16;
        c.from_client.isn = Some(n.wrapping_mul(0x9e37_79b9));
        c.from_server.isn = Some(n.wrapping_mul(0x85eb_ca6b) ^ 0x5bd1_e995);
        c
    }

    #[test]
    fn ten_thousand_through_a_nat_with_other_ports_are_joined_and_none_wrongly() {
        let outside: Vec<Connection> = (0..10_000).map(many).collect();
        let mut inside: Vec<Connection> =
            outside.iter().map(|c| natted(c, 65_535 - c.client.port / 2)).collect();
        inside.reverse();
        let joined = join(&[outside, inside]);
        assert_eq!(joined.len(), 10_000);
        for one in joined {
            assert_eq!((one.at[0].unwrap(), one.by), (9_999 - one.at[1].unwrap(), Some(Join::BothNumbers)));
        }
    }

    #[test]
    fn a_syn_without_an_answer_is_joined_by_what_there_is() {
        let mut there = many(1);
        there.from_server = Sent::default();
        let mut here = there.clone();
        here.point = "inside".to_owned();
        let joined = join(&[vec![there.clone()], vec![here.clone()]]);
        assert_eq!(joined[0].by, Some(Join::TupleAndNumber));
        let joined = join(&[vec![there.clone()], vec![natted(&here, 9)]]);
        assert_eq!(joined[0].by, Some(Join::NumberAlone));
        let twice = vec![natted(&here, 9), natted(&here, 10)];
        assert_eq!(join(&[vec![there], twice]).len(), 3, "which of the two it is nothing tells");
    }

    #[test]
    fn another_connection_on_the_same_five_tuple_is_none() {
        let (first, mut second) = (many(1), many(2));
        (second.client, second.times) = (first.client, first.times);
        assert_eq!(join(&[vec![first.clone()], vec![second.clone()]]).len(), 2);
        // Unless a box rewrites sequence numbers, and timestamps say that it does.
        let mut stamped = [first, second];
        for c in &mut stamped {
            (c.from_client.ts_val, c.from_server.ts_val) = (Some(77), Some(99));
        }
        let [a, b] = stamped;
        let joined = join(&[vec![a.clone()], vec![b.clone()]]);
        assert_eq!((joined.len(), joined[0].by), (1, Some(Join::Timestamps)));
        let mut later = b;
        later.times.opened_ns += 60 * SECOND;
        assert_eq!(join(&[vec![a], vec![later]]).len(), 2, "a minute later those are another's");
    }

    #[test]
    fn one_met_mid_way_is_joined_by_its_five_tuple_whichever_side_was_taken_for_the_client() {
        let whole = many(1);
        let mut late = whole.clone();
        (late.client, late.server, late.inferred) = (whole.server, whole.client, true);
        (late.from_client, late.from_server) = (whole.from_server.clone(), whole.from_client.clone());
        (late.from_client.isn, late.from_server.isn) = (None, None);
        let joined = join(&[vec![whole.clone()], vec![late.clone()]]);
        assert_eq!((joined.len(), joined[0].by), (1, Some(Join::TupleAndSequence)));
        late.from_client.next += 1;
        assert_eq!(join(&[vec![whole.clone()], vec![late.clone()]])[0].by, Some(Join::TupleAlone));
        late.times.opened_ns += 60 * SECOND;
        late.times.last_seen_ns += 60 * SECOND;
        assert_eq!(join(&[vec![whole], vec![late]]).len(), 2);
    }

    #[test]
    fn clocks_that_differ_are_set_right_first() {
        let whole = many(1);
        let mut late = whole.clone();
        (late.from_client.isn, late.from_server.isn) = (None, None);
        for at in [&mut late.times.opened_ns, &mut late.times.last_seen_ns] {
            *at += 3_600 * SECOND;
        }
        let points = [vec![whole], vec![late]];
        let mut joined = by_numbers(&points);
        by_the_rest(&points, &mut joined, &[0, 3_600 * SECOND as i64]);
        assert_eq!(joined.len(), 1);
    }
}
