//! Connections of which some points have told and others are to tell: where they stand meanwhile.
//!
//! What points saw stands in one piece of memory, and the last takes the place of what is taken out: what is in use is at
//! its beginning, and nothing is allocated for a single connection. Of a burst's memory no more than half of what is in use
//! is kept beside it, and [`SPARE`].

use super::seen::Seen;
use agent_ebpf::{layout::MAX_POINTS, time::Nanos};
use std::{
    collections::VecDeque,
    hash::{BuildHasher as _, RandomState},
    iter::successors,
    num::NonZeroU32,
};

/// Connections that are waited for at once.
pub const ROOM: usize = 65_536;
/// What is kept of one connection: as many as there can be points. Who sends on both sides of a point may choose the same numbers
/// for any number of connections.
const OF_ONE: usize = MAX_POINTS as usize;
/// What is kept of all together.
const OF_ALL: usize = 4 * ROOM;
/// Places that there is always memory for, once there was.
const SPARE: usize = 1_024;

/// Both initial sequence numbers.
pub type Numbers = (u32, u32);

/// Which place comes next, counted from 1.
type Link = Option<NonZeroU32>;

/// What a point saw.
#[derive(Debug)]
struct Place {
    numbers: Numbers,
    seen: Seen,
    next: Link,
}

/// Connections that are waited for.
#[derive(Debug, Default)]
pub struct Waiting {
    places: Vec<Place>,
    /// Where begins what numbers of one hash lead to, in the order in which it was told; none at all before the first use.
    /// A `HashMap` would grow now and then with what comes and goes, although it never holds more.
    heads: Vec<Link>,
    hash: RandomState,
    /// Each connection once, in the order of their times.
    due: VecDeque<(Nanos, Numbers)>,
}

impl Waiting {
    /// Takes what a point saw, for what it saw before unless that was the last; false where there is no room for one more.
    pub fn take(&mut self, numbers: Numbers, seen: Seen, now: Nanos) -> bool {
        let (mut there, mut known) = (0, None);
        for at in self.places_of(numbers) {
            there += 1;
            known = known.or(Some(at).filter(|at| self.places[*at].seen.key == seen.key));
        }
        if let Some(at) = known {
            let known = &mut self.places[at].seen;
            if !known.last {
                *known = seen;
            }
            return true;
        }
        if there == OF_ONE || self.places.len() == OF_ALL || (there == 0 && self.len() == ROOM) {
            return false;
        }
        if there == 0 {
            self.due.push_back((now, numbers));
        }
        if self.heads.is_empty() {
            self.heads = vec![None; ROOM];
        }
        *self.link(numbers, None) = link_to(self.places.len());
        self.places.push(Place { numbers, seen, next: None });
        true
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// The connection that has waited longest, and since when.
    pub fn oldest(&self) -> Option<(Nanos, Numbers)> {
        self.due.front().copied()
    }

    /// What was seen of a connection, in the order in which it was told.
    pub fn of(&self, numbers: Numbers) -> impl Iterator<Item = &Seen> {
        self.places_of(numbers).map(|at| &self.places[at].seen)
    }

    /// Has the oldest wait once more, from now on.
    pub fn postpone(&mut self, now: Nanos) {
        if let Some((_, numbers)) = self.due.pop_front() {
            self.due.push_back((now, numbers));
        }
    }

    /// Takes the oldest out; what was seen of it, in the order in which it was told, replaces what is in `group`.
    pub fn pop(&mut self, group: &mut Vec<Seen>) {
        group.clear();
        let Some((_, numbers)) = self.due.pop_front() else { return };
        loop {
            let Some(first) = self.places_of(numbers).next() else { return };
            group.push(self.remove(first));
        }
    }

    /// Keeps of what was seen only that, and no connection of which nothing is left.
    pub fn retain(&mut self, keep: impl Fn(&Seen) -> bool) {
        // Backwards: what takes a place has been looked at.
        for at in (0..self.places.len()).rev() {
            if !keep(&self.places[at].seen) {
                self.remove(at);
            }
        }
        let mut due = std::mem::take(&mut self.due);
        due.retain(|(_, numbers)| self.of(*numbers).next().is_some());
        self.due = due;
    }

    /// Gives back memory that is not used any more.
    pub fn give_back(&mut self) {
        let with_spare = |used: usize| used.max(SPARE) / 2 * 3;
        self.places.shrink_to(with_spare(self.places.len()));
        self.due.shrink_to(with_spare(self.due.len()));
    }

    /// Whatever numbers of the same hash lead to.
    fn walk(&self, numbers: Numbers) -> impl Iterator<Item = usize> {
        let head = self.heads.get(self.hash(numbers)).copied().flatten();
        successors(head.map(place_of), |at| self.places[*at].next.map(place_of))
    }

    fn places_of(&self, numbers: Numbers) -> impl Iterator<Item = usize> {
        self.walk(numbers).filter(move |at| self.places[*at].numbers == numbers)
    }

    fn hash(&self, numbers: Numbers) -> usize {
        self.hash.hash_one(numbers) as usize % self.heads.len().max(1)
    }

    /// What leads to a place that numbers lead to, or to none behind their last one.
    fn link(&mut self, numbers: Numbers, to: Link) -> &mut Link {
        let head = self.hash(numbers);
        if self.heads[head] == to {
            // What it leads to need not be there any more.
            return &mut self.heads[head];
        }
        let before = self.walk(numbers).find(|at| self.places[*at].next == to);
        match before {
            Some(at) => &mut self.places[at].next,
            None => &mut self.heads[head],
        }
    }

    /// Takes out what stands at a place; the last one moves there.
    fn remove(&mut self, at: usize) -> Seen {
        let Place { numbers, next, .. } = self.places[at];
        *self.link(numbers, link_to(at)) = next;
        let gone = self.places.swap_remove(at);
        if let Some(moved) = self.places.get(at) {
            *self.link(moved.numbers, link_to(self.places.len())) = link_to(at);
        }
        gone.seen
    }
}

fn link_to(place: usize) -> Link {
    NonZeroU32::new(place as u32 + 1)
}

fn place_of(link: NonZeroU32) -> usize {
    link.get() as usize - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::rows::Sight;
    use agent_ebpf::{
        flow::{Flow, FlowKey, FlowKey4},
        scoreboard::Counts,
    };
    use proptest::prelude::*;

    /// What a point saw.
    fn seen(point: u8, opened: u64, last: bool) -> Seen {
        let key = FlowKey::V4(FlowKey4 { scope: u32::from(point) << 24, ..FlowKey4::default() });
        let flow = Flow { opened: Nanos(opened), ..Flow::default() };
        Seen::of(&Sight { key, flow, counts: [Counts::default(); 2] }, last)
    }

    fn told<'a>(group: impl IntoIterator<Item = &'a Seen>) -> Vec<Told> {
        group.into_iter().map(|seen| (seen.key.point(), seen.opened.0, seen.last)).collect()
    }

