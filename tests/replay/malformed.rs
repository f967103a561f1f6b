//! Captures that lie about their own lengths, end anywhere, or hold a thousand times what they weigh: each is read as far
//! as it goes, the place is told, and the memory that it takes is bounded.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use fastrand::Rng;
use flate2::Compression;
use flate2::write::GzEncoder;
use harness::agent::binary;
use harness::script::Script;

use crate::replay::{Captures, EXCHANGE};

/// Of memory, in KiB.
const MOST: i64 = 64 << 10;
/// Bytes that a bomb holds.
const BOMB: u32 = (MOST as u32) << 10;

/// How a run ended.
struct Ended {
    code: Option<i32>,
    /// KiB at its largest.
    memory: i64,
    said: String,
}

/// Runs `replay`; how much memory it took only the parent of a process is told, when it has ended.
#[track_caller]
#[expect(clippy::zombie_processes, reason = "wait4 waits for it")]
fn replay(file: &Path) -> Ended {
    let errors = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    let to = File::create(errors.path()).expect("it can be written");
    let mut command = Command::new(binary());
    command.arg("replay").arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(to);
    let child = command.spawn().expect("the program can be started");
    let process = child.id().cast_signed();
    let mut status = 0;
    // SAFETY: all-zero bytes are a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are of variables that outlive the call; the child is ours and was not waited for.
    let waited = unsafe { libc::wait4(process, &raw mut status, 0, &raw mut usage) };
    assert_eq!(waited, process, "{}", io::Error::last_os_error());
    Ended {
        code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
        memory: usage.ru_maxrss,
        said: fs::read_to_string(errors.path()).expect("it is text"),
    }
}

/// It is read as far as it goes, and where that is it is told; how much memory it took.
#[track_caller]
fn bounded(name: &str, file: &Path, told: &str) -> i64 {
    let Ended { code, memory, said } = replay(file);
    assert_eq!(code, Some(1), "{name}: {said}");
    assert!(said.contains(told), "{name}: {told:?} is not in {said}");
    assert!(memory <= MOST, "{name}: {memory} KiB");
    memory
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory can be written")
}

/// A beginning and a bomb, in parts, as both formats allow.
fn bomb(head: &[u8], compress: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let part = compress(&[0; 1 << 20]);
    [compress(head), part.repeat(BOMB as usize >> 20)].concat()
}

#[test]
fn what_lies_about_its_length_takes_no_memory() {
    let captures = Captures::new();
    let pcap = words(&[0xa1b2_3c4d, 4 << 16 | 2, 0, 0, 262_144, 1]);
    let section = words(&[0x0a0d_0d0a, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28]);
    // A block of no known kind that ends four bytes behind the bomb.
    let block = [&section[..], &words(&[0x0bad, BOMB + 12])].concat();
    let end = format!("byte {}: the file ends inside of a block", block.len() + BOMB as usize);
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).expect("memory can be read");
    let cases = [
        ("record.pcap", [&pcap[..], &words(&[0, 0, u32::MAX, u32::MAX])].concat(), "byte 24:"),
        ("block.pcapng", [&section[..], &words(&[6, u32::MAX])].concat(), "byte 28:"),
        ("bomb.pcapng.gz", bomb(&block, gzip), &end),
        ("bomb.pcapng.zst", bomb(&block, zstd), &end),
        ("window.pcap.zst", vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0xb0, 1, 0, 0], "window"),
        ("cut.pcap.gz", gzip(&pcap)[..12].to_vec(), "cut.pcap.gz"),
    ];
    for (name, bytes, told) in cases {
        let weight = bytes.len();
        let memory = bounded(name, &captures.write_bytes(name, &bytes), told);
        println!("{name}: {weight} bytes, {memory} KiB of memory");
    }
}

/// Cut at any byte, changed at any byte.
#[test]
fn a_damaged_capture_takes_no_memory_and_ends_with_its_place() {
    let captures = Captures::new();
    let whole = fs::read(captures.write("whole.pcap", Script::default(), EXCHANGE)).expect("it was written");
    let mut rng = Rng::with_seed(36);
    for round in 0..40 {
        let mut bytes = whole.clone();
        if round % 2 == 0 {
            bytes.truncate(rng.usize(24..whole.len()));
        } else {
            for _ in 0..4 {
                // The file's own header is what makes it a capture.
                bytes[rng.usize(24..whole.len())] = rng.u8(..);
            }
        }
        let Ended { code, memory, said } = replay(&captures.write_bytes("damaged.pcap", &bytes));
        assert!(memory <= MOST, "round {round}: {memory} KiB");
        match code {
            Some(0) => assert!(said.is_empty(), "round {round}: {said}"),
            Some(1) => assert!(said.contains("damaged.pcap: byte "), "round {round}: {said}"),
            other => panic!("round {round} ended with {other:?}: {said}"),
        }
    }
}
