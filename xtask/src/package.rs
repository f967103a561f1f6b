//! `package`: a deb and an rpm of the agent. What is in them, the folder `packaging/` says.

use anyhow::Result;
use xtask::sh;

use crate::{build, cargo, setup};

/// Builds the agent, and with the arguments of `packaging` its packages; into `target/packages`, unless they say `--out`.
pub fn verb(args: &[String]) -> Result<()> {
    setup::ensure(setup::Scope::Package)?;
    let binary = build::agent(&build::Options { release: true, probe_log: false })?;
    let mut cmd = cargo::command("run");
    cmd.args(["--quiet", "--release", "--locked", "--package", "packaging", "--", "--binary"]).arg(binary);
    if !args.iter().any(|arg| arg.starts_with("--out")) {
        cmd.arg("--out").arg(cargo::target_dir().join("packages"));
    }
    sh::run(cmd.args(args))
}
