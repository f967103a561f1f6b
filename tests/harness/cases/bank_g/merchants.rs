//! The merchants: one payment after the other, each from the next port of a small range.

use std::io::{self, ErrorKind};
use std::net::SocketAddrV4;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::balancer::Balancer;
use super::{Options, REQUEST_BYTES, RESPONSE_BYTES, VIP, merchant_address};
use crate::netns::NetNs;
use crate::tcp::{Conn, Dial};

/// The first port of every merchant.
const FIRST_PORT: u16 = 40_000;
/// So many payments in a row are made at one pace.
const SPELL: usize = 8;
/// The paces, in hundredths of the average interval: a rush now and then. In a rush a port comes back after more than
/// half of TIME-WAIT, so that whoever skips one turn has waited long enough.
const PACES: [u32; 5] = [40, 40, 90, 150, 180];

/// One payment and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The merchant's address and port.
    pub client: SocketAddrV4,
    /// The same as the balancer showed them to the proxy.
    pub seen: SocketAddrV4,
    /// The proxy it was given to.
    pub proxy: usize,
    /// The answer came; otherwise the connection was accepted and then reset.
    pub answered: bool,
}

/// All payments of a stage, merchant by merchant.
#[track_caller]
pub(super) fn pay_all(namespace: &NetNs, balancer: &Balancer, options: &Options) -> Vec<Payment> {
    thread::scope(|scope| {
        let merchants: Vec<_> = (0..options.merchants)
            .map(|number| scope.spawn(move || namespace.run(|| merchant(number, balancer, options))))
            .collect();
        merchants
            .into_iter()
            .flat_map(|merchant| {
                merchant.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))
            })
            .collect()
    })
}

fn merchant(number: u8, balancer: &Balancer, options: &Options) -> Vec<Payment> {
    let mut random = Rng::with_seed(options.seed.wrapping_mul(257).wrapping_add(number.into()));
    let mut pace = Duration::ZERO;
    let mut payments = Vec::with_capacity(options.payments);
    for (place, port) in (0..options.payments).zip((0..options.ports).cycle()) {
        if place % SPELL == 0 {
            pace = options.interval * PACES[random.usize(..PACES.len())] / 100;
        }
        let client = SocketAddrV4::new(merchant_address(number), FIRST_PORT + port);
        let began = Instant::now();
        let answered = pay(client)
            .unwrap_or_else(|error| panic!("the payment of {client} ended in a way of its own: {error}"));
        let (seen, proxy) = balancer.translation(client).expect("the balancer remembers its connections");
        payments.push(Payment { client, seen, proxy, answered });
        // From start to start, and never sooner: who has fallen behind on a busy machine does not hurry after it, which would
        // bring ports back that a stage before was too slow for.
        let due = began + pace.mul_f64(0.5 + random.f64());
        // tidy: allow sleep: how soon a port comes back is what the case is about.
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    payments
}

/// Whether the payment was answered, or else reset.
fn pay(client: SocketAddrV4) -> io::Result<bool> {
    match ask(client) {
        Ok(conn) => {
            conn.half_close();
            conn.reset();
            Ok(true)
        }
        // A refused connection is another error: this one was accepted, perhaps a moment before connecting returned.
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => Ok(false),
        Err(error) => Err(error),
    }
}

fn ask(client: SocketAddrV4) -> io::Result<Conn> {
    let mut conn = Dial::default().from(client).try_connect_here(VIP)?;
    conn.try_send(REQUEST_BYTES)?;
    match conn.try_receive(RESPONSE_BYTES)? {
        RESPONSE_BYTES => Ok(conn),
        _ => Err(ErrorKind::UnexpectedEof.into()),
    }
}
