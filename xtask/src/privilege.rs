//! Root, and only for what needs it: files built here stay the user's own.

use std::{fs, os::unix::fs::MetadataExt as _, process::Command};

use anyhow::{Result, bail};
use xtask::sh;

/// Is this process root's?
pub fn is_root() -> bool {
    // The directory of a process belongs to its effective user.
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// The command that starts what follows as root, and says why if that takes a password. Empty for root itself.
pub fn prefix(why: &str) -> Result<Vec<String>> {
    if is_root() {
        return Ok(Vec::new());
    }
    if sh::find_program("sudo").is_none() {
        bail!("root is needed ({why}), and there is no sudo here: run this as root");
    }
    eprintln!("xtask: using sudo: {why}");
    // sudo sets a PATH of its own, which need not have the user's tools on it; the user's need not have root's.
    let path = std::env::var("PATH").unwrap_or_default() + ":" + &sh::SYSTEM_DIRS.join(":");
    Ok(["sudo", "--preserve-env", "env"]
        .into_iter()
        .map(str::to_owned)
        .chain([format!("PATH={path}")])
        .collect())
}

/// `program`, to be run as root.
pub fn command(program: &str, why: &str) -> Result<Command> {
    let mut words = prefix(why)?;
    words.push(program.to_owned());
    let mut cmd = Command::new(&words[0]);
    cmd.args(&words[1..]);
    Ok(cmd)
}
