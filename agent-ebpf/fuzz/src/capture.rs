//! Any bytes as a capture file, read and judged as `fivetuple replay` does it, for its report and its lines at once.

use agent::{
    config::Watch,
    replay::{
        file::{Capture, Fault, Packet, Problem},
        judge::Judge,
        lines::Lines,
        summary::Summary,
    },
};
use agent_ebpf::health::{Health, Kind};
use flate2::bufread::MultiGzDecoder;
use std::{
    io::{self, Cursor},
    path::Path,
};

/// Packets and problems of an input that are looked at: compressed, a few bytes are as many of them as one likes.
const MOST: usize = 2_000;
/// Decompressed bytes that are counted, and how many at once.
const COUNTED: u64 = 512 << 10;
const CHUNK: usize = 64;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// The shortest record with a packet in it, a simple packet block or pcap's header; and the shortest block.
const PACKET: u64 = 16;
const BLOCK: u64 = 12;

/// Where in a capture the reading is, by what came of it.
#[derive(Default)]
struct Place {
    /// Packets, and the number of the last one.
    packets: u64,
    number: u64,
    /// Problems since, each of them a packet's or not.
    problems: u64,
    /// Packets of a link type that is not read may stand anywhere from now on.
    unread: bool,
    /// Bytes that must have been in the stream.
    bytes: u64,
    /// Where the last problem was.
    offset: u64,
}

impl Place {
    fn packet(&mut self, packet: &Packet<'_>) {
        let least = self.number + 1;
        let most = if self.unread { u64::MAX } else { least + self.problems };
        assert!((least..=most).contains(&packet.number), "{} not in {least}..={most}", packet.number);
        assert!(packet.bytes.len() as u64 <= packet.wire_len.into(), "{packet:?}");
        self.packets += 1;
        (self.number, self.problems) = (packet.number, 0);
        self.bytes += PACKET + packet.bytes.len() as u64;
    }

    fn problem(&mut self, problem: &Problem) {
        assert!(problem.offset >= self.offset, "{problem}: the one before was at {}", self.offset);
        self.offset = problem.offset;
        self.problems += 1;
        self.unread |= matches!(problem.fault, Fault::LinkType { .. });
        self.bytes += if problem.ends() { 0 } else { BLOCK };
    }
}

/// Reads and judges it.
///
/// # Panics
/// When a packet or a problem cannot be where it is said to be, or one is lost on its way to the judge.
pub fn check(data: &[u8]) {
    let Ok(mut capture) = Capture::of(Cursor::new(data.to_vec())) else { return };
    let watch = Watch::default();
    let mut judge = Judge::new(&watch);
    let mut summary = Summary::new(&watch);
    let point = summary.point("any", Path::new("any"));
    let mut lines = Lines::new(io::sink(), &watch, None);
    let mut lines = lines.capture("any");
    let (mut place, mut judged, mut over) = (Place::default(), 0, false);
    let mut left = (!compressed(data)).then_some(data);
    for _ in 0..MOST {
        match capture.next() {
            Some(Ok(packet)) => {
                assert!(!over, "a packet after the end");
                place.packet(&packet);
                left = left.map(|left| behind(left, packet.bytes));
                if let Some(said) = judge.take(&packet) {
                    judged += 1;
                    lines.packet(&packet, &said).expect("a sink takes all");
                }
                judge.records(|record| point.record(&record));
            }
            Some(Err(problem)) => {
                assert!(!over, "{problem}: after the end");
                place.problem(&problem);
                over = problem.ends();
                point.problem(problem.to_string());
            }
            None => {
                assert!(capture.next().is_none(), "the end is the end");
                break;
            }
        }
        assert!(capture.position() <= data.len() as u64, "{} read of {}", capture.position(), data.len());
    }
    if let Some(length) = length(data) {
        assert!(place.offset <= length, "a problem at {} of {length} bytes", place.offset);
        assert!(place.bytes <= length, "{} bytes read from {length}", place.bytes);
    }
    lines.finish().expect("a sink takes all");
    point.finish(&mut judge);
    let health = judge.health();
    let skipped = Health::ALL.iter().filter(|h| h.kind() == Kind::Skipped).map(|h| health[*h as usize]);
    assert_eq!(health[Health::Seen as usize], place.packets, "seen");
    assert_eq!(health[Health::Counted as usize], judged, "counted");
    assert_eq!(judged + skipped.sum::<u64>(), place.packets, "counted and skipped");
    assert!(summary.text().contains("any"));
}

fn compressed(data: &[u8]) -> bool {
    data.starts_with(GZIP) || data.starts_with(ZSTD)
}

/// What of a file is behind the first place where it has these bytes: packets stand in it one after the other.
fn behind<'a>(file: &'a [u8], bytes: &[u8]) -> &'a [u8] {
    let place = (0..=file.len()).find(|at| file[*at..].starts_with(bytes));
    let place = place.unwrap_or_else(|| panic!("a packet that is not in the file: {bytes:02x?}"));
    &file[place + bytes.len()..]
}

/// Bytes of the stream that is in an input, at most a chunk too many; none if they are more than are counted.
fn length(data: &[u8]) -> Option<u64> {
    if !compressed(data) {
        return Some(data.len() as u64);
    }
    let mut stream: Box<dyn io::Read + '_> = if data.starts_with(GZIP) {
        Box::new(MultiGzDecoder::new(data))
    } else {
        Box::new(zstd::Decoder::with_buffer(data).expect("there is memory for a context"))
    };
    let mut length = 0;
    while length < COUNTED {
        match stream.read(&mut [0; CHUNK]) {
            Ok(0) => return Some(length),
            Ok(n) => length += n as u64,
            // An error takes away what was decompressed along with it.
            Err(_) => return Some(length + CHUNK as u64),
        }
    }
    None
}
