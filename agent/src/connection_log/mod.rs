//! The connection log: a JSON line for each connection that ended (docs/connection-log.md).
//!
//! [`line`] is the format, [`sample`] decides which of the good ones are kept, [`writer`] writes without ever holding
//! up the thread that reads the ring.

pub mod line;
pub mod sample;
pub mod writer;

use crate::connection::Connection;
use agent_ebpf::traffic::Served;
use anyhow::{Context as _, Result};
use line::Line;
use sample::Rate;
use std::{
    fs::{File, OpenOptions},
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};
use writer::{Counts, Writer};

/// Bytes that are handed to the writer at once.
const CHUNK: usize = 64 << 10;

/// Where the log goes, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The file; `-` is standard output.
    pub path: PathBuf,
    /// Which of the connections that went well have a line; those that failed always have.
    pub sample_good: Rate,
}

/// Lines, by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lines {
    /// Written.
    pub written: u64,
    /// Not meant to be written: connections that went well, beyond the sample.
    pub sampled_out: u64,
    /// Lost: the file could not be written, or not fast enough.
    pub failed: u64,
}

/// A log whose file is open.
#[derive(Debug)]
pub struct Opened {
    settings: Settings,
    file: File,
}

impl Opened {
    /// Opens the file of these settings; nothing where there is to be no log.
    pub fn of(settings: Option<&Settings>) -> Result<Option<Self>> {
        let Some(settings) = settings else { return Ok(None) };
        let file = if settings.path.as_os_str() == "-" {
            std::io::stdout().as_fd().try_clone_to_owned().map(File::from)
        } else {
            // It names peers' addresses: not for everyone. A pipe that nobody reads refuses instead of waiting.
            let mut options = OpenOptions::new();
            options.append(true).create(true).mode(0o640).custom_flags(libc::O_NONBLOCK).open(&settings.path)
        };
        let file = file.with_context(|| {
            let path = settings.path.display();
            format!(
                "cannot write the connection log {path}; make its directory and let this user write there, or change \
                 connection_log.path"
            )
        })?;
        Ok(Some(Self { settings: settings.clone(), file }))
    }
}

/// The log, on or off. What it counted stays when it is turned off and on.
#[derive(Debug, Default)]
pub struct Log {
    counts: Arc<Counts>,
    on: Option<(Rate, Writer)>,
    chunk: Vec<u8>,
    /// Lines in the chunk.
    lines: u64,
}

impl Log {
    /// Goes on in this file, or not at all.
    pub fn turn(&mut self, opened: Option<Opened>) -> Result<()> {
        self.flush();
        self.on = match (opened, self.on.take()) {
            (None, _) => None,
            (Some(Opened { settings, file }), Some((_, writer))) => {
                writer.go_on_in(file, settings.path);
                Some((settings.sample_good, writer))
            }
            (Some(Opened { settings, file }), None) => {
                let writer = Writer::start(file, settings.path, self.counts.clone())?;
                Some((settings.sample_good, writer))
            }
        };
        Ok(())
    }

    /// Whether anybody wants lines.
    pub fn is_on(&self) -> bool {
        self.on.is_some()
    }

    /// Adds the line of a connection that ended.
    pub fn add(&mut self, connection: &Connection) {
        let Some((sample_good, _)) = &self.on else { return };
        let good = matches!(connection.result, Some(Served::Answered | Served::Unused));
        if good && !sample_good.keeps(connection) {
            self.counts.sampled_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        Line::of(connection).write(&mut self.chunk);
        self.lines += 1;
        if self.chunk.len() >= CHUNK {
            self.flush();
        }
    }

    /// Hands what was added to the writer.
    pub fn flush(&mut self) {
        if let Some((_, writer)) = self.on.as_ref().filter(|_| self.lines > 0) {
            writer.write(std::mem::take(&mut self.chunk), std::mem::take(&mut self.lines));
        }
    }

    /// Ends the log: what was added is written, unless that takes too long.
    pub fn finish(&mut self) {
        self.flush();
        if let Some((_, writer)) = self.on.take() {
            writer.finish();
        }
    }

    /// What became of the lines so far.
    pub fn lines(&self) -> Lines {
        let get = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        Lines {
            written: get(&self.counts.written),
            sampled_out: get(&self.counts.sampled_out),
            failed: get(&self.counts.failed),
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
