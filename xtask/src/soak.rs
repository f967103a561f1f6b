//! `soak`: what only shows after a long time, or under as much as the machine can do.

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result};
use xtask::{
    bpf::{linker, toolchain},
    sh,
};

use crate::{build, cargo, kernel_log, privilege, setup};

/// The soak that starts an agent of an earlier revision, too.
const UPGRADE: &str = "upgrade";
/// Which one, unless it is told.
const EARLIER: &str = "HEAD~1";

/// Builds the agent and the soaks, and starts those that are named: all, if none is. The program itself knows which there
/// are, and finds the agent beside itself.
pub fn verb(args: &[String]) -> Result<()> {
    let (revision, mut args) = revision(args)?;
    // The worlds are those of the tests.
    setup::ensure(setup::Scope::Test)?;
    build::agent(&build::Options { release: true, probe_log: false })?;
    sh::run(cargo::command("build").args(["--release", "--locked", "--package", "tests", "--bin", "soak"]))?;
    if goes_back(&args) {
        args.extend(["--earlier".to_owned(), earlier(&revision)?.display().to_string()]);
    }
    let mut cmd = privilege::command(
        &cargo::target_dir().join("release/soak").display().to_string(),
        "only root may make network namespaces and load kernel programs",
    )?;
    kernel_log::silent_while(|| sh::run(cmd.args(args)))
}

/// The revision to come from, and the other arguments.
fn revision(args: &[String]) -> Result<(String, Vec<String>)> {
    let mut rest = args.to_vec();
    let Some(at) = rest.iter().position(|arg| arg == "--revision") else {
        return Ok((EARLIER.to_owned(), rest));
    };
    let value = rest.get(at + 1).context("--revision needs a value")?.clone();
    rest.drain(at..=at + 1);
    Ok((value, rest))
}

/// Whether these arguments ask for the soak that needs an earlier agent: by its name, or by none.
fn goes_back(args: &[String]) -> bool {
    let names = |arg: &&String| !arg.starts_with('-') && arg.parse::<u32>().is_err();
    let mut names = args.iter().filter(names).peekable();
    names.peek().is_none() || names.any(|name| name == UPGRADE)
}

/// The agent of a revision, built from a work tree of its own with the tools of this one.
fn earlier(revision: &str) -> Result<PathBuf> {
    let git = |words: &[&str]| {
        let mut cmd = std::process::Command::new("git");
        cmd.current_dir(sh::root()).args(words);
        cmd
    };
    let commit = format!("{revision}^{{commit}}");
    let commit = sh::stdout_of(&mut git(&["rev-parse", "--verify", &commit]))
        .with_context(|| format!("there is no revision {revision} here"))?;
    let tree = cargo::target_dir().join("soak/earlier");
    let place = tree.display().to_string();
    if tree.join(".git").is_file() {
        sh::run(&mut git(&["-C", &place, "checkout", "--quiet", "--force", "--detach", &commit]))?;
    } else {
        // One that was removed with `target` may still be known.
        sh::run(&mut git(&["worktree", "prune"]))?;
        sh::run(&mut git(&["worktree", "add", "--quiet", "--detach", &place, &commit]))?;
    }
    let target = tree.join("target");
    let mut cmd = cargo::command("build");
    cmd.current_dir(&tree).env("CARGO_TARGET_DIR", &target);
    if env::var_os("BPF_LINKER").is_none() {
        cmd.env("BPF_LINKER", linker::find(sh::root(), toolchain::find()?.version.llvm)?);
    }
    sh::run(cmd.args(["--release", "--locked", "--package", "agent", "--bin", "fivetuple"]))?;
    Ok(target.join("release/fivetuple"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_revision_is_taken_out_of_the_arguments() {
        assert_eq!(
            revision(&words("churn --minutes 3")).unwrap(),
            (EARLIER.to_owned(), words("churn --minutes 3"))
        );
        assert_eq!(
            revision(&words("upgrade --revision v1 --json")).unwrap(),
            ("v1".to_owned(), words("upgrade --json"))
        );
        assert!(revision(&words("--revision")).is_err());
    }

    #[test]
    fn an_earlier_agent_is_built_only_where_it_is_needed() {
        assert!(
            goes_back(&words(""))
                && goes_back(&words("--json --minutes 3"))
                && goes_back(&words("flood upgrade"))
        );
        assert!(!goes_back(&words("flood --minutes 3")));
    }
}
