//! Clients' own ports played through proxies: how many of their uses collide on average.

use std::collections::HashMap;

/// Plays of the same uses; the mean of so many is off by a few hundredths of what one play may be.
const PLAYS: u32 = 400;

/// One connection from a client's port.
#[derive(Debug, Clone, Copy)]
pub struct Use {
    /// Its SYN, in nanoseconds.
    pub opened: u64,
    /// Its close; none where it was not seen.
    pub closed: Option<u64>,
}

/// What proxies do.
#[derive(Debug, Clone, Copy)]
pub struct Proxies {
    /// How many there are.
    pub count: usize,
    /// How likely a use meets the proxy that the one before it met. Otherwise it meets any of the others.
    pub same: f64,
    /// How likely a use within TIME-WAIT at its proxy collides.
    pub colliding: f64,
    /// TIME-WAIT, in seconds.
    pub time_wait: f64,
}

/// How many of the uses collide, on average. `ports` are the uses of each port, in order.
pub fn collisions<K>(ports: &HashMap<K, Vec<Use>>, proxies: Proxies) -> f64 {
    let time_wait = (proxies.time_wait * 1e9) as u64;
    let within = |uses: &[Use]| {
        let gap = |pair: &[Use]| Some(pair[1].opened.saturating_sub(pair[0].closed?));
        uses.windows(2).any(|pair| gap(pair).is_some_and(|gap| gap < time_wait))
    };
    // The order of a map is another one each time; without an order the draws would not be the same.
    let mut risky: Vec<&Vec<Use>> = ports.values().filter(|uses| within(uses)).collect();
    risky.sort_by_key(|uses| uses.first().map(|first| first.opened));
    let mut draws = Draws(0x9e37_79b9);
    let mut collided = 0_u64;
    let mut lived = vec![None; proxies.count];
    for _ in 0..PLAYS {
        for uses in &risky {
            lived.fill(None);
            let mut proxy = draws.below(proxies.count);
            for (place, one) in uses.iter().enumerate() {
                if place > 0 && proxies.count > 1 && draws.share() >= proxies.same {
                    proxy = (proxy + 1 + draws.below(proxies.count - 1)) % proxies.count;
                }
                let waits = lived[proxy].is_some_and(|at| one.opened.saturating_sub(at) < time_wait);
                if waits && draws.share() < proxies.colliding {
                    collided += 1;
                } else {
                    lived[proxy] = one.closed;
                }
            }
        }
    }
    collided as f64 / f64::from(PLAYS)
}

/// The same draws each time (SplitMix64, Steele et al. 2014): a report does not change when it is asked for again.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// From 0 to 1, without 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From 0 to `n`, without `n`.
    fn below(&mut self, n: usize) -> usize {
        (self.share() * n as f64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1,000 ports, each used so often, every 600 ms for an instant.
    fn ports(uses: u64) -> HashMap<u16, Vec<Use>> {
        let at = |n: u64| Use { opened: n * 600_000_000, closed: Some(n * 600_000_000) };
        (0..1_000).map(|port| (port, (0..uses).map(at).collect())).collect()
    }

    fn played(uses: u64, count: usize, same: f64, time_wait: f64) -> f64 {
        collisions(&ports(uses), Proxies { count, same, colliding: 1.0, time_wait })
    }

    #[test]
    fn what_collided_does_not_hold_the_next_one_up() {
        assert_eq!(played(2, 1, 1.0, 1.0), 1_000.0);
        assert_eq!(played(3, 1, 1.0, 1.0), 1_000.0, "the third comes 1.2 s after the first");
        assert_eq!(played(4, 1, 1.0, 1.0), 2_000.0);
        assert_eq!(played(4, 1, 1.0, 0.5), 0.0);
    }

    #[test]
    fn proxies_that_are_met_seldom_collide_seldom() {
        assert!((played(2, 2, 0.5, 1.0) - 500.0).abs() < 5.0);
        assert!((played(2, 4, 0.25, 1.0) - 250.0).abs() < 5.0);
        assert!((played(2, 2, 0.9, 1.0) - 900.0).abs() < 5.0);
        let half = Proxies { count: 1, same: 1.0, colliding: 0.5, time_wait: 1.0 };
        assert!((collisions(&ports(2), half) - 500.0).abs() < 5.0);
        // To the other and back: the one before the last still counts when TIME-WAIT is longer.
        assert_eq!((played(3, 2, 0.0, 1.0), played(3, 2, 0.0, 1.3)), (0.0, 1_000.0));
    }
}
