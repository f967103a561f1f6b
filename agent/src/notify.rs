//! What systemd is told of the daemon: sd_notify(3), one datagram each to the socket that NOTIFY_SOCKET names.
//!
//! Without that variable nobody asked, and nothing is sent.

use crate::sys;
use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    process,
    time::{Duration, Instant},
};
use tracing::warn;

/// How long a datagram may wait for room at the other end: it must not hold up the reader of the ring.
const PATIENCE: Duration = Duration::from_secs(1);

/// Says what the daemon does, in a word for people.
pub fn status(text: &str) {
    tell(&format!("STATUS={text}"));
}

/// The daemon does its work: for the first time, or after a reload.
pub fn ready(status: &str) {
    tell(&format!("READY=1\nSTATUS={status}"));
}

/// The configuration is being read again; [`ready`] ends that. The time lets systemd tell this reload from another.
pub fn reloading() {
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", sys::monotonic().0 / 1000));
}

/// The end has begun.
pub fn stopping() {
    tell("STOPPING=1\nSTATUS=taking the programs off the interfaces");
}

/// Tells the service manager now and then that the work goes on; one that hears nothing for as long as its unit says
/// starts the daemon anew.
#[derive(Debug)]
pub struct Watchdog {
    /// Time between two words, and when the last one was said; none where nobody listens.
    every: Option<(Duration, Option<Instant>)>,
}

impl Watchdog {
    /// As the service manager asked for it.
    pub fn asked_for() -> Self {
        let variable = |name| env::var(name).ok()?.parse::<u64>().ok();
        // Another process may have been meant, whose child this one is.
        let ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(process::id()));
        let limit = variable("WATCHDOG_USEC").filter(|limit| ours && *limit > 0);
        // Half the limit is what sd_watchdog_enabled(3) advises; a busy machine is given another half.
        Self { every: limit.map(|limit| (Duration::from_micros(limit / 4), None)) }
    }

    /// To be called with each step of the work.
    pub fn beat(&mut self) {
        if let Some((every, said)) = &mut self.every
            && said.is_none_or(|at| at.elapsed() >= *every)
        {
            *said = Some(Instant::now());
            tell("WATCHDOG=1");
        }
    }
}

fn tell(state: &str) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&socket, state) {
        warn!(%error, state, "cannot tell the service manager; it may take the agent for dead");
    }
}

/// To a path, or to an abstract name, which begins with @.
fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let from = UnixDatagram::unbound()?;
    from.set_write_timeout(Some(PATIENCE))?;
    from.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(by: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = by.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn a_word_reaches_a_path_and_an_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), "READY=1").unwrap();
        assert_eq!(received(&listener), "READY=1");

        let name = format!("fivetuple-notify-{}", process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        send(OsStr::new(&format!("@{name}")), "STOPPING=1").unwrap();
        assert_eq!(received(&listener), "STOPPING=1");
    }

    #[test]
    fn a_socket_that_is_not_there_is_an_error_and_no_more() {
        assert!(send(OsStr::new("/nonexistent/notify"), "READY=1").is_err());
    }
}
