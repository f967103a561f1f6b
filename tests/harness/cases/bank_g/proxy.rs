//! A crypto proxy: when a client's connection (leg 1) has brought a request, it opens one to the back end (leg 2)
//! with the client's own address and port, and closes that one actively.
//!
//! Both legs are real, and so is the reset of leg 1 when leg 2 cannot be opened. Emulated is who remembers TIME-WAIT: a
//! table of the proxy's own, as appliances with a stack of their own have. Linux knows no other TIME-WAIT than 60 s,
//! and lets go of it at once for a socket that is bound to the port, where timestamps tell old segments from new
//! ones. So the kernel below the proxy keeps none (`tcp_max_tw_buckets` is 0), and takes no part in the decision.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{BANK, PROXIES, REQUEST_BYTES, RESPONSE_BYTES};
use crate::netns::NetNs;
use crate::tcp::{Conn, Dial, Service};

/// One leg 2 that a proxy wanted to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Which proxy.
    pub proxy: usize,
    /// The client's address and port, as the proxy sees them: leg 2's own.
    pub client: SocketAddrV4,
    /// The time since this proxy closed its last leg 2 of that five-tuple; zero while that one is open, none without
    /// one.
    pub gap: Option<Duration>,
    /// It could not be opened, and leg 1 was reset: a lost payment.
    pub refused: bool,
}

/// A running proxy.
pub(super) struct Proxy {
    book: Arc<Mutex<Book>>,
    _service: Service,
}

struct Book {
    number: usize,
    time_wait: Duration,
    /// Each five-tuple of leg 2, by its client: since when it is closed, or none while it is open.
    legs: HashMap<SocketAddrV4, Option<Instant>>,
    openings: Vec<Opening>,
}

impl Proxy {
    /// Listens at its address in the namespace.
    #[track_caller]
    pub fn start(namespace: &NetNs, number: usize, time_wait: Duration) -> Self {
        let book = Book { number, time_wait, legs: HashMap::new(), openings: Vec::new() };
        let book = Arc::new(Mutex::new(book));
        let service = Service::start(namespace, PROXIES[number], |_| Ok(()), {
            let book = book.clone();
            move |leg1| serve(leg1, &book)
        });
        Self { book, _service: service }
    }

    /// Changes its TIME-WAIT from now on.
    pub fn set_time_wait(&self, time_wait: Duration) {
        lock(&self.book).time_wait = time_wait;
    }

    /// Whether every leg 2 is closed, and longer ago than TIME-WAIT lasts.
    pub fn is_at_rest(&self) -> bool {
        let book = lock(&self.book);
        book.legs.values().all(|closed| closed.is_some_and(|at| at.elapsed() >= book.time_wait))
    }

    /// What it opened and refused since it was asked last.
    pub fn take_openings(&self) -> Vec<Opening> {
        std::mem::take(&mut lock(&self.book).openings)
    }
}

impl Book {
    /// Whether a leg 2 may be opened for this client; it is open then.
    fn open(&mut self, client: SocketAddrV4) -> bool {
        let closed = self.legs.get(&client).copied();
        let gap = closed.map(|closed| closed.map_or(Duration::ZERO, |at| at.elapsed()));
        let refused = gap.is_some_and(|gap| gap < self.time_wait);
        self.openings.push(Opening { proxy: self.number, client, gap, refused });
        if !refused {
            self.legs.insert(client, None);
        }
        !refused
    }
}

fn serve(leg1: Conn, book: &Mutex<Book>) {
    // A client that asks nothing needs no leg 2.
    let Ok(request) = read(&leg1, REQUEST_BYTES) else { return };
    let SocketAddr::V4(client) = leg1.peer() else { unreachable!("it listens on IPv4") };
    if !lock(book).open(client) {
        leg1.reset();
        return;
    }
    let leg2 = Dial::default().transparent().from(client).try_connect_here(BANK);
    let leg2 = leg2.unwrap_or_else(|error| panic!("the kernel refused leg 2 of {client}: {error}"));
    // A client that goes away early ends leg 2 like any other.
    let _ = exchange(&leg1, &leg2, &request);
    leg2.half_close();
    let _ = leg2.receive_bytes(&mut [0; 16]);
    lock(book).legs.insert(client, Some(Instant::now()));
}

/// The request, its answer, and the end of the client's connection by FIN, RST or both.
fn exchange(leg1: &Conn, leg2: &Conn, request: &[u8]) -> io::Result<()> {
    leg2.send_bytes(request)?;
    leg1.send_bytes(&read(leg2, RESPONSE_BYTES)?)?;
    leg1.receive_bytes(&mut [0; 16]).map(drop)
}

fn read(from: &Conn, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).expect("a message is short")];
    let mut filled = 0;
    while filled < bytes.len() {
        match from.receive_bytes(&mut bytes[filled..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            got => filled += got,
        }
    }
    Ok(bytes)
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}
