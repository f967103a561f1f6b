//! Short connections at a pace, of this host's own kernel: made, asked, answered, and closed by the client.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use harness::Gateway;
use harness::topology::SERVER;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Bytes that are asked, and answered.
pub const ASKED: usize = 100;
/// How long one step of a connection may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long nobody has to come before a server looks whether it is over, milliseconds.
const LOOK: u8 = 200;

/// Ends the traffic, also where something fails.
pub struct Stops<'a>(pub &'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One client and one server at a port of its own: so many connections a second, one after the other, until `stop`; each
/// that came to its end is counted in `made`.
pub fn keep_connecting(
    world: &Gateway,
    port: u16,
    per_second: u32,
    stop: &AtomicBool,
    made: &AtomicU64,
) -> Result<()> {
    let listener = world.server.run(|| TcpListener::bind((SERVER.v4, port))).context("cannot listen")?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let server = scope.spawn(|| serve(&listener, &over));
        let asked = world.client.run(|| {
            let _over = Stops(&over);
            connect((SERVER.v4, port).into(), per_second, stop, made)
        });
        server.join().expect("a server that does not panic").context("the server")?;
        asked.context("the client")
    })
}

fn serve(listener: &TcpListener, over: &AtomicBool) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut asked = [0; ASKED];
    loop {
        match listener.accept() {
            Ok((mut conn, _)) => {
                conn.set_nonblocking(false)?;
                conn.set_read_timeout(Some(PATIENCE))?;
                conn.read_exact(&mut asked)?;
                conn.write_all(&asked)?;
                while conn.read(&mut asked)? > 0 {}
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if over.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let mut polled = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
                // An interruption only means to look again.
                let _ = poll(&mut polled, PollTimeout::from(LOOK));
            }
            Err(error) => return Err(error),
        }
    }
}

fn connect(to: SocketAddr, per_second: u32, stop: &AtomicBool, made: &AtomicU64) -> io::Result<()> {
    let (began, mut answer) = (Instant::now(), [0; ASKED]);
    for number in 0.. {
        let at = began + Duration::from_secs(1) * number / per_second;
        while !stop.load(Ordering::Relaxed) && Instant::now() < at {
            thread::park_timeout(at - Instant::now());
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut conn = TcpStream::connect_timeout(&to, PATIENCE)?;
        conn.set_read_timeout(Some(PATIENCE))?;
        conn.write_all(&[7; ASKED])?;
        conn.read_exact(&mut answer)?;
        conn.shutdown(Shutdown::Write)?;
        // The server's FIN: both ends are through.
        while conn.read(&mut answer)? > 0 {}
        made.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
