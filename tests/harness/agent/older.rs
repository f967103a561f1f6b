//! An older kernel, as far as a program can tell: a seccomp filter answers as that kernel would.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// What the kernel does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// The bpf system call (a kernel without CONFIG_BPF_SYSCALL).
    Bpf,
    /// tcx: neither its links nor the question what is attached there (before Linux 6.6). XDP has no links either then.
    Tcx,
}

const PROG_QUERY: u32 = 16;
const LINK_CREATE: u32 = 28;

// Offsets in `struct seccomp_data`; the first argument's low half on a little-endian machine.
const NUMBER: u32 = 0;
const FIRST_ARGUMENT: u32 = 16;

fn load(offset: u32) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: offset }
}

/// Goes on if equal, else skips so many.
fn or_skip(value: u32, skipped: u8) -> libc::sock_filter {
    let code = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    libc::sock_filter { code, jt: 0, jf: skipped, k: value }
}

/// Skips so many if equal.
fn and_skip(value: u32, skipped: u8) -> libc::sock_filter {
    libc::sock_filter { jt: skipped, jf: 0, ..or_skip(value, 0) }
}

fn answer(k: u32) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k }
}

fn errno(number: i32) -> libc::sock_filter {
    answer(libc::SECCOMP_RET_ERRNO | number.cast_unsigned())
}

impl Without {
    fn filter(self) -> Vec<libc::sock_filter> {
        let bpf = u32::try_from(libc::SYS_bpf).expect("a system call has a small number");
        let allow = answer(libc::SECCOMP_RET_ALLOW);
        match self {
            Self::Bpf => vec![load(NUMBER), or_skip(bpf, 1), errno(libc::ENOSYS), allow],
            Self::Tcx => vec![
                load(NUMBER),
                or_skip(bpf, 4),
                load(FIRST_ARGUMENT),
                and_skip(PROG_QUERY, 1),
                or_skip(LINK_CREATE, 1),
                errno(libc::EINVAL),
                allow,
            ],
        }
    }

    /// The command will run on such a kernel. Needs CAP_SYS_ADMIN, as an unprivileged filter would take the rights that
    /// the agent's own tests are about.
    pub fn apply(self, command: &mut Command) {
        let mut filter = self.filter();
        let install = move || {
            let program = libc::sock_fprog {
                len: u16::try_from(filter.len()).map_err(io::Error::other)?,
                filter: filter.as_mut_ptr(),
            };
            // SAFETY: the kernel copies the filter, which is alive.
            let done = unsafe {
                libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0)
            };
            if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        };
        // SAFETY: between fork and exec only prctl is called, a plain system call that allocates nothing.
        unsafe { command.pre_exec(install) };
    }
}
