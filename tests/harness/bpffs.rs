//! A file system for pins that exists as long as its guard, seen at `/sys/fs/bpf` by the agents that are told.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::agent::{Launch, binary};
use crate::netns::NetNs;

/// An empty bpffs. Nothing of it is left when it is dropped, whatever was pinned.
pub struct Bpffs {
    directory: tempfile::TempDir,
}

impl Bpffs {
    /// Mounts one.
    ///
    /// # Panics
    /// Without root.
    #[track_caller]
    #[expect(clippy::new_without_default, reason = "mounting is no default value")]
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        mount(Some("bpf"), directory.path(), Some("bpf"), MsFlags::empty(), None::<&str>)
            .unwrap_or_else(|error| panic!("cannot mount a bpffs: {error}; run this as root"));
        Self { directory }
    }

    /// What agents see at `/sys/fs/bpf`.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// An agent that keeps its pins there.
    pub fn pin(&self, launch: Launch) -> Launch {
        launch.under(&self.under().each_ref().map(String::as_str)).argument("--pin")
    }

    /// Runs another verb of the binary, which sees the pins.
    #[track_caller]
    pub fn run_to_end(&self, namespace: &NetNs, arguments: &[&str]) -> std::process::Output {
        let [program, words @ ..] = self.under();
        let mut command = namespace.cmd(&program);
        command.args(words).arg(binary()).args(arguments);
        command.output().expect("unshare is there")
    }

    /// Where ours are: the kernel has files of its own in every bpffs.
    pub fn ours(&self) -> PathBuf {
        self.path().join("fivetuple")
    }

    /// Every pin of ours, by its path in the file system.
    pub fn pins(&self) -> Vec<PathBuf> {
        let mut pins = Vec::new();
        let mut directories = vec![self.ours()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() { directories.push(path) } else { pins.push(path) }
            }
        }
        pins.sort();
        pins.into_iter().map(|p| p.strip_prefix(self.path()).map(Path::to_owned).unwrap_or(p)).collect()
    }

    /// The words that start a program in a mount namespace of its own, where this is at `/sys/fs/bpf`.
    fn under(&self) -> [String; 5] {
        let path = self.path().display();
        let script = format!("mount --bind {path} /sys/fs/bpf && exec \"$0\" \"$@\"");
        ["unshare", "--mount", "sh", "-c", &script].map(str::to_owned)
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        if let Err(error) = umount2(self.path(), MntFlags::MNT_DETACH) {
            eprintln!("the bpffs {} could not be removed: {error}", self.path().display());
        }
    }
}
