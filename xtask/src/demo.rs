//! `demo`: the two cases, played for a person to watch.

use anyhow::Result;
use xtask::sh;

use crate::{build, cargo, privilege, setup};

/// Builds the agent and the demo, and starts the cases that are named: both, if none is. The program itself knows which
/// there are, and finds the agent beside itself.
pub fn verb(args: &[String]) -> Result<()> {
    // The worlds are those of the tests.
    setup::ensure(setup::Scope::Test)?;
    build::agent(&build::Options { release: true, probe_log: false })?;
    sh::run(cargo::command("build").args(["--release", "--locked", "--package", "tests", "--bin", "demo"]))?;
    let target = cargo::target_dir();
    let mut cmd = privilege::command(
        &target.join("release/demo").display().to_string(),
        "only root may make network namespaces and load kernel programs",
    )?;
    sh::run(cmd.arg("--out").arg(target.join("demo")).args(args))
}
