//! The commands of bpf(2) that aya has no call for, as safe functions.

pub mod cell;
pub mod map;
pub mod pin;
pub mod processors;
pub mod program;
pub mod shared;

use agent_ebpf::time::Nanos;
use bytemuck::Pod;
use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr,
    time::Duration,
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

/// Wait until every program that was running has ended: one that was replaced may still count on another processor.
pub fn quiesce() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: this command takes no memory; it waits for a grace period of the kernel's.
    let done = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if done != 0 {
        // A filter forbids the call, or the kernel keeps processors to itself (nohz_full).
        // tidy: allow sleep: no program runs that long, and nothing else tells
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What no other network namespace has had since this system booted; 0 before Linux 5.14.
pub fn namespace_cookie() -> u64 {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let Ok(socket) = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)) else { return 0 };
    let (mut cookie, mut len) = (0u64, size_of::<u64>() as libc::socklen_t);
    // SAFETY: the kernel writes at most `len` bytes to a value of that size.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if done == 0 { cookie } else { 0 }
}

/// What the kernel's programs call now: nanoseconds of CLOCK_MONOTONIC.
pub fn monotonic() -> Nanos {
    Nanos(clock(libc::CLOCK_MONOTONIC))
}

/// Processor time that this thread has used so far.
pub fn thread_time() -> Duration {
    Duration::from_nanos(clock(libc::CLOCK_THREAD_CPUTIME_ID))
}

/// Has the C library give back what was freed at once: left to itself it keeps what a flood once took. Others do.
pub fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    {
        /// Bytes; what the library begins with, and raises by what it sees.
        const THRESHOLD: libc::c_int = 128 << 10;
        for parameter in [libc::M_MMAP_THRESHOLD, libc::M_TRIM_THRESHOLD] {
            // SAFETY: it takes numbers.
            unsafe { libc::mallopt(parameter, THRESHOLD) };
        }
    }
}

/// Keeps signals away from this thread: other threads of the process take them.
pub fn block_signals() {
    let mut all = MaybeUninit::uninit();
    // SAFETY: the set is filled before it is read, and nothing is asked for.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), ptr::null_mut());
    }
}

/// Nanoseconds of a clock that always exists.
fn clock(id: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes a timespec that outlives the call.
    unsafe { libc::clock_gettime(id, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
