//! The thread inside the box: frames in at one side, decided about, out at the other.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::log::since_begun;
use super::{Action, Arrival, Departure, Direction, Packet, Shared, TcpFacts, lock};
use crate::packet_socket::{PacketSocket, Received, Unfinished};

/// How many frames are taken from one side before the other one is looked at.
const BATCH: usize = 32;

/// A frame that is in the box's hands.
#[derive(Clone)]
struct Carried {
    index: u64,
    direction: Direction,
    tcp: Option<TcpFacts>,
    received: Received,
}

/// A frame that leaves when its time has come; `order` keeps equal times in order.
struct Delayed {
    due: Instant,
    order: u64,
    frame: Carried,
}

/// A frame that leaves after others, or when its time is up.
struct Held {
    after: u32,
    until: Instant,
    frame: Carried,
}

pub(super) struct Relay {
    /// The client's side and the server's side.
    sides: [PacketSocket; 2],
    wake: PipeReader,
    shared: Arc<Shared>,
    arrived: u64,
    data: [u32; 2],
    delayed: BinaryHeap<Reverse<Delayed>>,
    orders: u64,
    held: Vec<Held>,
}

impl Relay {
    pub(super) fn open(left: &str, right: &str, wake: PipeReader, shared: Arc<Shared>) -> io::Result<Self> {
        Ok(Self {
            sides: [PacketSocket::open(left)?, PacketSocket::open(right)?],
            wake,
            shared,
            arrived: 0,
            data: [0; 2],
            delayed: BinaryHeap::new(),
            orders: 0,
            held: Vec::new(),
        })
    }

    pub(super) fn run(mut self) -> io::Result<()> {
        while !self.shared.stopping.load(Ordering::Relaxed) {
            self.release_due();
            let mut idle = true;
            for direction in Direction::BOTH {
                for _ in 0..BATCH {
                    let Some(received) = self.sides[direction as usize].receive()? else { break };
                    idle = false;
                    self.decide(direction, received);
                }
            }
            if idle {
                self.wait()?;
            }
        }
        for side in &self.sides {
            self.shared.lost.fetch_add(side.missed()?.into(), Ordering::Relaxed);
        }
        Ok(())
    }

    fn decide(&mut self, direction: Direction, received: Received) {
        let tcp = TcpFacts::parse(&received.frame);
        let data = match &tcp {
            Some(tcp) if tcp.payload > 0 => {
                self.data[direction as usize] += 1;
                self.data[direction as usize]
            }
            _ => 0,
        };
        let index = self.arrived;
        self.arrived += 1;
        let packet = Packet { index, direction, data, tcp: tcp.as_ref(), frame: &received.frame };
        let mut actions = lock(&self.shared.rule).decide(&packet);
        if actions.is_empty() {
            actions.push(Action::Pass);
        }
        let arrival =
            Arrival { index, at: since_begun(), direction, data, actions: actions.clone(), tcp: tcp.clone() };
        lock(&self.shared.log).arrivals.push(arrival);
        let frame = Carried { index, direction, tcp, received };
        for action in actions {
            self.act(&frame, action);
        }
    }

    fn act(&mut self, frame: &Carried, action: Action) {
        match action {
            Action::Pass => self.send(frame),
            Action::Drop => {}
            Action::Duplicate => {
                self.send(frame);
                self.send(frame);
            }
            Action::Delay(by) => {
                self.orders += 1;
                let due = Instant::now() + by;
                self.delayed.push(Reverse(Delayed { due, order: self.orders, frame: frame.clone() }));
            }
            Action::HoldUntilAfter(after, at_most) => {
                let until = Instant::now() + at_most;
                self.held.push(Held { after, until, frame: frame.clone() });
            }
            Action::Inject(bytes) => self.inject(frame.direction, &bytes),
            Action::InjectBack(bytes) => self.inject(frame.direction.reversed(), &bytes),
        }
    }

    /// Sends a frame, and then those that were held until it had left.
    fn send(&mut self, frame: &Carried) {
        self.transmit(frame.direction, Some(frame.index), &frame.received.frame, frame.received.unfinished);
        for held in &mut self.held {
            if held.frame.waits_for(frame) {
                held.after = held.after.saturating_sub(1);
            }
        }
        while let Some(place) = self.held.iter().position(|held| held.after == 0) {
            let next = self.held.remove(place).frame;
            self.send(&next);
        }
    }

    fn inject(&self, direction: Direction, bytes: &[u8]) {
        self.transmit(direction, None, bytes, Unfinished::default());
    }

    fn transmit(&self, direction: Direction, arrival: Option<u64>, bytes: &[u8], unfinished: Unfinished) {
        // The log comes first: whoever sees the frame arrive finds it there.
        let departure = Departure { at: since_begun(), direction, arrival, tcp: TcpFacts::parse(bytes) };
        lock(&self.shared.log).departures.push(departure);
        if let Err(error) = self.sides[direction.reversed() as usize].send(bytes, unfinished) {
            eprintln!("the box could not send a frame of {} bytes: {error}", bytes.len());
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn release_due(&mut self) {
        let injections: Vec<_> = lock(&self.shared.injections).drain(..).collect();
        for (direction, bytes) in injections {
            self.inject(direction, &bytes);
        }
        let now = Instant::now();
        while let Some(Reverse(next)) = self.delayed.peek().filter(|Reverse(next)| next.due <= now) {
            let frame = next.frame.clone();
            self.delayed.pop();
            self.send(&frame);
        }
        while let Some(place) = self.held.iter().position(|held| held.until <= now) {
            let frame = self.held.remove(place).frame;
            self.send(&frame);
        }
    }

    /// Waits for a frame, for the handle, or for the next frame that is due.
    fn wait(&mut self) -> io::Result<()> {
        let due = self.delayed.peek().map(|Reverse(next)| next.due);
        let next = self.held.iter().map(|held| held.until).chain(due).min();
        let timeout =
            next.map(|next| TimeSpec::from_duration(next.saturating_duration_since(Instant::now())));
        let sources = [self.sides[0].as_fd(), self.sides[1].as_fd(), self.wake.as_fd()];
        let mut polled = sources.map(|source| PollFd::new(source, PollFlags::POLLIN));
        match ppoll(&mut polled, timeout, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if polled[2].any() == Some(true) {
            // What matters is that it is emptied, not how many there were.
            let _ = self.wake.read(&mut [0; 64])?;
        }
        Ok(())
    }
}

impl Carried {
    /// Whether `other` came later in the same half, and carries sequence space if this one does.
    fn waits_for(&self, other: &Carried) -> bool {
        let half = |frame: &Carried| frame.tcp.as_ref().map(|tcp| (tcp.source, tcp.destination));
        let space = |frame: &Carried| frame.tcp.as_ref().is_some_and(|tcp| tcp.length() > 0);
        other.index > self.index
            && other.direction == self.direction
            && half(other) == half(self)
            && space(other) >= space(self)
    }
}

impl PartialEq for Delayed {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Delayed {}

impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Delayed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}
