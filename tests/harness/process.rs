//! What a process uses, as the kernel tells it.

use std::fs;
use std::io;
use std::time::Duration;

use nix::unistd::Pid;

/// Time that all of its threads were at work so far.
///
/// # Errors
/// Where it runs no more.
pub fn processor_time(process: Pid) -> io::Result<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        // Time at work, time in wait, turns.
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        nanos += number(text.split_whitespace().next())?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// Resident memory, KiB.
///
/// # Errors
/// As for [`processor_time`].
pub fn resident(process: Pid) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    number(line.and_then(|rest| rest.split_whitespace().next()))
}

fn number(word: Option<&str>) -> io::Result<u64> {
    word.and_then(|word| word.parse().ok()).ok_or_else(|| io::Error::other("a process has ended"))
}
