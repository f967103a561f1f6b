//! The kernel's log: what the kernel has to say against programs that were in it.

use anyhow::{Context as _, Result, bail};
use xtask::sh;

use crate::privilege;

/// How a complaint begins. Within other text these words are no complaint: the messages of mitigations at boot have them.
const COMPLAINTS: &[&str] = &[
    "BUG:",
    // The allocator's: `BUG kmalloc-64 (Not tainted): …`
    "BUG ",
    "kernel BUG at ",
    "watchdog: BUG:",
    "WARNING:",
    "Oops:",
    "Internal error: Oops",
    "Call Trace:",
    // Arm's.
    "Call trace:",
];

/// What runs, and fails also when the kernel complains meanwhile.
pub fn silent_while(run: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = read()?;
    let done = run();
    match (done, read().and_then(|after| judge(&before, &after))) {
        (Err(failed), Err(heard)) => Err(failed.context(format!("{heard:#}"))),
        (done, heard) => done.and(heard),
    }
}

/// The expression by which `grep -E` finds complaints in what `dmesg` prints.
pub fn pattern() -> String {
    format!(r"^(\[[^]]*\])* *({})", COMPLAINTS.join("|"))
}

fn read() -> Result<String> {
    privilege::command("dmesg", "the kernel's log is read, for complaints about what the tests do")
        .and_then(|mut dmesg| sh::stdout_of(&mut dmesg))
        .context(
            "the kernel's log cannot be read, so nobody would see it complain: `dmesg` (util-linux) has to work for root \
             here; a container needs CAP_SYSLOG",
        )
}

fn judge(before: &str, after: &str) -> Result<()> {
    let mut heard: Vec<&str> = since(before, after).filter(|line| complains(line)).collect();
    heard.reverse();
    if !heard.is_empty() {
        bail!("the kernel complained meanwhile, see `dmesg`:\n{}", heard.join("\n"));
    }
    Ok(())
}

/// What was said after the last line before, the latest first: all that is left, if that line no longer is. Each line has
/// the time in microseconds, so none is twice.
fn since<'a>(before: &'a str, after: &'a str) -> impl Iterator<Item = &'a str> {
    let last = before.lines().next_back();
    after.lines().rev().take_while(move |line| Some(*line) != last)
}

fn complains(line: &str) -> bool {
    let mut said = line;
    // The time, and in some kernels who it was.
    while let Some((_, rest)) = said.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        said = rest;
    }
    let said = said.trim_start_matches(' ');
    COMPLAINTS.iter().any(|beginning| said.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn complaints_are_known_by_how_they_begin() {
        for (line, complaint) in [
            ("[ 9015.364228] WARNING: CPU: 1 PID: 7 at net/core/dev.c:1 f+0x1/0x2", true),
            ("[    0.000001][   T12] BUG: KASAN: use-after-free in f", true),
            ("[   12.345678] BUG kmalloc-64 (Not tainted): Poison overwritten", true),
            ("[   12.345678] kernel BUG at mm/slub.c:1!", true),
            ("[   12.345678] watchdog: BUG: soft lockup - CPU#0 stuck for 22s!", true),
            ("[   12.345678] Oops: 0002 [#1] PREEMPT SMP", true),
            ("[   12.345678]  Call Trace:", true),
            ("WARNING: suspicious RCU usage", true),
            ("[    0.254938] Speculative Return Stack Overflow: WARNING: See https://kernel.org", false),
            ("[    0.369920] kvm: host DEBUGCTL refresh per vcpu_load", false),
            ("[   12.345678] [drm] BUGS: none", false),
            ("[   12.345678] outside: entered promiscuous mode", false),
            ("", false),
        ] {
            assert_eq!(complains(line), complaint, "{line}");
            // In virtual machines it is grep that looks.
            let found = Command::new("sh")
                .args(["-c", r#"printf '%s\n' "$1" | grep -qE "$2""#, "sh", line, &pattern()])
                .status();
            assert_eq!(found.unwrap().success(), complaint, "grep: {line}");
        }
    }

    #[test]
    fn only_what_was_said_meanwhile_counts() {
        let [old, mark, new] = ["[ 1.000001] BUG: old", "[ 2.000001] mark", "[ 3.000001] BUG: new"];
        let lines = |lines: &[&str]| lines.join("\n");
        let before = lines(&[old, mark]);
        judge(&before, &before).unwrap();
        judge("", "").unwrap();
        judge(&before, &lines(&[old, mark, "[ 3.000001] eth0: up"])).unwrap();
        let wrong = judge(&before, &lines(&[old, mark, new, "[ 4.000001] Call Trace:"])).unwrap_err();
        let wrong = wrong.to_string();
        assert!(wrong.ends_with(":\n[ 3.000001] BUG: new\n[ 4.000001] Call Trace:"), "{wrong}");
        // The mark was overwritten since, or there was none.
        assert!(judge(&before, &lines(&["[ 2.500001] eth0: up", new])).is_err());
        assert!(judge("", new).is_err());
    }
}
