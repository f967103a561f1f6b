//! tcpdump on one interface, from the moment it listens until it is told to stop.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::eventually::eventually;
use crate::netns::NetNs;
use crate::script::{Timed, pcap};

/// A running capture; killed when dropped without [`Capture::stop`].
pub struct Capture {
    child: Child,
    stderr: BufReader<ChildStderr>,
    file: PathBuf,
    _directory: tempfile::TempDir,
}

impl Capture {
    /// Starts tcpdump and returns once it listens; `filter` may be empty.
    ///
    /// # Panics
    /// When tcpdump is missing or refuses.
    #[track_caller]
    pub fn start(namespace: &NetNs, interface: &str, filter: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let file = directory.path().join("capture.pcap");
        let mut child = namespace
            .cmd("tcpdump")
            .args([
                "-Z",
                "root",
                "-n",
                "-U",
                "--immediate-mode",
                "-B",
                "65536",
                "--time-stamp-precision=nano",
            ])
            .args(["-i", interface, "-w"])
            .arg(&file)
            .args(filter.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start tcpdump: {error}"));
        let mut stderr = BufReader::new(child.stderr.take().expect("the pipe was asked for"));
        let mut said = String::new();
        while !said.contains("listening on") {
            let more = stderr.read_line(&mut said).unwrap_or(0);
            assert!(more > 0, "tcpdump ended before it listened: {said}");
        }
        Self { child, stderr, file, _directory: directory }
    }

    /// The file, while the capture lives.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Waits until the file holds at least so many packets.
    #[track_caller]
    pub fn eventually_packets(&self, packets: usize, deadline: Duration) {
        eventually(deadline, &format!("{packets} packets in the capture"), || {
            let now = pcap::read(&self.file).map_or(0, |frames| frames.len());
            if now >= packets { Ok(()) } else { Err(format!("{now} so far")) }
        });
    }

    /// Stops tcpdump in the ordinary way and returns what it captured.
    ///
    /// # Panics
    /// When the kernel dropped packets before tcpdump saw them.
    #[track_caller]
    pub fn stop(mut self) -> Vec<Timed> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT).expect("tcpdump is still running");
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).expect("tcpdump writes text");
        self.child.wait().expect("tcpdump is our child");
        assert!(said.contains("\n0 packets dropped by kernel"), "the capture is not complete: {said}");
        pcap::read(&self.file).unwrap_or_else(|error| panic!("cannot read the capture: {error}"))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // After `stop` it has ended already, and both say so.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
