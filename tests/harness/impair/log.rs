//! What the box did: every frame that came, what was decided about it, and everything that left, in order.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::{Action, Direction, TcpFacts, flags};

/// The clock that all boxes of this process share.
pub(super) fn since_begun() -> Duration {
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGUN.elapsed()
}

/// A frame that reached the box.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Its place among all frames, from 0; also its place in [`Log::arrivals`].
    pub index: u64,
    /// When, by the clock that all boxes of a test process share.
    pub at: Duration,
    /// Which way it came.
    pub direction: Direction,
    /// Its place among the data segments of its direction, from 1; 0 without payload.
    pub data: u32,
    /// What was done about it, never empty.
    pub actions: Vec<Action>,
    /// Its headers, when it is TCP.
    pub tcp: Option<TcpFacts>,
}

impl Arrival {
    /// Whether no copy of it was ever to leave the box.
    pub fn dropped(&self) -> bool {
        self.copies() == 0
    }

    /// How many copies of it were to leave the box.
    pub fn copies(&self) -> usize {
        let copies = self.actions.iter().map(|action| match action {
            Action::Pass | Action::Delay(_) | Action::HoldUntilAfter(..) => 1,
            Action::Duplicate => 2,
            Action::Drop | Action::Inject(_) | Action::InjectBack(_) => 0,
        });
        copies.sum()
    }
}

/// A frame that left the box.
#[derive(Clone, Debug)]
pub struct Departure {
    /// When, by the clock that all boxes of a test process share.
    pub at: Duration,
    /// Which way it went.
    pub direction: Direction,
    /// Which arrival it is a copy of; none when it was injected.
    pub arrival: Option<u64>,
    /// Its headers, when it is TCP.
    pub tcp: Option<TcpFacts>,
}

/// Everything the box did.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// What came, in order.
    pub arrivals: Vec<Arrival>,
    /// What left, in order.
    pub departures: Vec<Departure>,
}

impl Log {
    /// The TCP segments that came this way, with what was done about them.
    pub fn arrived(&self, direction: Direction) -> impl Iterator<Item = (&Arrival, &TcpFacts)> {
        let ours = self.arrivals.iter().filter(move |arrival| arrival.direction == direction);
        ours.filter_map(|arrival| Some((arrival, arrival.tcp.as_ref()?)))
    }

    /// The TCP segments that left this way, in the order in which the next point saw them.
    pub fn departed(&self, direction: Direction) -> impl Iterator<Item = &TcpFacts> {
        let ours = self.departures.iter().filter(move |departure| departure.direction == direction);
        ours.filter_map(|departure| departure.tcp.as_ref())
    }

    /// How many TCP segments were dropped this way.
    pub fn dropped(&self, direction: Direction) -> usize {
        self.arrived(direction).filter(|(arrival, _)| arrival.dropped()).count()
    }

    /// How many extra copies of TCP segments were made this way.
    pub fn duplicated(&self, direction: Direction) -> usize {
        self.arrived(direction).map(|(arrival, _)| arrival.copies().saturating_sub(1)).sum()
    }

    /// How many segments that came this way the sender had sent before: they begin below the highest end of their half.
    /// Before the box nothing is lost or reordered, so this is what the sender's kernel counts in `TcpRetransSegs`.
    pub fn sent_again(&self, direction: Direction) -> usize {
        below_highest(self.arrived(direction).map(|(_, tcp)| tcp))
    }

    /// How many segments that left this way began below the highest end that had left before: re-sent, duplicated and
    /// late ones together, as the next point sees them.
    pub fn below_highest(&self, direction: Direction) -> usize {
        below_highest(self.departed(direction))
    }
}

fn below_highest<'a>(segments: impl Iterator<Item = &'a TcpFacts>) -> usize {
    let mut highest: HashMap<(SocketAddr, SocketAddr), u32> = HashMap::new();
    let mut count = 0;
    for tcp in segments.filter(|tcp| tcp.length() > 0) {
        let half = (tcp.source, tcp.destination);
        let Some(end) = highest.get_mut(&half) else {
            highest.insert(half, tcp.end());
            continue;
        };
        let next_connection = tcp.has(flags::SYN) && tcp.end() != *end && precedes(*end, tcp.seq);
        if precedes(tcp.seq, *end) && !next_connection {
            count += 1;
        }
        if precedes(*end, tcp.end()) || next_connection {
            *end = tcp.end();
        }
    }
    count
}

/// RFC 9293, section 3.4: `a < b` modulo 2^32.
fn precedes(a: u32, b: u32) -> bool {
    b.wrapping_sub(a).cast_signed() > 0
}
