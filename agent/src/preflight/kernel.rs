//! What the kernel allows this process.

use super::Finding;
use crate::{link::Link, sys::program};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use std::{io, path::Path};

/// What `uname -r` prints.
const OSRELEASE: &str = "/proc/sys/kernel/osrelease";
/// Oldest kernel the programs are tested on.
const OLDEST: (u32, u32) = (5, 10);
/// Kernels that count map memory in the control group, not against RLIMIT_MEMLOCK.
const CGROUP_MEMORY: (u32, u32) = (5, 11);
/// Map memory that the default tables take, in bytes, with room for larger ones.
const MEMLOCK_WANTED: u64 = 512 << 20;

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Facts about the kernel, as this process meets it.
#[derive(Debug)]
pub struct Kernel {
    /// `uname -r`.
    pub release: String,
    /// Effective capabilities of this thread as a bit set.
    pub capabilities: u64,
    /// Why no ring buffer can be made, if none can.
    pub ring_buffer: Result<(), io::Error>,
    /// Whether the kernel describes its own types.
    pub btf: bool,
    /// Whether tcx links exist; an error where the kernel did not say.
    pub tcx: Result<bool, io::Error>,
    /// RLIMIT_MEMLOCK in bytes.
    pub memlock: u64,
}

impl Kernel {
    /// Ask. Where tables count against RLIMIT_MEMLOCK it is raised first: they are one user's together, and others of the
    /// same user may have taken all of it.
    pub fn read(links: &[Link]) -> Self {
        if running() < CGROUP_MEMORY {
            // Where this is refused the tables may still fit; `memlock` is what there is.
            let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
        }
        let loopback = links.iter().find(|l| l.loopback).map_or(1, |l| l.index);
        Self {
            release: read_trimmed(OSRELEASE),
            capabilities: effective_capabilities(&read_trimmed("/proc/thread-self/status")),
            ring_buffer: program::try_ring_buffer(),
            btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            tcx: program::has_tcx(loopback),
            memlock: getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(soft, _)| soft),
        }
    }

    /// Major and minor version.
    pub fn version(&self) -> (u32, u32) {
        version(&self.release)
    }

    /// What follows from the facts.
    pub fn findings(&self) -> Vec<Finding> {
        let mut out =
            vec![self.release_finding(), self.rights_finding(), self.bpf_finding(), self.tcx_finding()];
        if self.version() < CGROUP_MEMORY {
            out.push(self.memlock_finding());
        }
        out.push(if self.btf {
            Finding::ok("btf", "/sys/kernel/btf/vmlinux is there")
        } else {
            Finding::ok("btf", "/sys/kernel/btf/vmlinux is missing; the programs do not need it")
        });
        out
    }

    fn release_finding(&self) -> Finding {
        let text = format!("Linux {}; {}.{} or newer is needed", self.release, OLDEST.0, OLDEST.1);
        if self.version() >= OLDEST {
            Finding::ok("kernel", text)
        } else {
            Finding::fail("kernel", text, "run a newer kernel")
        }
    }

    /// Names of the capabilities that are needed and missing.
    pub fn missing_capabilities(&self) -> Vec<&'static str> {
        let has = |bit: u32| self.capabilities >> bit & 1 == 1;
        let mut missing = Vec::new();
        if !has(CAP_BPF) && !has(CAP_SYS_ADMIN) {
            missing.push("CAP_BPF");
        }
        if !has(CAP_NET_ADMIN) {
            missing.push("CAP_NET_ADMIN");
        }
        // Without it the verifier forbids the pointer arithmetic that the programs need (5.10 to 6.18 alike).
        if !has(CAP_PERFMON) && !has(CAP_SYS_ADMIN) {
            missing.push("CAP_PERFMON");
        }
        missing
    }

    fn rights_finding(&self) -> Finding {
        let missing = self.missing_capabilities();
        if missing.is_empty() {
            return Finding::ok("rights", "every capability that is needed is there");
        }
        Finding::fail(
            "rights",
            format!("{} missing", missing.join(" and ")),
            "run as root, or in the unit: AmbientCapabilities=CAP_BPF CAP_NET_ADMIN CAP_PERFMON",
        )
    }

    fn bpf_finding(&self) -> Finding {
        let Err(e) = &self.ring_buffer else {
            return Finding::ok("bpf", "the bpf system call works, and ring buffers exist");
        };
        let (text, remedy) = match e.raw_os_error() {
            Some(libc::EPERM) if self.version() < CGROUP_MEMORY && self.memlock < MEMLOCK_WANTED => (
                "the kernel makes no BPF ring buffer: RLIMIT_MEMLOCK is used up, or CAP_BPF is missing",
                "set LimitMEMLOCK=infinity in the unit, or give CAP_SYS_RESOURCE",
            ),
            Some(libc::EPERM | libc::EACCES) => (
                "the kernel forbids the bpf system call",
                "give CAP_BPF; with it, look for a seccomp filter (SystemCallFilter= without bpf) or kernel lockdown (/sys/kernel/security/lockdown)",
            ),
            Some(libc::ENOSYS) => {
                ("this kernel has no bpf system call", "run a kernel with CONFIG_BPF_SYSCALL=y")
            }
            Some(libc::EINVAL) => ("this kernel has no BPF ring buffer", "run Linux 5.10 or newer"),
            _ => (
                "the kernel makes no BPF ring buffer",
                "raise RLIMIT_MEMLOCK or the memory limit of the unit",
            ),
        };
        Finding::fail("bpf", format!("{text} ({e})"), remedy)
    }

    fn tcx_finding(&self) -> Finding {
        match &self.tcx {
            Ok(true) => Finding::ok("tcx", "tcx links exist: the tc programs go when the agent goes"),
            Ok(false) => Finding::ok(
                "tcx",
                "no tcx links before Linux 6.6: the tc programs hang on a clsact qdisc, which stays when the agent goes; what a killed agent leaves there, the next one replaces",
            ),
            Err(e) => Finding::warn(
                "tcx",
                format!("the kernel does not tell whether it has tcx links ({e})"),
                "give CAP_BPF and CAP_NET_ADMIN",
            ),
        }
    }

    fn memlock_finding(&self) -> Finding {
        if self.memlock >= MEMLOCK_WANTED {
            Finding::ok("memlock", "RLIMIT_MEMLOCK leaves room for the tables")
        } else {
            Finding::warn(
                "memlock",
                format!(
                    "RLIMIT_MEMLOCK is {} bytes, and before Linux 5.11 the tables count against it",
                    self.memlock
                ),
                "set LimitMEMLOCK=infinity in the unit, or give CAP_SYS_RESOURCE, by which the agent raises it",
            )
        }
    }
}

