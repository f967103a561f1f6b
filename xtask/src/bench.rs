//! `bench`: what it costs, beside yardsticks and in the same run; no figure decides a test.

use anyhow::Result;
use xtask::{bpf::compile, sh};

use crate::{cargo, privilege, setup};

/// Builds the benchmarks and their kernel programs, and starts those that are named: all, if none is. The program itself
/// knows which there are.
pub fn verb(args: &[String]) -> Result<()> {
    setup::ensure(setup::Scope::Build)?;
    let object = compile::compile(sh::root(), compile::BENCH)?;
    sh::run(cargo::command("build").args(["--release", "--locked", "--package", "tests", "--bin", "bench"]))?;
    let binary = cargo::target_dir().join("release/bench");
    let mut cmd = privilege::command(
        &binary.display().to_string(),
        "only root may load kernel programs and have the kernel run them",
    )?;
    cmd.arg("--object").arg(object).arg("--out").arg(cargo::target_dir().join("bench"));
    sh::run(cmd.args(args))
}
