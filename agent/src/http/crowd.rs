//! The connections that are open. There is room for so many; where they are more, the one that has been doing nothing
//! for longest makes room: clients that are slow on purpose push out each other, and never a scraper.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::Notify;

/// All connections.
#[derive(Clone)]
pub struct Crowd {
    room: usize,
    members: Arc<Mutex<Members>>,
}

#[derive(Default)]
struct Members {
    next: u64,
    /// By age, oldest first.
    all: BTreeMap<u64, Arc<Member>>,
}

/// One connection.
#[derive(Default)]
pub struct Member {
    /// Requests that are being answered.
    busy: AtomicUsize,
    leave: Notify,
}

/// A connection's place; given back when dropped.
pub struct Place {
    crowd: Crowd,
    number: u64,
    member: Arc<Member>,
}

/// A request that is being answered; done when dropped.
pub struct Busy(Arc<Member>);

impl Crowd {
    /// Room for so many.
    pub fn new(room: usize) -> Self {
        Self { room, members: Arc::default() }
    }

    /// Takes a place; none where all are at work.
    pub fn enter(&self) -> Option<Place> {
        let mut members = self.members();
        if members.all.len() >= self.room {
            let idle = |(_, member): &(&u64, &Arc<Member>)| member.busy.load(Ordering::Relaxed) == 0;
            let number = *members.all.iter().find(idle)?.0;
            if let Some(member) = members.all.remove(&number) {
                member.leave.notify_one();
            }
        }
        let (number, member) = (members.next, Arc::<Member>::default());
        members.next += 1;
        members.all.insert(number, member.clone());
        Some(Place { crowd: self.clone(), number, member })
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits until another needs the place.
    pub async fn needed(&self) {
        self.member.leave.notified().await;
    }

    /// The connection itself.
    pub fn member(&self) -> Arc<Member> {
        self.member.clone()
    }
}

impl Member {
    /// A request is being answered from now on.
    pub fn answering(self: Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.members().all.remove(&self.number);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn is_needed(place: &Place) -> bool {
        tokio::time::timeout(Duration::ZERO, place.needed()).await.is_ok()
    }

    #[tokio::test]
    async fn the_oldest_that_does_nothing_makes_room() {
        let crowd = Crowd::new(3);
        let places: Vec<_> = (0..3).map(|_| crowd.enter().unwrap()).collect();
        let busy = places[0].member().answering();
        let fourth = crowd.enter().unwrap();
        let needed = [is_needed(&places[0]).await, is_needed(&places[1]).await, is_needed(&places[2]).await];
        assert_eq!(needed, [false, true, false]);
        drop(busy);
        let _fifth = crowd.enter().unwrap();
        assert!(is_needed(&places[0]).await && !is_needed(&fourth).await);
        drop(places);
        assert_eq!(crowd.members().all.len(), 2);
    }

    #[test]
    fn nobody_at_work_is_sent_away() {
        let crowd = Crowd::new(1);
        let place = crowd.enter().unwrap();
        let _busy = place.member().answering();
        assert!(crowd.enter().is_none());
    }
}
