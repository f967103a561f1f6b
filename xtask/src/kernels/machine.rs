//! A machine that QEMU translates, run to its end.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::debian::Kernel;

/// How long a machine may take: some ten times what it takes on two quiet processors.
const DEADLINE: Duration = Duration::from_secs(600);
/// What `init` says last.
const LAST: &str = "machine-status: ";

/// Runs the tests of the world on the kernel. What the machine says stands in the log, and here if it fails; what the
/// tests measured, here in any case.
pub fn run(kernel: &Kernel, world: &Path, log: &Path) -> Result<()> {
    let mut cmd = Command::new("qemu-system-x86_64");
    cmd.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-m", "1024", "-smp", "2", "-nodefaults"]);
    cmd.args(["-no-user-config", "-nographic", "-no-reboot", "-serial", "stdio", "-monitor", "none"]);
    cmd.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(world);
    cmd.args(["-append", "console=ttyS0 panic=-1 quiet mitigations=off"]);
    let mut child = cmd.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("qemu-system-x86_64")?;
    let serial = BufReader::new(child.stdout.take().context("the pipe was asked for")?);
    let (over, waiting) = mpsc::channel::<()>();
    let late = Arc::new(AtomicBool::new(false));
    let watchdog = {
        let late = Arc::clone(&late);
        thread::spawn(move || {
            if waiting.recv_timeout(DEADLINE) == Err(mpsc::RecvTimeoutError::Timeout) {
                late.store(true, Relaxed);
                let _ = child.kill();
            }
            child.wait()
        })
    };
    let mut said = String::new();
    for line in serial.split(b'\n') {
        let line = String::from_utf8_lossy(&line?).trim_end().to_owned();
        if tells(&line) {
            println!("  {line}");
        }
        said += &(line + "\n");
    }
    drop(over);
    let _ = watchdog.join();
    fs::remove_file(world)?;
    fs::write(log, &said)?;
    let status = said.lines().rev().find_map(|line| line.strip_prefix(LAST));
    if status == Some("0") {
        return Ok(());
    }
    eprintln!("{said}");
    let why = match status {
        Some(_) => "its tests failed",
        None if late.load(Relaxed) => "it did not end in time",
        None => "it ended without a word of its tests",
    };
    bail!("Linux {}: {why}; all that it said stands above and in {}", kernel.release, log.display())
}

/// Is this a line for whom everything went well, too?
fn tells(line: &str) -> bool {
    line.starts_with("verified: ") || line.starts_with("test result: ") || line.contains("each count right")
}
