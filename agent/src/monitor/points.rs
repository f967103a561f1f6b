//! The points: which number is whose, who comes and who goes.
//!
//! A number is given away for good where its interface is named in the configuration. One that a pattern takes may go for
//! good: its number stays its own, and its series stay, for a while; then they end, and another may have the number.

use crate::{
    aggregate::snapshot::Interfaces,
    config::{
        Interface,
        choice::{MOST, Twice},
    },
    pins,
};
use std::{
    collections::{HashMap, HashSet},
    mem,
    time::{Duration, Instant},
};

/// How long a point stays whose interface is gone and is not named: as long as Prometheus itself looks back for a series, so
/// that whoever scrapes at all has its last counts.
pub const STAYS: Duration = Duration::from_secs(300);

/// A point, and where it stands.
#[derive(Debug)]
pub struct Point {
    /// What is to be watched.
    pub entry: Interface,
    /// Number of the interface, none where it is gone.
    pub index: Option<u32>,
    /// Why it could not be watched when that was tried last, as it was logged.
    pub trouble: Option<String>,
    /// Since when nobody asks for it.
    pub gone: Option<Instant>,
    /// Its number is being freed.
    ending: bool,
    /// And its series have ended.
    nameless: bool,
}

impl Point {
    fn new(entry: Interface) -> Self {
        Self { entry, index: None, trouble: None, gone: None, ending: false, nameless: false }
    }
}

/// All of them, by their numbers.
#[derive(Debug)]
pub struct Points {
    places: Vec<Option<Point>>,
    /// Names of the interfaces that are asked for and that there is no number for now.
    left: Vec<String>,
    /// Of those the ones that none will be freed for.
    waiting: Vec<String>,
    /// Interfaces that see what others see.
    pub twice: Vec<Twice>,
    /// Points that ended before their time, for want of room.
    early: u64,
}

impl Points {
    /// Those that there are at the start.
    pub fn new(places: Vec<Option<Interface>>) -> Self {
        let places = places.into_iter().map(|entry| entry.map(Point::new)).collect();
        Self { places, left: Vec::new(), waiting: Vec::new(), twice: Vec::new(), early: 0 }
    }

    /// Numbers that there are.
    pub fn room(&self) -> usize {
        self.places.len()
    }