/// Major and minor version of the kernel that runs here.
pub fn running() -> (u32, u32) {
    version(&read_trimmed(OSRELEASE))
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn read_trimmed(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn effective_capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:")).unwrap_or_default();
    u64::from_str_radix(line.trim(), 16).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    fn kernel(release: &str, capabilities: u64) -> Kernel {
        Kernel {
            release: release.to_owned(),
            capabilities,
            ring_buffer: Ok(()),
            btf: true,
            tcx: Ok(true),
            memlock: 8 << 20,
        }
    }

    #[test]
    fn capabilities_are_those_in_force() {
        assert_eq!(effective_capabilities("CapPrm:\t01\nCapEff:\t000000c000001000\n"), 0xc0_0000_1000);
        assert_eq!(effective_capabilities(""), 0);
    }

    #[test]
    fn three_capabilities_are_enough() {
        let two = 1 << CAP_BPF | 1 << CAP_NET_ADMIN;
        assert_eq!(kernel("6.18.1", two).missing_capabilities(), ["CAP_PERFMON"]);
        assert!(kernel("6.18.1", two | 1 << CAP_PERFMON).missing_capabilities().is_empty());
        assert!(kernel("5.10.0", 1 << CAP_SYS_ADMIN | 1 << CAP_NET_ADMIN).missing_capabilities().is_empty());
        assert_eq!(kernel("6.18.1", 0).missing_capabilities(), ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]);
    }

    #[test]
    fn every_failure_has_a_remedy() {
        let mut bad = kernel("4.19.0", 0);
        for errno in [libc::EPERM, libc::ENOSYS, libc::EINVAL, libc::ENOMEM] {
            bad.ring_buffer = Err(io::Error::from_raw_os_error(errno));
            let findings = bad.findings();
            let failed: Vec<_> =
                findings.iter().filter(|f| f.state == State::Fail).map(|f| f.subject.as_str()).collect();
            assert_eq!(failed, ["kernel", "rights", "bpf"]);
            for f in findings.iter().filter(|f| f.state != State::Ok) {
                assert!(!f.remedy.is_empty(), "{f:?}");
            }
        }
    }

    #[test]
    fn locked_memory_matters_only_before_5_11() {
        let subjects = |k: Kernel| k.findings().into_iter().map(|f| f.subject).collect::<Vec<_>>();
        assert!(subjects(kernel("5.10.1", u64::MAX)).contains(&"memlock".to_owned()));
        assert!(!subjects(kernel("5.11.0", u64::MAX)).contains(&"memlock".to_owned()));
    }
}
