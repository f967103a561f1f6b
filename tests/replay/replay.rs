//! Running the program on captures made here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use harness::agent::binary;
use harness::script::{Script, Timed, pcap};
use serde_json::Value;
use tempfile::TempDir;

/// When scripts begin: a capture of nanosecond 0 would be none of a real network.
pub const BEGAN: u64 = 1_700_000_000_000_000_000;

/// A handshake, a request and its answer.
pub const EXCHANGE: &str = "
    0      C S
    +1ms   S S.
    +1ms   C .
    +1ms   C P. len=100
    +1ms   S P. len=500
";

/// A directory of captures that goes with the test.
pub struct Captures(TempDir);

impl Captures {
    /// An empty one.
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("there is room for a directory"))
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a script as a capture.
    #[track_caller]
    pub fn write(&self, name: &str, script: Script, text: &str) -> PathBuf {
        self.write_frames(name, script.frames(text))
    }

    /// Writes frames, whose times are since the start of the scripts, as a capture.
    #[track_caller]
    pub fn write_frames(&self, name: &str, mut frames: Vec<Timed>) -> PathBuf {
        frames.sort_by_key(|frame| frame.at);
        frames.iter_mut().for_each(|frame| frame.at += BEGAN);
        let path = self.path(name);
        pcap::write(&path, &frames).expect("a capture can be written");
        path
    }

    /// Writes bytes.
    #[track_caller]
    pub fn write_bytes(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).expect("a file can be written");
        path
    }
}

/// Runs `fivetuple replay` on files, with more arguments.
#[track_caller]
pub fn replay(files: &[&Path], arguments: &[&str]) -> Output {
    fivetuple("replay", files, arguments)
}

/// Runs another command on files.
#[track_caller]
pub fn fivetuple(verb: &str, files: &[&Path], arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg(verb).args(files).args(arguments).stdin(Stdio::null());
    command.output().expect("the program can be started")
}

/// What it prints when all goes well.
#[track_caller]
pub fn printed(files: &[&Path], arguments: &[&str]) -> String {
    let output = replay(files, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{}: {errors}", output.status);
    String::from_utf8(output.stdout).expect("what is printed is text")
}

/// The JSON lines of a kind.
#[track_caller]
pub fn lines(text: &str, kind: &str) -> Vec<Value> {
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("each line is one JSON object"));
    lines.filter(|line: &Value| line["t"] == kind).collect()
}
