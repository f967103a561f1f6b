//! `fivetuple replay`: the same analysis over captures, with the kernel programs' own code.
//!
//! [`file`] reads captures, packet by packet; [`judge`] takes each packet the kernel's way. What comes of it is shown
//! as a report ([`summary`]), as JSON lines ([`lines`], which keep the books of connections in a [`ledger`]), or as the
//! lines of the connection log.

pub mod file;
pub mod judge;
pub mod labels;
pub mod ledger;
pub mod lines;
mod progress;
pub mod summary;

use crate::{
    aggregate::{Names, events},
    cli::{Cli, ReplayArgs, ReplayOutput},
    config::{Source, Watch, file::FileSettings},
    connection::{Clock, Connection, http::Texts},
    connection_log::line::Line,
};
use agent_ebpf::record::Record;
use anyhow::Result;
use clap::{CommandFactory as _, error::ErrorKind};
use file::{Capture, Packet, Problem};
use judge::Judge;
use lines::Lines;
use progress::Progress;
use std::{
    collections::BTreeSet,
    fmt::Display,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};
use summary::Summary;

/// Problems of a capture that are told one by one; a damaged disk can hold millions.
const TOLD: u64 = 20;

/// Bytes that are written at once.
const BUFFER: usize = 1 << 18;

/// Judge the captures and show what was found; false when a part of them could not be read.
pub fn main(args: &ReplayArgs) -> Result<bool> {
    if args.lines.is_some() && args.output != ReplayOutput::Jsonl {
        let text = "--lines chooses among the lines of --output jsonl";
        Cli::command().error(ErrorKind::ArgumentConflict, text).exit();
    }
    let watch = watch(args.config_file.as_deref())?;
    let out = BufWriter::with_capacity(BUFFER, io::stdout().lock());
    match run(args, &watch, out) {
        // Who asked has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(true),
        done => done,
    }
}

/// Judges the captures and writes what was found to `out`.
fn run(args: &ReplayArgs, watch: &Watch, mut out: impl Write) -> Result<bool> {
    let mut replay = Replay { watch, whole: true };
    let points = points(&args.files);
    match args.output {
        ReplayOutput::Summary => {
            let mut summary = Summary::new(watch);
            for (path, point) in args.files.iter().zip(&points) {
                replay.summarise(path, point, &mut summary)?;
            }
            out.write_all(summary.text().as_bytes())?;
        }
        ReplayOutput::Jsonl => {
            let mut lines = Lines::new(&mut out, watch, args.lines);
            for (path, point) in args.files.iter().zip(&points) {
                replay.write_lines(path, point, &mut lines)?;
            }
        }
        ReplayOutput::Connections => {
            for (path, point) in args.files.iter().zip(&points) {
                replay.write_connections(path, point, &mut out)?;
            }
        }
    }
    out.flush()?;
    Ok(replay.whole)
}

struct Replay<'a> {
    watch: &'a Watch,
    /// Nothing was left out so far.
    whole: bool,
}