    /// Every point with its number.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Point)> {
        self.places.iter().enumerate().filter_map(|(number, place)| Some((number, place.as_ref()?)))
    }

    /// The same, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut Point)> {
        self.places.iter_mut().enumerate().filter_map(|(number, place)| Some((number, place.as_mut()?)))
    }

    /// The points that are asked for, by their names and numbers.
    pub fn asked(&self) -> impl Iterator<Item = (usize, &Interface)> {
        self.iter().filter(|(_, point)| point.gone.is_none()).map(|(number, point)| (number, &point.entry))
    }

    /// Numbers of those that are not.
    pub fn gone(&self) -> Vec<usize> {
        self.iter().filter(|(_, point)| point.gone.is_some()).map(|(number, _)| number).collect()
    }

    /// Whether an interface of this number is watched.
    pub fn holds(&self, index: u32) -> bool {
        self.iter().any(|(_, point)| point.index == Some(index))
    }

    /// Names by numbers; empty where a number is none's, or will be in a moment.
    pub fn names(&self) -> Vec<String> {
        let of = |point: &Point| if point.nameless { String::new() } else { point.entry.point.clone() };
        self.places.iter().map(|place| place.as_ref().map(of).unwrap_or_default()).collect()
    }

    /// The same, for the next agent: a number is free only when nothing is counted under it any more.
    pub fn described(&self) -> Vec<pins::Point> {
        let of = |point: &Point| pins::Point::of(&point.entry);
        self.places.iter().map(|place| place.as_ref().map(of).unwrap_or_default()).collect()
    }

    /// Takes what is asked for now: what is new gets numbers, as far as there are any. Interfaces that will have none, and of
    /// which that was not said yet.
    pub fn ask(&mut self, wanted: &[Interface], now: Instant) -> Vec<String> {
        // Thousands may be wanted, at every look.
        let asked: HashMap<_, _> = wanted.iter().map(|entry| (entry.point.as_str(), entry)).collect();
        for (_, point) in self.iter_mut().filter(|(_, point)| !point.ending) {
            match asked.get(point.entry.point.as_str()).is_some_and(|entry| **entry == point.entry) {
                true => point.gone = None,
                false => _ = point.gone.get_or_insert(now),
            }
        }
        let mut left = Vec::new();
        let known: HashMap<_, _> = self.iter().map(|(number, p)| (p.entry.point.clone(), number)).collect();
        for entry in wanted {
            let same = known.get(&entry.point).and_then(|number| self.places[*number].as_mut());
            if let Some(point) = same {
                // Another hook is asked for, or another interface, by who goes on with an earlier agent's points.
                if point.ending {
                    left.push(entry.name.clone());
                } else if point.entry != *entry && point.index.is_none() {
                    *point = Point::new(entry.clone());
                }
            } else if let Some(free) = self.places.iter_mut().find(|place| place.is_none()) {
                *free = Some(Point::new(entry.clone()));
            } else {
                left.push(entry.name.clone());
            }
        }
        let may_end = self.iter().any(|(_, point)| point.gone.is_some());
        let waiting = if may_end { Vec::new() } else { left.clone() };
        let before: HashSet<_> = mem::replace(&mut self.waiting, waiting).into_iter().collect();
        self.left = left;
        self.waiting.iter().filter(|name| !before.contains(*name)).cloned().collect()
    }

    /// Points whose time is over, or whose numbers others need, and those of which that was said before: they are to be freed,
    /// and nobody goes on with them.
    pub fn end(&mut self, now: Instant) -> Vec<usize> {
        let mut gone: Vec<_> =
            self.iter().filter_map(|(number, p)| Some((p.gone.filter(|_| !p.ending)?, number))).collect();
        gone.sort_unstable();
        let over = gone.partition_point(|(since, _)| now.duration_since(*since) >= STAYS);
        // More than one at a time: freeing takes a look at all connections.
        let needed = if self.left.is_empty() { 0 } else { self.left.len().max(gone.len().div_ceil(2)) };
        gone.truncate(over.max(needed));
        self.early += gone.len().saturating_sub(over) as u64;
        for (_, number) in &gone {
            if let Some(point) = &mut self.places[*number] {
                point.ending = true;
            }
        }
        self.iter().filter(|(_, point)| point.ending).map(|(number, _)| number).collect()
    }

    /// The series of these end.
    pub fn unname(&mut self, numbers: &[usize]) {
        let named = self.iter_mut().filter(|(number, _)| numbers.contains(number));
        named.for_each(|(_, point)| point.nameless = true);
    }

    /// These numbers are free: nothing is counted under them any more.
    pub fn free(&mut self, numbers: &[usize]) {
        numbers.iter().for_each(|number| self.places[*number] = None);
        // Whether more are needed shows when it is asked again.
        self.left.clear();
    }

    /// What metrics tell of the interfaces that there is no number for.
    pub fn figures(&self) -> Interfaces {
        Interfaces { waiting: self.waiting.len() as u64, early: self.early }
    }

    /// Why an interface is not watched that there is no number for, and what makes one.
    pub fn no_room(&self) -> String {
        if self.room() < MOST {
            format!("not watched: there is room for {} points; a restart makes room for more", self.room())
        } else {
            format!("not watched: there are {MOST} points already, and there can be no more")
        }
    }

    /// Interfaces that there is no number for, and why they are not watched.
    pub fn why(&self) -> Vec<(&str, String)> {
        self.waiting.iter().map(|name| (name.as_str(), self.no_room())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Ingress;

    fn entries(names: &[&str]) -> Vec<Interface> {
        let entry = |name: &&str| Interface {
            name: (*name).to_owned(),
            point: (*name).to_owned(),
            ingress: Ingress::Auto,
        };
        names.iter().map(entry).collect()
    }

    fn points(names: &[&str], room: usize) -> Points {
        let mut places: Vec<_> = entries(names).into_iter().map(Some).collect();
        places.resize(room, None);
        Points::new(places)
    }

    #[test]
    fn a_number_is_another_s_only_after_its_time_and_when_it_was_freed() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut points = points(&["eth0"], 3);
        // It comes, goes, comes back, and goes again.
        for (seconds, names) in
            [(0, &["eth0", "v1"][..]), (10, &["eth0"]), (20, &["eth0", "v1"]), (30, &["eth0"])]
        {
            assert!(points.ask(&entries(names), at(seconds)).is_empty());
            assert_eq!(
                (points.names().join(" "), points.asked().count()),
                ("eth0 v1 ".to_owned(), names.len())
            );
        }
        assert_eq!(points.end(at(329)), [0; 0]);
        assert_eq!(points.end(at(330)), [1]);
        points.unname(&[1]);
        assert_eq!((points.names().join(" "), &*points.described()[1].name), ("eth0  ".to_owned(), "v1"));
        // Back in the instant in which its number is freed: it waits for that.
        assert!(points.ask(&entries(&["eth0", "v1"]), at(330)).is_empty());
        assert_eq!((points.end(at(330)), points.asked().count()), (vec![1], 1));
        points.free(&[1]);
        assert!(points.ask(&entries(&["eth0", "v1"]), at(331)).is_empty());
        assert_eq!((points.names().join(" "), points.figures().early), ("eth0 v1 ".to_owned(), 0));
    }

    #[test]
    fn where_there_is_no_room_those_that_have_been_gone_longest_end_first() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut points = points(&["v0", "v1", "v2", "v3"], 4);
        for n in 1..4 {
            points.ask(&entries(&["v0", "v1", "v2", "v3"][..4 - n]), at(n as u64));
        }
        assert_eq!(points.end(at(9)), [0; 0], "nobody needs the room");
        assert!(points.ask(&entries(&["v0", "v9"]), at(9)).is_empty(), "there will be room");
        assert_eq!(points.end(at(9)), [2, 3], "one more than is needed now");
        points.free(&[2, 3]);
        assert_eq!(points.end(at(9)), [0; 0], "whether more is needed is not known");
        points.ask(&entries(&["v0", "v9"]), at(9));
        assert_eq!((points.names().join(" "), points.figures().early), ("v0 v1 v9 ".to_owned(), 2));
        let all = entries(&["v0", "v1", "v9", "v7", "v8"]);
        assert_eq!(points.ask(&all, at(9)), ["v8"]);
        assert!(points.ask(&all, at(9)).is_empty(), "told once");
        assert_eq!((points.end(at(9)), points.figures().waiting, points.why()[0].0), (vec![], 1, "v8"));
    }
}
