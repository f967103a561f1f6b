//! What every server of these tests has in common: it accepts, and serves each connection on a thread of its own.

use std::collections::HashMap;
use std::io::{self, PipeReader, PipeWriter};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Conn, DEADLINE};
use crate::netns::NetNs;

/// A listener and its connections. Dropping it ends them all.
pub struct Service {
    address: SocketAddr,
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

/// A copy of every open connection, by its number, to end it when the service is dropped.
type Open = Arc<Mutex<HashMap<u64, Socket>>>;

impl Service {
    /// Listens in the namespace, and serves there: what `serve` does happens inside as well. Port 0 lets the kernel
    /// choose; `prepare` sets options of the listener before it is bound.
    ///
    /// # Panics
    /// When the address cannot be bound.
    #[track_caller]
    pub fn start(
        namespace: &NetNs,
        address: impl Into<SocketAddr>,
        prepare: impl FnOnce(&Socket) -> io::Result<()> + Send,
        serve: impl Fn(Conn) + Send + Sync + 'static,
    ) -> Self {
        let address = address.into();
        let listener = namespace
            .run(|| listen(address, prepare))
            .unwrap_or_else(|error| panic!("cannot listen on {address} in {}: {error}", namespace.name()));
        let address =
            listener.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound");
        let (stopped, stop) = io::pipe().expect("a pipe can be made");
        let thread = namespace.run(|| {
            let named = thread::Builder::new().name(format!("server {address}"));
            named.spawn(move || accept_all(&listener, &stopped, &Arc::new(serve)))
        });
        Self { address, stop: Some(stop), thread: Some(thread.expect("a thread can be started")) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop = None;
        if self.thread.take().map(JoinHandle::join).is_some_and(|ended| ended.is_err())
            && !thread::panicking()
        {
            panic!("the server on {} panicked", self.address);
        }
    }
}

fn listen(address: SocketAddr, prepare: impl FnOnce(&Socket) -> io::Result<()>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    prepare(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Accepts until the handle closes its end of the pipe; then ends all connections, and waits for their threads.
fn accept_all(listener: &Socket, stopped: &PipeReader, serve: &Arc<impl Fn(Conn) + Send + Sync + 'static>) {
    let open = Open::default();
    let mut connections = Vec::new();
    for number in 0.. {
        let Some(socket) = accept(listener, stopped) else { break };
        lock(&open).insert(number, socket.try_clone().expect("a socket can be copied"));
        let (serve, open) = (serve.clone(), open.clone());
        connections.push(thread::spawn(move || {
            let made = socket.set_nonblocking(false).and_then(|()| Conn::over(socket, DEADLINE));
            serve(made.expect("an accepted socket takes its options"));
            lock(&open).remove(&number);
        }));
    }
    // Not by closing alone: a child of another test may hold a copy of the listener for a moment.
    let _ = listener.shutdown(Shutdown::Both);
    for socket in lock(&open).values() {
        // One that the client has already reset cannot be shut down, and need not.
        let _ = socket.shutdown(Shutdown::Both);
    }
    for connection in connections {
        connection.join().expect("serving a connection does not panic");
    }
}

/// The next connection, or none when it is time to stop.
fn accept(listener: &Socket, stopped: &PipeReader) -> Option<Socket> {
    loop {
        let mut polled =
            [listener.as_fd(), stopped.as_fd()].map(|source| PollFd::new(source, PollFlags::POLLIN));
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => panic!("cannot wait for connections: {error}"),
        }
        if polled[1].any() == Some(true) {
            return None;
        }
        // A connection that was reset while it waited in the queue is gone; nothing to serve.
        if let Ok((socket, _)) = listener.accept() {
            return Some(socket);
        }
    }
}

fn lock(open: &Open) -> std::sync::MutexGuard<'_, HashMap<u64, Socket>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}
