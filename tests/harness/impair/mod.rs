//! A box in the wire that does to packets exactly what a test says, and keeps the log of it.
//!
//! The kernels these tests run on have no netem, and netem would not say what it did. The box is a namespace with two
//! interfaces and a thread that carries frames from one to the other. A [`Rule`] is asked about every frame; what it
//! answered, and what left the box in which order, is the [`Log`]: tests take their truth from there.
//!
//! ```text
//! // The third data segment that the client sends is lost, once.
//! let world = Gateway::plan().client_side(rules::data(Direction::ToServer, 3, Action::Drop)).build();
//! ```

mod log;
mod packet;
mod relay;
pub mod rules;

use std::collections::VecDeque;
use std::io::{self, PipeWriter, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use log::{Arrival, Departure, Log};
pub use packet::{Packet, TcpFacts, flags};

use crate::netns::NetNs;
use relay::Relay;

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client's side towards the server (left to right).
    ToServer,
    /// From the server's side towards the client (right to left).
    ToClient,
}

impl Direction {
    /// Both, in order.
    pub const BOTH: [Self; 2] = [Self::ToServer, Self::ToClient];

    /// The other way.
    pub fn reversed(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }
}

/// One thing to do about a frame. A rule answers with a list: every entry that sends the frame sends a copy of it, so
/// `[Pass, Delay(d)]` is a late duplicate. An empty list means `[Pass]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send it now.
    Pass,
    /// Do not send it.
    Drop,
    /// Send it now, twice.
    Duplicate,
    /// Send it that much later; equal delays keep the order.
    Delay(Duration),
    /// Send it right after so many later ones of the same half have left (those that carry sequence space, if this one
    /// does), or when the time is up: what is held at the end of a transfer must not be held for ever.
    HoldUntilAfter(u32, Duration),
    /// Send this other frame now, the same way.
    Inject(Vec<u8>),
    /// Send this other frame now, the opposite way.
    InjectBack(Vec<u8>),
}

/// What decides: asked once about every frame, in the order of arrival.
pub struct Rule(Decide);

type Decide = Box<dyn FnMut(&Packet) -> Vec<Action> + Send>;

impl<F: FnMut(&Packet) -> Vec<Action> + Send + 'static> From<F> for Rule {
    fn from(decide: F) -> Self {
        Self(Box::new(decide))
    }
}

impl Rule {
    /// Asks about one frame.
    pub fn decide(&mut self, packet: &Packet) -> Vec<Action> {
        (self.0)(packet)
    }
}

/// A running box. It stops when dropped, and a test whose box lost a frame of its own accord fails there.
pub struct Impair {
    shared: Arc<Shared>,
    stop: PipeWriter,
    thread: Option<JoinHandle<io::Result<()>>>,
    namespace: NetNs,
}

/// What the handle and the thread both touch.
struct Shared {
    rule: Mutex<Rule>,
    log: Mutex<Log>,
    injections: Mutex<VecDeque<(Direction, Vec<u8>)>>,
    stopping: AtomicBool,
    lost: AtomicU64,
}

impl Impair {
    /// Starts the box between two interfaces of a namespace; `left` is the client's side.
    ///
    /// # Panics
    /// When an interface cannot be opened.
    #[track_caller]
    pub fn start(namespace: NetNs, left: &str, right: &str, rule: impl Into<Rule>) -> Self {
        let shared = Arc::new(Shared {
            rule: Mutex::new(rule.into()),
            log: Mutex::default(),
            injections: Mutex::default(),
            stopping: AtomicBool::new(false),
            lost: AtomicU64::new(0),
        });
        let (wake, stop) = io::pipe().expect("a pipe can be made");
        let relay = namespace
            .run(|| Relay::open(left, right, wake, shared.clone()))
            .unwrap_or_else(|error| panic!("cannot open the box's interfaces {left} and {right}: {error}"));
        let thread = thread::Builder::new()
            .name(format!("box {}", namespace.name()))
            .spawn(move || relay.run())
            .expect("a thread can be started");
        Self { shared, stop, thread: Some(thread), namespace }
    }

    /// Replaces the rule from the next frame on.
    pub fn set_rule(&self, rule: impl Into<Rule>) {
        *lock(&self.shared.rule) = rule.into();
    }

    /// Sends a frame of the test's own as if it had come the given way.
    pub fn inject(&self, direction: Direction, frame: Vec<u8>) {
        lock(&self.shared.injections).push_back((direction, frame));
        self.wake();
    }

    /// What has happened so far.
    pub fn log(&self) -> Log {
        lock(&self.shared.log).clone()
    }

    /// Asks something of the log without copying it; for conditions.
    pub fn with_log<T>(&self, ask: impl FnOnce(&Log) -> T) -> T {
        ask(&lock(&self.shared.log))
    }

    /// How many frames the box lost although no rule said so. Anything but 0 makes the test worthless.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// The namespace of the box.
    pub fn namespace(&self) -> &NetNs {
        &self.namespace
    }

    fn wake(&self) {
        // The pipe can only be closed when the thread has ended, and then there is nothing to wake.
        let _ = (&self.stop).write_all(&[1]);
    }
}

impl Drop for Impair {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.wake();
        let ended = self.thread.take().map(JoinHandle::join);
        if thread::panicking() {
            return;
        }
        match ended {
            Some(Err(_)) => panic!("the rule of the box {} panicked", self.namespace.name()),
            Some(Ok(Err(error))) => panic!("the box {} failed: {error}", self.namespace.name()),
            Some(Ok(Ok(()))) | None => {
                assert_eq!(self.lost(), 0, "the box lost frames that no rule told it to")
            }
        }
    }
}

/// A rule that panics must still let the log be read.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
