//! Connections as the accuracy benchmark's schema tells them apart, and what was counted of each.
//!
//! Everything that is judged comes from the core's facts; here it is only added up by connection. The schema's
//! connections are not quite the core's flows, so the books are kept apart:
//!
//! - Here every SYN with a new initial number begins a connection. To the core a SYN against an open connection is a
//!   contender, which opens nothing until it is accepted (RFC 9293, 3.10.7.4).
//! - Here the same end points count as used before however long ago that was; the core's reuse ends with the TIME-WAIT
//!   window. The gap is the same: from the last FIN or RST to the SYN.
//! - Here a connection lasts however long it is silent, as far as there is room; the core ends it as the daemon would.
//! - Here the client of a connection met mid-way is who spoke first; the core asks services and ports, and what it
//!   says of a packet's sender stands in the packet's line.

mod account;
mod history;
mod repeats;

pub use account::{Account, ClientBy, Handshake, Reset, Tally};
pub use history::Previous;

use super::{file::Packet, labels::Labels};
use crate::{aggregate::rows::nanos, config::Limits, source::host::Judged};
use agent_ebpf::{flow::FlowKey, time::Nanos};
use foldhash::fast::RandomState;
use history::History;
use std::collections::HashMap;

/// Connections beyond which the silent ones are let go.
const MANY: usize = 1 << 16;
/// Connections at most: the half that was silent longest is let go for more.
const MOST: usize = 1 << 19;

/// The connections of one capture.
pub struct Ledger {
    open: HashMap<FlowKey, Account, RandomState>,
    history: History,
    numbers: u64,
    /// Connections at most.
    most: usize,
}

/// Where a packet was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entered {
    /// The connection's number.
    pub flow: u64,
    /// The packet's labels.
    pub labels: Labels,
}

impl Ledger {
    /// Empty, with the number of its first connection.
    pub fn new(first: u64) -> Self {
        Self { open: HashMap::default(), history: History::default(), numbers: first, most: MOST }
    }

    /// Enters a packet. A connection that ends with it, because another takes its end points, goes to `done`.
    pub fn enter(
        &mut self,
        packet: &Packet<'_>,
        judged: &Judged<'_>,
        mut done: impl FnMut(Account),
    ) -> Entered {
        let account = match self.open.get_mut(judged.key) {
            Some(account) if !account.is_left_by(judged) => account,
            Some(account) => {
                let previous = Some(account.previous_to_come());
                let next = Account::new(self.numbers, packet, judged, previous);
                self.numbers += 1;
                done(std::mem::replace(account, next));
                account
            }
            None => {
                if self.open.len() >= self.most {
                    self.make_room(&mut done);
                }
                let begins = judged.segment.flags.syn() && !judged.segment.flags.ack();
                let previous = self.history.take(judged.key).filter(|_| begins);
                let new = Account::new(self.numbers, packet, judged, previous);
                self.numbers += 1;
                self.open.entry(*judged.key).or_insert(new)
            }
        };
        let reused = account.previous.is_some() && account.first_frame == packet.number;
        let labels = Labels::of(judged, reused, account.is_repeated_by(judged));
        account.enter(packet, judged, labels);
        Entered { flow: account.number, labels }
    }

    /// Hands out the connections of which nothing more is to be expected at `now`, once there are many.
    pub fn sweep(&mut self, now: Nanos, limits: &Limits, done: impl FnMut(Account)) {
        if self.open.len() < MANY {
            return;
        }
        let over =
            self.open.extract_if(|_, account| now.since(account.last_seen) > nanos(account.patience(limits)));
        let over = over.collect();
        self.let_go(over, done);
    }

    /// Hands out the half that was silent longest.
    fn make_room(&mut self, done: impl FnMut(Account)) {
        let mut seen: Vec<_> = self.open.values().map(|account| account.last_seen).collect();
        let middle = seen.len() / 2;
        let (_, latest, _) = seen.select_nth_unstable(middle);
        let latest = *latest;
        let over = self.open.extract_if(|_, account| account.last_seen <= latest).collect();
        self.let_go(over, done);
    }

    fn let_go(&mut self, mut over: Vec<(FlowKey, Account)>, mut done: impl FnMut(Account)) {
        over.sort_by_key(|(_, account)| account.number);
        for (key, account) in over {
            self.history.put(key, account.previous_to_come());
            done(account);
        }
    }

    /// Hands out all that are left, in the order in which they began.
    pub fn finish(self, done: impl FnMut(Account)) -> u64 {
        let mut left: Vec<_> = self.open.into_values().collect();
        left.sort_by_key(|account| account.number);
        left.into_iter().for_each(done);
        self.numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::host::{Host, Room};
    use agent_ebpf::{label::Direction, layout::Config, sighting::Settings, wire::Link};

    #[test]
    fn the_longest_silent_make_room_and_are_told() {
        let config =
            Config { points: 1, services: 1, test_clock: 0, xdp_frags: 0, coarse_clock: 0, own_lock: 0 };
        let mut host = Host::new(config, Settings::default(), Room::default());
        host.watch(1, 0);
        let mut ledger = Ledger { most: 4, ..Ledger::new(1) };
        let mut done = Vec::new();
        for n in 1..=6u8 {
            // A SYN of a port of its own.
            let mut frame = vec![0; 12];
            frame.extend([8, 0, 0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
            frame.extend([100, n, 1, 187, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, 2, 0x20, 0, 0, 0, 0, 0]);
            let (at, number) = (Nanos(u64::from(n)), u64::from(n));
            let packet =
                Packet { number, at, wire_len: 54, bytes: &frame, link: Link::Ethernet, interface: 0 };
            let judged = host.feed(&packet, 1, Direction::Ingress, at).expect("it is TCP");
            ledger.enter(&packet, &judged, |account| done.push(account.number));
        }
        assert_eq!(done, [1, 2, 3]);
        let mut left = Vec::new();
        assert_eq!(ledger.finish(|account| left.push(account.number)), 7);
        assert_eq!(left, [4, 5, 6]);
    }
}
