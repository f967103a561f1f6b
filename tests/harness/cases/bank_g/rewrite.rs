//! Addresses of a frame replaced by others, as a router with NAT does it.

use std::net::SocketAddrV4;

use crate::raw::checksum::{checksum, pseudo_header};

const IP: usize = 14;

/// One end of a translated frame: who it is, and the hardware address on its wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// Address and port.
    pub address: SocketAddrV4,
    /// The hardware address.
    pub mac: [u8; 6],
}

/// The frame, an untagged IPv4 TCP segment, from and to others: one hop further, everything else as it was.
pub(super) fn rewrite(frame: &[u8], from: End, to: End) -> Vec<u8> {
    let mut out = frame.to_vec();
    let length = usize::from(u16::from_be_bytes([out[IP + 2], out[IP + 3]]));
    let tcp = IP + usize::from(out[IP] & 15) * 4;
    // Short frames are padded; the padding is no part of the packet.
    out.truncate(IP + length);
    out[..6].copy_from_slice(&to.mac);
    out[6..12].copy_from_slice(&from.mac);
    out[IP + 8] -= 1;
    out[IP + 12..IP + 16].copy_from_slice(&from.address.ip().octets());
    out[IP + 16..IP + 20].copy_from_slice(&to.address.ip().octets());
    out[tcp..tcp + 2].copy_from_slice(&from.address.port().to_be_bytes());
    out[tcp + 2..tcp + 4].copy_from_slice(&to.address.port().to_be_bytes());
    out[IP + 10..IP + 12].fill(0);
    out[tcp + 16..tcp + 18].fill(0);
    let header = checksum(&[&out[IP..tcp]]);
    let pseudo = pseudo_header((*from.address.ip()).into(), (*to.address.ip()).into(), out.len() - tcp);
    let segment = checksum(&[&pseudo, &out[tcp..]]);
    out[IP + 10..IP + 12].copy_from_slice(&header.to_be_bytes());
    out[tcp + 16..tcp + 18].copy_from_slice(&segment.to_be_bytes());
    out
}
