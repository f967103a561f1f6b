//! A raw socket on one interface: whole Ethernet frames in and out, exactly as they were on the wire.
//!
//! The kernel takes the outermost VLAN tag out of a received frame and hands it over beside it; it is put back here.
//! A checksum that was left to the hardware, or a packet that was left for it to cut, travels with the frame as a
//! `virtio_net_hdr`, so a relay passes both on without touching them.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than any super-packet.
const LONGEST: usize = 70_000;
const BUFFER_BYTES: libc::c_int = 128 << 20;
const VIRTIO_HEADER: usize = 10;
const NEEDS_CHECKSUM: u8 = 1;
const MAC_ADDRESSES: usize = 12;
/// How long room for a frame is waited for.
const ROOM: Duration = Duration::from_secs(2);

/// What the hardware was left to do with a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unfinished([u8; VIRTIO_HEADER]);

/// One frame as it was received.
#[derive(Clone, Debug)]
pub struct Received {
    /// The bytes, VLAN tags included.
    pub frame: Vec<u8>,
    /// What to hand on together with them.
    pub unfinished: Unfinished,
}

/// An AF_PACKET socket bound to one interface. It hears what arrives there, not what leaves.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
    buffer: Box<[u8]>,
}

impl PacketSocket {
    /// Opens the interface of that name in the namespace of the calling thread.
    pub fn open(interface: &str) -> io::Result<Self> {
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: socket takes no pointers. Protocol 0 hears nothing until the bind below.
        let raw = unsafe {
            libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0)
        };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just opened and belongs to nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(raw) };
        set_option(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
        set_option(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
        set_option(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
        set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER_BYTES)?;
        set_option(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, BUFFER_BYTES)?;
        // SAFETY: all-zero bytes are a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = nix::net::if_::if_nametoindex(interface)? as i32;
        // SAFETY: the address is a sockaddr_ll of the length given and outlives the call.
        let bound = unsafe {
            libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as u32)
        };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { socket, buffer: vec![0; VIRTIO_HEADER + LONGEST].into_boxed_slice() })
    }

    /// The next frame that has arrived, or none; never waits.
    pub fn receive(&mut self) -> io::Result<Option<Received>> {
        let mut vector =
            libc::iovec { iov_base: self.buffer.as_mut_ptr().cast(), iov_len: self.buffer.len() };
        let mut control = [0_u64; 8];
        // SAFETY: all-zero bytes are a valid msghdr.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: the message points at buffers of the lengths given, all alive during the call.
        let length = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, 0) };
        if length < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        }
        let Some((header, bytes)) = self.buffer[..length as usize].split_at_checked(VIRTIO_HEADER) else {
            return Err(io::Error::other("a packet without its virtio_net_hdr"));
        };
        let mut unfinished = Unfinished::default();
        unfinished.0.copy_from_slice(header);
        let mut frame = bytes.to_vec();
        if let Some((protocol, tag)) = stripped_tag(&message).filter(|_| frame.len() >= MAC_ADDRESSES) {
            let tag = [protocol.to_be_bytes(), tag.to_be_bytes()].concat();
            unfinished.shift(tag.len() as u16);
            frame.splice(MAC_ADDRESSES..MAC_ADDRESSES, tag);
        }
        Ok(Some(Received { frame, unfinished }))
    }

    /// Sends a frame with what was left to do on it, once the next processor's queue has room for it.
    pub fn send(&self, frame: &[u8], unfinished: Unfinished) -> io::Result<()> {
        let parts = [
            libc::iovec { iov_base: unfinished.0.as_ptr().cast_mut().cast(), iov_len: VIRTIO_HEADER },
            libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() },
        ];
        let deadline = Instant::now() + ROOM;
        loop {
            // SAFETY: both parts point at slices of the lengths given; writev only reads them.
            let sent = unsafe { libc::writev(self.socket.as_raw_fd(), parts.as_ptr(), parts.len() as i32) };
            if sent >= 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            // The kernel dropped the frame: the queue to the processor that is to take it is full.
            let full = error.raw_os_error() == Some(libc::ENOBUFS) && Instant::now() < deadline;
            if !full && error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
            thread::yield_now();
        }
    }

    /// How many frames the kernel dropped since the last question because this socket was not read fast enough.
    pub fn missed(&self) -> io::Result<u32> {
        // SAFETY: all-zero bytes are a valid tpacket_stats.
        let mut stats: libc::tpacket_stats = unsafe { mem::zeroed() };
        let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes into `stats`.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut length,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(stats.tp_drops) }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Unfinished {
    /// Moves the place of the checksum behind bytes that were put back in front of it (`csum_start`, in host order).
    fn shift(&mut self, by: u16) {
        if self.0[0] & NEEDS_CHECKSUM != 0 {
            let start = u16::from_ne_bytes([self.0[6], self.0[7]]) + by;
            self.0[6..8].copy_from_slice(&start.to_ne_bytes());
        }
    }
}

/// The VLAN tag that the kernel took out of the frame: its protocol and its value.
fn stripped_tag(message: &libc::msghdr) -> Option<(u16, u16)> {
    // SAFETY: the message was filled by recvmsg, and its control buffer is alive.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null or a header inside the control buffer.
        let (level, kind) = unsafe { ((*header).cmsg_level, (*header).cmsg_type) };
        if level == libc::SOL_PACKET && kind == libc::PACKET_AUXDATA {
            // SAFETY: a control message of this kind carries a tpacket_auxdata.
            let data = unsafe { libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned() };
            let valid = data.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
            let known = data.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
            let protocol = if known { data.tp_vlan_tpid } else { libc::ETH_P_8021Q as u16 };
            return valid.then_some((protocol, data.tp_vlan_tci));
        }
        // SAFETY: as above.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}

fn set_option(socket: &OwnedFd, level: i32, name: i32, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the value is an int of the length given and outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
