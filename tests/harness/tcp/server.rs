//! Servers, one behaviour each.

use std::io::{self, PipeReader};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Conn, DEADLINE, close};
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
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<io::PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    serve: Serve,
    state: Mutex<State>,
    window: Condvar,
}

#[derive(Default)]
struct State {
    /// A copy of every open connection, by its number, to end it when the server is dropped.
    open: Vec<(u64, Socket)>,
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
        let address = address.into();
        let listener = namespace
            .run(|| listen(address, serve))
            .unwrap_or_else(|error| panic!("cannot listen on {address} in {}: {error}", namespace.name()));
        let address =
            listener.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound");
        let shared = Arc::new(Shared { serve, state: Mutex::default(), window: Condvar::new() });
        let (stopped, stop) = io::pipe().expect("a pipe can be made");
        let thread = thread::Builder::new()
            .name(format!("server {address}"))
            .spawn({
                let shared = shared.clone();
                move || accept_all(&listener, &stopped, &shared)
            })
            .expect("a thread can be started");
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
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
        self.stop = None;
        self.open_window();
        for (_, socket) in self.shared.lock().open.drain(..) {
            // One that the client has already reset cannot be shut down, and need not.
            let _ = socket.shutdown(Shutdown::Both);
        }
        if self.thread.take().map(JoinHandle::join).is_some_and(|ended| ended.is_err())
            && !thread::panicking()
        {
            panic!("the server on {} panicked", self.address);
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listen(address: SocketAddr, serve: Serve) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if serve == Serve::ZeroWindow {
        // Accepted sockets inherit it; set before listen, so that the window scale fits.
        socket.set_recv_buffer_size(4096)?;
    }
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Accepts until the handle closes its end of the pipe; then waits for the threads of all connections.
fn accept_all(listener: &Socket, stopped: &PipeReader, shared: &Arc<Shared>) {
    let mut connections = Vec::new();
    loop {
        let mut polled =
            [listener.as_fd(), stopped.as_fd()].map(|source| PollFd::new(source, PollFlags::POLLIN));
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => panic!("cannot wait for connections: {error}"),
        }
        if polled[1].any() == Some(true) {
            break;
        }
        // A connection that was reset while it waited in the queue is gone; nothing to serve.
        let Ok((socket, _)) = listener.accept() else { continue };
        let clone = socket.try_clone().expect("a socket can be copied");
        let mut state = shared.lock();
        state.accepted += 1;
        let number = state.accepted;
        state.open.push((number, clone));
        drop(state);
        let shared = shared.clone();
        connections.push(thread::spawn(move || {
            let end = serve_one(number, socket, &shared);
            shared.lock().finished.push(end);
        }));
    }
    // Not by closing alone: a child of another test may hold a copy of the listener for a moment.
    let _ = listener.shutdown(Shutdown::Both);
    for (_, socket) in shared.lock().open.drain(..) {
        let _ = socket.shutdown(Shutdown::Both);
    }
    for connection in connections {
        connection.join().expect("serving a connection does not panic");
    }
}

fn serve_one(number: u64, socket: Socket, shared: &Shared) -> io::Result<u64> {
    socket.set_nonblocking(false)?;
    let mut conn = Conn::over(socket, DEADLINE)?;
    // The copy in `open` would keep the connection open after its end.
    let forget = || shared.lock().open.retain(|(open, _)| *open != number);
    let received = match shared.serve {
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
            forget();
            close::reset(&conn.socket)?;
            return received;
        }
        Serve::ZeroWindow => {
            let state = shared.lock();
            let waited = shared.window.wait_timeout_while(state, 3 * DEADLINE, |state| !state.window_open);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
            conn.try_receive(u64::MAX)
        }
    };
    forget();
    received
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
