//! The kernel programs' own log lines, in builds with `probe-log` only.

use super::programs::Programs;
use anyhow::{Context as _, Result, bail};
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use tracing::debug;

/// The programs' lines, on their way to the agent's log.
pub struct Lines(EbpfLogger<Tracing>);

impl Lines {
    /// Takes the lines' ring of programs that were loaded here.
    pub fn take(mut programs: Programs) -> Result<(Programs, Self)> {
        let Programs::Loaded(ebpf) = &mut programs else { bail!("no object is loaded") };
        let lines = EbpfLogger::init_with_logger(ebpf, Tracing);
        let lines = lines.map(Self).context("the programs' log lines cannot be read")?;
        Ok((programs, lines))
    }

    /// Logs what the programs have said since the last time.
    pub fn flush(&mut self) {
        self.0.flush();
    }
}

/// The library speaks through `log`; the agent's log is `tracing`'s.
struct Tracing;

impl Log for Tracing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        debug!(line = %record.args(), "the program says");
    }

    fn flush(&self) {}
}
