//! A network namespace that exists as long as its guard.
//!
//! The namespace is a bind mount in `/run/netns`, so `ip -n NAME` and `nsenter --net=/run/netns/NAME` work on it while a
//! test is being debugged. `ip netns exec` is not used: it hides `/sys/fs/bpf`.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::Once;
use std::thread;

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::command;

const DIRECTORY: &str = "/run/netns";
/// Every namespace of ours is called `ft-<process>-<random>-<label>`.
const PREFIX: &str = "ft-";

/// A named network namespace with loopback up; removed on drop, also when the test panics.
#[derive(Debug)]
pub struct NetNs {
    name: String,
    handle: File,
}

impl NetNs {
    /// Makes a namespace; `label` is the part of its name that a person reads.
    ///
    /// # Panics
    /// Without root, or when the kernel refuses.
    #[track_caller]
    pub fn new(label: &str) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test makes network namespaces and needs root: run it as root (sudo -E cargo test …), it is never skipped"
        );
        static PREPARED: Once = Once::new();
        PREPARED.call_once(|| {
            prepare_directory();
            remove_orphans();
        });
        let name = format!("{PREFIX}{}-{:08x}-{label}", process::id(), fastrand::u32(..));
        let path = Path::new(DIRECTORY).join(&name);
        File::create_new(&path).unwrap_or_else(|error| panic!("cannot create {}: {error}", path.display()));
        let mounted = thread::scope(|scope| {
            scope
                .spawn(|| {
                    unshare(CloneFlags::CLONE_NEWNET)?;
                    mount(
                        Some("/proc/thread-self/ns/net"),
                        &path,
                        None::<&str>,
                        MsFlags::MS_BIND,
                        None::<&str>,
                    )
                })
                .join()
                .expect("the thread that makes a namespace does not panic")
        });
        if let Err(error) = mounted {
            let _ = fs::remove_file(&path);
            panic!("cannot make the network namespace {name}: {error}");
        }
        let handle =
            File::open(&path).unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
        let namespace = Self { name, handle };
        namespace.ip("link set lo up");
        namespace
    }

    /// The name, as `ip -n` takes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for the namespace.
    pub fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }

    /// Runs the closure on a thread of its own inside the namespace and returns its value. Sockets made there stay in the
    /// namespace wherever they are used afterwards; threads started there are inside as well.
    ///
    /// Inside, read `/proc/thread-self/net`, not `/proc/net`: that is the main thread's.
    #[track_caller]
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let result = thread::scope(|scope| {
            thread::Builder::new()
                .name(self.name.clone())
                .spawn_scoped(scope, || {
                    setns(self.handle.as_fd(), CloneFlags::CLONE_NEWNET)
                        .unwrap_or_else(|error| panic!("cannot enter {}: {error}", self.name));
                    work()
                })
                .expect("a thread can be started")
                .join()
        });
        result.unwrap_or_else(|panicked| panic::resume_unwind(panicked))
    }

    /// A command that will run inside the namespace, with the file system as it is outside.
    pub fn cmd(&self, program: &str) -> Command {
        let handle = self.handle.try_clone().expect("a file handle can be copied");
        let mut command = Command::new(program);
        // SAFETY: between fork and exec only setns is called, a plain system call that allocates nothing.
        unsafe {
            command.pre_exec(move || Ok(setns(handle.as_fd(), CloneFlags::CLONE_NEWNET)?));
        }
        command
    }

    /// Runs a program inside the namespace with these arguments, separated by blanks, and returns what it printed.
    #[track_caller]
    pub fn exec(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let mut command = self.cmd(words.next().expect("a command line has a program"));
        command.args(words);
        command::run(command, "")
    }

    /// Runs `ip` with one or more lines of arguments, all in one process.
    #[track_caller]
    pub fn ip(&self, lines: &str) {
        let mut command = self.cmd("ip");
        command.args(["-batch", "-"]);
        command::run(command, lines);
    }

    /// Sets a sysctl below `/proc/sys`, named with slashes: `net/ipv4/ip_forward`.
    #[track_caller]
    pub fn sysctl(&self, name: &str, value: impl ToString) {
        let value = value.to_string();
        let path = Path::new("/proc/sys").join(name);
        self.run(|| fs::write(&path, &value))
            .unwrap_or_else(|error| panic!("cannot set {name} to {value} in {}: {error}", self.name));
    }

    /// Has everything that arrives at an interface handled by one processor, in the order in which it was sent. Without
    /// this a veth hands each packet to the processor that sent it, and a sender that moves between two, or answers from
    /// an interrupt on another one, overtakes itself on a wire that should be in order.
    #[track_caller]
    pub fn steer(&self, interface: &str, cpu: u32) {
        let mask = format!("{:x}", 1_u32 << (cpu % 32));
        let steered = self.run(|| {
            // sysfs shows the interfaces of the namespace in which it was mounted.
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
            mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>)?;
            fs::write(format!("/sys/class/net/{interface}/queues/rx-0/rps_cpus"), &mask)
        });
        steered.unwrap_or_else(|error: std::io::Error| panic!("cannot steer {interface}: {error}"));
    }

    /// Whether there is an interface of this name.
    pub fn has_interface(&self, name: &str) -> bool {
        self.run(|| nix::net::if_::if_nametoindex(name).is_ok())
    }

    /// Turns segmentation and checksum offloads of an interface on or off, so that what a hook sees is what a wire
    /// would carry (off) or what a virtual network really hands over (on).
    #[track_caller]
    pub fn offloads(&self, interface: &str, on: bool) {
        let state = if on { "on" } else { "off" };
        self.exec(&format!("ethtool -K {interface} tx {state} tso {state} gso {state} gro {state}"));
    }
}

impl Drop for NetNs {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path()) {
            eprintln!("the namespace {} could not be removed: {error}", self.name);
        }
    }
}

/// The namespaces of this process that exist at the moment.
pub fn existing() -> Vec<String> {
    let ours = format!("{PREFIX}{}-", process::id());
    names().into_iter().filter(|name| name.starts_with(&ours)).collect()
}

fn names() -> Vec<String> {
    let entries = fs::read_dir(DIRECTORY).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

fn remove(path: &Path) -> std::io::Result<()> {
    // Where the mount never took place there is only a file to remove.
    let _ = umount2(path, MntFlags::MNT_DETACH);
    fs::remove_file(path)
}

/// Makes `/run/netns` a shared mount of its own, as `ip netns add` does and under the same lock: were it done after the
/// first namespace, that namespace's mount would be hidden below.
fn prepare_directory() {
    fs::create_dir_all(DIRECTORY).unwrap_or_else(|error| panic!("cannot create {DIRECTORY}: {error}"));
    let directory = File::open(DIRECTORY).unwrap_or_else(|error| panic!("cannot open {DIRECTORY}: {error}"));
    let _lock = Flock::lock(directory, FlockArg::LockExclusive)
        .unwrap_or_else(|(_, error)| panic!("cannot lock {DIRECTORY}: {error}"));
    let share =
        || mount(None::<&str>, DIRECTORY, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    if share().is_err() {
        mount(Some(DIRECTORY), DIRECTORY, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
            .and_then(|()| share())
            .unwrap_or_else(|error| panic!("cannot make {DIRECTORY} a mount of its own: {error}"));
    }
}

/// Removes what test processes that were killed have left behind.
fn remove_orphans() {
    for name in names() {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
            let _ = remove(&Path::new(DIRECTORY).join(name));
        }
    }
}
