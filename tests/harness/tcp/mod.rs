//! Real TCP connections that behave well or badly on purpose.
//!
//! A socket stays in the namespace in which it was made, so a [`Conn`] can be used from the test's own thread. Every
//! operation has a deadline: a connection that hangs fails the test with a sentence and does not hang the run.

mod close;
mod info;
mod server;
mod service;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

pub use info::TcpInfo;
pub use server::{Serve, Server};
pub use service::Service;

use crate::netns::NetNs;

/// How long an operation on a socket may take, unless told otherwise.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The byte that belongs at this place of a stream. Neighbours differ and it does not repeat within a window, so a
/// byte at the wrong place is noticed.
pub fn pattern(place: u64) -> u8 {
    let mixed = place.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8
}

/// `length` bytes of the pattern, beginning at this place of the stream.
pub fn pattern_bytes(from: u64, length: usize) -> Vec<u8> {
    (from..).take(length).map(pattern).collect()
}

/// How a client's connection is made.
#[derive(Clone, Debug, Default)]
pub struct Dial {
    from: Option<SocketAddr>,
    keepalive: Option<TcpKeepalive>,
    receive_buffer: Option<usize>,
    mss: Option<u32>,
    deadline: Option<Duration>,
    transparent: bool,
}

impl Dial {
    /// The address and port to connect from, with SO_REUSEADDR; port 0 lets the kernel choose.
    pub fn from(mut self, address: impl Into<SocketAddr>) -> Self {
        self.from = Some(address.into());
        self
    }

    /// Sends keepalives: the first after `idle`, the next ones every `interval`; whole seconds, `probes` at most.
    pub fn keepalive(mut self, idle: Duration, interval: Duration, probes: u32) -> Self {
        self.keepalive =
            Some(TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes));
        self
    }

    /// The size of the receive buffer (the kernel doubles it), and so of the window.
    pub fn receive_buffer(mut self, bytes: usize) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// The largest segment to offer and to send.
    pub fn mss(mut self, bytes: u32) -> Self {
        self.mss = Some(bytes);
        self
    }

    /// How long connecting and every later operation may take.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Lets [`Dial::from`] name an address that is somebody else's (IP_TRANSPARENT), as transparent proxies do.
    pub fn transparent(mut self) -> Self {
        self.transparent = true;
        self
    }

    /// Connects from inside the namespace.
    pub fn try_connect(&self, namespace: &NetNs, to: impl Into<SocketAddr>) -> io::Result<Conn> {
        let to = to.into();
        self.connect_over(namespace.run(|| stream(to))?, to)
    }

    /// Connects from inside the namespace of the calling thread.
    pub fn try_connect_here(&self, to: impl Into<SocketAddr>) -> io::Result<Conn> {
        let to = to.into();
        self.connect_over(stream(to)?, to)
    }

    fn connect_over(&self, socket: Socket, to: SocketAddr) -> io::Result<Conn> {
        let deadline = self.deadline.unwrap_or(DEADLINE);
        socket.set_reuse_address(true)?;
        if self.transparent {
            socket.set_ip_transparent_v4(true)?;
        }
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.mss {
            socket.set_tcp_mss(bytes)?;
        }
        if let Some(keepalive) = &self.keepalive {
            socket.set_tcp_keepalive(keepalive)?;
        }
        if let Some(from) = self.from {
            socket.bind(&from.into())?;
        }
        socket.connect_timeout(&to.into(), deadline)?;
        Conn::over(socket, deadline)
    }

    /// Connects from inside the namespace.
    ///
    /// # Panics
    /// When the connection is not made within the deadline.
    #[track_caller]
    pub fn connect(&self, namespace: &NetNs, to: impl Into<SocketAddr>) -> Conn {
        let to = to.into();
        self.try_connect(namespace, to)
            .unwrap_or_else(|error| panic!("cannot connect from {} to {to}: {error}", namespace.name()))
    }
}

fn stream(to: SocketAddr) -> io::Result<Socket> {
    Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))
}

/// Connects with nothing special about it.
#[track_caller]
pub fn connect(namespace: &NetNs, to: impl Into<SocketAddr>) -> Conn {
    Dial::default().connect(namespace, to)
}

/// One end of a connection. Dropping it closes it in the ordinary way.
#[derive(Debug)]
pub struct Conn {
    socket: Socket,
    sent: u64,
    received: u64,
}

impl Conn {
    fn over(socket: Socket, deadline: Duration) -> io::Result<Self> {
        socket.set_tcp_nodelay(true)?;
        socket.set_read_timeout(Some(deadline))?;
        socket.set_write_timeout(Some(deadline))?;
        Ok(Self { socket, sent: 0, received: 0 })
    }

    /// Sends the next `length` bytes of the pattern.
    pub fn try_send(&mut self, length: u64) -> io::Result<()> {
        send_pattern(&self.socket, &mut self.sent, length)
    }