impl Replay<'_> {
    fn summarise(&mut self, path: &Path, point: &str, summary: &mut Summary<'_>) -> io::Result<()> {
        let point = summary.point(point, path);
        let Some(capture) = self.open(path, |text| point.problem(text)) else { return Ok(()) };
        let mut judge = Judge::new(self.watch);
        let problems = self.each_packet(path, capture, |packet| {
            judge.pass(packet);
            judge.records(|record| point.record(&record));
            Ok(())
        })?;
        problems.into_iter().for_each(|text| point.problem(text));
        point.finish(&mut judge);
        Ok(())
    }

    fn write_lines(&mut self, path: &Path, point: &str, lines: &mut Lines<'_, impl Write>) -> io::Result<()> {
        let Some(capture) = self.open(path, drop) else { return Ok(()) };
        let mut judge = Judge::new(self.watch);
        let mut lines = lines.capture(point);
        self.each_packet(path, capture, |packet| {
            if let Some(judged) = judge.take(packet) {
                lines.packet(packet, &judged)?;
            }
            // The lines say it all.
            judge.records(drop);
            Ok(())
        })?;
        lines.finish()
    }

    /// Writes a line for each connection that ended, as the connection log has it.
    fn write_connections(&mut self, path: &Path, point: &str, mut out: impl Write) -> io::Result<()> {
        let Some(capture) = self.open(path, drop) else { return Ok(()) };
        let mut judge = Judge::new(self.watch);
        let names = Names::of_capture(point, self.watch);
        let mut lines = Vec::new();
        let mut texts = Texts::default();
        let mut write = |record: &Record, lines: &mut Vec<u8>| match record {
            Record::End(end) => {
                let sight = events::sight(end);
                texts.end(&sight);
                let http = texts.of(&sight).cloned();
                let connection = Connection { http, ..Connection::of(&sight, &names, Clock::of_capture()) };
                Line::of(&connection).write(lines);
            }
            Record::Text(text) => texts.take(text),
            Record::Anomaly(_) => {}
        };
        self.each_packet(path, capture, |packet| {
            judge.pass(packet);
            judge.records(|record| write(&record, &mut lines));
            out.write_all(&lines)?;
            lines.clear();
            Ok(())
        })?;
        judge.all_records(|record| write(&record, &mut lines));
        let mut open = 0;
        judge.host().each_open(|_, _, _| open += 1);
        if open > 0 {
            let have = if open == 1 { "connection has" } else { "connections have" };
            eprintln!("fivetuple: {}: {open} {have} not ended, and no line", path.display());
        }
        out.write_all(&lines)
    }

    /// Shows each packet of a capture; what could not be read of it, as far as that is told.
    fn each_packet(
        &mut self,
        path: &Path,
        mut capture: Capture,
        mut show: impl FnMut(&Packet<'_>) -> io::Result<()>,
    ) -> io::Result<Vec<String>> {
        let mut progress = Progress::new(path, capture.size());
        let mut problems = Problems { path, count: 0, told: 0 };
        let mut told = Vec::new();
        while let Some(next) = capture.next() {
            match next {
                Ok(packet) => show(&packet)?,
                Err(problem) => {
                    progress.clear();
                    told.extend(problems.tell(&problem));
                }
            }
            progress.packet(|| capture.position());
        }
        progress.clear();
        told.extend(problems.tell_rest());
        self.whole &= problems.count == 0;
        Ok(told)
    }

    fn open(&mut self, path: &Path, refused: impl FnOnce(String)) -> Option<Capture> {
        match Capture::open(path) {
            Ok(capture) => Some(capture),
            Err(error) => {
                self.whole = false;
                let text = crate::why::text(&error);
                eprintln!("fivetuple: {text}");
                refused(text);
                None
            }
        }
    }
}

/// What could not be read of a capture.
struct Problems<'a> {
    path: &'a Path,
    count: u64,
    told: u64,
}

impl Problems<'_> {
    /// Says it at once, and hands it back for the report. Where the reading ends is told after however many.
    fn tell(&mut self, problem: &Problem) -> Option<String> {
        self.count += 1;
        (self.told < TOLD || problem.ends()).then(|| {
            self.told += 1;
            self.say(problem)
        })
    }

    /// Says how many were not told.
    fn tell_rest(&self) -> Option<String> {
        let rest = self.count - self.told;
        (rest > 0).then(|| self.say(format_args!("{rest} more places could not be read")))
    }

    fn say(&self, what: impl Display) -> String {
        let text = format!("{}: {what}", self.path.display());
        eprintln!("fivetuple: {text}");
        text
    }
}

/// Services and limits. A capture needs no interfaces, so the file's are not asked for.
pub fn watch(config_file: Option<&Path>) -> Result<Watch> {
    let source = Source { file: config_file.map(Path::to_owned), interfaces: Vec::new() };
    let FileSettings { services, limits, .. } = source.settings()?;
    Ok(Watch { services, limits, ..Watch::default() })
}

/// Names of the points: the files' without what says their format; the whole paths where that leaves two alike.
pub fn points(files: &[PathBuf]) -> Vec<String> {
    let short: Vec<String> = files.iter().map(|path| stem(path)).collect();
    let different: BTreeSet<_> = short.iter().collect();
    if different.len() == short.len() {
        return short;
    }
    files.iter().map(|path| path.display().to_string()).collect()
}

fn stem(path: &Path) -> String {
    if path.as_os_str() == "-" {
        return "stdin".to_owned();
    }
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let mut name: &str = &name;
    for format in [".gz", ".zst", ".pcap", ".pcapng", ".cap"] {
        name = name.strip_suffix(format).filter(|rest| !rest.is_empty()).unwrap_or(name);
    }
    name.to_owned()
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    };
    error.chain().any(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_named_like_their_files() {
        let names = |files: &[&str]| points(&files.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(names(&["/a/outside.pcap", "dmz.pcapng.gz", "-"]), ["outside", "dmz", "stdin"]);
        assert_eq!(names(&["/a/x.pcap", "/b/x.pcap"]), ["/a/x.pcap", "/b/x.pcap"]);
        assert_eq!(names(&[".pcap"]), [".pcap"]);
    }
}