    /// A point, the time by which it is known again, and whether it was the last.
    type Told = (u8, u64, bool);

    /// The oldest, taken out.
    fn pop(waiting: &mut Waiting) -> Vec<Told> {
        let mut group = Vec::new();
        waiting.pop(&mut group);
        told(&group)
    }

    #[test]
    fn three_points_of_a_connection_come_out_in_the_order_in_which_they_told() {
        let mut waiting = Waiting::default();
        for (point, opened) in [(2, 10), (0, 11), (1, 12)] {
            waiting.take((1, 2), seen(point, opened, false), Nanos(0));
            waiting.take((7, 8), seen(point, 100 + opened, true), Nanos(1));
        }
        waiting.take((1, 2), seen(0, 20, true), Nanos(2));
        waiting.take((1, 2), seen(0, 30, false), Nanos(3));
        let first = [(2, 10, false), (0, 20, true), (1, 12, false)];
        assert_eq!(told(waiting.of((1, 2))), first, "the last one stays");
        assert_eq!(waiting.oldest(), Some((Nanos(0), (1, 2))));
        assert_eq!(pop(&mut waiting), first);
        assert_eq!(pop(&mut waiting), [(2, 110, true), (0, 111, true), (1, 112, true)]);
        assert_eq!((waiting.oldest(), waiting.len(), pop(&mut waiting)), (None, 0, vec![]));
    }

    #[test]
    fn any_number_of_connections_with_the_same_numbers_takes_no_more_than_one_has_points() {
        let mut waiting = Waiting::default();
        let of_port = |port: u32| {
            let key = FlowKey::V4(FlowKey4 { ports: port, ..FlowKey4::default() });
            Seen::of(&Sight { key, flow: Flow::default(), counts: [Counts::default(); 2] }, true)
        };
        let taken = (0..1_000).filter(|port| waiting.take((1, 2), of_port(*port), Nanos(0))).count();
        assert_eq!((taken, waiting.len()), (OF_ONE, 1));
        assert!(waiting.take((1, 2), of_port(0), Nanos(0)), "it is there");
        assert!(waiting.take((1, 3), of_port(0), Nanos(0)), "another one");
        assert_eq!(pop(&mut waiting).len(), OF_ONE);
    }

