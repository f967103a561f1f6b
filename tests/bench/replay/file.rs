//! A long capture: the repository's own (`tests/captures/generated`), one after the other, again and again, each time later.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use agent::replay::file::Capture;
use anyhow::{Context as _, Result, ensure};

/// Bytes kept of each packet, as `tcpdump -s 96` does.
const SNAP: usize = 96;
/// Between two captures, beyond any TIME-WAIT: no connection is another one's successor.
const PAUSE: u64 = 100_000_000_000;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
const ETHERNET: u32 = 1;

/// A packet: when, how long on the wire, and what is kept of it.
struct Packet {
    at: u64,
    wire_len: u32,
    kept: Vec<u8>,
}

/// Writes so many packets at least; how many it were.
pub fn write(path: &Path, packets: usize) -> Result<usize> {
    let captures = captures()?;
    let mut out = BufWriter::new(File::create(path)?);
    for word in [NANOSECONDS, 4 << 16 | 2, 0, 0, SNAP as u32, ETHERNET] {
        out.write_all(&word.to_le_bytes())?;
    }
    let (mut written, mut at) = (0, 1_000_000_000_000_000_000);
    for capture in captures.iter().cycle() {
        if written >= packets {
            break;
        }
        let first = capture[0].at;
        for packet in capture {
            let time = at + packet.at.saturating_sub(first);
            let (seconds, nanos) = ((time / 1_000_000_000) as u32, (time % 1_000_000_000) as u32);
            for word in [seconds, nanos, packet.kept.len() as u32, packet.wire_len] {
                out.write_all(&word.to_le_bytes())?;
            }
            out.write_all(&packet.kept)?;
        }
        written += capture.len();
        at += capture.last().map_or(0, |last| last.at.saturating_sub(first)) + PAUSE;
    }
    out.flush()?;
    Ok(written)
}

fn captures() -> Result<Vec<Vec<Packet>>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures/generated");
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(&root).with_context(|| root.display().to_string())? {
        paths.extend(fs::read_dir(entry?.path())?.filter_map(|file| Some(file.ok()?.path())));
    }
    paths.retain(|path| path.to_string_lossy().ends_with(".pcap.gz"));
    paths.sort();
    let mut captures = paths.iter().map(|path| packets(path)).collect::<Result<Vec<_>>>()?;
    captures.retain(|packets| !packets.is_empty());
    ensure!(!captures.is_empty(), "no capture below {}", root.display());
    Ok(captures)
}

fn packets(path: &Path) -> Result<Vec<Packet>> {
    let mut capture = Capture::open(path)?;
    let mut packets = Vec::new();
    while let Some(packet) = capture.next() {
        let packet = packet.map_err(|problem| anyhow::anyhow!("{}: {problem}", path.display()))?;
        let kept = packet.bytes[..packet.bytes.len().min(SNAP)].to_vec();
        packets.push(Packet { at: packet.at.0, wire_len: packet.wire_len, kept });
    }
    Ok(packets)
}
