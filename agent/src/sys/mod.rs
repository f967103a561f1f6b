//! The commands of bpf(2) that aya has no call for, as safe functions.

pub mod map;
pub mod program;

use agent_ebpf::time::Nanos;
use bytemuck::Pod;
use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd},
};

/// Run one command. Every attribute here is plain data, padded to a size that every kernel since 5.10 takes.
fn bpf<T: Pod>(command: i32, attribute: &mut T) -> io::Result<i32> {
    // SAFETY: the kernel reads and writes `size_of::<T>()` bytes of an attribute that outlives the call; the
    // addresses inside it are set by this module's files from slices that outlive it as well.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attribute, size_of::<T>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done as i32) }
}

fn owned(fd: i32) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us, and nothing else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// What the kernel's programs call now: nanoseconds of CLOCK_MONOTONIC.
pub fn monotonic() -> Nanos {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes a timespec that outlives the call; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    Nanos(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}
