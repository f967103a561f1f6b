//! How a frame begins: one row per link layer, each read down to an EtherType.
//!
//! The kernel's programs see Ethernet and nothing else, and the compiler leaves the rest out of them. Captures have all
//! of it; their numbers are in <https://www.tcpdump.org/linktypes.html>.

use super::Frame;
use crate::health::Health;

/// IPv4.
pub const IPV4: u16 = 0x0800;
/// IPv6.
pub const IPV6: u16 = 0x86dd;
/// MPLS (RFC 3032).
pub const MPLS: u16 = 0x8847;

/// The longest header in front of an 802.11 frame that is believed.
const MAX_PREFIX: u32 = 1_024;

/// What stands before the network layer: its EtherType, and where it begins in bytes from the start of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The EtherType of what follows.
    pub ether_type: u16,
    /// Where that begins.
    pub offset: u32,
}

macro_rules! links {
    ($( $variant:ident = [$($number:literal),+], $name:literal, $read:path; )+) => {
        /// A link layer.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Link {
            $( #[doc = $name] $variant, )+
        }

        impl Link {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The link layer with this number in a capture file (`LINKTYPE_`, and the `DLT_` numbers that systems
            /// wrote before there was one list).
            pub const fn of(number: u32) -> Option<Self> {
                match number {
                    $( $($number)|+ => Some(Self::$variant), )+
                    _ => None,
                }
            }

            /// Its numbers in capture files; the first is the one to write.
            pub const fn numbers(self) -> &'static [u32] {
                match self { $(Self::$variant => &[$($number),+]),+ }
            }

            /// What it is called.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// Reads it.
            #[inline(always)]
            pub(super) fn read<F: Frame>(self, frame: &F) -> Result<Start, Health> {
                match self { $(Self::$variant => $read(frame)),+ }
            }
        }
    };
}

links! {
    Ethernet = [1], "Ethernet", ethernet;
    LinuxSll = [113], "Linux cooked, version 1", sll;
    LinuxSll2 = [276], "Linux cooked, version 2", sll2;
    // 12 and 14 are what BSDs and OpenBSD call raw IP; 228 and 229 are of one version each, which the packet says, too.
    Raw = [101, 12, 14, 228, 229], "raw IP", raw;
    // A family as a number of the host that captured (NULL), or in network order (LOOP).
    Null = [0, 108], "BSD loopback", null;
    Ppp = [9], "PPP", ppp;
    PppSerial = [50], "PPP in HDLC-like framing", serial;
    CiscoHdlc = [104], "Cisco HDLC", cisco_hdlc;
    PppoeSession = [51], "PPPoE", pppoe;
    Fddi = [10], "FDDI", fddi;
    Ieee80211 = [105], "802.11", ieee80211;
    Radiotap = [127], "802.11 with a radiotap header", radiotap;
    Prism = [119], "802.11 with a Prism header", prism;
}

#[inline(always)]
pub(super) fn load<const N: usize, F: Frame>(frame: &F, offset: u32) -> Result<[u8; N], Health> {
    match frame.load(offset) {
        Some(b) => Ok(b),
        None => Err(Health::Truncated),
    }
}

#[inline(always)]
pub(super) fn be16<F: Frame>(frame: &F, offset: u32) -> Result<u16, Health> {
    Ok(u16::from_be_bytes(load(frame, offset)?))
}

/// Two addresses, then the EtherType.
#[inline(always)]
fn ethernet<F: Frame>(frame: &F) -> Result<Start, Health> {
    Ok(Start { ether_type: be16(frame, 12)?, offset: 14 })
}

/// Sixteen bytes, of which the last two are the EtherType.
fn sll<F: Frame>(frame: &F) -> Result<Start, Health> {
    Ok(Start { ether_type: be16(frame, 14)?, offset: 16 })
}

/// Twenty bytes that begin with the EtherType.
fn sll2<F: Frame>(frame: &F) -> Result<Start, Health> {
    Ok(Start { ether_type: be16(frame, 0)?, offset: 20 })
}

/// Nothing: the packet says its version itself.
fn raw<F: Frame>(frame: &F) -> Result<Start, Health> {
    let [first] = load(frame, 0)?;
    match first >> 4 {
        4 => Ok(Start { ether_type: IPV4, offset: 0 }),
        6 => Ok(Start { ether_type: IPV6, offset: 0 }),
        _ => Err(Health::BadIpHeader),
    }
}

