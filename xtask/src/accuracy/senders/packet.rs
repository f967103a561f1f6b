//! One captured TCP packet, changed in place: its IPv4 ID and its timestamps.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

const ETHERNET_HEADER: usize = 14;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const PROTOCOL_TCP: u8 = 6;
const NO_OPERATION: u8 = 1;
const END_OF_OPTIONS: u8 = 0;
const TIMESTAMPS: u8 = 8;
const TIMESTAMPS_LENGTH: usize = 10;
/// What the first host on the way makes of it (RFC 1700): a packet that still has it has passed no router.
const FIRST_HOP_LIMIT: u8 = 64;

/// Where the headers are.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    ip: usize,
    tcp: usize,
    /// Behind the TCP options.
    end: usize,
    is_v4: bool,
}

/// Which packet it is, at whatever place it was captured: its headers without what routers change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity(Vec<u8>);

impl Identity {
    /// A number that says nothing, and is the same for every copy of the packet.
    pub fn random(&self) -> u16 {
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        hasher.finish() as u16
    }
}

impl Layout {
    /// The layout of an Ethernet frame with TCP over IP in it; none if it is anything else or cut short.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let ip = ETHERNET_HEADER;
        let (is_v4, tcp) = match frame.get(12..ip)? {
            [0x08, 0x00] if *frame.get(ip + 9)? == PROTOCOL_TCP => {
                (true, ip + usize::from(frame[ip] & 15) * 4)
            }
            [0x86, 0xdd] if *frame.get(ip + 6)? == PROTOCOL_TCP => (false, ip + IPV6_HEADER),
            _ => return None,
        };
        let end = tcp + usize::from(*frame.get(tcp + 12)? >> 4) * 4;
        (end >= tcp + TCP_HEADER && end <= frame.len()).then_some(Self { ip, tcp, end, is_v4 })
    }

    /// Which packet it is.
    pub fn identity(self, frame: &[u8]) -> Identity {
        let mut headers = frame[self.ip..self.end].to_vec();
        if self.is_v4 {
            headers[8] = 0;
            headers[10..12].fill(0);
        } else {
            headers[7] = 0;
        }
        Identity(headers)
    }

    /// Has no router passed it on yet?
    pub fn is_fresh(self, frame: &[u8]) -> bool {
        frame[self.ip + if self.is_v4 { 8 } else { 7 }] == FIRST_HOP_LIMIT
    }

    /// Its sender's address.
    pub fn source(self, frame: &[u8]) -> &[u8] {
        if self.is_v4 { &frame[self.ip + 12..self.ip + 16] } else { &frame[self.ip + 8..self.ip + 24] }
    }

    /// Gives it another ID; an IPv6 packet has none.
    pub fn set_id(self, frame: &mut [u8], id: u16) {
        if !self.is_v4 {
            return;
        }
        let header = &mut frame[self.ip..self.tcp];
        let before = header.to_vec();
        header[4..6].copy_from_slice(&id.to_be_bytes());
        let checksum = updated([header[10], header[11]], &before, header);
        header[10..12].copy_from_slice(&checksum);
    }

    /// Overwrites the timestamps option, if there is one, by no-operations.
    pub fn remove_timestamps(self, frame: &mut [u8]) {
        let header = &mut frame[self.tcp..self.end];
        let before = header.to_vec();
        let mut at = TCP_HEADER;
        while at < header.len() {
            let length = match header[at] {
                END_OF_OPTIONS => break,
                NO_OPERATION => 1,
                _ => header.get(at + 1).map_or(0, |length| usize::from(*length)),
            };
            if length == 0 || at + length > header.len() {
                break;
            }
            if header[at] == TIMESTAMPS && length == TIMESTAMPS_LENGTH {
                header[at..at + length].fill(NO_OPERATION);
            }
            at += length;
        }
        let checksum = updated([header[16], header[17]], &before, header);
        header[16..18].copy_from_slice(&checksum);
    }
}

/// A checksum after a change of what it covers (RFC 1624, equation 3). Both have a whole number of 16-bit words.
fn updated(checksum: [u8; 2], before: &[u8], after: &[u8]) -> [u8; 2] {
    let words = |bytes: &[u8]| {
        bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect::<Vec<_>>()
    };
    let mut sum = u64::from(!u16::from_be_bytes(checksum));
    for (old, new) in words(before).into_iter().zip(words(after)) {
        sum += u64::from(!old) + u64::from(new);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A SYN-ACK as Linux sent it over IPv4, with correct checksums.
    fn frame() -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00]);
        frame.extend([0x45, 0, 0, 60, 0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0, 80, 0x9c, 0x40, 0, 0, 0, 1, 0, 0, 0, 9, 0xa0, 0x12, 0xfe, 0x88, 0, 0, 0, 0]);
        frame.extend([2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 3, 7]);
        let ip = sum(&frame[14..34]);
        frame[24..26].copy_from_slice(&(!ip).to_be_bytes());
        let tcp = tcp_sum(&frame);
        frame[50..52].copy_from_slice(&(!tcp).to_be_bytes());
        frame
    }

    fn sum(bytes: &[u8]) -> u16 {
        let mut sum: u32 =
            bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    fn tcp_sum(frame: &[u8]) -> u16 {
        let pseudo = [&frame[26..34], &[0, 6, 0, 40], &frame[34..]].concat();
        sum(&pseudo)
    }

    #[test]
    fn checksums_stay_right() {
        let mut frame = frame();
        let layout = Layout::of(&frame).unwrap();
        assert_eq!((sum(&frame[14..34]), tcp_sum(&frame)), (0xffff, 0xffff));
        layout.set_id(&mut frame, 0xbeef);
        layout.remove_timestamps(&mut frame);
        assert_eq!(frame[18..20], [0xbe, 0xef]);
        assert_eq!((sum(&frame[14..34]), tcp_sum(&frame)), (0xffff, 0xffff));
    }

    #[test]
    fn only_timestamps_are_removed() {
        let (before, mut after) = (frame(), frame());
        Layout::of(&before).unwrap().remove_timestamps(&mut after);
        assert_eq!(after[54..74], [2, 4, 5, 0xb4, 4, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 7]);
    }

    #[test]
    fn a_router_does_not_change_which_packet_it_is() {
        let (first, mut routed) = (frame(), frame());
        routed[22] = 63;
        routed[24] ^= 1;
        let layout = Layout::of(&first).unwrap();
        assert_eq!(layout.identity(&first), layout.identity(&routed));
        assert!(layout.is_fresh(&first) && !layout.is_fresh(&routed));
        routed[19] ^= 1;
        assert_ne!(layout.identity(&first), layout.identity(&routed));
    }

    #[test]
    fn other_frames_are_left_alone() {
        let mut udp = frame();
        udp[23] = 17;
        assert!(Layout::of(&udp).is_none());
        assert!(Layout::of(&frame()[..60]).is_none());
    }
}
