//! A scenario's directory: captures with their labels, laid out as the accuracy benchmark lays them out.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use harness::script::{Timed, pcap};
use serde_json::{Value, json};

use crate::flow::{flows, time};
use crate::label::{Capture, Label, Truth};
use crate::segment::Segment;

/// What is judged in these captures.
const CLASSES: [&str; 8] = [
    "retransmission",
    "spurious_retransmission",
    "out_of_order",
    "net_duplicate",
    "syn_retransmission",
    "rst",
    "zero_window",
    "reused_ports",
];

/// Reads the segments of a capture taken at this place.
pub fn capture(place: char, frames: &[Timed]) -> Capture {
    let numbered = frames.iter().enumerate();
    Capture { place, segments: numbered.filter_map(|(at, frame)| Segment::read(at + 1, frame)).collect() }
}

/// Writes the headers of a capture, and nothing of the payload: who sent how much is in the IP header.
pub fn write_capture(directory: &Path, place: char, frames: &[Timed]) -> io::Result<()> {
    let mut bytes: Vec<u8> = [0xa1b2_3c4d, 4 << 16 | 2, 0, 0, 262_144, 1].map(u32::to_le_bytes).concat();
    for (number, timed) in frames.iter().enumerate() {
        let headers = Segment::read(number, timed).map_or(timed.frame.len(), |segment| segment.headers);
        let (seconds, nanoseconds) = (timed.at / 1_000_000_000, timed.at % 1_000_000_000);
        for word in [seconds, nanoseconds, headers as u64, timed.frame.len() as u64] {
            bytes.extend(u32::try_from(word).map_err(io::Error::other)?.to_le_bytes());
        }
        bytes.extend(&timed.frame[..headers]);
    }
    pack(&directory.join(format!("{place}.pcap.gz")), &bytes)
}

/// Reads the captures of a directory.
pub fn read_captures(directory: &Path) -> io::Result<Vec<Capture>> {
    let mut captures = Vec::new();
    for place in ['c', 'm', 's'] {
        let path = directory.join(format!("{place}.pcap.gz"));
        if path.exists() {
            let unpacked = tempfile::NamedTempFile::new()?;
            fs::write(unpacked.path(), unpack(&path)?)?;
            captures.push(capture(place, &pcap::read(unpacked.path())?));
        }
    }
    Ok(captures)
}

/// The lines of a capture's truth.
pub fn truth(truth: &Truth, capture: &Capture) -> String {
    let labels = truth.label(capture);
    let (numbers, flows) = flows(capture, &labels);
    let mut lines = vec![json!({
        "t": "meta",
        "file": format!("{}.pcap", capture.place),
        "source": "kernel",
        "sparse": false,
        "classes": CLASSES,
    })];
    let packets = capture.segments.iter().zip(&labels).zip(&numbers);
    lines.extend(packets.map(|((segment, label), flow)| packet(segment, label, *flow)));
    lines.extend(flows);
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn packet(segment: &Segment, label: &Label, flow: usize) -> Value {
    let mut line = json!({
        "t": "packet",
        "frame": segment.frame,
        "time_epoch": time(segment.at),
        "src": segment.from.ip(),
        "sport": segment.from.port(),
        "dst": segment.to.ip(),
        "dport": segment.to.port(),
        "flags": segment.flags,
        "seq": segment.seq,
        "ack": segment.ack,
        "len": segment.len,
        "flow": flow,
        "analysis": label.analysis,
    });
    for (name, is_set) in
        [("hidden", label.hidden), ("ambiguous", label.ambiguous), ("injected", label.injected)]
    {
        if is_set {
            line[name] = json!(true);
        }
    }
    line
}

/// Where the truth of a place is.
pub fn truth_path(directory: &Path, place: char) -> PathBuf {
    directory.join(format!("{place}.truth.jsonl.gz"))
}

/// Writes a compressed file, the same bytes for the same content.
pub fn pack(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut packer = GzEncoder::new(fs::File::create(path)?, Compression::best());
    packer.write_all(bytes)?;
    packer.finish()?;
    Ok(())
}

/// Reads a compressed file.
pub fn unpack(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    GzDecoder::new(fs::read(path)?.as_slice()).read_to_end(&mut bytes)?;
    Ok(bytes)
}
