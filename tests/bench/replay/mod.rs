//! `replay`: what judging a capture costs, beside what others take to read the same file, and beside only reading it.
//!
//! Processor time of one process on one processor, from a file that is in memory already. tshark is given fewer packets
//! of the same kind, as it would take minutes: figures are per packet.

mod file;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::clock::pin;
use crate::figure::Figure;
use crate::options::Options;
use crate::sample::Sample;
use crate::{Found, table};

/// Packets of the file, and of the one that slow readers get.
const PACKETS: [usize; 2] = [1_500_000, 100_000];

/// Who reads.
struct Reader {
    name: &'static str,
    /// Which of the files.
    file: usize,
    command: fn(&Options, &Path) -> Command,
}

fn command(program: impl AsRef<std::ffi::OsStr>, before: &[&str], file: &Path, after: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(before).arg(file).args(after);
    command
}

const READERS: [Reader; 5] = [
    Reader {
        name: "fivetuple replay, report",
        file: 0,
        command: |options, file| command(&options.agent, &["replay"], file, &[]),
    },
    Reader {
        name: "fivetuple replay, lines of flows",
        file: 0,
        command: |options, file| {
            command(&options.agent, &["replay", "--output=jsonl", "--lines=flows"], file, &[])
        },
    },
    Reader {
        name: "libpcap, read and written again (tcpdump)",
        file: 0,
        command: |_, file| command("tcpdump", &["-r"], file, &["-w", "/dev/null"]),
    },
    Reader {
        name: "tshark, TCP analysis",
        file: 1,
        command: |_, file| command("tshark", &["-r"], file, &["-q", "-z", "io,stat,0,tcp.analysis.flags"]),
    },
    Reader { name: "tcptrace", file: 1, command: |_, file| command("tcptrace", &["-l"], file, &[]) },
];

/// Measures everyone who is there.
pub fn run(options: &Options) -> Result<Found> {
    pin(0)?;
    let directory = tempfile::tempdir().context("no temporary directory")?;
    let mut files = Vec::new();
    for packets in PACKETS {
        let path = directory.path().join(format!("{packets}.pcap"));
        let written = file::write(&path, packets)?;
        fs::read(&path)?;
        files.push((path, written));
    }
    let there: Vec<_> = READERS.iter().filter(|reader| is_there(reader, options, &files[0].0)).collect();
    let mut samples = vec![Sample::default(); there.len()];
    for round in 0..=options.rounds() {
        for (reader, sample) in there.iter().zip(&mut samples) {
            let (path, packets) = &files[reader.file];
            let nanos = processor_time(&mut (reader.command)(options, path)).context(reader.name)?;
            // The first round warms up.
            if round > 0 {
                sample.0.push(nanos / *packets as f64);
            }
        }
    }
    let ours = samples[0].clone();
    let mut rows = Vec::new();
    let mut figures = Vec::new();
    for (reader, sample) in there.iter().zip(&samples) {
        let times = sample.ratio(&ours);
        let median = sample.median().unwrap_or_default();
        let (least, most) = sample.spread().unwrap_or_default();
        rows.push(vec![
            reader.name.to_owned(),
            String::new(),
            format!("{median:.1}"),
            format!("{least:.0}..{most:.0}"),
            format!("{:.2}", 1_000.0 / median),
            format!("{:.2}", times.median().unwrap_or_default()),
        ]);
        figures.push(Figure::new(format!("replay/{}", reader.name), "ns/packet", sample, Some(&ours)));
    }
    let head = ["who", "", "ns/packet", "(spread)", "million packets/s", "times ours"];
    Ok(Found { text: table::lines(&head, &rows), figures, files: Vec::new() })
}

/// Whether the program can be started; tcptrace is in few distributions.
fn is_there(reader: &Reader, options: &Options, file: &Path) -> bool {
    let mut command = Command::new((reader.command)(options, file).get_program());
    let started = command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if started.is_err() {
        eprintln!("replay: {} is not installed", reader.name);
    }
    started.is_ok()
}

/// Nanoseconds of user and system together, of a process that stays where this thread does.
fn processor_time(command: &mut Command) -> Result<f64> {
    let used = || -> Result<i64> {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        Ok((usage.user_time() + usage.system_time()).num_nanoseconds())
    };
    let before = used()?;
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    ensure!(status.success(), "ended with {status}");
    Ok((used()? - before) as f64)
}
