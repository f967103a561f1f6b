//! The agent's own counts: what it adds to those of the programs.

use super::description::Description;
use crate::{aggregate::snapshot::Totals, source::maps::add};
use agent_ebpf::{counter::COUNTERS, health::Health, label::Direction, layout::HealthCounts};

const HEALTH_WORDS: usize = 2 * Health::COUNT;

/// The agent's own counts. Where tables were made anew they also carry what the programs had counted in the old ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Generation of tables up to which the programs' counts are among these.
    pub folded: u64,
    /// The last sweep whose ends are among these: see [`super::journal`].
    pub swept: u64,
    /// For each point, and for each service there is room for.
    pub totals: Vec<Totals>,
    /// For each point and both directions, and for the place behind the points.
    pub health: Vec<[HealthCounts; 2]>,
}

impl Own {
    /// None counted yet.
    pub fn new(points: usize, room: usize) -> Self {
        let health = vec![[[0; Health::COUNT]; 2]; points + 1];
        Self { folded: 0, swept: 0, totals: vec![Totals::default(); points * room], health }
    }

    /// Add closed connections of each point that found no room.
    pub fn add_closed_full(&mut self, counts: &[u64]) {
        for (hooks, n) in self.health.iter_mut().zip(counts) {
            hooks[Direction::Ingress as usize][Health::ClosedFull as usize] += n;
        }
    }

    /// Keep of points that are to be forgotten what is summed up over all, as the programs have `counted` it and as it is
    /// here: with packets of interfaces that are no point.
    pub fn keep_sums(&mut self, counted: &[[HealthCounts; 2]], points: &[usize], what: &[Health]) {
        for direction in 0..2 {
            for what in what.iter().map(|what| *what as usize) {
                let of =
                    |point: &usize| counted[*point][direction][what] + self.health[*point][direction][what];
                let sum: u64 = points.iter().map(of).sum();
                if let Some(none) = self.health.last_mut() {
                    none[direction][what] += sum;
                }
            }
        }
    }

    /// Nothing is counted of these points.
    pub fn forget(&mut self, points: &[usize], services: usize) {
        for point in points {
            self.totals[point * services..][..services].fill(Totals::default());
            self.health[*point] = [[0; Health::COUNT]; 2];
        }
    }

    /// Add counts of tables that another description tells of, by the points' names. Services have their numbers for
    /// good.
    pub fn add_by_name(
        &mut self,
        to: &Description,
        from: &Description,
        totals: &[Totals],
        services: usize,
        health: &[[HealthCounts; 2]],
    ) {
        let points = from.points.iter().enumerate();
        let places = points.filter_map(|(old, point)| Some((old, to.point(&point.name)?)));
        for (old, new) in places {
            for svc in 0..services.min(to.room as usize) {
                let (to, from) = (new * to.room as usize + svc, old * services + svc);
                if let (Some(to), Some(from)) = (self.totals.get_mut(to), totals.get(from)) {
                    add(&mut to.0, &from.0);
                }
            }
            add_health(self.health.get_mut(new), health.get(old));
        }
        // Packets of interfaces that are no point.
        add_health(self.health.get_mut(to.points.len()), health.get(from.points.len()));
    }

    /// As bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let totals = self.totals.iter().flat_map(|totals| totals.0.iter());
        let health = self.health.iter().flatten().flatten();
        let words = [&self.folded, &self.swept].into_iter().chain(totals).chain(health);
        words.flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// Of bytes; `None` where there are not as many as it takes.
    pub fn parse(bytes: &[u8], points: usize, room: usize) -> Option<Self> {
        let words: Vec<u64> =
            bytes.chunks_exact(8).filter_map(|b| Some(u64::from_ne_bytes(b.try_into().ok()?))).collect();
        let (totals, health) = (points * room * COUNTERS, (points + 1) * HEALTH_WORDS);
        if words.len() != 2 + totals + health {
            return None;
        }
        let (counts, rest) = words[2..].split_at(totals);
        let mut own = Self::new(points, room);
        (own.folded, own.swept) = (words[0], words[1]);
        for (to, from) in own.totals.iter_mut().zip(counts.chunks_exact(COUNTERS)) {
            to.0.copy_from_slice(from);
        }
        for (to, from) in own.health.iter_mut().flatten().zip(rest.chunks_exact(Health::COUNT)) {
            to.copy_from_slice(from);
        }
        Some(own)
    }
}

fn add_health(to: Option<&mut [HealthCounts; 2]>, from: Option<&[HealthCounts; 2]>) {
    if let (Some(to), Some(from)) = (to, from) {
        for (to, from) in to.iter_mut().zip(from) {
            add(to, from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pins::description::Point;

    fn description(points: &[&str], room: u32) -> Description {
        let point = |name: &&str| Point { name: (*name).to_owned(), interface: (*name).to_owned() };
        Description {
            layout: 0,
            agent: String::new(),
            namespace: 0,
            points: points.iter().map(point).collect(),
            services: vec!["other".to_owned()],
            room,
            tables: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn bytes_come_back_as_they_were() {
        let mut own = Own::new(2, 3);
        own.folded = 7;
        own.totals[5].0[COUNTERS - 1] = 11;
        own.add_closed_full(&[0, 4]);
        assert_eq!(Own::parse(&own.bytes(), 2, 3), Some(own.clone()));
        assert_eq!(Own::parse(&own.bytes(), 3, 2), None);
    }

    #[test]
    fn a_point_is_forgotten_and_the_sums_stay() {
        let mut own = Own::new(2, 3);
        own.totals[3].0[0] = 5;
        own.totals[2].0[0] = 7;
        own.health[1][0][Health::RingLost as usize] = 2;
        own.health[1][0][Health::Seen as usize] = 4;
        let mut counted = own.health.clone();
        counted[1][0][Health::RingLost as usize] = 40;
        own.keep_sums(&counted, &[1], &[Health::RingLost]);
        own.forget(&[1], 3);
        assert_eq!((own.totals[3].0[0], own.totals[2].0[0]), (0, 7));
        let seen = |point: usize| own.health[point][0][Health::Seen as usize];
        assert_eq!((seen(1), seen(2), own.health[2][0][Health::RingLost as usize]), (0, 0, 42));
    }

    #[test]
    fn counts_go_where_their_names_are() {
        let (from, to) = (description(&["a", "b"], 2), description(&["b", "c"], 4));
        let mut old = Own::new(2, 2);
        old.totals[3].0[0] = 5;
        old.totals[0].0[0] = 9;
        old.health[1][0][0] = 3;
        old.health[2][1][0] = 2;
        let mut new = Own::new(2, 4);
        new.totals[1].0[0] = 1;
        new.add_by_name(&to, &from, &old.totals, 2, &old.health);
        assert_eq!(new.totals.iter().map(|t| t.0[0]).collect::<Vec<_>>(), [0, 6, 0, 0, 0, 0, 0, 0]);
        assert_eq!((new.health[0][0][0], new.health[2][1][0]), (3, 2));
    }
}
