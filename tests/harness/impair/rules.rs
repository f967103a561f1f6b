//! Rules that tests often need: one segment by its number, and a network that is bad at random but repeatable.

use std::time::Duration;

use fastrand::Rng;

use super::{Action, Direction, Packet, Rule};

/// How long a held frame is held at most.
const HOLD_LIMIT: Duration = Duration::from_secs(1);

/// Holds a frame until so many later ones have left, at most a second.
pub fn hold(packets: u32) -> Action {
    Action::HoldUntilAfter(packets, HOLD_LIMIT)
}

/// Everything passes.
pub fn clean() -> Rule {
    Rule::from(|_: &Packet| Vec::new())
}

/// Does this to the `nth` data segment of one direction (from 1, re-sent ones count), and nothing to the rest.
pub fn data(direction: Direction, nth: u32, action: Action) -> Rule {
    Rule::from(move |packet: &Packet| {
        if packet.direction == direction && packet.data == nth { vec![action.clone()] } else { Vec::new() }
    })
}

/// The `nth` data segment leaves after the one that follows it.
pub fn swap(direction: Direction, nth: u32) -> Rule {
    data(direction, nth, hold(1))
}

/// The first frame that fits is dealt with this way, and nothing else.
pub fn first(fits: impl Fn(&Packet) -> bool + Send + 'static, action: Action) -> Rule {
    let mut action = Some(action);
    Rule::from(move |packet: &Packet| {
        if action.is_some() && fits(packet) { action.take().into_iter().collect() } else { Vec::new() }
    })
}

/// Everything is this much later in each direction.
pub fn delay(each_way: Duration) -> Rule {
    Rule::from(move |_: &Packet| vec![Action::Delay(each_way)])
}

/// A network that loses, copies and reorders at random. The same seed decides the same about the nth TCP segment of a
/// direction, whatever the other direction does.
#[derive(Clone, Debug)]
pub struct Random {
    seed: u64,
    loss: f64,
    duplication: f64,
    reordering: f64,
    hold: u32,
    hold_limit: Duration,
    delay: [Duration; 2],
    data_only: bool,
}

impl Random {
    /// Nothing happens until told.
    pub fn seeded(seed: u64) -> Self {
        Self {
            seed,
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            hold: 1,
            hold_limit: HOLD_LIMIT,
            delay: [Duration::ZERO; 2],
            data_only: false,
        }
    }

    /// The share of segments that is lost, 0 to 1.
    pub fn loss(mut self, share: f64) -> Self {
        self.loss = share;
        self
    }

    /// The share of segments that arrives twice.
    pub fn duplication(mut self, share: f64) -> Self {
        self.duplication = share;
        self
    }

    /// The share of segments that is held until `packets` later ones have left, or until the time is up.
    pub fn reordering(mut self, share: f64, packets: u32, at_most: Duration) -> Self {
        (self.reordering, self.hold, self.hold_limit) = (share, packets, at_most);
        self
    }

    /// How long every frame takes this way. With a delay a frame is held first and not delayed as well.
    pub fn delay(mut self, direction: Direction, by: Duration) -> Self {
        self.delay[direction as usize] = by;
        self
    }

    /// Only segments with payload are lost, copied or reordered.
    pub fn data_only(mut self) -> Self {
        self.data_only = true;
        self
    }
}

impl From<Random> for Rule {
    fn from(random: Random) -> Self {
        let mut streams = Direction::BOTH
            .map(|direction| Rng::with_seed(random.seed.wrapping_mul(2).wrapping_add(direction as u64)));
        Self::from(move |packet: &Packet| {
            let late = random.delay[packet.direction as usize];
            let pass = if late.is_zero() { Action::Pass } else { Action::Delay(late) };
            if packet.tcp.is_none() || random.data_only && packet.data == 0 {
                return vec![pass];
            }
            // Always three draws, so that one share does not change what another one hits.
            let stream = &mut streams[packet.direction as usize];
            let [lost, copied, held] =
                [random.loss, random.duplication, random.reordering].map(|share| stream.f64() < share);
            match (lost, copied, held) {
                (true, ..) => vec![Action::Drop],
                (_, true, _) => vec![pass.clone(), pass],
                (.., true) => vec![Action::HoldUntilAfter(random.hold, random.hold_limit)],
                _ => vec![pass],
            }
        })
    }
}
