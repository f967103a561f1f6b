//! A long capture: the repository's own (`tests/captures/generated`), one after the other, again and again, each time later.

use std::fs::{self, File};
use std::io::{BufWriter, Read as _, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use flate2::read::GzDecoder;
use harness::script::{Timed, pcap};

/// Bytes kept of each packet, as `tcpdump -s 96` does.
const SNAP: usize = 96;
/// Between two captures, beyond any TIME-WAIT: no connection is another one's successor.
const PAUSE: u64 = 100_000_000_000;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
const ETHERNET: u32 = 1;

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
        for Timed { at: time, frame } in capture {
            let time = at + time.saturating_sub(first);
            let kept = &frame[..frame.len().min(SNAP)];
            for word in [
                (time / 1_000_000_000) as u32,
                (time % 1_000_000_000) as u32,
                kept.len() as u32,
                frame.len() as u32,
            ] {
                out.write_all(&word.to_le_bytes())?;
            }
            out.write_all(kept)?;
        }
        written += capture.len();
        at += capture.last().map_or(0, |last| last.at.saturating_sub(first)) + PAUSE;
    }
    out.flush()?;
    Ok(written)
}

fn captures() -> Result<Vec<Vec<Timed>>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures/generated");
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(&root).with_context(|| root.display().to_string())? {
        paths.extend(fs::read_dir(entry?.path())?.filter_map(|file| Some(file.ok()?.path())));
    }
    paths.retain(|path| path.to_string_lossy().ends_with(".pcap.gz"));
    paths.sort();
    let scratch = tempfile::tempdir()?;
    let plain = scratch.path().join("plain.pcap");
    let mut captures = Vec::new();
    for path in &paths {
        let mut bytes = Vec::new();
        GzDecoder::new(File::open(path)?).read_to_end(&mut bytes)?;
        fs::write(&plain, &bytes)?;
        captures.push(pcap::read(&plain).with_context(|| path.display().to_string())?);
    }
    captures.retain(|frames| !frames.is_empty());
    ensure!(!captures.is_empty(), "no capture below {}", root.display());
    Ok(captures)
}
