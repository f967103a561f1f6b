//! What real kernels sent: a capture through both sides.

use agent_ebpf::wire::Segment;

use super::packet::{Hook, Packet};
use super::rig::{Knowledge, Rig, agree};
use crate::impair::flags;
use crate::script::Timed;

/// Payload of a segment that `BPF_PROG_TEST_RUN` takes for tc in one piece: a page, less headers and what the kernel
/// needs for itself.
const PIECE: usize = 2_800;

/// The frames of a capture, made on the interface with this hardware address, at its hooks: what it sent leaves.
/// Super-packets, which are longer than such a run takes, come as the segments they stand for.
pub fn packets(frames: Vec<Timed>, mac: [u8; 6]) -> Vec<Packet> {
    let packets = frames.into_iter().flat_map(|Timed { at, frame }| {
        let long = frame.len() > PIECE;
        let parted = long && untagged_tcp(&frame);
        let hook = match frame.get(6..12) == Some(&mac) {
            // Less than headers is nothing to tc here, and more than a page too much.
            _ if frame.len() < 14 + 40 || (long && !parted) => Hook::Xdp,
            true => Hook::TcOut,
            false => Hook::TcIn,
        };
        let pieces = if parted { segments(&frame) } else { vec![frame] };
        pieces.into_iter().map(move |bytes| Packet { at, hook, gso: (0, 0), bytes })
    });
    packets.collect()
}

fn untagged_tcp(frame: &[u8]) -> bool {
    let mut s = Segment::blank();
    // Without options or extension headers before the TCP header of IPv6.
    s.read(&frame).is_ok() && s.vlans == 0 && (!s.v6 || frame[14 + 6] == 6)
}

/// An untagged super-packet in pieces, as segmentation on the way out makes them (`tcp_gso_segment`, `inet_gso_segment`);
/// checksums are left alone.
fn segments(frame: &[u8]) -> Vec<Vec<u8>> {
    let ip = 14;
    let v6 = frame[ip] >> 4 == 6;
    let tcp = ip + if v6 { 40 } else { usize::from(frame[ip] & 15) * 4 };
    let data = tcp + usize::from(frame[tcp + 12] >> 4) * 4;
    let number = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().expect("four bytes"));
    let pieces = frame[data..].chunks(PIECE - data).enumerate();
    let last = (frame.len() - data).div_ceil(PIECE - data) - 1;
    let built = pieces.map(|(place, payload)| {
        let mut piece = [&frame[..data], payload].concat();
        let mut put = |at: usize, n: usize| piece[at..at + 2].copy_from_slice(&(n as u16).to_be_bytes());
        if v6 {
            put(ip + 4, data - ip - 40 + payload.len());
        } else {
            put(ip + 2, data - ip + payload.len());
            put(ip + 4, (number(ip + 4) >> 16) as usize + place);
        }
        let seq = number(tcp + 4).wrapping_add((place * (PIECE - data)) as u32);
        piece[tcp + 4..tcp + 8].copy_from_slice(&seq.to_be_bytes());
        if place < last {
            piece[tcp + 13] &= !(flags::FIN | flags::PSH);
        }
        piece
    });
    built.collect()
}

/// Both sides on a capture.
#[track_caller]
pub fn capture_agrees(frames: Vec<Timed>, mac: [u8; 6]) -> Knowledge {
    agree(&mut Rig::get(), &packets(frames, mac), || "a capture".to_owned())
}