    #[test]
    fn who_waits_once_more_is_behind_all_others() {
        let mut waiting = Waiting::default();
        for isn in 1..=3 {
            waiting.take((isn, 0), seen(0, isn.into(), true), Nanos(isn.into()));
        }
        waiting.postpone(Nanos(4));
        let order = [1, 2, 3].map(|_| (waiting.oldest().unwrap(), pop(&mut waiting)));
        let since = order.map(|((since, (isn, _)), group)| (since.0, isn, group.len()));
        assert_eq!(since, [(2, 2, 1), (3, 3, 1), (4, 1, 1)]);
    }

    #[test]
    fn places_are_used_again_and_those_of_a_burst_given_back() {
        const STEADY: u32 = 5_000;
        let capacities = |waiting: &Waiting| [waiting.places.capacity(), waiting.due.capacity()];
        let add = |waiting: &mut Waiting, isn: u32| {
            assert!([0, 1].iter().all(|point| waiting.take((isn, 0), seen(*point, 0, true), Nanos(0))));
        };
        let (mut waiting, mut group) = (Waiting::default(), Vec::new());
        (0..STEADY).for_each(|isn| add(&mut waiting, isn));
        let memory = waiting.places.as_ptr();
        for isn in STEADY..10 * STEADY {
            add(&mut waiting, isn);
            waiting.pop(&mut group);
            assert_eq!((waiting.places.len(), group.len()), (2 * STEADY as usize, 2));
        }
        assert_eq!(waiting.places.as_ptr(), memory);

        (100_000..100_000 + 60_000).for_each(|isn| add(&mut waiting, isn));
        assert!(capacities(&waiting)[0] >= 130_000);
        let mut rest = waiting.len();
        for left in [STEADY as usize, 0] {
            (left..rest).for_each(|_| waiting.pop(&mut group));
            waiting.give_back();
            rest = waiting.len();
            let [places, due] = capacities(&waiting);
            assert_eq!(rest, left);
            assert!(places <= 3 * left.max(SPARE / 2) && due <= 3 * left.max(SPARE) / 2, "{places} {due}");
        }
    }

    proptest! {
        /// Against lists that are kept in the plainest way.
        #[test]
        fn whatever_comes_and_goes_each_connection_keeps_what_was_told_of_it(
            steps in prop::collection::vec((0..8u8, 0..5u32, 0..4u8, any::<bool>()), 1..120)
        ) {
            // So few heads that each is of several connections.
            let mut waiting = Waiting { heads: vec![None; 2], ..Waiting::default() };
            let mut plain: VecDeque<(Numbers, Vec<Told>)> = VecDeque::new();
            for (time, (step, isn, point, last)) in (0..).zip(steps) {
                match step {
                    0 => prop_assert_eq!(pop(&mut waiting), plain.pop_front().map_or(vec![], |(_, group)| group)),
                    1 if !plain.is_empty() => {
                        waiting.postpone(Nanos(time));
                        plain.rotate_left(1);
                    }
                    2 => {
                        waiting.retain(|seen| seen.key.point() != point);
                        plain.iter_mut().for_each(|(_, group)| group.retain(|known| known.0 != point));
                        plain.retain(|(_, group)| !group.is_empty());
                    }
                    3 => waiting.give_back(),
                    _ => {
                        let numbers = (isn, 9);
                        prop_assert!(waiting.take(numbers, seen(point, time, last), Nanos(time)));
                        if !plain.iter().any(|(known, _)| *known == numbers) {
                            plain.push_back((numbers, vec![]));
                        }
                        let group = &mut plain.iter_mut().find(|(known, _)| *known == numbers).unwrap().1;
                        match group.iter_mut().find(|known| known.0 == point) {
                            Some((_, _, true)) => {}
                            Some(known) => *known = (point, time, last),
                            None => group.push((point, time, last)),
                        }
                    }
                }
                prop_assert_eq!(waiting.len(), plain.len());
                prop_assert_eq!(waiting.oldest().map(|(_, numbers)| numbers), plain.front().map(|(n, _)| *n));
                for (numbers, group) in &plain {
                    prop_assert_eq!(&told(waiting.of(*numbers)), group);
                }
                prop_assert_eq!(waiting.places.len(), plain.iter().map(|(_, group)| group.len()).sum::<usize>());
            }
        }
    }
}
