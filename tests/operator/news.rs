//! The socket by which the kernel tells an agent of interfaces, got hold of from outside: to have it tell less.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use harness::agent::Agent;
use nix::sys::socket::{setsockopt, sockopt::RcvBuf};
use nix::unistd::Pid;

/// That socket.
pub struct News {
    socket: OwnedFd,
    inode: String,
    pid: Pid,
}

impl News {
    /// Of an agent.
    ///
    /// # Panics
    /// When it has none.
    #[track_caller]
    pub fn of(agent: &Agent) -> Self {
        let pid = agent.pid();
        let listening = table(pid).into_iter().find(|line| line[1] == "0" && line[3] != "00000000");
        let inode = listening.expect("the agent listens").last().expect("an inode").clone();
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("the agent is there");
        let is_it = |path: &std::path::PathBuf| {
            fs::read_link(path).is_ok_and(|to| to.to_string_lossy() == format!("socket:[{inode}]"))
        };
        let path = entries.flatten().map(|entry| entry.path()).find(is_it).expect("it is open");
        let number: i32 =
            path.file_name().and_then(|n| n.to_str()?.parse().ok()).expect("a descriptor is a number");
        Self { socket: copy(pid, number).expect("the descriptor can be copied"), inode, pid }
    }

    /// Makes its buffer as small as it can be: one message that is not read yet, and no other finds room.
    pub fn leave_room_for_one(&self) {
        setsockopt(&self.socket, RcvBuf, &1).expect("a buffer can be made small");
    }

    /// Keeps all messages back, without a word of that to who listens.
    pub fn keep_back(&self) {
        // One instruction of classic BPF: return 0, the bytes of the message that are let through.
        let mut nothing = libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0 };
        let filter = libc::sock_fprog { len: 1, filter: &raw mut nothing };
        // SAFETY: the kernel reads a program of one instruction, which outlives the call.
        let done = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const filter).cast(),
                size_of_val(&filter) as libc::socklen_t,
            )
        };
        assert_eq!(done, 0, "{}", io::Error::last_os_error());
    }

    /// Messages that found no room in it.
    #[track_caller]
    pub fn lost(&self) -> u64 {
        let line = table(self.pid).into_iter().find(|line| line.last() == Some(&self.inode));
        line.expect("it is still there")[8].parse().expect("a count")
    }
}

/// The netlink sockets of a process's namespace: sk, protocol, port, groups, rmem, wmem, dump, locks, drops, inode.
fn table(pid: Pid) -> Vec<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/netlink")).expect("the agent is there");
    text.lines().skip(1).map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

/// A descriptor of another process.
fn copy(pid: Pid, number: i32) -> io::Result<OwnedFd> {
    let owned = |result: libc::c_long| {
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just opened and belongs to nobody else.
        Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(result).expect("a descriptor is an int")) })
    };
    // SAFETY: this call takes numbers alone.
    let process = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // SAFETY: so does this one.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })
}
