//! Route netlink: ask the kernel for a list and walk through its answer, or hear from it that something changed.

use anyhow::{Context as _, Result, bail};
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
    },
};
use std::os::fd::{AsRawFd as _, OwnedFd};

const HEADER: usize = 16;

/// Ask for a list: `request` is the message behind its header; `visit` gets the body of every answer.
pub fn dump(kind: u16, request: &[u8], mut visit: impl FnMut(&[u8])) -> Result<()> {
    let fd =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)
            .context(
                "no netlink socket (a seccomp filter, or RestrictAddressFamilies= without AF_NETLINK?)",
            )?;
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_DUMP)?;
    let mut message = ((HEADER + request.len()) as u32).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.resize(HEADER, 0);
    message.extend(request);
    send(fd.as_raw_fd(), &message, MsgFlags::empty()).context("the kernel took no request")?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty()).context("the kernel gave no answer")?;
        let mut rest = &buffer[..n];
        while let Some((kind, body, after)) = first(rest) {
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(()),
                libc::NLMSG_ERROR => bail!("the kernel refused the request"),
                _ => visit(body),
            }
            rest = after;
        }
    }
}

/// Hears when interfaces of this network namespace change, or what hangs on them at tc.
pub struct News(OwnedFd);

impl News {
    /// From now on.
    pub fn listen() -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        let groups = [libc::RTNLGRP_LINK, libc::RTNLGRP_TC].map(|group| 1 << (group - 1));
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups[0] | groups[1]))?;
        Ok(Self(fd))
    }

    /// Whether there were any since this was asked last. What they say is not looked at: whoever wants to know how things
    /// stand now asks for that, and so news that were lost because too many came at once do no harm.
    pub fn any(&self) -> bool {
        let (mut buffer, mut any) = ([0; 16 * 1024], false);
        loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(_) | Err(Errno::ENOBUFS) => any = true,
                Err(_) => return any,
            }
        }
    }
}

/// The first message of a buffer: type, body, and what follows.
fn first(buffer: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let len = u32::from_ne_bytes(buffer.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(buffer.get(4..6)?.try_into().ok()?);
    let body = buffer.get(HEADER..len)?;
    Some((kind, body, buffer.get(len.next_multiple_of(4)..).unwrap_or_default()))
}

/// The attributes of a message or of a nest: type and value of each.
pub fn attributes(mut buffer: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    const NESTED: u16 = 1 << 15;
    std::iter::from_fn(move || {
        let len = u16::from_ne_bytes(buffer.get(..2)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(buffer.get(2..4)?.try_into().ok()?) & !NESTED;
        let value = buffer.get(4..len)?;
        buffer = buffer.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_messages_end_the_walk() {
        assert!(first(&[]).is_none());
        assert!(first(&[200, 0, 0, 0, 1, 0, 0, 0]).is_none());
        assert_eq!(attributes(&[8, 0, 3, 0, b'e', b'0', 0, 0, 9, 0, 1]).count(), 1);
        assert_eq!(attributes(&[0, 0, 1, 0]).count(), 0);
    }
}
