//! A copy of this host's root that lasts as long as a test: an overlay in a mount namespace of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

/// The copy, seen from the thread that made it.
pub struct Host {
    directory: PathBuf,
}

impl Host {
    /// Runs a test with a copy of this host, on a thread of its own; with it the copy goes.
    #[track_caller]
    pub fn copied<T: Send>(test: impl FnOnce(&Self) -> T + Send) -> T {
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test installs packages in a copy of this host and needs root; it is never skipped"
        );
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let host = Self { directory: directory.path().to_owned() };
        let run = || {
            host.mount();
            test(&host)
        };
        thread::scope(|scope| scope.spawn(run).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// A place of the copy, by its name there.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join("root").join(name.trim_start_matches('/'))
    }

    /// Is it there? A link counts, wherever it leads.
    pub fn has(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    /// A text file of the copy.
    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Runs a line of shell in the copy, and returns all it said.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn sh(&self, line: &str) -> String {
        let mut cmd = Command::new("chroot");
        cmd.arg(self.directory.join("root")).args(["sh", "-c", &format!("exec 2>&1; {line}")]);
        cmd.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
        cmd.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let output = cmd.output().expect("chroot is part of every system");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "`{line}` failed ({}):\n{said}", output.status);
        said
    }

    /// Brings a file into the copy, as `/tmp/NAME`.
    #[track_caller]
    pub fn bring(&self, file: &Path) -> String {
        let name = format!("/tmp/{}", file.file_name().expect("it is a file").display());
        fs::copy(file, self.path(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        name
    }

    /// Names of all that differs from the host, of files and of folders; `/tmp` aside.
    pub fn changes(&self) -> Vec<String> {
        let upper = self.directory.join("layer/upper");
        let (mut out, mut folders) = (Vec::new(), vec![upper.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("the layer is ours") {
                let path = entry.expect("the layer is ours").path();
                let name = format!("/{}", path.strip_prefix(&upper).expect("it is below").display());
                if name == "/tmp" {
                    continue;
                }
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path);
                }
                out.push(name);
            }
        }
        out
    }

    fn mount(&self) {
        let at = |name: &str| self.directory.join(name);
        let none = None::<&str>;
        // From here on nothing that this thread mounts is seen by others.
        unshare(CloneFlags::CLONE_NEWNS).expect("root may have a mount namespace");
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("the namespace is ours");
        for name in ["layer", "root"] {
            fs::create_dir(at(name)).expect("the directory is new");
        }
        mount(Some("tmpfs"), &at("layer"), Some("tmpfs"), MsFlags::empty(), none).expect("tmpfs");
        for name in ["layer/upper", "layer/work"] {
            fs::create_dir(at(name)).expect("the layer is new");
        }
        let layers = format!(
            "lowerdir=/,upperdir={},workdir={}",
            at("layer/upper").display(),
            at("layer/work").display()
        );
        let overlay =
            mount(Some("overlay"), &at("root"), Some("overlay"), MsFlags::empty(), Some(layers.as_str()));
        overlay.expect("the kernel has overlayfs");
        mount(Some("/dev"), &at("root/dev"), none, MsFlags::MS_BIND | MsFlags::MS_REC, none).expect("/dev");
        mount(Some("proc"), &at("root/proc"), Some("proc"), MsFlags::empty(), none).expect("/proc");
        // No /run/systemd/system: in there no service manager runs, and none of the host's is asked.
        for name in ["root/run", "root/tmp"] {
            mount(Some("tmpfs"), &at(name), Some("tmpfs"), MsFlags::empty(), none).expect("tmpfs");
        }
    }
}
