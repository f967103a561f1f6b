//! `build`: the agent, as one file with the kernel programs inside.

use std::path::PathBuf;

use anyhow::{Result, bail};
use xtask::sh;

use crate::{cargo, setup, unknown_argument};

/// What is built.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// With optimisation.
    pub release: bool,
    /// With the kernel programs' own log lines.
    pub probe_log: bool,
}

/// Builds and prints the path.
pub fn verb(args: &[String]) -> Result<()> {
    let options = parse(args)?;
    setup::ensure(setup::Scope::Build)?;
    println!("{}", agent(&options)?.display());
    Ok(())
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options { release: true, probe_log: false };
    for arg in args {
        match arg.as_str() {
            "--release" => options.release = true,
            "--debug" => options.release = false,
            "--probe-log" => options.probe_log = true,
            other => return Err(unknown_argument("build", other)),
        }
    }
    Ok(options)
}

/// Builds the agent.
pub fn agent(options: &Options) -> Result<PathBuf> {
    let mut cmd = cargo::command("build");
    cmd.args(["--locked", "--package", "agent", "--bin", "fivetuple"]);
    if options.release {
        cmd.arg("--release");
    }
    if options.probe_log {
        cmd.args(["--features", "probe-log"]);
    }
    sh::run(&mut cmd)?;
    let profile = if options.release { "release" } else { "debug" };
    let binary = cargo::target_dir().join(profile).join("fivetuple");
    if !binary.is_file() {
        bail!(
            "cargo built the agent, but not at {}: is another target directory configured?",
            binary.display()
        );
    }
    Ok(binary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_is_the_default_and_the_last_word_counts() {
        let parse = |args: &[&str]| parse(&args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>()).unwrap();
        assert_eq!(parse(&[]), Options { release: true, probe_log: false });
        assert_eq!(
            parse(&["--release", "--debug", "--probe-log"]),
            Options { release: false, probe_log: true }
        );
    }
}
