//! Servers, one behaviour each.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::{Conn, DEADLINE, Service, close};
use crate::netns::NetNs;

/// What a server does with every connection. All of them close when the client has closed, unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serve {
    /// Returns every byte.
    Echo,
    /// Takes every byte and answers nothing: also the server that never answers a request.
    Sink,
    /// Sends so many bytes of the pattern, then FIN, then waits for the client's FIN.
    Source(u64),
    /// Answers every `request` bytes with `response` bytes.
    Answer {
        /// How long a request is.
        request: u64,
        /// How long its answer is.
        response: u64,
    },
    /// Reads so many bytes and closes first, with FIN; with 0 as soon as it has accepted.
    CloseFirst(u64),
    /// Reads so many bytes and resets the connection; with 0 as soon as it has accepted.
    Reset(u64),
    /// Has a small receive buffer and reads nothing until [`Server::open_window`]; then everything.
    ZeroWindow,
}

/// A listening server on threads of its own. Dropping it closes the listener and every connection.
pub struct Server {
    service: Service,
    shared: Arc<Shared>,
}

struct Shared {
    serve: Serve,
    state: Mutex<State>,
    window: Condvar,
}

#[derive(Default)]
struct State {
    window_open: bool,
    accepted: u64,
    finished: Vec<io::Result<u64>>,
}

impl Server {
    /// Listens in the namespace; port 0 lets the kernel choose.
    ///
    /// # Panics
    /// When the address cannot be bound.
    #[track_caller]
    pub fn start(namespace: &NetNs, address: impl Into<SocketAddr>, serve: Serve) -> Self {
        let shared = Arc::new(Shared { serve, state: Mutex::default(), window: Condvar::new() });
        let prepare = |listener: &socket2::Socket| match serve {
            // Accepted sockets inherit it; set before listen, so that the window scale fits.
            Serve::ZeroWindow => listener.set_recv_buffer_size(4096),
            _ => Ok(()),
        };
        let service = Service::start(namespace, address, prepare, {
            let shared = shared.clone();
            move |conn| {
                shared.lock().accepted += 1;
                let end = serve_one(conn, &shared);
                shared.lock().finished.push(end);
            }
        });
        Self { service, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.service.address()
    }

    /// How many connections it has accepted.
    pub fn accepted(&self) -> u64 {
        self.shared.lock().accepted
    }

    /// The connections that have ended: bytes received from each, or how it broke. In order of their ends.
    pub fn finished(&self) -> Vec<Result<u64, String>> {
        let state = self.shared.lock();
        state.finished.iter().map(|end| end.as_ref().copied().map_err(ToString::to_string)).collect()
    }

    /// Lets a [`Serve::ZeroWindow`] server begin to read.
    pub fn open_window(&self) {
        self.shared.lock().window_open = true;
        self.shared.window.notify_all();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whoever waits for it must not keep the service from ending.
        self.open_window();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve_one(mut conn: Conn, shared: &Shared) -> io::Result<u64> {
    match shared.serve {
        Serve::Echo => echo_back(&mut conn),
        Serve::Sink => conn.try_receive(u64::MAX),
        Serve::Source(length) => conn.try_send(length).and_then(|()| {
            conn.half_close();
            conn.try_receive(u64::MAX)
        }),
        Serve::Answer { request, response } => answer(&mut conn, request, response),
        Serve::CloseFirst(length) => conn.try_receive(length),
        Serve::Reset(length) => {
            let received = conn.try_receive(length);
            close::reset(&conn.socket)?;
            received
        }
        Serve::ZeroWindow => {
            let state = shared.lock();
            let waited = shared.window.wait_timeout_while(state, 3 * DEADLINE, |state| !state.window_open);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
            conn.try_receive(u64::MAX)
        }
    }
}

fn echo_back(conn: &mut Conn) -> io::Result<u64> {
    let mut buffer = vec![0; 1 << 16];
    let mut count = 0;
    loop {
        match conn.receive_bytes(&mut buffer)? {
            0 => return Ok(count),
            got => {
                conn.send_bytes(&buffer[..got])?;
                count += got as u64;
            }
        }
    }
}

fn answer(conn: &mut Conn, request: u64, response: u64) -> io::Result<u64> {
    let mut count = 0;
    loop {
        match conn.try_receive(request)? {
            got if got == request => conn.try_send(response)?,
            rest => return Ok(count + rest),
        }
        count += request;
    }
}
