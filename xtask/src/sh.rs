//! Running other programs, so that a failure always names the command that failed.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

/// The workspace's root directory.
#[must_use]
pub fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// The command as a person would type it, without its environment.
#[must_use]
pub fn show(cmd: &Command) -> String {
    let words = std::iter::once(cmd.get_program()).chain(cmd.get_args());
    words.map(|w| w.to_string_lossy().replace('\x1f', " ")).collect::<Vec<_>>().join(" ")
}

/// Runs the command on this terminal; any end but success is an error.
pub fn run(cmd: &mut Command) -> Result<()> {
    let status = cmd.status().with_context(|| format!("cannot start `{}`", show(cmd)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", show(cmd));
    }
    Ok(())
}

/// What the command prints, trimmed. Its complaints become part of the error.
pub fn stdout_of(cmd: &mut Command) -> Result<String> {
    let out = cmd.output().with_context(|| format!("cannot start `{}`", show(cmd)))?;
    if !out.status.success() {
        bail!("`{}` failed: {}: {}", show(cmd), out.status, String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// Where root's tools (`nft`, `ethtool`) are. On Debian an ordinary user's PATH lacks these.
pub const SYSTEM_DIRS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Where `program` is, on PATH or in [`SYSTEM_DIRS`].
#[must_use]
pub fn find_program(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(SYSTEM_DIRS.map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|p| p.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_name_the_command() {
        let err = run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err().to_string();
        assert!(err.contains("sh -c exit 3") && err.contains('3'), "{err}");
        let err =
            stdout_of(Command::new("sh").args(["-c", "echo no luck >&2; exit 1"])).unwrap_err().to_string();
        assert!(err.contains("no luck"), "{err}");
        let err = run(&mut Command::new("/no/such/program")).unwrap_err().to_string();
        assert!(err.contains("/no/such/program"), "{err}");
    }

    #[test]
    fn programs_are_found_or_not() {
        assert!(find_program("sh").is_some_and(|p| p.is_absolute()));
        assert_eq!(find_program("no-such-program-anywhere"), None);
    }
}
