//! VLAN tags, in the frame or kept beside it by the carrier, and what follows the last of them.

use super::{
    Frame,
    link::{IPV4, IPV6, Start},
    tunnel,
};
use crate::health::Health;

/// Deepest stack of VLAN tags that is read; deeper ones are counted as [`Health::VlanDepth`].
pub const MAX_VLAN_TAGS: u32 = 4;

/// Which network protocol a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// IPv4, EtherType 0x0800.
    Ipv4,
    /// IPv6, EtherType 0x86dd.
    Ipv6,
}

/// The IP datagram of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Its version.
    pub network: Network,
    /// Where it begins, in bytes from the start of the frame.
    pub offset: u32,
    /// VLAN identifiers as in [`super::Segment::vlans`].
    pub vlans: u32,
}

/// Reads the link layer and up to [`MAX_VLAN_TAGS`] tags (IEEE 802.1Q: 0x8100, 802.1ad: 0x88a8, and 0x9100).
#[inline(always)]
pub fn parse<F: Frame>(frame: &F) -> Result<Datagram, Health> {
    let Start { mut ether_type, mut offset } = frame.link().read(frame)?;
    let mut vlans = 0;
    let mut tags = 0;
    if let Some(tci) = frame.vlan() {
        vlans = (tci & 0xfff) as u32;
        tags = 1;
    }
    // Tags in the frame: one more round than allowed tells "too deep" from "done".
    for _ in 0..=MAX_VLAN_TAGS {
        if ether_type != 0x8100 && ether_type != 0x88a8 && ether_type != 0x9100 {
            break;
        }
        if tags == MAX_VLAN_TAGS {
            return Err(Health::VlanDepth);
        }
        let Some([t0, t1, e0, e1]) = frame.load::<4>(offset) else {
            return Err(Health::Truncated);
        };
        let id = (u16::from_be_bytes([t0, t1]) & 0xfff) as u32;
        match tags {
            0 => vlans = id,
            1 => vlans |= id << 12,
            _ => {}
        }
        tags += 1;
        ether_type = u16::from_be_bytes([e0, e1]);
        offset += 4;
    }
    if frame.tunnels() {
        Start { ether_type, offset } = tunnel::follow(frame, Start { ether_type, offset })?;
    }
    let network = match ether_type {
        IPV4 => Network::Ipv4,
        IPV6 => Network::Ipv6,
        _ => return Err(Health::NotIp),
    };
    Ok(Datagram { network, offset, vlans })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(tags: &[u16], ether_type: u16) -> Vec<u8> {
        let mut f = vec![0; 12];
        for t in tags {
            f.extend([0x81, 0x00]);
            f.extend(t.to_be_bytes());
        }
        f.extend(ether_type.to_be_bytes());
        f
    }

    #[test]
    fn tags_up_to_four_and_no_further() {
        let link = |tags: &[u16]| parse(&frame(tags, 0x0800).as_slice());
        assert_eq!(link(&[]), Ok(Datagram { network: Network::Ipv4, offset: 14, vlans: 0 }));
        assert_eq!(link(&[0xe064]).map(|l| (l.offset, l.vlans)), Ok((18, 100)));
        assert_eq!(link(&[7, 8]).map(|l| (l.offset, l.vlans)), Ok((22, 7 | 8 << 12)));
        assert_eq!(link(&[7, 8, 9, 10]).map(|l| (l.offset, l.vlans)), Ok((30, 7 | 8 << 12)));
        assert_eq!(link(&[1, 2, 3, 4, 5]), Err(Health::VlanDepth));
    }

    #[test]
    fn a_tag_beside_the_frame_is_the_outermost() {
        struct Beside<'a>(&'a [u8]);
        impl Frame for Beside<'_> {
            fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
                self.0.load(offset)
            }
            fn wire_len(&self) -> u32 {
                self.0.wire_len()
            }
            fn vlan(&self) -> Option<u16> {
                Some(0x6007)
            }
        }
        let inner = frame(&[8], 0x0800);
        let in_frame = parse(&frame(&[7, 8], 0x0800).as_slice()).map(|l| l.vlans);
        assert_eq!(parse(&Beside(&inner)).map(|l| l.vlans), in_frame);
        assert_eq!(parse(&Beside(&frame(&[1, 2, 3, 4], 0x0800))), Err(Health::VlanDepth));
    }

    #[test]
    fn refusals_are_named() {
        assert_eq!(parse(&frame(&[], 0x0806).as_slice()), Err(Health::NotIp));
        assert_eq!(parse(&[0u8; 13].as_slice()), Err(Health::Truncated));
        assert_eq!(parse(&frame(&[1], 0x0800)[..16].as_ref()), Err(Health::Truncated));
    }
}
