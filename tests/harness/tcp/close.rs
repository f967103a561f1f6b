//! Ending a connection at this very moment.
//!
//! A socket is closed when its last copy is. While another test starts a program, its child holds copies of every
//! descriptor of this process between fork and exec, and a plain close would take effect only then: milliseconds late,
//! and behind whatever the test does next. So FIN and RST are sent explicitly, and closing only frees the descriptor.

use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::AsRawFd;

use socket2::Socket;

/// What close(2) does on the wire: FIN, or RST when there is something that nobody has read (RFC 2525, 2.17).
pub(super) fn close(socket: &Socket) {
    let unread = socket.recv_with_flags(&mut [MaybeUninit::uninit()], libc::MSG_PEEK | libc::MSG_DONTWAIT);
    // A connection that has ended already needs no end; both say so by an error.
    let _ = if unread.is_ok_and(|bytes| bytes > 0) { reset(socket) } else { socket.shutdown(Shutdown::Both) };
}

/// What close(2) does under SO_LINGER 0: RST, unless both sides have closed already.
pub(super) fn reset(socket: &Socket) -> io::Result<()> {
    let nobody = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };
    // SAFETY: the address is a sockaddr of the length given and outlives the call. Connecting to no address is how Linux
    // disconnects, by the same function that close calls under SO_LINGER 0.
    let result = unsafe {
        libc::connect(socket.as_raw_fd(), &raw const nobody, size_of::<libc::sockaddr>() as libc::socklen_t)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
