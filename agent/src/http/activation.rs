//! Sockets that systemd passes (sd_listen_fds(3)): it listens before the agent starts, also on ports below 1024.

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{AddressFamily, SockaddrLike as _, SockaddrStorage, getsockname, getsockopt, sockopt};
use std::{
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    process,
};
use tokio::net::TcpListener;

/// The first descriptor that is passed.
const FIRST: RawFd = 3;

/// The sockets that the environment tells of; at least one. To be called once: they are owned from then on.
pub fn listeners() -> Result<Vec<TcpListener>> {
    let variable = |name| std::env::var(name).ok();
    let count = passed(variable("LISTEN_PID").as_deref(), variable("LISTEN_FDS").as_deref(), process::id())?;
    (FIRST..FIRST + count).map(listener).collect()
}

/// How many are passed to this process.
fn passed(pid: Option<&str>, count: Option<&str>, own: u32) -> Result<RawFd> {
    let remedy = "start the agent from a socket unit, or leave out --web.systemd-socket";
    let (Some(pid), Some(count)) = (pid, count) else {
        bail!("--web.systemd-socket: no socket was passed (LISTEN_FDS is not set); {remedy}");
    };
    if pid.parse() != Ok(own) {
        bail!("--web.systemd-socket: the sockets were passed to process {pid}, and this is {own}; {remedy}");
    }
    match count.parse() {
        Ok(count @ 1..=64) => Ok(count),
        _ => {
            bail!("--web.systemd-socket: LISTEN_FDS={count:?} is no number of sockets from 1 to 64; {remedy}")
        }
    }
}

fn listener(number: RawFd) -> Result<TcpListener> {
    let name = || format!("--web.systemd-socket: descriptor {number}");
    // SAFETY: fcntl with F_GETFD has no preconditions.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        bail!("{} is not open; see ListenStream= in the socket unit", name());
    }
    // SAFETY: it is open, and by sd_listen_fds(3) it is this process's own; nothing else here knows of it.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    let family = getsockname::<SockaddrStorage>(socket.as_raw_fd()).ok().and_then(|address| address.family());
    let listens = getsockopt(&socket.as_fd(), sockopt::AcceptConn).unwrap_or(false);
    if !listens || !matches!(family, Some(AddressFamily::Inet | AddressFamily::Inet6)) {
        bail!(
            "{} is no TCP socket that listens; write ListenStream=PORT and Accept=no in the socket unit",
            name()
        );
    }
    // SAFETY: the descriptor is open, and F_SETFD touches no memory.
    unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    let socket = std::net::TcpListener::from(socket);
    socket.set_nonblocking(true).with_context(name)?;
    TcpListener::from_std(socket).with_context(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_taken_only_where_they_were_meant_for_this_process() {
        assert_eq!(passed(Some("7"), Some("2"), 7).unwrap(), 2);
        for (pid, count, word) in [
            (None, None, "LISTEN_FDS is not set"),
            (Some("7"), None, "LISTEN_FDS is not set"),
            (Some("8"), Some("1"), "passed to process 8"),
            (Some("x"), Some("1"), "passed to process x"),
            (Some("7"), Some("0"), "no number of sockets"),
            (Some("7"), Some("-1"), "no number of sockets"),
            (Some("7"), Some("9999999999999"), "no number of sockets"),
        ] {
            let text = passed(pid, count, 7).unwrap_err().to_string();
            assert!(text.contains(word) && text.contains("leave out --web.systemd-socket"), "{text}");
        }
    }
}