    /// Sends the next `length` bytes of the pattern; returns when the kernel has taken them.
    ///
    /// # Panics
    /// When the deadline passes or the connection breaks.
    #[track_caller]
    pub fn send(&mut self, length: u64) {
        if let Err(error) = self.try_send(length) {
            panic!("cannot send {length} bytes, stopped at {} of the stream: {error}", self.sent);
        }
    }

    /// Receives up to `length` bytes (`u64::MAX`: to the end), checks each against the pattern, says how many came.
    pub fn try_receive(&mut self, length: u64) -> io::Result<u64> {
        let mut buffer = vec![0; 1 << 16];
        let mut count = 0;
        while count < length {
            let most = usize::try_from((length - count).min(1 << 16)).expect("at most 64 KiB");
            let got = (&self.socket).read(&mut buffer[..most])?;
            if got == 0 {
                break;
            }
            if let Some(wrong) =
                (0..got).find(|&place| buffer[place] != pattern(self.received + place as u64))
            {
                let place = self.received + wrong as u64;
                return Err(io::Error::other(format!("byte {place} of the stream is not what was sent")));
            }
            self.received += got as u64;
            count += got as u64;
        }
        Ok(count)
    }

    /// Receives exactly `length` bytes and checks each against the pattern.
    ///
    /// # Panics
    /// When fewer come before the end or the deadline, or a byte is wrong.
    #[track_caller]
    pub fn receive(&mut self, length: u64) {
        match self.try_receive(length) {
            Ok(count) => assert_eq!(count, length, "the stream ended early"),
            Err(error) => {
                panic!("cannot receive {length} bytes, stopped at {} of the stream: {error}", self.received)
            }
        }
    }

    /// Waits for the other side's FIN; what comes before it is checked and counted.
    ///
    /// # Panics
    /// When the connection breaks or the deadline passes.
    #[track_caller]
    pub fn receive_to_end(&mut self) -> u64 {
        self.try_receive(u64::MAX).unwrap_or_else(|error| panic!("waited for the end of the stream: {error}"))
    }

    /// Waits for the other side's RST.
    ///
    /// # Panics
    /// When the stream ends in another way.
    #[track_caller]
    pub fn expect_reset(&mut self) {
        match self.try_receive(u64::MAX) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            other => panic!("expected a reset, got {other:?}"),
        }
    }

    /// Sends these bytes, which are not the pattern.
    pub fn send_bytes(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.socket).write_all(bytes)
    }

    /// Receives what is there, at least one byte unless the stream has ended, unchecked.
    pub fn receive_bytes(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.socket).read(buffer)
    }

    /// Sends FIN and goes on receiving.
    #[track_caller]
    pub fn half_close(&self) {
        self.socket.shutdown(Shutdown::Write).expect("an open connection can be half closed");
    }

    /// Closes at once with RST, as SO_LINGER 0 does.
    #[track_caller]
    pub fn reset(self) {
        close::reset(&self.socket).unwrap_or_else(|error| panic!("cannot reset the connection: {error}"));
    }

    /// Closes in the ordinary way.
    pub fn close(self) {}

    /// What the kernel knows about the connection.
    #[track_caller]
    pub fn info(&self) -> TcpInfo {
        info::read(&self.socket).unwrap_or_else(|error| panic!("cannot read TCP_INFO: {error}"))
    }

    /// This end.
    #[track_caller]
    pub fn local(&self) -> SocketAddr {
        self.socket
            .local_addr()
            .ok()
            .and_then(|address| address.as_socket())
            .expect("a connection has two ends")
    }

    /// The other end.
    #[track_caller]
    pub fn peer(&self) -> SocketAddr {
        self.socket
            .peer_addr()
            .ok()
            .and_then(|address| address.as_socket())
            .expect("a connection has two ends")
    }

    /// The socket, for options that have no word here.
    pub fn socket(&self) -> SockRef<'_> {
        SockRef::from(&self.socket)
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        close::close(&self.socket);
    }
}

/// Sends `length` bytes through the connection to an echoing server, and checks each that comes back.
///
/// # Panics
/// When a byte is missing or wrong.
#[track_caller]
pub fn echo(conn: &mut Conn, length: u64) {
    let socket = conn.socket.try_clone().expect("a socket can be copied");
    let mut sent = conn.sent;
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || send_pattern(&socket, &mut sent, length));
        conn.receive(length);
        sending
            .join()
            .expect("sending does not panic")
            .unwrap_or_else(|error| panic!("cannot send: {error}"));
    });
    conn.sent += length;
}

fn send_pattern(mut socket: &Socket, sent: &mut u64, length: u64) -> io::Result<()> {
    let end = *sent + length;
    while *sent < end {
        let most = usize::try_from((end - *sent).min(1 << 16)).expect("at most 64 KiB");
        let chunk = pattern_bytes(*sent, most);
        socket.write_all(&chunk)?;
        *sent += chunk.len() as u64;
    }
    Ok(())
}
