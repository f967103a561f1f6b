//! Where pins are: one directory for each network namespace, and one agent at a time in it.

use crate::{
    link::Link,
    sys::{
        self,
        pin::{self, Facts},
    },
    why,
};
use agent_ebpf::layout::XDP_INGRESS;
use anyhow::{Context as _, Result, anyhow, bail};
use nix::{
    fcntl::{Flock, FlockArg},
    sys::statfs,
};
use std::{
    fs::{self, DirBuilder, File},
    io,
    os::{
        fd::AsFd as _,
        unix::fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};
use tracing::info;

/// Where the kernel's file system for pins is mounted.
pub const BPFFS: &str = "/sys/fs/bpf";
const OURS: &str = "fivetuple";
/// Directory of the links' pins.
const LINKS: &str = "links";
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// The directory of this network namespace, held by this process.
pub struct Directory {
    path: PathBuf,
    /// Held for its lock, which goes with the process.
    _lock: Flock<File>,
}

impl Directory {
    /// Make it where it is not there; an error where pins cannot be made at all.
    pub fn make() -> Result<PathBuf> {
        mounted()?;
        let path = path()?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path.join(LINKS))
            .with_context(|| format!("{} cannot be made", path.display()))?;
        // Everybody may write to a bpffs as mount(8) makes it.
        for directory in [path.parent().unwrap_or(&path), &path] {
            let owner = fs::metadata(directory)?.uid();
            if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
                bail!("{} belongs to user {owner}", directory.display());
            }
        }
        Ok(path)
    }

    /// Hold it; an error where another agent does.
    pub fn hold(path: PathBuf) -> Result<Self> {
        match lock(&path)? {
            Ok(lock) => Ok(Self { path, _lock: lock }),
            Err(holder) => bail!(
                "another agent ({holder}) holds {}: one agent at a time may keep its programs there; end it, or run this one without --pin",
                path.display()
            ),
        }
    }

    /// That of this network namespace, if there is one; an error where a running agent holds it.
    pub fn existing() -> Result<Option<Self>> {
        let path = path()?;
        if !path.is_dir() {
            return Ok(None);
        }
        match lock(&path)? {
            Ok(lock) => Ok(Some(Self { path, _lock: lock })),
            Err(holder) => bail!("an agent ({holder}) is at work here; end it first"),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where links are pinned.
    pub fn links(&self) -> PathBuf {
        self.path.join(LINKS)
    }

    /// Remove it with all that is in it, and what holds it if nothing else does.
    pub fn remove(self) -> Result<()> {
        remove_tree(&self.path)?;
        // Fails where another namespace has pins.
        let _ = fs::remove_dir(Path::new(BPFFS).join(OURS));
        Ok(())
    }

    /// Remove the pins of namespaces that are gone: their links hang on nothing any more.
    pub fn collect_others(&self) -> Result<()> {
        for entry in fs::read_dir(Path::new(BPFFS).join(OURS))? {
            let path = entry?.path();
            if path == self.path || !path.is_dir() || !is_severed(&path.join(LINKS)) {
                continue;
            }
            if let Ok(Ok(_lock)) = lock(&path) {
                remove_tree(&path)?;
                info!(path = %path.display(), "removed the pins of a network namespace that is gone");
            }
        }
        Ok(())
    }
}

/// Whether the kernel's file system for pins is where it belongs, or at least our part of it, as a service manager shows it
/// to a service that may see no more.
pub fn mounted() -> Result<()> {
    let ours = Path::new(BPFFS).join(OURS);
    let place = if ours.is_dir() { &ours } else { Path::new(BPFFS) };
    let kind = statfs::statfs(place).with_context(|| format!("there is no {BPFFS}"))?.filesystem_type();
    if kind.0 != BPF_FS_MAGIC {
        bail!("no bpf file system is mounted at {BPFFS}");
    }
    Ok(())
}

/// Removes a directory of pins. Not `remove_dir_all`: that one opens what it removes.
pub fn remove_tree(path: &Path) -> Result<()> {
    let failed = || format!("cannot remove {}", path.display());
    for entry in fs::read_dir(path).with_context(failed)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        } else {
            fs::remove_file(entry.path()).with_context(failed)?;
        }
    }
    fs::remove_dir(path).with_context(failed)
}

fn path() -> Result<PathBuf> {
    let namespace = fs::metadata("/proc/self/ns/net").context("cannot tell this network namespace")?;
    Ok(Path::new(BPFFS).join(OURS).join(format!("net-{}", namespace.ino())))
}

/// Locks a directory; else says who has done so.
fn lock(path: &Path) -> Result<Result<Flock<File>, String>> {
    let directory = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let place = directory.metadata()?;
    match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Ok(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
            let holder = holder(place.dev(), place.ino())
                .map_or("of another container".to_owned(), |pid| format!("process {pid}"));
            Ok(Err(holder))
        }
        Err((_, e)) => Err(anyhow!(io::Error::from(e)).context(format!("cannot lock {}", path.display()))),
    }
}

/// Who has locked a file, as /proc/locks tells it.
fn holder(device: u64, inode: u64) -> Option<u32> {
    let place =
        format!("{:02x}:{:02x}:{inode}", nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let locks = fs::read_to_string("/proc/locks").ok()?;
    // 1: FLOCK  ADVISORY  WRITE 4711 00:2f:12345 0 EOF
    let mut lines = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.find_map(|words| (words.get(5) == Some(&place.as_str())).then(|| words.get(4)?.parse().ok())?)
}

/// Leaves out of what is known of interfaces the XDP programs that an earlier agent pinned in this namespace: the next
/// one replaces them.
pub fn pass_over_our_xdp(interfaces: &mut [Link]) {
    let Ok(directory) = path() else { return };
    for interface in interfaces {
        let pin = directory.join(LINKS).join(format!("{}-{XDP_INGRESS}", interface.index));
        let facts = pin::get(&pin).ok().flatten().and_then(|fd| Facts::of(fd.as_fd()).ok());
        let program = facts.and_then(|facts| facts.number("prog_id"));
        if program.is_some() && program == interface.xdp_program {
            interface.xdp_program = None;
        }
    }
}

/// Whether there are links, and none of them hangs on an interface.
fn is_severed(links: &Path) -> bool {
    let Ok(entries) = fs::read_dir(links) else { return false };
    let hangs = |path: &Path| match pin::get(path) {
        Ok(Some(fd)) => Facts::of(fd.as_fd()).map_or(true, |facts| facts.number("ifindex") != Some(0)),
        _ => true,
    };
    let hanging: Vec<bool> = entries.flatten().map(|entry| hangs(&entry.path())).collect();
    !hanging.is_empty() && !hanging.contains(&true)
}

/// What tells this network namespace from one that had its number before.
pub fn cookie() -> u64 {
    sys::namespace_cookie()
}

/// What it costs that pins cannot be had.
pub fn cost(error: &anyhow::Error) -> String {
    format!(
        "the programs and their tables cannot outlive this agent: {}. It works without: from its end until the next one has started nothing is counted, and then totals begin at 0 and open connections are joined late",
        why::text(error)
    )
}
