//! What the daemon may do, and when: capabilities are in force only while programs and tables are made, attached or taken off.
//!
//! Interfaces that come back and programs that others took off are attached anew, so CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON
//! stay permitted for as long as the daemon lives; everything else is given up for good. Capabilities are a thread's:
//! threads inherit them, so [`rest`] comes before the first of them.

use nix::unistd::geteuid;
use std::io;
use tracing::warn;

const CAP_DAC_OVERRIDE: u32 = 1;
const CAP_SETPCAP: u32 = 8;
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_RESOURCE: u32 = 24;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;
/// Numbers of capabilities are below this in every kernel.
const ALL: u32 = 64;

/// Before Linux 5.19 bpf(2) may ask for CAP_BPF with every command, and before 5.11 tables count against a limit that only
/// CAP_SYS_RESOURCE raises.
const READING_IS_FREE: (u32, u32) = (5, 19);
const CGROUP_MEMORY: (u32, u32) = (5, 11);

/// Effective, permitted and inheritable capabilities of this thread, as bit sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sets {
    effective: u64,
    permitted: u64,
    inheritable: u64,
}

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

/// _LINUX_CAPABILITY_VERSION_3, of this thread.
const THIS_THREAD: Header = Header { version: 0x2008_0522, pid: 0 };

impl Sets {
    fn get() -> io::Result<Self> {
        let (mut header, mut words) = (THIS_THREAD, [0_u32; 6]);
        // SAFETY: the kernel writes two structures of three words each, which is what is given.
        let done = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, words.as_mut_ptr()) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        let set = |at: usize| u64::from(words[at]) | u64::from(words[at + 3]) << 32;
        Ok(Self { effective: set(0), permitted: set(1), inheritable: set(2) })
    }

    fn put(self) -> io::Result<()> {
        let sets = [self.effective, self.permitted, self.inheritable];
        let (low, high) = (sets.map(|set| set as u32), sets.map(|set| (set >> 32) as u32));
        let (mut header, words) = (THIS_THREAD, [low, high]);
        // SAFETY: the kernel reads two structures of three words each, which is what is given.
        let done = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, words.as_ptr()) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// What is left of these at rest. `reading_is_free`: tables are read without CAP_BPF.
    fn resting(self, root: bool, kernel: (u32, u32), reading_is_free: bool) -> Self {
        let bit = |capability: u32| 1_u64 << capability;
        let mut keep = bit(CAP_NET_ADMIN) | bit(CAP_PERFMON) | bit(CAP_BPF);
        if self.permitted & keep != keep {
            // It stands for the two that are missing.
            keep |= bit(CAP_SYS_ADMIN);
        }
        if kernel < CGROUP_MEMORY {
            keep |= bit(CAP_SYS_RESOURCE);
        }
        let mut used = if reading_is_free { 0 } else { bit(CAP_BPF) | bit(CAP_SYS_ADMIN) };
        if root {
            // The log's folder may belong to the service's user.
            used |= bit(CAP_DAC_OVERRIDE);
        }
        let permitted = self.permitted & (keep | used & !bit(CAP_SYS_ADMIN));
        Self { effective: permitted & used, permitted, inheritable: 0 }
    }
}

/// Give up what is never needed again, and put the rest aside. To be called before any thread is started.
pub fn rest(kernel: (u32, u32)) {
    let done = Sets::get().and_then(|sets| {
        let restricted = std::fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled");
        let free = kernel >= READING_IS_FREE || restricted.is_ok_and(|text| text.trim() == "0");
        let resting = sets.resting(geteuid().is_root(), kernel, free);
        if sets.effective >> CAP_SETPCAP & 1 == 1 {
            for capability in (0..ALL).filter(|c| resting.permitted >> c & 1 == 0) {
                // Those that this kernel does not know cannot be dropped, and need not be.
                // SAFETY: this call takes numbers alone.
                unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) };
            }
        }
        resting.put()
    });
    if let Err(error) = done {
        warn!(%error, "the agent keeps rights that it could do without (a seccomp filter without capset?)");
    }
}

/// Does something with all rights that are permitted in force, in this thread.
pub fn raised<T>(work: impl FnOnce() -> T) -> T {
    /// Puts them aside again, also after a panic.
    struct Lowered(Option<Sets>);
    impl Drop for Lowered {
        fn drop(&mut self) {
            if let Some(Err(error)) = self.0.map(Sets::put) {
                warn!(%error, "the agent cannot put its rights aside");
            }
        }
    }
    let sets = Sets::get().ok().filter(|sets| sets.effective != sets.permitted);
    let raised = sets.filter(|sets| Sets { effective: sets.permitted, ..*sets }.put().is_ok());
    let _lowered = Lowered(raised);
    work()
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: u64 = 1 << CAP_NET_ADMIN | 1 << CAP_PERFMON | 1 << CAP_BPF;

    fn resting(permitted: u64, root: bool, kernel: (u32, u32), free: bool) -> (u64, u64) {
        let sets = Sets { effective: permitted, permitted, inheritable: permitted };
        let left = sets.resting(root, kernel, free);
        assert_eq!(left.inheritable, 0);
        (left.effective, left.permitted)
    }

    #[test]
    fn nothing_is_in_force_at_rest_where_the_kernel_lets_tables_be_read() {
        assert_eq!(resting(THREE, false, (6, 18), true), (0, THREE));
        assert_eq!(resting(THREE, false, (5, 15), false), (1 << CAP_BPF, THREE));
        let of_root = 1 << CAP_DAC_OVERRIDE;
        assert_eq!(resting(u64::MAX, true, (6, 18), true), (of_root, THREE | of_root));
        assert_eq!(resting(u64::MAX, false, (5, 10), true), (0, THREE | 1 << CAP_SYS_RESOURCE));
    }

    #[test]
    fn what_stands_for_the_new_ones_is_kept_where_they_are_missing() {
        let old = 1 << CAP_SYS_ADMIN | 1 << CAP_NET_ADMIN;
        assert_eq!(resting(old, false, (5, 10), true), (0, old));
    }

    #[test]
    fn rights_are_raised_for_as_long_as_the_work_takes() {
        let permitted = Sets::get().unwrap().permitted;
        std::thread::spawn(move || {
            Sets { effective: 0, ..Sets::get().unwrap() }.put().unwrap();
            assert_eq!(raised(|| Sets::get().unwrap().effective), permitted);
            assert_eq!(Sets::get().unwrap().effective, 0);
        })
        .join()
        .unwrap();
    }
}
