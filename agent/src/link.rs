//! The interfaces of this network namespace, as the kernel's route netlink tells them.
//!
//! Netlink and not /sys/class/net: sysfs shows the namespace it was mounted in, not the one the agent is in.

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use std::os::fd::{AsRawFd as _, OwnedFd};

const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const XDP_ATTACHED_NONE: u8 = 0;
const NLMSG_HEADER: usize = 16;
const IFINFO_SIZE: usize = 16;

/// One interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number, which a new interface of the same name does not inherit.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is up, as the administrator set it.
    pub up: bool,
    /// Whether it is a loopback.
    pub loopback: bool,
    /// Largest packet it sends, in bytes, without the link header.
    pub mtu: u32,
    /// What virtual device it is: `veth`, `bridge`, `tun` ...; none for hardware and loopback.
    pub kind: Option<String>,
    /// The XDP program on it (its id), whoever put it there.
    pub xdp_program: Option<u32>,
}

/// Every interface of this network namespace, in the order of their numbers.
pub fn links() -> Result<Vec<Link>> {
    let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)
        .context("cannot ask the kernel for its interfaces: no netlink socket (a seccomp filter or RestrictAddressFamilies without AF_NETLINK?)")?;
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_DUMP)?;
    let mut request = Vec::with_capacity(NLMSG_HEADER + IFINFO_SIZE);
    request.extend(((NLMSG_HEADER + IFINFO_SIZE) as u32).to_ne_bytes());
    request.extend(libc::RTM_GETLINK.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    request.resize(NLMSG_HEADER + IFINFO_SIZE, 0);
    send(fd.as_raw_fd(), &request, MsgFlags::empty()).context("cannot ask the kernel for its interfaces")?;
    let mut out = Vec::new();
    while receive(&fd, &mut out)? {}
    out.sort_by_key(|l| l.index);
    Ok(out)
}

/// Read one datagram of the answer; false at its end.
fn receive(fd: &OwnedFd, out: &mut Vec<Link>) -> Result<bool> {
    let mut buffer = vec![0; 64 * 1024];
    let n =
        recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty()).context("cannot read the list of interfaces")?;
    let mut rest = &buffer[..n];
    while let Some((kind, body, after)) = message(rest) {
        match i32::from(kind) {
            libc::NLMSG_DONE => return Ok(false),
            libc::NLMSG_ERROR => bail!("the kernel refused to list its interfaces"),
            _ => out.extend(parse_link(body)),
        }
        rest = after;
    }
    Ok(true)
}

/// The first message of a buffer: type, body, and what follows.
fn message(buffer: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let len = u32::from_ne_bytes(buffer.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(buffer.get(4..6)?.try_into().ok()?);
    let body = buffer.get(NLMSG_HEADER..len)?;
    Some((kind, body, buffer.get(len.next_multiple_of(4)..).unwrap_or_default()))
}

/// The attributes of a message or of a nest: type and value of each.
fn attributes(mut buffer: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    const NESTED: u16 = 1 << 15;
    std::iter::from_fn(move || {
        let len = u16::from_ne_bytes(buffer.get(..2)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(buffer.get(2..4)?.try_into().ok()?) & !NESTED;
        let value = buffer.get(4..len)?;
        buffer = buffer.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn parse_link(body: &[u8]) -> Option<Link> {
    let word = |b: &[u8]| Some(u32::from_ne_bytes(b.get(..4)?.try_into().ok()?));
    let text =
        |b: &[u8]| String::from_utf8_lossy(b.split(|c| *c == 0).next().unwrap_or_default()).into_owned();
    let flags = word(body.get(8..)?)?;
    let is = |flag: i32| flags & flag as u32 != 0;
    let mut link = Link {
        index: word(body.get(4..)?)?,
        up: is(libc::IFF_UP),
        loopback: is(libc::IFF_LOOPBACK),
        ..Link::default()
    };
    for (kind, value) in attributes(body.get(IFINFO_SIZE..)?) {
        match kind {
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_MTU => link.mtu = word(value)?,
            libc::IFLA_LINKINFO => {
                link.kind = attributes(value).find(|(k, _)| *k == libc::IFLA_INFO_KIND).map(|(_, v)| text(v));
            }
            libc::IFLA_XDP => {
                let attached = attributes(value).any(|(k, v)| {
                    k == IFLA_XDP_ATTACHED && v.first().is_some_and(|m| *m != XDP_ATTACHED_NONE)
                });
                let program =
                    attributes(value).find(|(k, _)| *k == IFLA_XDP_PROG_ID).and_then(|(_, v)| word(v));
                link.xdp_program = if attached { Some(program.unwrap_or(0)) } else { None };
            }
            _ => {}
        }
    }
    Some(link)
}

/// The driver behind an interface, as ethtool names it; none where it has no name.
pub fn driver(interface: &str) -> Option<String> {
    #[repr(C)]
    struct DriverInfo {
        command: u32,
        driver: [u8; 32],
        rest: [u8; 160],
    }
    const ETHTOOL_GDRVINFO: u32 = 3;
    let fd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).ok()?;
    let mut info = DriverInfo { command: ETHTOOL_GDRVINFO, driver: [0; 32], rest: [0; 160] };
    // SAFETY: ifreq is plain data, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut info).cast();
    const SIOCETHTOOL: libc::Ioctl = 0x8946;
    // SAFETY: the request is a whole ifreq whose data points at a struct ethtool_drvinfo (196 bytes) that
    // outlives the call.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    let name = info.driver.split(|c| *c == 0).next().unwrap_or_default();
    (done == 0 && !name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_always_there() {
        let links = links().unwrap();
        let lo = links.iter().find(|l| l.name == "lo").unwrap();
        assert!(lo.loopback && lo.index > 0 && lo.mtu > 0 && lo.kind.is_none());
    }

    #[test]
    fn cut_messages_end_the_walk() {
        assert!(message(&[]).is_none());
        assert!(message(&[200, 0, 0, 0, 1, 0, 0, 0]).is_none());
        assert_eq!(attributes(&[8, 0, 3, 0, b'e', b'0', 0, 0, 9, 0, 1]).count(), 1);
        assert_eq!(attributes(&[0, 0, 1, 0]).count(), 0);
        assert!(parse_link(&[0; 7]).is_none());
    }

    #[test]
    fn a_program_on_the_xdp_hook_is_seen() {
        let attribute = |kind: u16, value: &[u8]| {
            let mut out = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
            out.extend(kind.to_ne_bytes());
            out.extend(value);
            out.resize(out.len().next_multiple_of(4), 0);
            out
        };
        let nest =
            [attribute(IFLA_XDP_ATTACHED, &[1]), attribute(IFLA_XDP_PROG_ID, &7u32.to_ne_bytes())].concat();
        let kind = attribute(libc::IFLA_INFO_KIND, b"veth\0");
        let mut body = vec![0; IFINFO_SIZE];
        body.extend(attribute(libc::IFLA_IFNAME, b"v0\0"));
        body.extend(attribute(libc::IFLA_LINKINFO, &kind));
        body.extend(attribute(libc::IFLA_XDP | 1 << 15, &nest));
        let link = parse_link(&body).unwrap();
        assert_eq!(
            (link.name.as_str(), link.kind.as_deref(), link.xdp_program),
            ("v0", Some("veth"), Some(7))
        );
    }
}