/// The family as a number of four bytes, in an order that only the capturing host knew: AF_INET is 2 everywhere,
/// AF_INET6 24 (NetBSD, OpenBSD), 28 (FreeBSD), 30 (macOS) or 10 (Linux).
fn null<F: Frame>(frame: &F) -> Result<Start, Health> {
    let family: [u8; 4] = load(frame, 0)?;
    let family = match family {
        [n, 0, 0, 0] | [0, 0, 0, n] => n,
        _ => return Err(Health::NotIp),
    };
    match family {
        2 => Ok(Start { ether_type: IPV4, offset: 4 }),
        10 | 24 | 28 | 30 => Ok(Start { ether_type: IPV6, offset: 4 }),
        _ => Err(Health::NotIp),
    }
}

/// A PPP protocol number (RFC 1661, 2) at `offset`; an odd first byte is all of it (6.5).
pub(super) fn ppp_protocol<F: Frame>(frame: &F, offset: u32) -> Result<Start, Health> {
    let [first] = load(frame, offset)?;
    let (protocol, len) = if first & 1 == 1 { (first as u16, 1) } else { (be16(frame, offset)?, 2) };
    let ether_type = match protocol {
        0x0021 => IPV4,
        0x0057 => IPV6,
        0x0281 => MPLS,
        _ => return Err(Health::NotIp),
    };
    Ok(Start { ether_type, offset: offset + len })
}

/// PPP, with its address and control bytes (RFC 1662, 3.1) or without.
fn ppp<F: Frame>(frame: &F) -> Result<Start, Health> {
    let framed = load(frame, 0)? == [0xff, 0x03];
    ppp_protocol(frame, if framed { 2 } else { 0 })
}

/// PPP or Cisco's own, which the address byte tells apart (RFC 1547, 4.3.1).
fn serial<F: Frame>(frame: &F) -> Result<Start, Health> {
    match load(frame, 0)? {
        [0x0f | 0x8f] => cisco_hdlc(frame),
        _ => ppp(frame),
    }
}

/// Address and control, then the EtherType (RFC 1547, 4.3.1).
fn cisco_hdlc<F: Frame>(frame: &F) -> Result<Start, Health> {
    Ok(Start { ether_type: be16(frame, 2)?, offset: 4 })
}

/// The six bytes of a session's header (RFC 2516, 4), then PPP.
fn pppoe<F: Frame>(frame: &F) -> Result<Start, Health> {
    ppp_protocol(frame, 6)
}

/// Frame control and two addresses, then a SNAP header.
fn fddi<F: Frame>(frame: &F) -> Result<Start, Health> {
    snap(frame, 13)
}

/// A SNAP header (RFC 1042), whose last two bytes are the EtherType.
fn snap<F: Frame>(frame: &F, offset: u32) -> Result<Start, Health> {
    match load(frame, offset)? {
        [0xaa, 0xaa, 0x03, 0, 0, 0 | 0xf8, hi, lo] => {
            Ok(Start { ether_type: u16::from_be_bytes([hi, lo]), offset: offset + 8 })
        }
        _ => Err(Health::NotIp),
    }
}

fn ieee80211<F: Frame>(frame: &F) -> Result<Start, Health> {
    wireless(frame, 0)
}

/// A header of the length that its bytes 2 and 3 say, little-endian.
fn radiotap<F: Frame>(frame: &F) -> Result<Start, Health> {
    let [_, _, lo, hi] = load(frame, 0)?;
    wireless(frame, u16::from_le_bytes([lo, hi]) as u32)
}

/// A header of 144 bytes.
fn prism<F: Frame>(frame: &F) -> Result<Start, Health> {
    wireless(frame, 144)
}

/// An 802.11 data frame (IEEE 802.11, 9.3.2.1) that is whole, not encrypted, and of one packet.
fn wireless<F: Frame>(frame: &F, offset: u32) -> Result<Start, Health> {
    if offset > MAX_PREFIX {
        return Err(Health::NotIp);
    }
    let [control, flags] = load(frame, offset)?;
    let [fragment] = load(frame, offset + 22)?;
    let (data, empty, protected) = (control & 0x0f == 0x08, control & 0x40 != 0, flags & 0x40 != 0);
    if !data || empty || protected {
        return Err(Health::NotIp);
    }
    if flags & 0x04 != 0 || fragment & 0x0f != 0 {
        return Err(Health::Fragment);
    }
    let mut end = offset + 24;
    // From one access point to another: a fourth address.
    if flags & 0x03 == 0x03 {
        end += 6;
    }
    // Quality of service, and behind it HT control where the order flag says so.
    if control & 0x80 != 0 {
        let [qos] = load(frame, end)?;
        if qos & 0x80 != 0 {
            return Err(Health::NotIp);
        }
        end += if flags & 0x80 != 0 { 6 } else { 2 };
    }
    snap(frame, end)
}
