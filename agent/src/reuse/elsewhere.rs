//! Whether what collides is another five-tuple: in front of a box that changes addresses or ports, a connection fails by the
//! five-tuple that it has behind it. Gaps from one use to the next in front of it tell no TIME-WAIT then.

use super::collisions::{Again, Fate};
use crate::{
    connection::{Connection, join::numbers},
    locate::clocks,
};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Where the five-tuples are that collide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// A point nearer to the servers.
    pub point: String,
    /// Connections that collided and have another five-tuple there.
    pub collisions: u64,
}

/// Of connections at a point, and the reuses among them: where most of those that collided have another five-tuple on their
/// way on. `others` are what other points saw.
pub fn find(
    here: &[&Connection],
    reuses: &[Again<'_>],
    others: &[(&str, Vec<&Connection>)],
) -> Option<Elsewhere> {
    let collided: Vec<&Connection> =
        reuses.iter().filter(|again| again.fate == Fate::Collided).map(|again| again.connection).collect();
    if collided.is_empty() {
        return None;
    }
    let rewritten = others.iter().map(|(point, there)| {
        let there: HashMap<_, _> = there.iter().filter_map(|c| Some((numbers(c)?, *c))).collect();
        let at = |c: &Connection| there.get(&numbers(c)?).copied();
        let both = here.iter().filter_map(|c| Some((*c, at(c)?)));
        let farther = clocks::compare(both).is_some_and(|clocks| clocks.apart_ns > 0);
        let others = collided.iter().filter_map(|c| Some((*c, at(c)?)));
        let changed = others.filter(|(c, d)| (c.client, c.server) != (d.client, d.server)).count();
        Elsewhere { point: (*point).to_owned(), collisions: if farther { changed as u64 } else { 0 } }
    });
    rewritten.max_by_key(|e| e.collisions).filter(|e| 2 * e.collisions > collided.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{chain, tests::*},
        *,
    };

    /// Ten connections on one port of a client, half of which collided; and the same behind a box, so much later.
    fn both(own_ports: bool) -> [Vec<Connection>; 2] {
        let one = |n: u16| {
            let mut c = reused(0.5, n.is_multiple_of(2));
            c.times.shift(i64::from(n) * 600_000_000);
            (c.from_client.isn, c.from_server.isn) = (Some(n.into()), Some(70_000 + u32::from(n)));
            c
        };
        let front: Vec<Connection> = (0..10).map(one).collect();
        let mut behind = front.clone();
        for (n, c) in (50_000..).zip(&mut behind) {
            c.times.syn_ns = c.times.syn_ns.map(|at| at + 100_000);
            c.client.port = if own_ports { n } else { c.client.port };
        }
        [front, behind]
    }

    fn found([here, there]: &[Vec<Connection>; 2]) -> Option<Elsewhere> {
        let here: Vec<_> = here.iter().collect();
        let reuses = chain::reuses(&chain::chains(&here));
        find(&here, &reuses, &[("front", here.clone()), ("behind", there.iter().collect())])
    }

    #[test]
    fn behind_a_box_with_ports_of_its_own_another_five_tuple_collides() {
        let mut world = both(true);
        assert_eq!(found(&world), Some(Elsewhere { point: "behind".to_owned(), collisions: 5 }));
        for c in world[1].iter_mut().take(5) {
            c.from_client.isn = None;
        }
        assert_eq!(found(&world), None, "most are not known to");
        let [front, behind] = both(true);
        assert_eq!(found(&[behind, front]), None, "here it is the one that collides");
        assert_eq!(found(&both(false)), None);
    }
}
