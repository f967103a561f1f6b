//! The interfaces of this network namespace, as the kernel's route netlink tells them.
//!
//! Netlink and not /sys/class/net: sysfs shows the namespace it was mounted in, not the one the agent is in.

use crate::netlink::{self, attributes};
use anyhow::{Context as _, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::os::fd::AsRawFd as _;

const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const XDP_ATTACHED_NONE: u8 = 0;
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
    /// The bond, bridge or other device it belongs to, by number.
    pub master: Option<u32>,
    /// The device below it, by number, where that is in this network namespace; of a veth, its peer.
    pub lower: Option<u32>,
    /// The XDP program on it (its id), whoever put it there.
    pub xdp_program: Option<u32>,
}

/// Every interface of this network namespace, in the order of their numbers.
pub fn links() -> Result<Vec<Link>> {
    let mut out = Vec::new();
    netlink::dump(libc::RTM_GETLINK, &[0; IFINFO_SIZE], |body| out.extend(parse_link(body)))
        .context("cannot ask the kernel for its interfaces")?;
    out.sort_by_key(|l| l.index);
    Ok(out)
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
    let (mut lower, mut elsewhere) = (None, false);
    for (kind, value) in attributes(body.get(IFINFO_SIZE..)?) {
        match kind {
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_MTU => link.mtu = word(value)?,
            libc::IFLA_MASTER => link.master = word(value),
            libc::IFLA_LINK => lower = word(value),
            libc::IFLA_LINK_NETNSID => elsewhere = true,
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
    link.lower = lower.filter(|_| !elsewhere);
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
