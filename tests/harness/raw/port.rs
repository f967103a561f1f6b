//! An interface of a namespace as a plug for frames.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::impair::TcpFacts;
use crate::netns::NetNs;
use crate::packet_socket::{PacketSocket, Unfinished};

/// Sends whole frames out of an interface, and hears what arrives there.
#[derive(Debug)]
pub struct RawPort {
    socket: PacketSocket,
    interface: String,
}

impl RawPort {
    /// Opens an interface that is up.
    ///
    /// # Panics
    /// When there is none of that name.
    #[track_caller]
    pub fn open(namespace: &NetNs, interface: &str) -> Self {
        let socket = namespace
            .run(|| PacketSocket::open(interface))
            .unwrap_or_else(|error| panic!("cannot open {interface} in {}: {error}", namespace.name()));
        Self { socket, interface: interface.to_owned() }
    }

    /// Sends one frame.
    #[track_caller]
    pub fn send(&self, frame: &[u8]) {
        if let Err(error) = self.socket.send(frame, Unfinished::default()) {
            panic!("cannot send {} bytes out of {}: {error}", frame.len(), self.interface);
        }
    }

    /// The next frame that has arrived and fits, or none within the deadline; others are thrown away.
    pub fn receive(&mut self, deadline: Duration, mut fits: impl FnMut(&[u8]) -> bool) -> Option<Vec<u8>> {
        let until = Instant::now() + deadline;
        loop {
            while let Some(received) = self.socket.receive().expect("an open interface can be read") {
                if fits(&received.frame) {
                    return Some(received.frame);
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            let milliseconds = u16::try_from(left.as_millis()).unwrap_or(u16::MAX).max(1);
            // An interruption only means to look again.
            let _ = poll(&mut polled, PollTimeout::from(milliseconds));
        }
    }

    /// The next TCP segment that fits.
    ///
    /// # Panics
    /// When none comes within the deadline.
    #[track_caller]
    pub fn receive_tcp(
        &mut self,
        deadline: Duration,
        what: &str,
        mut fits: impl FnMut(&TcpFacts) -> bool,
    ) -> TcpFacts {
        let frame = self.receive(deadline, |frame| TcpFacts::parse(frame).is_some_and(|tcp| fits(&tcp)));
        let Some(frame) = frame else {
            panic!("no {what} arrived on {} within {:.1} s", self.interface, deadline.as_secs_f64())
        };
        TcpFacts::parse(&frame).expect("it was parsed a moment ago")
    }
}
